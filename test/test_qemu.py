"""A rescue system with nothing: Debian's kernel, BusyBox and pbsmap, no udev, no devtmpfs, no /run, no modules loaded,
256 MB, a clock at 1970; the datastore on a disk. The kernel has partition parsers, so that attaching the device
reads through FUSE at that moment."""
import pathlib
import re
import tempfile

import pytest

import vm
from lib import GOLDEN, KEYS, SUMS, mkstore, tool

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(300)]

T1 = '2026-01-02T03:04:05Z'
MAP = 'pbsmap map --repository /store'

@pytest.fixture(scope='module')
def guest():
    if why := vm.lacking():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix='pbsvm') as d:
        folder = pathlib.Path(d)
        vm.store_disk(folder / 'store', GOLDEN / 'store')
        (folder / 'empty').write_bytes(bytes(40 << 20))
        g = vm.Guest(folder, [folder / 'store', folder / 'empty'],
                     f'pbsmap.repository=/store pbsmap.snapshot=vm/100/{T1} pbsmap.archive=drive-scsi1.img pbsmap.target=/dev/vdb', more='mount -t ext4 -o ro /dev/vda /store',
                     load=(*vm.MODULES, 'dm_mod'),
                     extra=[*vm.boot_files(), ('bin/dmset', pathlib.Path(tool('dmset')).read_bytes()), ('tree.sha256', (GOLDEN / 'tree.sha256').read_text()),
                            ('none.json', (KEYS / 'none.json').read_text())])
        try:
            yield g
        finally:
            g.close()


@pytest.fixture
def mapped(guest):
    """Maps, and asserts at the end that nothing is left."""
    def run(args):
        out = guest.run(f'{MAP} {args} 2>/err')
        assert out == '/dev/loop0\n', out
    try:
        yield run
        guest.run('pbsmap unmap /dev/loop0')
        assert guest.run('pbsmap status 2>/dev/null; cat /proc/mounts').count('pbs-loopdev') == 0
        assert guest.status('cat /sys/block/loop0/loop/backing_file')[0] == 1
        assert guest.run('ls /dev/loop0p* 2>/dev/null; ls /run/pbs-loopdev; true') == ''
        assert guest.run('ps').count('pbsmap') == 0
    finally:
        guest.status('pbsmap unmap -a -f; dmesg -c')


def test_nothing_is_there_at_first(guest):
    """What the tests below begin with."""
    assert guest.status('test -e /sys/module/fuse -o -e /sys/module/loop -o -e /run -o -e /dev/fuse -o -e /dev/loop-control')[0] == 1
    assert guest.run('date +%Y') == '1970\n'
    assert int(re.search(r'MemTotal: *(\d+)', guest.run('cat /proc/meminfo'))[1]) < 256 << 10


def test_maps_mounts_and_unmaps(guest, mapped):
    mapped(f'vm/100/{T1} drive-scsi0.img')
    assert guest.status('test -e /sys/module/fuse -a -e /sys/module/loop')[0] == 0
    # The kernel's own parser made these while the device was being attached.
    assert 'loop0: p1 p2' in guest.run('dmesg')
    size = int(guest.run('cat /sys/block/loop0/size')) * 512
    assert guest.run(f'head -c {size} /dev/loop0 | sha256sum', 120).split()[0] == SUMS['gpt.img']
    for part, fstype, options in ((1, 'ext4', 'ro,noload'), (2, 'squashfs', 'ro')):
        guest.run(f'mount -t {fstype} -o {options} /dev/loop0p{part} /mnt')
        try:
            guest.run('cd /mnt && sha256sum -c /tree.sha256')
            rc, text = guest.status('pbsmap unmap /dev/loop0')
            assert rc == 3 and '/mnt' in text
        finally:
            guest.run('cd /; umount /mnt')
    assert '/dev/loop0' in guest.run('pbsmap status')


def test_encrypted_with_logical_partitions(guest, mapped):
    mapped(f'--keyfile /none.json vm/101/{T1} drive-scsi1.img')
    assert re.search(r'loop0: p1 p2 < p5 p6 >', guest.run('dmesg'))
    assert guest.run('ls /dev/loop0p*').split() == [f'/dev/loop0p{n}' for n in (1, 2, 5, 6)]
    assert guest.run('sha256sum /dev/loop0', 120).split()[0] == SUMS['mbr.img']


