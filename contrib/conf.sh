# shellcheck shell=sh disable=SC1091
# Packs pbsmap's configuration into the initramfs that is made in $DESTDIR. Read by the hooks for initramfs-tools and dracut.
#
#	/etc/pbsmap/initramfs.conf	KEY=VALUE lines as for pbsmap --config
#	/etc/pbsmap/ca.pem		authorities to trust
#	/etc/pbsmap/key.json		an encryption key
#
# An initramfs lies unencrypted on /boot: secrets stay out of it unless PBSMAP_SECRETS=yes stands in /etc/pbsmap/hook.conf.
PBSMAP_SECRETS=
[ ! -e /etc/pbsmap/hook.conf ] || . /etc/pbsmap/hook.conf

# pack NAME COMMAND...: the command's output becomes the file, for nobody but root
pack()
{
	mkdir -p "$DESTDIR/etc/pbsmap"
	file=$DESTDIR/etc/pbsmap/$1
	shift
	"$@" >"$file"
	chmod 600 "$file"
}

[ ! -e /etc/pbsmap/ca.pem ] || pack ca.pem cat /etc/pbsmap/ca.pem
if [ "$PBSMAP_SECRETS" = yes ]; then
	for file in initramfs.conf key.json; do
		[ -e /etc/pbsmap/$file ] || continue
		echo "W: pbsmap: /etc/pbsmap/$file goes into the initramfs, with the secrets in it" >&2
		pack $file cat /etc/pbsmap/$file
	done
elif [ -e /etc/pbsmap/initramfs.conf ]; then
	pack initramfs.conf sed '/^[[:space:]]*PBS_\(ENCRYPTION_\)\{0,1\}PASSWORD/d' /etc/pbsmap/initramfs.conf
fi
