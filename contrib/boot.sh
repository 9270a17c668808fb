# shellcheck shell=sh disable=SC1007,SC2013,SC2034
# What the kernel's command line wants from pbsmap, done in an initramfs. Read by the scripts for initramfs-tools and
# dracut. Any POSIX shell, with cat, mkdir, mount and sleep; for root=LABEL= and the like also blkid.
#
#	pbsmap.repository=REPO pbsmap.ns=NS pbsmap.fingerprint=HEX pbsmap.config=FILE
#	pbsmap.snapshot=vm/100 pbsmap.archive=drive-scsi0.img
#	pbsmap.action=map|restore|shell		map, when nothing is said
#	pbsmap.target=/dev/disk/by-...		of restore
#	pbsmap.yes				it may be overwritten, whatever is on it
#	pbsmap.then=boot|reboot|poweroff|shell	after a restore; boot, when nothing is said
#	pbsmap.overlay=no			the mapped root stays read-only
#
# A secret is in none of them: everybody may read the command line.

# Is there anything to do?
pbsmap_parse()
{
	repository= ns= fingerprint= config= snapshot= archive= action= target= yes= after= overlay= asked= root_wanted=
	set -f
	for word in $(cat /proc/cmdline); do
		value=${word#*=}
		case $word in
		pbsmap.repository=*)	repository=$value ;;
		pbsmap.ns=*)		ns=$value ;;
		pbsmap.fingerprint=*)	fingerprint=$value ;;
		pbsmap.config=*)	config=$value ;;
		pbsmap.snapshot=*)	snapshot=$value asked=1 ;;
		pbsmap.archive=*)	archive=$value ;;
		pbsmap.action=*)	action=$value asked=1 ;;
		pbsmap.target=*)	target=$value ;;
		pbsmap.yes)		yes=--yes ;;
		pbsmap.then=*)		after=$value ;;
		pbsmap.overlay=*)	overlay=$value ;;
		root=*)			root_wanted=$value ;;
		esac
	done
	set +f
	: "${action:=map}" "${after:=boot}"
	[ -n "$config" ] || [ ! -e /etc/pbsmap/initramfs.conf ] || config=/etc/pbsmap/initramfs.conf
	[ -n "$asked" ]
}