def test_restores_to_an_empty_disk(guest):
    guest.run(f'pbsmap restore --yes --repository /store vm/100/{T1} drive-scsi0.img /dev/vdb', 120)
    guest.run('sync; echo 3 >/proc/sys/vm/drop_caches')
    assert guest.run('head -c 31458816 /dev/vdb | sha256sum').split()[0] == SUMS['gpt.img']
    assert guest.run('tail -c +31458817 /dev/vdb | tr -d "\\0" | wc -c').strip() == '0'
    assert 'vdb1' in guest.run('cat /proc/partitions')


def test_device_mapper_holds_a_partition(guest, mapped):
    mapped(f'vm/100/{T1} drive-scsi0.img')
    guest.run('echo "0 1024 linear /dev/loop0p1 0" | dmset ro above')
    try:
        rc, text = guest.status('pbsmap unmap /dev/loop0')
        assert rc == 3 and '/dev/loop0p1 is held by dm-0 (above)' in text, text
    finally:
        guest.run('dmset rm above')


def test_restores_to_a_disk_that_fails(guest):
    """It can be written but in one place, which is named; and it is not restored to behind its user's back."""
    guest.run('printf "0 16384 linear /dev/vdb 0\\n16384 8 error\\n16392 57344 linear /dev/vdb 16392\\n" | dmset rw failing')
    restore = f'pbsmap restore --yes --repository /store vm/100/{T1} drive-scsi0.img'
    try:
        rc, text = guest.status(f'{restore} /dev/vdb', 120)
        assert rc == 3 and 'failing' in text, text
        rc, text = guest.status(f'{restore} /dev/failing', 120)
        assert rc == 1 and '/dev/failing: cannot write at offset 8388608: I/O error; ' in text, (rc, text)
    finally:
        guest.run('dmset rm failing')


def test_serves_the_root_and_is_not_killed(guest, mapped):
    mapped(f'--storage-daemon vm/100/{T1} drive-scsi1.img')
    pids = guest.run('for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in pbsmap*) echo ${p#/proc/};; esac; done').split()
    assert len(pids) == 3
    for pid in pids:
        assert guest.run(f'cat /proc/{pid}/oom_score_adj') == '-900\n'
        assert guest.run(f'head -c 1 /proc/{pid}/cmdline') == '@'
        assert int(re.search(r'VmLck:\s*(\d+)', guest.run(f'cat /proc/{pid}/status'))[1]) > 128
        # All its threads: PF_MEMALLOC_NOIO, which is PR_SET_IO_FLUSHER's.
        flags = [int(line.rsplit(')', 1)[1].split()[6]) for line in guest.run(f'cat /proc/{pid}/task/*/stat').splitlines()]
        assert flags and all(f & 0x80000 for f in flags)


def test_root_is_read_only(guest):
    """What is written goes to memory: a bare /dev, and a /run that nobody mounted."""
    guest.run('mkdir -p /ro /run; rm -rf /run/pbs-loopdev; mount --bind / /ro; mount -o remount,ro,bind /ro')
    for kind, at in ('proc', 'proc'), ('sysfs', 'sys'), ('tmpfs', 'dev'):
        guest.run(f'mount -t {kind} {kind} /ro/{at}')
    guest.run('mount --bind /store /ro/store; mknod /ro/dev/null c 1 3')
    assert guest.status('mkdir /ro/run/x')[0] != 0
    assert guest.run(f'chroot /ro {MAP} vm/100/{T1} drive-scsi1.img 2>/dev/null') == '/dev/loop0\n'
    assert guest.run('sha256sum /ro/dev/loop0', 120).split()[0] == SUMS['mbr.img']
    assert guest.status('test -b /ro/dev/loop0p5 -a -c /ro/dev/fuse -a -d /ro/run/pbs-loopdev')[0] == 0
    guest.run('chroot /ro pbsmap unmap /dev/loop0')
    assert guest.status('test -e /ro/dev/loop0p5')[0] == 1


