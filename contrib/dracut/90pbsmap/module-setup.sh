#!/bin/bash
# shellcheck disable=SC1091,SC2154
# dracut: packs pbsmap, its kernel modules and its configuration. See conf.sh for which files.

# dracut does not look into /usr/local.
program() {
    PATH=$PATH:/usr/local/bin command -v pbsmap
}

check() {
    program >/dev/null
}

depends() {
    echo network rootfs-block
}

installkernel() {
    hostonly='' instmods fuse loop ext4 xfs btrfs squashfs overlay
    # Drivers of network cards are the module network's business.
}

install() {
    inst "$(program)" /usr/bin/pbsmap
    inst_multiple cat mkdir mount sleep blkid grep
    inst_simple "$moddir/boot.sh" /lib/pbsmap/boot.sh
    inst_script "$moddir/pbsmap-boot" /sbin/pbsmap-boot
    inst_hook cmdline 80 "$moddir/cmdline.sh"
    inst_hook pre-pivot 10 "$moddir/pre-pivot.sh"
    DESTDIR=$initdir . "$moddir/conf.sh"
}
