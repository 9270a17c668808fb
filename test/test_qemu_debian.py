"""The hooks in a real Debian: packed by update-initramfs and by dracut, booted with a root that is mapped over the network."""
import subprocess
import tempfile
import pathlib

import pytest

import vm
from lib import KEYS, PBSMAP, ROOT
from server import SECRETS
from test_qemu_boot import AUTH, Image, check_root

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(2400)]

PACKAGES = ('linux-image-amd64', 'initramfs-tools', 'busybox', 'zstd', 'udev', 'cpio', 'procps', 'dracut-core', 'dracut-network',
            'systemd', 'systemd-sysv', 'dbus')
SECRET = SECRETS[AUTH]


@pytest.fixture(scope='module')
def debian():
    """A tree with the hooks installed, and an image to boot."""
    if why := vm.lacking():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix='pbsvm') as d:
        folder = pathlib.Path(d)
        tree = folder / 'debian'
        subprocess.run([ROOT / 'deps.sh', 'tree', tree, *PACKAGES], check=True, timeout=1200)
        for target in 'install-initramfs', 'install-dracut':
            subprocess.run(['make', '-s', target, f'DESTDIR={tree}', f'BIN={PBSMAP}'], cwd=ROOT, check=True)
        etc = tree / 'etc' / 'pbsmap'
        etc.mkdir()
        (etc / 'initramfs.conf').write_text(f'PBS_PASSWORD="{SECRET}"\nALL_PROXY=\n')
        (etc / 'key.json').write_text((KEYS / 'none.json').read_text())
        yield tree, Image(folder)


def inside(tree, *lines):
    """What these commands print; in the tree, with the mounts they want."""
    script = f'''set -e
mount -t proc proc {tree}/proc; mount -t sysfs sys {tree}/sys; mount --rbind /dev {tree}/dev; mount -t tmpfs run {tree}/run
mount -t tmpfs tmp {tree}/tmp
chroot {tree} /bin/sh -ec '{"; ".join(lines)}' '''
    r = subprocess.run(['unshare', '-m', 'sh', '-c', script], capture_output=True, text=True, timeout=1200)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout + r.stderr


def secrets(tree, wanted):
    (tree / 'etc' / 'pbsmap' / 'hook.conf').write_text(f'PBSMAP_SECRETS={wanted}\n')


def boots(tree, image, ramdisk, more):
    kernel = next(tree.glob('boot/vmlinuz*'))
    with image.server() as server:
        append, _ = image.command_line(server, f'root=/dev/loop0p1 rootflags=noload ip=dhcp {more}')
        with vm.Guest(image.folder, append=append, net=True, memory=1024, kernel=kernel, ramdisk=tree / 'boot' / ramdisk) as g:
            g.boot_text = g.wait(0, 600)[1]
            check_root(g, image)
            g.run('echo new >/etc/new')
            assert g.run('cat /run/pbsmap.device') == '/dev/loop0\n'
            assert g.run('pbsmap status').count('alive') == 1


NEEDED = 'pbsmap', 'blkid', 'boot.sh', 'fuse.ko', 'loop.ko', 'virtio_net.ko', 'overlay.ko', 'etc/pbsmap/initramfs.conf'


def test_initramfs_tools(debian):
    tree, image = debian
    name = f'initrd.img-{next(tree.glob("lib/modules/*")).name}'
    secrets(tree, 'no')
    pack = 'update-initramfs -u', f'lsinitramfs /boot/{name}', f'unmkinitramfs /boot/{name} /tmp/x', 'cat /tmp/x/*/etc/pbsmap/initramfs.conf || cat /tmp/x/etc/pbsmap/initramfs.conf'
    text = inside(tree, *pack)
    assert SECRET not in text and 'ALL_PROXY' in text and 'etc/pbsmap/key.json' not in text
    secrets(tree, 'yes')
    text = inside(tree, *pack)
    assert 'W: pbsmap: /etc/pbsmap/key.json goes into the initramfs' in text
    assert SECRET in text and all(n in text for n in (*NEEDED, 'scripts/local-top/pbsmap', 'etc/pbsmap/key.json'))
    boots(tree, image, name, '')


def test_dracut(debian):
    tree, image = debian
    version = next(tree.glob('lib/modules/*')).name
    secrets(tree, 'yes')
    text = inside(tree, f'dracut -q --no-hostonly --add pbsmap --omit "plymouth lvm multipath" --force /boot/dracut.img {version} 2>&1',
                  'lsinitrd /boot/dracut.img', 'lsinitrd -f etc/pbsmap/initramfs.conf /boot/dracut.img')
    assert 'W: pbsmap: /etc/pbsmap/key.json goes into the initramfs' in text
    assert SECRET in text and all(n in text for n in (*NEEDED, 'pbsmap-boot', 'etc/pbsmap/key.json'))
    boots(tree, image, 'dracut.img', '')