# Is the repository, by the command line or else the configuration, a server?
pbsmap_server()
{
	place=$repository
	if [ -z "$place" ] && [ -e "$config" ]; then
		while read -r line; do
			case $line in
			PBS_REPOSITORY=*)	place=${line#*=} ;;
			esac
		done <"$config"
	fi
	case ${place#[\"\']} in
	/*|./*|../*|file:*)	return 1 ;;
	esac
}

# Is there a way to anybody? A card has an address, then.
pbsmap_online()
{
	while read -r device rest; do
		case $device in
		Iface|lo)	;;
		*)	return 0 ;;
		esac
	done </proc/net/route
	[ -e /proc/net/if_inet6 ] || return 1
	while read -r address index length scope rest; do
		[ "$scope" != 00 ] || return 0
	done </proc/net/if_inet6
	return 1
}

# command_line COMMAND OPTION...: pbsmap with what was said. Nobody is asked anything: a boot must not wait for a person.
command_line()
{
	command=$1
	shift
	set -- "$@" ${repository:+--repository "$repository"} ${ns:+--ns "$ns"} \
	    ${fingerprint:+--fingerprint "$fingerprint"} ${config:+--config "$config"}
	[ ! -e /etc/pbsmap/ca.pem ] || set -- "$@" --ca /etc/pbsmap/ca.pem
	[ ! -e /etc/pbsmap/key.json ] || set -- "$@" --keyfile /etc/pbsmap/key.json
	[ "$command" = map ] || set -- "$@" "$snapshot" "$archive" "$target"
	[ "$command" != map ] || set -- "$@" "$snapshot" "$archive"
	pbsmap "$command" "$@" </dev/null
}

# Disks come when their drivers have found them.
wait_for_target()
{
	tries=30
	while [ ! -b "$target" ] && [ $((tries -= 1)) -gt 0 ]; do
		sleep 1
	done
	[ -b "$target" ] || echo "pbsmap: pbsmap.target=$target: no such disk"
}

# Does it. The status is pbsmap's; it stays in /run/pbsmap.status, the device in /run/pbsmap.device.
pbsmap_act()
{
	status=0
	mkdir -p /run
	case $action in
	map)	command_line map --storage-daemon >/run/pbsmap.device || status=$?
		keep_from_killall ;;
	restore)
		if [ -z "$target" ]; then
			echo "pbsmap.action=restore needs pbsmap.target="
			status=2
		else
			wait_for_target
			command_line restore ${yes:+"$yes"} || status=$?
		fi ;;
	shell)	;;
	*)	echo "pbsmap.action=$action: map, restore or shell"
		status=2 ;;
	esac
	echo "$status" >/run/pbsmap.status
	[ $status != 0 ] || [ "$action" = shell ] || echo "pbsmap: $action done"
	[ $status = 0 ] || echo "pbsmap: $action failed, status $status"
	return $status
}

# sysvinit's killall at shutdown spares who is named here, all the processes of a mapping; systemd spares by the name
# --storage-daemon gives.
keep_from_killall()
{
	mkdir -p /run/sendsigs.omit.d
	for path in /proc/[0-9]*; do
		name= words=
		read -r name <"$path/comm" || :
		read -r words <"$path/cmdline" || :
		case $name,$words in
		pbsmap*,@*)	echo "${path#/proc/}" ;;
		esac
	done 2>/dev/null >/run/sendsigs.omit.d/pbsmap
}

# After a restore. Returns to go on booting; 1: with a shell. The kernel is asked: an initramfs may have no other program for it.
pbsmap_then()
{
	[ "$action" = restore ] || return 0
	case $after in
	reboot)		key=b ;;
	poweroff)	key=o ;;
	shell)		return 1 ;;
	*)		return 0 ;;
	esac
	echo "pbsmap: $after"
	sync 2>/dev/null || :
	sleep 1
	echo $key >/proc/sysrq-trigger
	sleep 60
}

# The partition of the mapped device that root= means; nothing, when it names a device or is not there. The machine's own
# disk may have the same labels: it is what was backed up.
pbsmap_root()
{
	tag=${root_wanted%%=*}
	case $root_wanted in
	LABEL=*|UUID=*|PARTUUID=*|PARTLABEL=*)	;;
	*)	return 0 ;;
	esac
	read -r device </run/pbsmap.device && [ -n "$device" ] || return 0
	for part in "$device" "$device"p*; do
		if [ "$(blkid -o value -s "$tag" "$part" 2>/dev/null)" = "${root_wanted#*=}" ]; then
			echo "$part"
			return 0
		fi
	done
}

# pbsmap_overlay DIR: the root that is mounted there, if it is mapped, can be written to from now on, in memory.
pbsmap_overlay()
{
	[ "$action" = map ] && [ "$overlay" != no ] && [ -s /run/pbsmap.device ] || return 0
	read -r device </run/pbsmap.device
	mapped=
	while read -r what where rest; do
		[ "$where" != "$1" ] || mapped=$what
	done </proc/mounts
	case $mapped in
	"$device"|"$device"p*)	;;
	*)	return 0 ;;
	esac
	mkdir -p /run/pbsmap.rw
	mount -t tmpfs -o mode=0755 pbsmap /run/pbsmap.rw &&
	    mkdir -p /run/pbsmap.rw/upper /run/pbsmap.rw/work &&
	    mount -t overlay -o "lowerdir=$1,upperdir=/run/pbsmap.rw/upper,workdir=/run/pbsmap.rw/work" overlay "$1"
}
