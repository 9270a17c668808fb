#!/bin/sh
# What a build or a test needs from the system's package manager.
#
#	deps.sh install GROUP...	installs the packages of these groups
#	deps.sh need GROUP...		the same for what is missing, if it can;
#					else says what is missing
#	deps.sh present GROUP...	says what is missing, status 1
#	deps.sh source DIR NAME...	unpacks Debian's source packages, each
#					into DIR/NAME
#	deps.sh kernel DIR		unpacks Debian's kernel of this machine into
#					DIR, with the modules that tests want
#	deps.sh tree DIR PACKAGE...	makes DIR a Debian with these packages
#	deps.sh cross DIR ARCH CPU	makes DIR/cc, a compiler for musl on
#					another architecture (arm64 aarch64)
#
# A group is there when its commands and headers are, whoever installed them.
set -eu

die()
{
	echo "deps.sh: $*" >&2
	exit 1
}

manager()
{
	for m in apt-get apk dnf pacman; do
		if command -v $m >/dev/null; then
			echo $m
			return
		fi
	done
	die "no package manager known here; needed for '$*': see 'packages' in deps.sh"
}

# packages MANAGER GROUP
packages()
{
	case $1:$2 in
	apt-get:build)	echo make gcc musl-tools linux-libc-dev ;;
	apt-get:sources) echo dpkg-dev ;;
	apt-get:san)	echo gcc libc6-dev pkg-config libbearssl-dev libzstd-dev libfuse3-dev ;;
	apt-get:fuzz)	echo clang llvm libclang-rt-dev libc6-dev pkg-config libbearssl-dev libzstd-dev libfuse3-dev ;;
	apt-get:lint)	echo clang gcc cppcheck shellcheck mandoc pkg-config libc6-dev libbearssl-dev libzstd-dev libfuse3-dev ;;
	apt-get:lint-full) echo clang-tidy ;;
	apt-get:valgrind) echo valgrind libc6-dbg ;;
	apt-get:tools)	echo gcc libc6-dev libssl-dev libzstd-dev zlib1g-dev libnghttp2-dev libjansson-dev ;;
	apt-get:test)	echo python3 python3-pytest python3-pytest-timeout zsh \
			    python3-cryptography python3-zstandard python3-hpack openssl mandoc \
			    busybox-static systemd ;;
	apt-get:root)	echo iproute2 util-linux mount fdisk e2fsprogs strace procps fuse3 acl tar ;;
	apt-get:qemu)	echo qemu-system-x86 busybox-static e2fsprogs ;;
	apt-get:debian)	echo mmdebstrap ;;
	apt-get:demo)	echo mount util-linux coreutils ;;
	apt-get:arm64)	echo gcc-aarch64-linux-gnu qemu-user-static ;;
	apk:build)	echo make gcc musl-dev linux-headers pkgconf \
			    fuse3-dev fuse3-static zstd-dev zstd-static ;;
	apk:tools)	echo openssl-dev zstd-dev zlib-dev nghttp2-dev jansson-dev ;;
	apk:test)	echo python3 py3-pytest py3-pytest-timeout \
			    py3-cryptography py3-zstandard py3-hpack openssl mandoc ;;
	apk:demo)	echo util-linux coreutils ;;
	apk:root)	echo iproute2 bash util-linux mount sfdisk e2fsprogs strace procps fuse3 acl tar ;;
	dnf:build)	echo make gcc musl-gcc musl-libc-static kernel-headers ;;
	dnf:san)	echo gcc libasan libubsan pkgconf libzstd-devel fuse3-devel ;;
	dnf:tools)	echo gcc openssl-devel libzstd-devel zlib-devel libnghttp2-devel jansson-devel ;;
	dnf:test)	echo busybox python3 python3-pytest python3-pytest-timeout \
			    python3-cryptography python3-zstandard python3-hpack openssl mandoc ;;
	dnf:demo)	echo util-linux coreutils ;;
	dnf:root)	echo iproute util-linux e2fsprogs strace procps-ng fuse3 acl tar ;;
	pacman:build)	echo make gcc musl kernel-headers-musl ;;
	pacman:san)	echo gcc pkgconf zstd fuse3 ;;
	pacman:tools)	echo gcc openssl zstd zlib libnghttp2 jansson ;;
	pacman:test)	echo busybox python python-pytest python-pytest-timeout \
			    python-cryptography python-zstandard python-hpack openssl mandoc ;;
	pacman:demo)	echo util-linux coreutils ;;
	pacman:root)	echo iproute2 util-linux e2fsprogs strace procps-ng fuse3 acl tar ;;
	*)		die "no names of packages known for '$2' with $1" ;;
	esac
}

commands()
{
	for c; do
		if ! command -v "$c" >/dev/null; then
			echo "deps.sh: $c is missing" >&2
			return 1
		fi
	done
}

