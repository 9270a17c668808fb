#!/bin/sh
# dracut, pre-pivot: a root that pbsmap has mapped gets an overlay in memory, or nothing could be written to it.
# shellcheck disable=SC2154 # where dracut has mounted root=
/sbin/pbsmap-boot overlay "$NEWROOT"
:
