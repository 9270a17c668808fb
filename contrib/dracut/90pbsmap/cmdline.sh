#!/bin/sh
# dracut, cmdline: is pbsmap wanted? Then the main loop waits until it has done what it shall. Not every program that may
# configure the network here says when it has: pbsmap-boot looks, whenever the loop comes by.

# shellcheck disable=SC2154,SC2034 # dracut's variables
if pbsmap_needs=$(/sbin/pbsmap-boot needs); then
    # Without root= there is nothing to boot; a restore may end otherwise.
    [ -n "$root" ] || { root=block:/dev/pbsmap rootok=1; }
    echo '[ -e /run/pbsmap.status ]' > "$hookdir"/initqueue/finished/pbsmap.sh
    [ "$pbsmap_needs" != network ] || echo rd.neednet=1 > /etc/cmdline.d/80pbsmap.conf
    /sbin/initqueue --settled --name pbsmap /sbin/pbsmap-boot
fi
unset pbsmap_needs