headers()
{
	cc=$1
	shift
	for h; do
		if ! echo "#include <$h>" | $cc -I/usr/include/fuse3 -D_FILE_OFFSET_BITS=64 \
		    -DFUSE_USE_VERSION=312 -E - >/dev/null 2>&1; then
			echo "deps.sh: the header $h is missing" >&2
			return 1
		fi
	done
}

# musl-gcc does not see them, the build links them.
kernel_headers()
{
	[ "${CC:-musl-gcc}" != musl-gcc ] || [ -e /usr/include/linux/loop.h ] || {
		echo "deps.sh: the kernel's headers (linux/loop.h) are missing" >&2
		return 1
	}
}

modules()
{
	for m; do
		if ! "${PYTHON:-/usr/bin/python3}" -c "import $m" 2>/dev/null; then
			echo "deps.sh: the Python module $m is missing" >&2
			return 1
		fi
	done
}

# clang has them in a package of their own.
sanitizers()
{
	echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return !p && n; }' |
	    clang -x c -fsanitize=fuzzer,address,undefined -fprofile-instr-generate -o /dev/null - 2>/dev/null || {
		echo "deps.sh: clang's sanitizers (compiler-rt) are missing" >&2
		return 1
	}
}

present()
{
	case $1 in
	build)	# shellcheck disable=SC2086 # a command may have arguments
		commands make ar readelf ${CC:-musl-gcc} && kernel_headers ;;
	sources) commands apt-get dpkg-source ;;
	san)	commands "${CC:-gcc}" pkg-config &&
		    headers "${CC:-gcc}" bearssl.h zstd.h fuse_lowlevel.h ;;
	fuzz)	commands clang llvm-symbolizer llvm-cov llvm-profdata pkg-config && sanitizers &&
		    headers clang bearssl.h zstd.h fuse_lowlevel.h ;;
	lint)	commands clang gcc cppcheck shellcheck mandoc pkg-config "${PYTHON:-/usr/bin/python3}" &&
		    headers gcc bearssl.h zstd.h fuse_lowlevel.h ;;
	lint-full) commands clang-tidy ;;
	valgrind) commands valgrind ;;
	tools)	commands gcc && headers gcc openssl/ssl.h zstd.h zlib.h nghttp2/nghttp2.h jansson.h ;;
	test)	commands busybox mandoc openssl "${PYTHON:-/usr/bin/python3}" &&
		    modules pytest pytest_timeout cryptography zstandard hpack &&
		    { ! command -v apt-get >/dev/null || commands systemd-analyze; } ;;
	arm64)	commands aarch64-linux-gnu-gcc qemu-aarch64-static ;;
	qemu)	commands qemu-system-x86_64 busybox mkfs.ext4 ;;
	debian)	commands mmdebstrap ;;
	demo)	commands mount blockdev sha256sum ;;
	root)	commands ip losetup mount sfdisk mkfs.ext4 strace ps fusermount3 getfacl tar ;;
	*)	die "no such group: $1" ;;
	esac
}

# A fresh system has no package lists, an old one lists of packages that are
# gone: they are fetched only when it does not work without.
apt_install()
{
	export DEBIAN_FRONTEND=noninteractive
	if apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1; then
		return
	fi
	apt-get update -qq || true
	apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

install()
{
	m=$(manager "$@")
	list=
	for g; do
		list="$list $(packages "$m" "$g")"
	done
	[ "$(id -u)" = 0 ] || die "install these packages, or do this as root:$list"
	echo "installing$list"
	# shellcheck disable=SC2086 # a list of words
	case $m in
	apt-get) apt_install $list ;;
	apk)	apk add -q $list ;;
	dnf)	dnf install -q -y $list ;;
	pacman)	pacman -S --needed --noconfirm $list ;;
	esac
}

present_all()
{
	for g; do
		present "$g" || exit 1
	done
}

need()
{
	missing=
	for g; do
		present "$g" || missing="$missing $g"
	done
	# shellcheck disable=SC2086
	[ -z "$missing" ] || install $missing
}

# apt with lists of our own in $apt, so that the system's stay as they are. The
# sandbox user could not write there.
own_apt()
{
	apt-get -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/parts" \
	    -o Dir::State::Lists="$apt/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
	    -o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}

# own_lists TYPE: the system's lists for deb-src (which they rarely name) or for
# deb of any architecture. There are two forms of list files.
own_lists()
{
	mkdir -p "$apt/parts" "$apt/lists/partial"
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -r "$f" ] || sed -n "s/^[[:space:]]*deb[[:space:]]/$1 /; s/arch=[^] ]*//; /^$1 /p" \
		    "$f" >"$apt/parts/$(basename "$f")"
	done
	for f in /etc/apt/sources.list.d/*.sources; do
		[ ! -r "$f" ] || sed "s/^Types:.*/Types: $1/; /^Architectures:/d" \
		    "$f" >"$apt/parts/$(basename "$f")"
	done
}

