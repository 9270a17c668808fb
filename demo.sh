#!/bin/sh
# Maps two real images from the bundled datastore, mounts them, compares what
# is in them with what was backed up, and undoes it all.
#
#	demo.sh [PBSMAP]
set -eu
cd "$(dirname "$0")"
pbsmap=${1:-./pbsmap}
case $pbsmap in */*) ;; *) pbsmap=./$pbsmap ;; esac
[ "$(id -u)" = 0 ] || { echo "demo: mapping and mounting need root" >&2; exit 1; }
golden=$PWD/test/golden
dev=
mnt=$(mktemp -d)

undo()
{
	status=$?
	trap - EXIT
	umount "$mnt" 2>/dev/null || :
	[ -z "$dev" ] || "$pbsmap" unmap -f "$dev" || :
	rmdir "$mnt"
	[ $status = 0 ] || echo "demo: failed" >&2
	exit $status
}
trap undo EXIT
trap 'exit 1' INT TERM HUP

show()
{
	echo "# $*"
	"$@"
}

# demo TITLE OPTION... SNAPSHOT ARCHIVE
demo()
{
	echo
	echo "--- $1"
	shift
	echo "# pbsmap map $*"
	dev=$("$pbsmap" map "$@")
	echo "$dev"
	[ "$(sha256sum <"$dev")" = "$image_sum  -" ] || { echo "other bytes than were backed up"; exit 1; }
	echo "(all $(blockdev --getsize64 "$dev") bytes as they were backed up)"
	show mount -o ro,noload "${dev}p1" "$mnt"
	show ls "$mnt"
	(cd "$mnt" && sha256sum --quiet -c "$golden/tree.sha256")
	echo "(all $(wc -l <"$golden/tree.sha256") files as they were)"
	show umount "$mnt"
	echo "# pbsmap unmap $dev"
	"$pbsmap" unmap "$dev"
	dev=
}

image_sum=$(sed -n 's/  gpt\.img$//p' "$golden/SHA256SUMS")
store=test/golden/store
demo "a plain image" --repository ./$store vm/100/2026-01-02T03:04:05Z drive-scsi0.img
demo "the same, encrypted" --repository ./$store --keyfile test/golden/keys/none.json \
    vm/101 drive-scsi0.img
echo
echo "demo: done"
