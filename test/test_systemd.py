"""pbsmap@.service under systemd itself, in a virtual machine of systemd, BusyBox and pbsmap: what the hardening allows, and that
what is mapped can be seen by others."""
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

import vm
from lib import GOLDEN, ROOT, SUMS

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(400)]

T1 = '2026-01-02T03:04:05Z'
PART_ID = 0x7062736d
SYSTEMD = pathlib.Path('/usr/lib/systemd/systemd')
UNITS = 'usr/lib/systemd/system'
# The shell of vm.py, as a service. systemd resets the console once more after it has started it, which throws away
# what was written at that moment.
LOOP = '''export PATH=/bin:/usr/bin HOME= SYSTEMD_PAGER=cat SYSTEMD_COLORS=0
sleep 3
stty -echo -onlcr
echo '<<0:0>>'
while read -r line; do eval "$line"; done
'''


def with_libraries(*programs):
    """(name, bytes) of dynamic programs and of what they load."""
    paths = dict.fromkeys(str(p) for p in programs)
    for p in programs:
        out = subprocess.run(['ldd', p], text=True, capture_output=True, check=True).stdout
        paths.update(dict.fromkeys(re.findall(r'(/\S+) \(0x', out)))
    return [(p[1:], pathlib.Path(p).read_bytes()) for p in paths]


@pytest.fixture(scope='module')
def guest():
    why = vm.lacking() or (None if SYSTEMD.exists() and shutil.which('systemctl') else 'no systemd')
    if why:
        pytest.skip(why)
    service = (ROOT / 'contrib/systemd/pbsmap@.service').read_text().replace('/usr/local/bin/', '/bin/').replace('=journal', '=kmsg')
    plain = '[Unit]\nDefaultDependencies=no\n'
    files = [(f'{UNITS}/{name}.target', plain) for name in ('sysinit', 'basic', 'shutdown', 'umount', 'multi-user', 'network-online', 'poweroff')]
    files += with_libraries(SYSTEMD, shutil.which('systemctl')) + [
        (f'{UNITS}/default.target', plain + 'Wants=console.service\n'),
        (f'{UNITS}/console.service', plain + '[Service]\nExecStart=/bin/sh /loop\nStandardInput=tty-force\nStandardOutput=tty\n'
         'StandardError=tty\nTTYPath=/dev/ttyS0\n'),
        (f'{UNITS}/pbsmap@.service', service), ('loop', LOOP),
        ('etc/systemd/system.conf', '[Manager]\nDefaultStandardError=kmsg\nLogLevel=notice\nLogTarget=kmsg\nShowStatus=no\n'),
        ('etc/passwd', 'root:x:0:0::/:/bin/sh\n'), ('etc/group', 'root:x:0:\n'), ('etc/machine-id', '1' * 32 + '\n'),
        ('etc/pbsmap/disk.conf', f'PBS_REPOSITORY=/store\nSNAPSHOT=vm/100/{T1}\nARCHIVE=drive-scsi0.img\nOPTIONS=--cache 8M --workers 1\n'),
        ('etc/pbsmap/said.conf', f'PBS_REPOSITORY=/store\nSNAPSHOT=vm/100/{T1}\nARCHIVE=drive-scsi0.img\nOPTIONS=--cache 8M --verbose\n'),
        ('etc/pbsmap/wrong.conf', 'PBS_REPOSITORY=/store\nSNAPSHOT=vm/100\nARCHIVE=none.img\n'),
    ]
    with tempfile.TemporaryDirectory(prefix='pbsvm') as d:
        vm.store_disk(pathlib.Path(d) / 'store', GOLDEN / 'store')
        g = vm.Guest(d, [pathlib.Path(d) / 'store'], memory=384, extra=files, zstd=('fuse',), append='systemd.show_status=no',
                     more='mount -t devtmpfs dev /dev; mount -t ext4 -o ro /dev/vda /store; exec /usr/lib/systemd/systemd </dev/console >/dev/console 2>&1')
        try:
            yield g
        finally:
            g.close()


def show(guest, what, name='disk'):
    return guest.run(f'systemctl show -P {what} pbsmap@{name}').strip()