# apt checks the sources' hashes against the signed release, so dpkg-source
# (which wants the maintainers' keys) does not have to.
source_packages()
{
	mkdir -p "$1"
	top=$(cd "$1" && pwd)
	shift
	apt=$top/.apt
	own_lists deb-src
	# A list of somebody else's that cannot be reached is no obstacle.
	own_apt -qq update || true
	for name; do
		rm -rf "$top/.new" "${top:?}/$name"
		mkdir "$top/.new"
		(cd "$top/.new" && own_apt -qq source --download-only "$name" &&
		    dpkg-source --no-check -x ./*.dsc src >/dev/null) ||
		    die "cannot get the source package $name"
		mv "$top/.new/src" "$top/$name"
	done
	rm -rf "$top/.new" "$apt"
}

# Unpacked, not installed: it is for virtual machines.
kernel()
{
	top=$1
	m='./lib/modules/*/kernel'
	set -f
	set -- './boot/vmlinuz-*' "$m/drivers/block/*" "$m/drivers/virtio/*" "$m/drivers/net/virtio_net.*" \
	    "$m/drivers/net/net_failover.*" "$m/drivers/md/dm-mod.*" "$m/drivers/dax/*" "$m/net/core/*" \
	    "$m/net/packet/*" "$m/fs/*" "$m/lib/*" "$m/crypto/*"
	set +f
	# What was unpacked by an older list is not enough.
	[ "$(cat "$top/done" 2>/dev/null)" != "$*" ] || return 0
	name=$(apt-cache depends "linux-image-$(dpkg --print-architecture)" 2>/dev/null |
	    sed -n 's/^ *Depends: \(linux-image-[^ ]*\).*/\1/p')
	[ -n "$name" ] || {
		apt-get -qq update || true
		name=$(apt-cache depends "linux-image-$(dpkg --print-architecture)" |
		    sed -n 's/^ *Depends: \(linux-image-[^ ]*\).*/\1/p')
	}
	[ -n "$name" ] || die "no package linux-image"
	rm -rf "$top"
	mkdir -p "$top"
	(cd "$top" && { apt-get -qq -o APT::Sandbox::User=root download "$name" ||
	    { apt-get -qq update; apt-get -qq -o APT::Sandbox::User=root download "$name"; }; } &&
	    dpkg-deb --fsys-tarfile "$name"_*.deb | tar -x --wildcards "$@") ||
	    die "cannot get the package $name"
	rm -f "$top"/*.deb
	echo "$*" >"$top/done"
}

# A small Debian with these packages, from where the system has its own.
debian_tree()
{
	top=$1
	shift
	lists()
	{
		# shellcheck disable=SC2016 # apt's own variables
		apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		    'Created-By: Packages' 'Origin: Debian'
	}
	[ -n "$(lists)" ] || apt-get -qq update || true
	[ -n "$(lists)" ] || die "apt knows no packages of Debian"
	lists | mmdebstrap --quiet --variant=apt --mode=root --aptopt='APT::Install-Recommends "false"' \
	    --aptopt='Acquire::Languages "none"' --include="$(echo "$*" | tr ' ' ,)" '' "$top" - >&2 ||
	    die "mmdebstrap has made no $top"
}

# A musl compiler for another architecture out of the distribution's glibc one
# for it: musl's package and the kernel headers of that architecture, unpacked.
cross()
{
	mkdir -p "$1"
	top=$(cd "$1" && pwd)
	arch=$2 cpu=$3
	apt=$top/.apt
	own_lists deb
	set -- -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
	    -o Dir::State::status=/dev/null
	own_apt -qq "$@" update || true
	(cd "$apt" && own_apt -qq "$@" download musl-dev linux-libc-dev &&
	    for deb in ./*.deb; do dpkg-deb -x "$deb" "$top"; done) ||
	    die "cannot get musl-dev and linux-libc-dev of $arch"
	rm -rf "$apt"
	specs=$top/usr/lib/$cpu-linux-musl/musl-gcc.specs
	sed -i "s| /usr/| $top/usr/|g; s|-L/usr/|-L$top/usr/|g" "$specs"
	cat >"$top/cc" <<-EOF
		#!/bin/sh
		exec $cpu-linux-gnu-gcc "\$@" -mno-outline-atomics -isystem $top/usr/include \
		    -isystem $top/usr/include/$cpu-linux-gnu -specs $specs
	EOF
	chmod +x "$top/cc"
}

[ $# -ge 2 ] || die "usage: deps.sh install|need|present GROUP... | source DIR NAME... | kernel DIR | cross DIR ARCH CPU | tree DIR PACKAGE..."
what=$1
shift
case $what in
install) install "$@" ;;
present) present_all "$@" ;;
need)	need "$@" ;;
source)	source_packages "$@" ;;
kernel)	kernel "$@" ;;
cross)	cross "$@" ;;
tree)	debian_tree "$@" ;;
*)	die "no such action: $what" ;;
esac
