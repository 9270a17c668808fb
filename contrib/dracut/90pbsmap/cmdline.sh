#!/bin/sh
# dracut, cmdline: is pbsmap wanted? Then the main loop waits until it has done what it shall, with a network where the
# repository is a server.

# shellcheck disable=SC2154,SC2034 # dracut's variables
if pbsmap_needs=$(/sbin/pbsmap-boot needs); then
    # Without root= there is nothing to boot; a restore may end otherwise.
    [ -n "$root" ] || { root=block:/dev/pbsmap rootok=1; }
    echo '[ -e /run/pbsmap.status ]' > "$hookdir"/initqueue/finished/pbsmap.sh
    if [ "$pbsmap_needs" = network ]; then
        mkdir -p /etc/cmdline.d
        echo rd.neednet=1 > /etc/cmdline.d/80pbsmap.conf
        /sbin/initqueue --online --name pbsmap /sbin/pbsmap-boot
    else
        /sbin/initqueue --settled --unique --onetime --name pbsmap /sbin/pbsmap-boot
    fi
fi
unset pbsmap_needs
