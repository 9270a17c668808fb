#!/bin/sh
# For live systems: lies beside the static pbsmap on a USB stick, fetches
# nothing, asks what is missing. Any POSIX shell, BusyBox's too.
#
#	sh /media/stick/rescue.sh [options of pbsmap rescue]
#
# Configuration beside it is used: pbsmap.conf (KEY=VALUE lines as for --config),
# key.json (an encryption key), ca.pem.
#
# PBSMAP_NET=no: leaves the network as it is.
set -u
PATH=${PATH:-/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say()
{
	echo "rescue.sh: $*" >&2
}

die()
{
	say "$*"
	exit 1
}

have()
{
	command -v "$1" >/dev/null 2>&1
}

# yes_or_no QUESTION: yes when Enter alone is pressed
yes_or_no()
{
	printf '%s [Y/n] ' "$1" >&2
	read -r answer || return 1
	case $answer in
	''|[Yy]*) return 0 ;;
	esac
	return 1
}

# ---- the program: a stick may be mounted noexec, or have a file system without modes ----

# A directory of our own for what is executed.
make_place()
{
	for dir in /run /dev/shm /tmp /var/tmp /root ''; do
		place=$dir/pbsmap.$$
		mkdir -m 700 "$place" 2>/dev/null || continue
		printf '#!/bin/sh\nexit 0\n' >"$place/try" && chmod 700 "$place/try" && "$place/try" 2>/dev/null && return 0
		rm -rf "$place"
	done
	place=
	return 1
}

runs()
{
	[ -f "$1" ] && "$1" --version >/dev/null 2>&1
}

find_program()
{
	copied=
	for program in "$here/pbsmap-$(uname -m)" "$here/pbsmap"; do
		[ -f "$program" ] || continue
		! runs "$program" || return 0
		[ -n "$place" ] || continue
		cp "$program" "$place/pbsmap"
		chmod 700 "$place/pbsmap"
		program=$place/pbsmap
		copied=yes
		! runs "$program" || return 0
	done
	copied=
	program=$(command -v pbsmap)
}

# ---- the network ----

# A card that has an address, other than lo.
has_address()
{
	if have ip; then
		ip -o addr show scope global 2>/dev/null | grep -q inet
	elif have ifconfig; then
		ifconfig 2>/dev/null | grep 'inet' | grep -v '127\.0\.0\.1' | grep -qv '::1'
	else
		return 0	# who knows
	fi
}

cards()
{
	for path in "${PBSMAP_SYS:-/sys}"/class/net/*; do
		name=${path##*/}
		[ -e "$path" ] && [ "$name" != lo ] && [ -e "$path/device" ] && echo "$name"
	done
}

up()
{
	if have ip; then ip link set "$1" up; else ifconfig "$1" up; fi
}

# udhcpc gets an address, a script of its own sets it; systems that have one keep it.
dhcp()
{
	up "$1"
	if have udhcpc; then
		script=
		for path in /usr/share/udhcpc/default.script /etc/udhcpc/default.script /etc/udhcpc/simple.script; do
			[ -x "$path" ] && script=$path && break
		done
		[ -n "$script" ] || write_dhcp_script "${script:=$place/dhcp}" || return 1
		udhcpc -n -q -t 5 -i "$1" -s "$script"
	elif have dhclient; then
		dhclient -1 "$1"
	elif have dhcpcd; then
		dhcpcd -1 -t 20 "$1"
	else
		return 1
	fi
}

# resolv.conf may lie on a read-only root: pbsmap takes addresses too.
write_dhcp_script()
{
	cat >"$1" <<-'END' && chmod 700 "$1"
		#!/bin/sh
		[ "$1" = bound ] || [ "$1" = renew ] || exit 0
		if command -v ip >/dev/null 2>&1; then
			ip addr flush dev "$interface"
			ip addr add "$ip/${mask:-24}" dev "$interface"
		else
			ifconfig "$interface" "$ip" netmask "${subnet:-255.255.255.0}"
		fi
		for gateway in $router; do
			if command -v ip >/dev/null 2>&1; then
				ip route replace default via "$gateway" dev "$interface"
			else
				route add default gw "$gateway" dev "$interface"
			fi
			break
		done
		[ -z "$dns" ] || for server in $dns; do
			echo "nameserver $server"
		done >"${PBSMAP_RESOLV:-/etc/resolv.conf}" 2>/dev/null
		exit 0
	END
}

by_hand()
{
	have ip || { say "there is no ip command"; return 1; }
	printf 'Address with its prefix (192.0.2.10/24), Enter: none: ' >&2
	read -r address && [ -n "$address" ] || return 1
	printf 'Gateway, Enter: none: ' >&2
	read -r gateway || return 1
	ip link set "$1" up && ip addr add "$address" dev "$1" || return 1
	[ -z "$gateway" ] || ip route replace default via "$gateway" dev "$1"
}

network()
{
	[ "${PBSMAP_NET:-}" != no ] && ! has_address || return 0
	list=$(cards)
	[ -n "$list" ] || { say "there is no network card with a driver; a datastore on a disk needs none"; return 0; }
	yes_or_no "No card has an address yet. Configure the network?" || return 0
	for card in $list; do
		yes_or_no "$card by DHCP?" && dhcp "$card" && has_address && return 0
		yes_or_no "$card by hand?" && by_hand "$card" && return 0
	done
	say "still without an address"
}

# ---- all of it ----

case $0 in
*/*)	here=${0%/*} ;;
*)	here=. ;;
esac
here=$(cd "$here" && pwd) || die "where am I?"

[ "$(id -u)" = 0 ] || die "mapping and restoring need root; try: sudo sh $0"
[ -e /proc/self ] || mount -t proc proc /proc 2>/dev/null
[ -e /sys/block ] || mount -t sysfs sys /sys 2>/dev/null
make_place || say "there is no place to run programs from, other than this one"
find_program || die "there is no pbsmap for this machine ($(uname -m)) beside $0"
network

if [ -f "$here/pbsmap.conf" ]; then set -- --config "$here/pbsmap.conf" "$@"; fi
if [ -f "$here/key.json" ]; then set -- --keyfile "$here/key.json" "$@"; fi
if [ -f "$here/ca.pem" ]; then set -- --ca "$here/ca.pem" "$@"; fi
"$program" rescue "$@"
rc=$?
if [ -n "$copied" ]; then
	say "pbsmap is now $program, for what comes next (unmap)"
elif [ -n "$place" ]; then
	rm -rf "$place"
fi
exit $rc
