"""Booting: a disk restored from the initramfs, a root that is mapped over the network and outlives the initramfs."""
import pathlib
import re
import tempfile
import time

import pytest

import vm
from lib import mkstore
from server import SECRETS, Server

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(300)]

T1 = '2026-01-02T03:04:05Z'
AUTH = 'test@pbs!tok'
BOOT_MODULES = (*vm.MODULES, 'overlay')


class Image:
    """A store with an image of a root disk and a second one, on a server."""

    def __init__(self, folder):
        self.folder = folder
        self.disk, self.sums = vm.root_disk(folder)
        mkstore(folder / 'store', f'vm/100/{T1}', f'drive-scsi0.img={self.disk}')
        mkstore(folder / 'store', f'vm/101/{T1}', f'drive-scsi1.img={self.disk}')

    def server(self, listen='127.0.0.1:0'):
        return Server(self.folder / 'store', listen=listen)

    def command_line(self, server, more=''):
        """What the kernel is told, and a configuration with what is no business of the command line."""
        return (f'pbsmap.repository={AUTH}@10.0.2.2:{server.port}:{server.name} pbsmap.fingerprint={server.fingerprint} '
                f'pbsmap.snapshot=vm/100 pbsmap.archive=drive-scsi0.img {more}',
                [*vm.boot_files(), ('etc/pbsmap/initramfs.conf', f'PBS_PASSWORD="{SECRETS[AUTH]}"\n')])


@pytest.fixture(scope='module')
def image():
    if why := vm.lacking():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix='pbsvm') as d:
        yield Image(pathlib.Path(d))


@pytest.fixture
def folder(image):
    with tempfile.TemporaryDirectory(prefix='guest', dir=image.folder) as d:
        yield pathlib.Path(d)


def test_restores_a_disk_and_boots_from_it(image, folder):
    """Over the network, onto a disk named as it stays named."""
    (folder / 'empty').write_bytes(bytes(48 << 20))
    with image.server() as server:
        append, extra = image.command_line(server, 'pbsmap.action=restore pbsmap.target=/dev/disk/by-id/virtio-empty')
        with vm.Guest(folder, [folder / 'empty'], append, net=True, load=BOOT_MODULES, more=vm.BOOT % '', extra=extra) as g:
            assert 'pbsmap: restore done' in g.boot_text, g.boot_text
            assert g.run('cat /run/pbsmap.status') == '0\n'
            g.run('test -b /dev/vda1')
        append, extra = image.command_line(server, 'root=/dev/vda1')
    with vm.Guest(folder, [folder / 'empty'], 'root=/dev/vda1', more=vm.BOOT % '', extra=extra) as g:
        assert f'word: {vm.WORD}\n' in g.boot_text, g.boot_text
        assert g.run('sha256sum /data/a').split()[0] == image.sums['a']


def check_root(g, image):
    assert f'word: {vm.WORD}\n' in g.boot_text, g.boot_text
    assert g.run('sha256sum /data/a', 120).split()[0] == image.sums['a']


def reads_on_after_a_restart(g, image, server):
    """The server goes away, and what runs from the root it has waits for the next one."""
    port = server.port
    server.__exit__(None, None, None)
    g.run('(sha256sum /data/b >/tmp/sum 2>&1; echo ended >>/tmp/sum) & :')
    time.sleep(3)               # the guest cannot even look at its programs now
    with image.server(f'127.0.0.1:{port}') as again:
        g.run('while ! grep -q ended /tmp/sum; do sleep 1; done', 120)
        assert g.run('cat /tmp/sum').split()[0] == image.sums['b']
        assert again.stats()['chunks'] > 0
        assert g.status('pbsmap unmap drive-scsi0.img')[0] == 3
        g.run('pbsmap unmap drive-scsi1.img')
        assert g.run('pbsmap status').count('alive') == 1


def test_root_is_mapped(image, folder):
    """/run goes along: what is mapped can be seen and undone from the new root."""
    server = image.server()
    append, extra = image.command_line(server, 'root=/dev/loop1p1')
    second = f'''mkdir /run; mount -t tmpfs run /run
pbsmap map --config /etc/pbsmap/initramfs.conf --repository {AUTH}@10.0.2.2:{server.port}:{server.name} \\
    --fingerprint {server.fingerprint} vm/101 drive-scsi1.img'''
    try:
        with vm.Guest(folder, append=append, net=True, load=BOOT_MODULES, more=vm.BOOT % second, extra=extra) as g:
            check_root(g, image)
            # Nothing is left of the initramfs, which the two processes still have for their root.
            assert g.run('find /proc/$(cat /run/pbs-loopdev/*vm-100*.pid)/root/ -xdev ! -type d') == ''
            assert len(re.findall(r'/dev/loop\d.* alive ', g.run('pbsmap status'))) == 2
            # Whoever reads the file closes it, and is not the loop device.
            g.run('head -c 1 /run/pbs-loopdev/*vm-100*.img >/dev/null; sleep 1')
            g.run('echo new >/etc/new && cat /etc/new /etc/word')
            assert 'overlay / overlay rw' in g.run('cat /proc/mounts')
            reads_on_after_a_restart(g, image, server)
            assert g.run('ls /dev/loop0p1 2>&1; cat /sys/block/loop0/loop/backing_file 2>&1', status=1).count('No such file') == 2
    finally:
        server.stop()


def test_root_is_mapped_and_run_deleted(image, folder):
    """An initramfs whose /run is part of it: its files go, the mapping stays."""
    with image.server() as server:
        append, extra = image.command_line(server, 'root=/dev/loop0p1 pbsmap.overlay=no')
        with vm.Guest(folder, append=append, net=True, load=BOOT_MODULES, more=vm.BOOT % '', extra=extra) as g:
            check_root(g, image)
            assert g.status('ls /run/pbs-loopdev')[0] != 0
            assert g.run('sha256sum /data/b', 120).split()[0] == image.sums['b']
            assert g.status('echo new >/etc/new')[0] == 1