@pytest.fixture
def started(guest):
    guest.run('systemctl start pbsmap@disk || dmesg | tail -30', 90)
    assert show(guest, 'ActiveState') == 'active', guest.run('dmesg | tail -30')
    yield guest.run('cat /run/pbsmap-disk.dev').strip()
    guest.status('umount /mnt; systemctl stop pbsmap@disk', 60)


def test_maps_and_is_seen_by_others(guest, started):
    assert started == '/dev/loop0'
    assert guest.run('head -c 31458816 /dev/loop0 | sha256sum', 120).split()[0] == SUMS['gpt.img']
    guest.run('mount -t ext4 -o ro,noload /dev/loop0p1 /mnt; ls /mnt; umount /mnt')
    assert '/dev/loop0' in guest.run('pbsmap status')
    pid = show(guest, 'MainPID')
    assert pid == guest.run('cat /run/pbs-loopdev/*.pid').strip()
    worker, = guest.run(f'cat /proc/{pid}/task/{pid}/children').split()
    for p in pid, worker, guest.run(f'cat /proc/{worker}/task/{worker}/children').strip():
        status = guest.run(f'cat /proc/{p}/status')
        assert 'NoNewPrivs:\t1' in status and 'Seccomp:\t2' in status
        assert re.search(r'Uid:\t(\d+)', status)[1] == str(PART_ID if p == worker else 0)
    assert guest.run(f'readlink /proc/{pid}/ns/mnt') == guest.run('readlink /proc/1/ns/mnt')


def test_stop_unmaps(guest, started):
    guest.run('systemctl stop pbsmap@disk', 60)
    assert show(guest, 'ActiveState') == 'inactive' and show(guest, 'Result') == 'success', guest.run('dmesg | tail -20')
    assert guest.run('ls /run/pbs-loopdev; ls -d /run/pbsmap-* 2>/dev/null; true').strip() == '' and 'pbs-loopdev' not in guest.run('cat /proc/mounts')
    assert guest.status('cat /sys/block/loop0/loop/backing_file')[0] == 1


def test_unmap_ends_the_service(guest, started):
    guest.run('pbsmap unmap /dev/loop0')
    guest.run('for i in $(seq 40); do case $(systemctl show -P ActiveState pbsmap@disk) in inactive|failed) break ;; esac; sleep 0.3; done', 30)
    assert show(guest, 'ActiveState') == 'inactive' and show(guest, 'Result') == 'success'


def test_a_killed_one_comes_back(guest, started):
    old = show(guest, 'MainPID')
    guest.run(f'kill -9 {old}')
    guest.run('for i in $(seq 80); do systemctl -q is-active pbsmap@disk && [ $(systemctl show -P MainPID pbsmap@disk) != ' + old + ' ] && break; sleep 0.3; done', 60)
    assert show(guest, 'ActiveState') == 'active' and show(guest, 'MainPID') not in (old, '0')
    assert guest.run('head -c 4096 $(cat /run/pbsmap-disk.dev) | wc -c').strip() == '4096'


def test_a_failure_is_one(guest):
    rc, _ = guest.status('systemctl start pbsmap@wrong', 90)
    assert rc == 1 and show(guest, 'Result', 'wrong') == 'exit-code' and 'status=1 ' in show(guest, 'ExecStart', 'wrong')
    guest.run('systemctl stop pbsmap@wrong; systemctl reset-failed')


def test_rights_can_be_given_up(guest):
    """With --verbose it stays in the foreground, which is a start without an end, and says what it does without."""
    guest.run('dmesg -c >/dev/null; systemctl --no-block start pbsmap@said')
    guest.run('for i in $(seq 80); do [ -s /run/pbsmap-said.dev ] && break; sleep 0.3; done', 40)
    dev, said = guest.run('cat /run/pbsmap-said.dev').strip(), guest.run('dmesg')
    guest.run(f'pbsmap unmap {dev}; systemctl stop pbsmap@said', 60)
    assert dev.startswith('/dev/loop') and 'pbsmap' in said and 'without' not in said, said