def test_boot_script_maps(guest):
    try:
        assert 'pbsmap: map done' in guest.run('/scripts/local-top/pbsmap')
        assert guest.run('cat /run/pbsmap.device; cat /run/pbsmap.status') == '/dev/loop0\n0\n'
        assert guest.run('sha256sum /dev/loop0', 120).split()[0] == SUMS['mbr.img']
        # What a shutdown must not kill: monitor, worker and, since it is a directory, who opens its files.
        pids = guest.run('cat /run/sendsigs.omit.d/pbsmap').split()
        assert len(pids) == 3 and guest.run('cat /run/pbs-loopdev/*.pid').strip() in pids
        assert [guest.run(f'head -c 1 /proc/{pid}/cmdline') for pid in pids] == ['@'] * 3
    finally:
        guest.run('pbsmap unmap /dev/loop0')


def test_boot_script_restores_and_says_what_failed(guest):
    """The command line is the kernel's; another one is laid over it."""
    def boot(old, new, status):
        guest.run(f'sed "s|{old}|{new}|" /proc/cmdline >/cmdline; mount --bind /cmdline /proc/cmdline')
        try:
            return guest.run('/scripts/local-top/pbsmap', 120, status)
        finally:
            guest.run('umount /proc/cmdline')
    guest.run('echo data | dd of=/dev/vdb bs=4096 conv=sync 2>/dev/null')
    text = boot('$', ' pbsmap.action=restore', 3)
    assert 'is not empty (unknown data)' in text and 'panic: pbsmap: restore failed, status 3' in text
    assert guest.run('head -c 4 /dev/vdb; cat /run/pbsmap.status') == 'data3\n'
    text = boot('$', ' pbsmap.action=restore pbsmap.yes', 0)
    assert 'panic' not in text and 'pbsmap: restore done' in text
    assert guest.run('head -c 8388608 /dev/vdb | sha256sum').split()[0] == SUMS['mbr.img']
    assert 'panic: pbsmap: map failed, status 1' in boot('drive-scsi1', 'drive-none', 1)
    assert 'panic: pbsmap: a shell' in boot('$', ' pbsmap.action=shell', 0)


def test_asks_over_a_slow_line(guest):
    """rescue on the serial console, typed into at 1200 baud."""
    steps = [('Repository', '/store'), ('Namespace', ''), ('Group', 'vm/100'), ('Snapshot', T1), ('Archive', 'drive-scsi1'),
             ('What shall be done', '1')]
    try:
        rc, text = guest.dialog('pbsmap rescue', [(rf'{q}[^\n]*: $', f'{a}\n') for q, a in steps], baud=1200)
        assert rc == 0 and '/dev/loop0\n' in text, text
        assert f'pbsmap map --repository /store vm/100/{T1} drive-scsi1.img' in text, text
        assert guest.run('sha256sum /dev/loop0', 120).split()[0] == SUMS['mbr.img']
    finally:
        guest.run('pbsmap unmap /dev/loop0')


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_slow_line_is_not_flooded(tmp_path):
    """4 GiB of zeros, written and read back, the console at 9600 baud: about 4 s of its time at most."""
    if why := vm.lacking():
        pytest.skip(why)
    size = 4 << 30
    for name in 'zeros', 'target':
        with open(tmp_path / name, 'wb') as f:
            f.truncate(size)
    mkstore(tmp_path / 'st', f'vm/100/{T1}', f'drive-scsi0.img={tmp_path / "zeros"}')
    vm.store_disk(tmp_path / 'store', tmp_path / 'st')
    with vm.Guest(tmp_path, [tmp_path / 'store', tmp_path / 'target'], more='mount -t ext4 -o ro /dev/vda /store') as g:
        g.run('stty 9600 </dev/ttyS0')
        before = g.bytes
        rc, text = g.dialog(f'pbsmap restore --verify --repository /store vm/100/{T1} drive-scsi0.img /dev/vdb', [], 600)
        assert rc == 0 and '4.0 GiB' in text, text
        print(f'{g.bytes - before} bytes')
        assert len(text) <= g.bytes - before < 4096 and text.count('restored') > 0, text
