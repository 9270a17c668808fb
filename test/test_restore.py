"""restore: every kind of target gets the very bytes; what must not be overwritten is not; what breaks in the middle
is said and can be gone on with."""
import contextlib
import hashlib
import json
import os
import pty
import random
import re
import signal
import subprocess
import termios
import threading
import time

import pytest

import formats
from lib import (BUSY, DAMAGED, DONE, FAIL, GOLDEN, IMAGES, KEYS, PBSMAP, SUMS, T1, TRUST, USAGE, file_sum, mixed, place,
                 wait_for)
from server import Server

STORE = GOLDEN / 'store'
SNAP, DISK = f'vm/100/{T1}', 'drive-scsi0.img'
SIZE = 31458816					# of gpt.img: 512 bytes more than whole pages
GPT = SUMS['gpt.img']


def restore(place, *args, store=STORE, key=None, status=DONE, env=None, **kw):
    args = ['restore', '--repository', store if '@' in str(store) else f'file:{store}',
            *(['--keyfile', KEYS / f'{key}.json'] if key else []), *args]
    env = {**({'PBS_ENCRYPTION_PASSWORD': 'golden-pass'} if key in ('scrypt', 'pbkdf2') else {}), **(env or {})}
    r = place.run(*args, env=env, **kw)
    assert r.returncode == status, (r.returncode, r.stdout[:200], r.stderr)
    return r


def start(place, *args, store=STORE, env=None, **kw):
    return subprocess.Popen([PBSMAP, 'restore', '--repository', str(store), *map(str, args)], env=place.env(**(env or {})),
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **kw)


def losetup(*args):
    return subprocess.run(['losetup', *map(str, args)], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def disk(place, size=40 << 20, fill=None, sector=512, direct=False):
    """A "disk": a loop device over a file of one's own."""
    path = place.dir / f'disk{random.randrange(1 << 30)}'
    with open(path, 'wb') as f:
        if fill:
            for _ in range(0, size, 1 << 20):
                f.write(fill * (1 << 20))
        f.truncate(size)
    dev = losetup('-f', '--show', '-b', sector, *(['--direct-io=on'] if direct else []), path)
    try:
        yield dev
    finally:
        wait_for(lambda: subprocess.run(['losetup', '-d', dev], check=False, stderr=subprocess.DEVNULL).returncode == 0, 3)


@contextlib.contextmanager
def small_fs(place, size):
    """A file system that is soon full."""
    at = place.dir / 'small'
    at.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'none', at], check=True)
    try:
        yield at
    finally:
        subprocess.run(['umount', '-l', at], check=True)


@pytest.fixture
def big(place):
    """32 MiB in 512 chunks of 64 KiB, most of them different, some zero."""
    data = bytearray(mixed(32 << 20, 5))
    data[5 << 20:9 << 20] = bytes(4 << 20)
    data[20 << 20:21 << 20] = data[1 << 20:2 << 20]
    place.data = bytes(data)
    return place.store(f'vm/1/{T1}', '--chunk-size', 65536, name='big', drive_img=place.data)


# ---- the bytes ----

@pytest.mark.parametrize('which', IMAGES)
def test_every_image_to_a_file(place, which):
    snapshot, archive, name, extra = IMAGES[which]
    out = place.dir / 'out'
    r = restore(place, *(('--ns', extra['ns']) if 'ns' in extra else ()), snapshot, archive, out, key=extra.get('key'))
    assert file_sum(out) == (SUMS[name], b'')
    assert r.stdout == '' and oct(out.stat().st_mode & 0o777) == '0o600'


@pytest.mark.parametrize('which', ('scsi0', 'efi', 'encrypted1', 'zero'))
def test_stdout(place, which):
    snapshot, archive, name, extra = IMAGES[which]
    r = subprocess.run([PBSMAP, 'restore', '--repository', STORE, *(['--keyfile', KEYS / f'{extra["key"]}.json'] if extra else []),
                        snapshot, archive, '-'], env=place.env(PBS_ENCRYPTION_PASSWORD='golden-pass'), capture_output=True, check=True)
    assert hashlib.sha256(r.stdout).hexdigest() == SUMS[name]


def test_a_catalog_as_it_is(place):
    st, snap, archive = formats.Store(STORE), f'host/files/{T1}', 'catalog.pcat1'
    want = st.content(snap, archive + '.didx')
    restore(place, snap, archive, place.dir / 'out')
    assert (place.dir / 'out').read_bytes() == want
    r = subprocess.run([PBSMAP, 'restore', '--repository', STORE, snap, archive, '-'], capture_output=True, check=True)
    assert r.stdout == want


def test_blobs(place):
    conf = formats.unblob((STORE / SNAP / 'qemu-server.conf.blob').read_bytes())
    for name in ('qemu-server.conf', 'qemu-server.conf.blob'):
        assert restore(place, SNAP, name, '-').stdout.encode() == conf
    restore(place, SNAP, 'qemu-server.conf', place.dir / 'out')
    assert (place.dir / 'out').read_bytes() == conf
    assert 'not empty' in restore(place, SNAP, 'qemu-server.conf', place.dir / 'out', status=BUSY).stderr
    (place.dir / 'out').write_bytes(conf * 9)
    restore(place, '--yes', SNAP, 'qemu-server.conf', place.dir / 'out')
    assert (place.dir / 'out').read_bytes() == conf


@pytest.mark.parametrize('key', (None, 'none'))
def test_the_log_of_the_backup(place, key):
    """It is in no manifest, since it is written after it: what can be checked of it is, and that it is less is said."""
    st, snap = place.golden(), f'vm/101/{T1}' if key else SNAP
    log = b'INFO: starting backup\n' * 99
    raw = formats.blob(log, formats.Key(KEYS / f'{key}.json') if key else None)
    formats.write(st.snapshot(snap) / 'client.log.blob', raw)
    with Server(st) as s:
        for more in {'store': st}, {'store': s.repo(), 'env': s.env()}:
            r = restore(place, snap, 'client.log', '-', key=key, **more)
            assert r.stdout.encode() == log and 'not in the manifest' in r.stderr
    restore(place, '--quiet', snap, 'client.log.blob', place.dir / 'out', store=st, key=key)
    assert (place.dir / 'out').read_bytes() == log
    assert 'client.log' in place.run('list', '--repository', st, snap).stdout
    (place.dir / 'out').unlink()
    formats.write(st.snapshot(snap) / 'client.log.blob', raw[:-1] + bytes([raw[-1] ^ 1]))
    restore(place, snap, 'client.log', place.dir / 'out', store=st, key=key, status=DAMAGED)
    (st.snapshot(snap) / 'client.log.blob').unlink()
    assert 'is not in the snapshot' in restore(place, snap, 'client.log', place.dir / 'out', store=st, key=key, status=FAIL).stderr
    assert not (place.dir / 'out').exists()


def test_a_blob_is_read_back(place):
    out, conf = place.dir / 'out', formats.unblob((STORE / SNAP / 'qemu-server.conf.blob').read_bytes())
    restore(place, '--verify', SNAP, 'qemu-server.conf', out)
    assert out.read_bytes() == conf
    # A disk that says that it has written.
    r = place.run('restore', '--yes', '--verify', '--repository', STORE, SNAP, 'qemu-server.conf', place.dir / 'lost', wrap=[
        'strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=pwrite64', '-e', f'inject=pwrite64:retval={len(conf)}:when=1'])
    assert r.returncode == FAIL and 'reads back wrong' in r.stderr, r.stderr
    for more in ('--verify',), ('--delta',), ('--resume', place.dir / 'state'):
        r = restore(place, *more, SNAP, 'qemu-server.conf', '-', status=USAGE)
        assert r.stdout in ('', b'') and 'standard output: is no disk' in r.stderr


def test_a_damaged_blob_is_not_written(place):
    st = place.golden()
    raw = (st.snapshot(SNAP) / 'qemu-server.conf.blob').read_bytes()
    formats.write(st.snapshot(SNAP) / 'qemu-server.conf.blob', raw[:-1] + bytes([raw[-1] ^ 1]))
    r = restore(place, SNAP, 'qemu-server.conf', place.dir / 'out', store=st, status=DAMAGED)
    assert 'checksum' in r.stderr and not (place.dir / 'out').exists()


@pytest.mark.root
@pytest.mark.parametrize('direct', (False, True))
@pytest.mark.parametrize('sector', (512, 4096))
@pytest.mark.parametrize('fill', (None, b'\xa5'))
def test_device(place, fill, sector, direct):
    """Over zeros and over something else; behind the image's odd end nothing is changed."""
    with disk(place, fill=fill, sector=sector, direct=direct) as dev:
        r = restore(place, *(['--yes'] if fill else []), '--verify', SNAP, DISK, dev)
        got, rest = file_sum(dev, SIZE)
        assert got == GPT
        assert rest == (fill or b'\0') * ((40 << 20) - SIZE)
        assert f'{dev}p1' in r.stderr and 'Linux filesystem  root' in r.stderr
        assert 'backup GPT is not at its end' in r.stderr


@pytest.mark.root
def test_device_of_just_the_size(place):
    with disk(place, SIZE) as dev:
        r = restore(place, SNAP, DISK, dev)
        assert file_sum(dev) == (GPT, b'') and 'backup GPT' not in r.stderr


@pytest.mark.root
def test_partition_table_is_known_after_it(place):
    """Whether the kernel has parsers for it or not."""
    with disk(place) as dev:
        subprocess.run(['losetup', '-d', dev], check=True)
        losetup('-P', dev, next(place.dir.glob('disk*')))
        restore(place, SNAP, DISK, dev)
        assert os.path.exists(f'/sys/class/block/{dev[5:]}/{dev[5:]}p1') and os.path.exists(f'{dev}p1')


def test_what_reads_back_wrong_is_not_done(place):
    """So --resume writes it again."""
    args = ['--verify', '--resume', place.dir / 'state', SNAP, DISK, place.dir / 'out']
    r = place.run('restore', '--repository', STORE, *args, wrap=[
        'strace', '-f', '-qq', '-o', '/dev/null', '-P', place.dir / 'out', '-e', 'trace=pwrite64', '-e', 'inject=pwrite64:retval=65536:when=1'])
    assert r.returncode == FAIL and 'reads back wrong at offset ' in r.stderr, r.stderr
    restore(place, '--yes', *args)
    assert file_sum(place.dir / 'out')[0] == GPT and not (place.dir / 'state').exists()


@pytest.mark.root
@pytest.mark.parametrize('how, status', (('quiet', DONE), ('damaged', DAMAGED), ('lies', FAIL), ('breaks', FAIL)))
def test_partition_table_is_read_anew_in_any_case(place, big, how, status):
    """Also when nobody is to be told, and when not all went well; what reads back wrong is found."""
    log, inject = place.dir / 'log', []
    with disk(place) as dev:
        if how == 'damaged':
            big.chunk(big.index(f'vm/1/{T1}', 'drive.img.fidx').entries[1][2]).unlink()
        elif how in ('lies', 'breaks'):		# a disk that says that it has written
            inject = ['-P', dev, '-e', 'inject=pwrite64:' + ('retval=65536' if how == 'lies' else 'error=EIO') + ':when=1']
        r = place.run('restore', '--quiet', '--verify', '--repository', big, f'vm/1/{T1}', 'drive.img', dev,
                      wrap=['strace', '-f', '-qq', '-o', log, '-e', 'trace=ioctl,pwrite64', *inject])
        assert r.returncode == status and 'BLKRRPART' in log.read_text(), r.stderr
        assert ('reads back wrong at offset ' in r.stderr) == (how == 'lies'), r.stderr
        assert (r.stderr == '') == (how == 'quiet')


@pytest.mark.parametrize('size', (1, 511, 512, 4095, 65535, 65536, 65537, 200_000))
def test_odd_sizes(place, size):
    data = mixed(size, size)
    st = place.store(f'vm/1/{T1}', '--chunk-size', 65536, drive_img=data)
    restore(place, '--verify', f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=st)
    assert (place.dir / 'out').read_bytes() == data


@pytest.mark.root
@pytest.mark.parametrize('size', (511, 4097, 65537, 200_000))
def test_odd_sizes_to_a_device(place, size):
    data = mixed(size, size)
    st = place.store(f'vm/1/{T1}', '--chunk-size', 65536, drive_img=data)
    with disk(place, 1 << 20, b'\x5a') as dev:
        restore(place, '--yes', '--verify', f'vm/1/{T1}', 'drive.img', dev, store=st)
        with open(dev, 'rb') as f:
            assert f.read() == data + b'\x5a' * ((1 << 20) - size)


def test_empty_image(place):
    st = place.store(f'vm/1/{T1}', drive_img=b'')
    restore(place, f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=st)
    assert (place.dir / 'out').read_bytes() == b''
    assert restore(place, f'vm/1/{T1}', 'drive.img', '-', store=st).stdout == ''


def test_zeros_are_holes(place):
    out = place.dir / 'out'
    restore(place, SNAP, DISK, out)
    first = out.stat().st_blocks * 512
    assert first < SIZE // 4
    # What was there is gone where zeros belong.
    with open(out, 'wb') as f:
        f.write(b'\xff' * (SIZE + 100_000))
    restore(place, '--yes', SNAP, DISK, out)
    assert file_sum(out) == (GPT, b'')
    assert out.stat().st_blocks * 512 < SIZE


@pytest.mark.root
def test_sparse_leaves_zeros_out(place):
    """A target said to be zero is not zeroed: that it was not zero shows it."""
    with disk(place, fill=b'\xee') as dev:
        restore(place, '--yes', '--sparse', SNAP, DISK, dev)
        want = formats.Store(STORE).content(SNAP, 'drive-scsi0.img.fidx')
        with open(dev, 'rb') as f:
            got = f.read(SIZE)
        zero = next(s for s in range(0, SIZE - 65536, 4 << 20) if not any(want[s:s + (4 << 20)]))
        assert got[zero:zero + 65536] == b'\xee' * 65536
        assert all(g == w or (w == 0 and g == 0xee) for g, w in zip(got[::97], want[::97]))


def test_repeated_chunks(place, big):
    restore(place, f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=big)
    assert (place.dir / 'out').read_bytes() == place.data


@pytest.mark.parametrize('args', (('--cache', '8M'), ('--workers', 1), ('--workers', 9), ('--cache', '8M', '--workers', 7)))
def test_little_memory_and_many_threads(place, big, args):
    restore(place, *args, '--yes', '--delta', f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=big)
    assert (place.dir / 'out').read_bytes() == place.data
    r = subprocess.run([PBSMAP, 'restore', *map(str, args), '--repository', big.path, f'vm/1/{T1}', 'drive.img', '-'],
                       capture_output=True, check=True)
    assert r.stdout == place.data


# ---- refusals ----

@pytest.mark.root
def test_too_small(place):
    with disk(place, SIZE - 512, b'\x11') as dev:
        r = restore(place, '--yes', SNAP, DISK, dev, status=BUSY)
        assert 'too small' in r.stderr
        with open(dev, 'rb') as f:
            assert f.read() == b'\x11' * (SIZE - 512)


SIGNS = {
    'ext2/3/4': (0x438, b'\x53\xef'), 'LUKS': (0, b'LUKS\xba\xbe'), 'LVM': (512, b'LABELONE'), 'xfs': (0, b'XFSB'),
    'btrfs': (0x10040, b'_BHRfS_M'), 'swap': (4086, b'SWAPSPACE2'), 'NTFS': (3, b'NTFS    '), 'md RAID': (4096, b'\xfc\x4e\x2b\xa9'),
    'MBR with 1 partition': (446, b'\0\0\2\0\x83\0\0\0\x01\0\0\0\0\x10\0\0'.ljust(64, b'\0') + b'\x55\xaa'),
    'unknown data': (70_000, b'x'), 'unknown data ': ((40 << 20) - 1, b'x'),
}


@pytest.mark.root
@pytest.mark.parametrize('what', SIGNS)
def test_what_is_not_empty_needs_a_word(place, what):
    at, sign = SIGNS[what]
    with disk(place) as dev:
        with open(dev, 'r+b') as f:
            f.seek(at)
            f.write(sign)
        r = restore(place, SNAP, DISK, dev, status=BUSY)
        assert f'holds: {what.strip()}' in r.stderr and '--yes' in r.stderr
        assert file_sum(dev, 512)[0] != file_sum(GOLDEN / 'SHA256SUMS', 512)[0]
        with open(dev, 'rb') as f:
            got = f.read()
        assert got[at:at + len(sign)] == sign and not any(got[:at]) and not any(got[at + len(sign):])


@pytest.mark.root
def test_a_disk_as_stdout(place):
    with disk(place) as dev:
        for how in '>', '1<>':
            r = subprocess.run(f'{PBSMAP} restore --yes --repository {STORE} {SNAP} {DISK} - {how} {dev}', shell=True,
                               capture_output=True, text=True, check=False)
            assert r.returncode == BUSY and 'give its name as TARGET' in r.stderr
        with open(dev, 'rb') as f:
            assert not any(f.read())


@pytest.mark.root
def test_the_name_of_another_disk(place):
    """Between the look and the opening a name goes to another disk: fstat tells."""
    with disk(place) as dev, disk(place) as other:
        name, log = place.dir / 'name', place.dir / 'log'
        name.symlink_to(dev)
        (place.dir / 'next').symlink_to(other)
        p = subprocess.Popen(['strace', '-qq', '-o', log, '-e', 'trace=open,openat', '-P', name, '-e', 'inject=open,openat:delay_enter=800000',
                              PBSMAP, 'restore', '--repository', STORE, SNAP, DISK, name], stderr=subprocess.PIPE, env=place.env())
        # While it stands in its exclusive opening.
        assert wait_for(lambda: log.exists() and 'O_EXCL' in log.read_text())
        os.replace(place.dir / 'next', name)
        err = p.communicate(timeout=20)[1]
        assert p.returncode == FAIL and b'Stale' in err, err
        for d in dev, other:
            with open(d, 'rb') as f:
                assert not any(f.read())


@pytest.mark.root
def test_in_use(place):
    with disk(place, 64 << 20) as dev:
        restore(place, f'vm/100/{T1}', 'drive-scsi0.img', dev)
        mnt = place.dir / 'mnt'
        mnt.mkdir()
        part = losetup('-f', '--show', '-o', 2048 * 512, '--sizelimit', 24 << 20, dev)
        try:
            r = restore(place, '--yes', SNAP, DISK, dev, status=BUSY)
            assert f'{dev} is attached to {part}' in r.stderr
        finally:
            losetup('-d', part)
        subprocess.run(['mkfs.ext2', '-qF', dev], check=True)
        subprocess.run(['mount', dev, mnt], check=True)
        try:
            r = restore(place, '--yes', SNAP, DISK, dev, status=BUSY)
            assert f'{dev} is mounted on {mnt}' in r.stderr and 'unmount' in r.stderr
        finally:
            subprocess.run(['umount', mnt], check=True)
        with open(dev, 'rb'):
            r = restore(place, '--yes', SNAP, DISK, dev, status=BUSY)
            assert 'is open by process' in r.stderr
        restore(place, '--yes', SNAP, DISK, dev)


@pytest.mark.root
def test_running_root(place):
    """Named as such; the check alone is tried: an image that would fit nowhere keeps the disk safe whatever happens."""
    root = next(line.split()[2] for line in open('/proc/self/mountinfo') if line.split()[4] == '/')
    link = f'/sys/dev/block/{root}'
    if root.startswith('0:') or not os.path.exists(link):
        pytest.skip('the root is on no block device')
    dev = '/dev/' + os.path.basename(os.path.realpath(link))
    x = formats.fixed_index(1 << 60, 4 << 20, [])
    assert len(x) == 4096
    st = place.store(f'vm/1/{T1}', drive_img=b'x')
    r = restore(place, '--yes', f'vm/1/{T1}', 'drive.img', dev, store=st, status=BUSY) if not os.path.exists(dev) else None
    if r is None:
        r = place.run('restore', '--repository', st, f'vm/1/{T1}', 'drive.img', dev)		# no --yes: refused in any case
        assert r.returncode == BUSY
    assert 'root is on it' in r.stderr or 'no such device' in r.stderr


def test_other_refusals(place):
    for target, status, words in ((place.dir, USAGE, 'is a directory'), (place.dir / 'no' / 'such', FAIL, 'No such file'),
                                  ('/dev/no-such-disk', BUSY, 'no such device')):
        r = restore(place, SNAP, DISK, target, status=status)
        assert words in r.stderr and len(r.stderr.splitlines()) == 1
    r = restore(place, SNAP, 'nosuch.img', place.dir / 'out', status=FAIL)
    assert 'it holds: ' in r.stderr
    r = restore(place, f'vm/101/{T1}', DISK, place.dir / 'out', status=TRUST)
    assert '--keyfile' in r.stderr
    r = restore(place, '--verify', SNAP, DISK, '-', status=USAGE)
    assert not (place.dir / 'out').exists()


@pytest.mark.parametrize('how', ((), ('--delta',), ('--resume', 'state')))
def test_an_existing_file_is_left(place, how):
    (place.dir / 'out').write_bytes(b'precious')
    r = restore(place, *how, SNAP, DISK, place.dir / 'out', status=BUSY, cwd=place.dir)
    assert '--yes' in r.stderr and (place.dir / 'out').read_bytes() == b'precious'


@pytest.mark.root
def test_a_file_in_use(place):
    """By a loop device, as swap, by a process: a virtual machine's disk while it runs."""
    out, link = place.dir / 'out', place.dir / 'link'
    out.write_bytes(b'\x5a' * (SIZE + 4096))
    link.symlink_to(out)

    def refused(words):
        for target in out, link:
            r = restore(place, '--yes', SNAP, DISK, target, status=BUSY)
            assert words in r.stderr and 'in use' in r.stderr, r.stderr
        assert file_sum(out, 4096)[0] == hashlib.sha256(b'\x5a' * 4096).hexdigest()
    dev = losetup('-f', '--show', out)
    try:
        refused(f'{out} is attached to {dev}')
    finally:
        losetup('-d', dev)
    with open(out, 'rb'):
        refused(f'{out} is open by process {os.getpid()} (')
    # As /proc/swaps shows it: a swap file cannot lie in memory, where tests do.
    swaps = place.dir / 'swaps'
    swaps.write_text(f'Filename Type Size Used Priority\n{out} file 30716 0 -2\n')
    r = restore(place, '--yes', SNAP, DISK, out, status=BUSY,
                wrap=['unshare', '-m', 'sh', '-ec', f'mount --bind {swaps} /proc/swaps; exec "$@"', 'sh'])
    assert f'{out} is in use as swap' in r.stderr
    restore(place, '--yes', SNAP, DISK, out)
    assert file_sum(out)[0] == GPT


def on_terminal(place, *args, type=b'', store=STORE, wait=b'to go on: ', baud=None, command='restore'):
    """Runs restore on a terminal of its own; what it showed and its status."""
    pid, fd = pty.fork()
    if pid == 0:
        if baud:
            mode = termios.tcgetattr(2)
            mode[4] = mode[5] = baud
            termios.tcsetattr(2, termios.TCSANOW, mode)
        os.execve(PBSMAP, [PBSMAP, command, '--repository', str(store), *map(str, args)], place.env())
    shown, end = b'', time.monotonic() + 30
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            data = os.read(fd, 4096)
            if not data:
                break
            shown += data
            if type and wait in shown:
                os.write(fd, type)
                type = b''
    os.close(fd)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.root
def test_typed_confirmation(place):
    with disk(place, fill=b'\x77') as dev:
        for answer in (b'\n', b'yes\n', b'/dev/loop\n'):
            shown, status = on_terminal(place, SNAP, DISK, dev, type=answer)
            assert status == BUSY and '40.0 MiB' in shown and 'unknown data' in shown and 'left as it is' in shown
            assert file_sum(dev, 4096)[0] == hashlib.sha256(b'\x77' * 4096).hexdigest()
        shown, status = on_terminal(place, SNAP, DISK, dev, type=dev.encode() + b'\n')
        assert status == DONE and file_sum(dev, SIZE)[0] == GPT


def test_terminal_is_no_target(place):
    shown, status = on_terminal(place, SNAP, DISK, '-')
    assert status == BUSY and 'is a terminal' in shown
    shown, status = on_terminal(place, SNAP, 'qemu-server.conf', '-')
    assert status == DONE and 'name: golden' in shown


# ---- what breaks in the middle ----

def test_damaged_chunks_are_named_and_left(place, big):
    x = big.index(f'vm/1/{T1}', 'drive.img.fidx')
    bad = [n for n, (a, b, _) in enumerate(x.entries) if any(place.data[a:b])][::150]
    assert len(bad) >= 3 and bad[0] < 16
    for n in bad:
        big.chunk(x.entries[n][2]).unlink()
    gone = {x.entries[n][2] for n in bad}
    places = [s for s, _, d in x.entries if d in gone]
    assert len(places) >= len(bad)
    out = place.dir / 'out'
    out.write_bytes(b'\xcc' * len(place.data))
    r = restore(place, '--yes', f'vm/1/{T1}', 'drive.img', out, store=big, status=DAMAGED)
    assert sorted(int(m) for m in re.findall(r'missing from the datastore \(offset (\d+)\)', r.stderr)) == places
    assert f'{len(places)} chunks could not be had' in r.stderr and 'restored,' not in r.stderr
    want = bytearray(place.data)
    for s in places:
        want[s:s + 65536] = b'\xcc' * 65536
    assert out.read_bytes() == want
    p = subprocess.run([PBSMAP, 'restore', '--repository', big.path, f'vm/1/{T1}', 'drive.img', '-'], capture_output=True, check=False)
    assert p.returncode == DAMAGED and f'stopped at offset {places[0]}'.encode() in p.stderr
    assert p.stdout == place.data[:places[0]]


@pytest.mark.root
def test_full_file_system(place, big):
    with small_fs(place, '10m') as at:
        r = restore(place, f'vm/1/{T1}', 'drive.img', at / 'out', store=big, status=FAIL)
        assert re.search(r'cannot write at offset \d+: No space left', r.stderr) and len(r.stderr.splitlines()) == 1


@pytest.mark.root
@pytest.mark.parametrize('direct', (False, True))
def test_disk_errors(place, big, direct):
    """A loop device whose file finds no room gives I/O errors: at once, or at the sync."""
    with small_fs(place, '10m') as at:
        with open(at / 'disk', 'wb') as f:
            f.truncate(40 << 20)
        dev = losetup('-f', '--show', *(['--direct-io=on'] if direct else []), at / 'disk')
        try:
            r = restore(place, f'vm/1/{T1}', 'drive.img', dev, store=big, status=FAIL)
            assert re.search(r'cannot (write|bring)', r.stderr) and 'restored,' not in r.stderr
        finally:
            losetup('-d', dev)


def test_closed_pipe(place):
    p = start(place, '--repository', STORE, SNAP, DISK, '-', stdout=subprocess.PIPE)
    p.stdout.read(100_000)
    p.stdout.close()
    assert b'its reader has closed it' in p.communicate()[1] and p.returncode == FAIL


def test_full_stdout(place):
    p = subprocess.run(f'{PBSMAP} restore --repository {STORE} {SNAP} {DISK} - >/dev/full', shell=True, capture_output=True, check=False)
    assert p.returncode == FAIL and b'No space left' in p.stderr


@pytest.mark.parametrize('sig', (signal.SIGINT, signal.SIGTERM))
def test_a_pipe_that_nobody_reads(place, sig):
    for target in '-', place.dir / 'fifo':
        if target != '-':
            os.mkfifo(target)
            end = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
        p = start(place, SNAP, DISK, target, stdout=subprocess.PIPE)
        time.sleep(0.5)
        p.send_signal(sig)
        try:
            assert p.wait(5) == FAIL and b'interrupted' in p.stderr.read()
        finally:
            p.kill()
            p.communicate()
    os.close(end)


def test_a_pipe_that_nobody_opens(place):
    os.mkfifo(place.dir / 'fifo')
    p = start(place, SNAP, DISK, place.dir / 'fifo')
    time.sleep(0.3)
    p.send_signal(signal.SIGINT)
    assert p.wait(5) == FAIL
    p.stderr.close()
    p = start(place, SNAP, DISK, place.dir / 'fifo')
    time.sleep(0.3)
    assert hashlib.sha256((place.dir / 'fifo').read_bytes()).hexdigest() == GPT
    assert p.wait(5) == DONE
    p.stderr.close()


def test_interrupt_says_what_was_done(place, big):
    state, out = place.dir / 'state', place.dir / 'out'
    p = start(place, '--limit', '2M', '--resume', state, f'vm/1/{T1}', 'drive.img', out, store=big)
    time.sleep(1.5)
    p.send_signal(signal.SIGINT)
    err = p.communicate(timeout=10)[1].decode()
    assert p.returncode == FAIL and re.search(r'interrupted; .* of 32.0 MiB are restored: go on with --yes --resume', err), err
    assert state.exists()
    r = restore(place, '--yes', '--resume', state, f'vm/1/{T1}', 'drive.img', out, store=big)
    m = re.search(r'([\d.]+) (KiB|MiB) were there', r.stderr)
    assert m and float(m[1]) > 0
    assert out.read_bytes() == place.data and not state.exists()


# ---- going on ----

@pytest.mark.parametrize('target', ('file', pytest.param('disk', marks=pytest.mark.root)))
def test_killed_at_random_and_resumed(place, big, target):
    state, r = place.dir / 'state', random.Random(7)
    with disk(place, 32 << 20, b'\x99') if target == 'disk' else contextlib.nullcontext(place.dir / 'out') as out:
        for i in range(6):
            p = start(place, '--limit', '20M', '--yes', '--resume', state, f'vm/1/{T1}', 'drive.img', out, store=big)
            time.sleep(r.uniform(0.02, 0.4))
            p.kill() if i % 2 else p.send_signal(signal.SIGTERM)
            p.communicate()
        restore(place, '--yes', '--resume', state, f'vm/1/{T1}', 'drive.img', out, store=big)
        with open(out, 'rb') as f:
            assert f.read() == place.data and not state.exists()


def test_killed_and_compared(place, big):
    out, r = place.dir / 'out', random.Random(8)
    for i in range(4):
        p = start(place, '--limit', '20M', '--yes', '--delta', f'vm/1/{T1}', 'drive.img', out, store=big)
        time.sleep(r.uniform(0.02, 0.5))
        p.kill()
        p.communicate()
    restore(place, '--yes', '--delta', f'vm/1/{T1}', 'drive.img', out, store=big)
    assert out.read_bytes() == place.data


def test_state_of_something_else(place, big):
    state, out = place.dir / 'state', place.dir / 'out'
    p = start(place, '--limit', '2M', '--resume', state, f'vm/1/{T1}', 'drive.img', out, store=big)
    time.sleep(1)
    p.send_signal(signal.SIGINT)
    p.communicate()
    r = restore(place, '--resume', state, SNAP, DISK, place.dir / 'other', status=BUSY)
    assert 'is no state of restoring' in r.stderr
    with open(out, 'r+b') as f:
        f.write(b'\x99' * (32 << 20))
    r = restore(place, '--yes', '--resume', state, f'vm/1/{T1}', 'drive.img', out, store=big, status=BUSY)
    assert 'is not what' in r.stderr and '--delta' in r.stderr
    # The target is gone, the state is not: begun anew.
    out.unlink()
    restore(place, '--yes', '--resume', state, f'vm/1/{T1}', 'drive.img', out, store=big)
    assert out.read_bytes() == place.data
    state.write_bytes(b'')
    restore(place, '--yes', '--resume', state, f'vm/1/{T1}', 'drive.img', out, store=big)
    (place.dir / 'junk').write_bytes(b'junk' * 99)
    restore(place, '--resume', place.dir / 'junk', f'vm/1/{T1}', 'drive.img', out, store=big, status=BUSY)
    assert (place.dir / 'junk').read_bytes() == b'junk' * 99


def test_delta_fetches_what_differs(place, big):
    """Chunks that are right are not asked for: they may even be missing."""
    out = place.dir / 'out'
    data = bytearray(place.data)
    x = big.index(f'vm/1/{T1}', 'drive.img.fidx')
    changed = [3, 100, 101, 90]			# 90 lies in the zeros
    for n in changed:
        data[n << 16:(n << 16) + 10] = b'0123456789'
    out.write_bytes(data)
    need = {x.entries[n][2] for n in changed}
    for _, _, d in x.entries:
        if d not in need:
            big.chunk(d).unlink(missing_ok=True)
    r = restore(place, '--yes', '--delta', f'vm/1/{T1}', 'drive.img', out, store=big)
    assert out.read_bytes() == place.data
    assert re.search(r'31\.\d MiB were there', r.stderr)


def test_delta_encrypted(place):
    out = place.dir / 'out'
    restore(place, f'vm/101/{T1}', DISK, out, key='none')
    r = restore(place, '--yes', '--delta', f'vm/101/{T1}', DISK, out, key='none')
    assert '30.0 MiB were there' in r.stderr and file_sum(out)[0] == GPT


# ---- progress ----

def test_limit(place, big):
    began = time.monotonic()
    raw = sum(p.stat().st_size for p in big.path.glob('.chunks/*/*'))
    r = restore(place, '--limit', '6M', f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=big)
    took = time.monotonic() - began
    assert raw / (6 << 20) * 0.7 < took < raw / (6 << 20) * 1.6 + 1, (raw, took)
    lines = [line for line in r.stderr.splitlines() if '%' in line]
    assert 1 <= len(lines) <= 10 and all(re.match(r' *\d+% .* of 32.0 MiB restored, .*/s', line) for line in lines)
    began = time.monotonic()
    p = subprocess.run([PBSMAP, 'restore', '--limit', '6M', '--repository', big.path, f'vm/1/{T1}', 'drive.img', '-'],
                       capture_output=True, check=True)
    assert time.monotonic() - began > raw / (6 << 20) * 0.7 and p.stdout == place.data


def test_progress_json(place, big):
    r = restore(place, '--limit', '6M', '--progress=json', f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=big)
    lines = [json.loads(line) for line in r.stderr.splitlines() if line.startswith('{')]
    assert len(lines) >= 2 and all(line['total'] == 32 << 20 for line in lines)
    assert [line['done'] for line in lines] == sorted(line['done'] for line in lines)
    assert lines[-1]['done'] == 32 << 20 and lines[-1]['zeros'] >= 4 << 20
    assert restore(place, '--progress=xml', f'vm/1/{T1}', 'drive.img', '-', status=USAGE)


def test_quiet(place):
    assert restore(place, '--quiet', SNAP, DISK, place.dir / 'out').stderr == ''


def test_progress_on_a_terminal(place, big):
    shown, status = on_terminal(place, '--limit', '6M', f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=big)
    assert status == DONE
    rewritten = [s for s in shown.split('\r') if '%' in s]
    assert 2 <= len(rewritten) <= 12 and all('\n' not in s for s in rewritten)
    assert max(len(s.rstrip()) for s in rewritten) < 80
    assert '\x1b' not in shown and (place.dir / 'out').read_bytes() == place.data


@pytest.mark.parametrize('command', ('restore', 'verify'))
@pytest.mark.parametrize('baud', (termios.B9600,))
def test_progress_on_a_slow_terminal(place, big, command, baud):
    """Lines, of which there are ten at most, and nothing rewritten: at 9600 baud each costs a fourteenth of a second."""
    args = ('--limit', '6M', f'vm/1/{T1}', 'drive.img', *([place.dir / 'out'] if command == 'restore' else []))
    shown, status = on_terminal(place, *args, store=big, baud=baud, command=command)
    assert status == DONE and not re.search('\r(?!\n)', shown) and '\x1b' not in shown
    lines = [line for line in shown.splitlines() if '%' in line]
    assert 1 <= len(lines) <= 10 and max(map(len, lines)) < 80
    assert len(shown) < 11 * 80 + 160, len(shown)


# ---- from a server ----

def test_server(place, big):
    with Server(big) as s:
        out = place.dir / 'out'
        restore(place, '--verify', f'vm/1/{T1}', 'drive.img', out, store=s.repo(), env=s.env())
        assert out.read_bytes() == place.data
        p = subprocess.run([PBSMAP, 'restore', '--repository', s.repo(), f'vm/1/{T1}', 'drive.img', '-'], capture_output=True,
                           env=place.env(**s.env()), check=True)
        assert p.stdout == place.data


@pytest.mark.parametrize('weather', (('break cut after=3000000 times=3 scope=h2',), ('rule corrupt nth=7 times=5 on=chunk',),
                                     ('rule cut nth=20 times=3 on=chunk', 'set rtt 20')))
def test_server_that_breaks(place, big, weather):
    with Server(big) as s:
        for command in weather:
            s.command(command)
        out = place.dir / 'out'
        restore(place, f'vm/1/{T1}', 'drive.img', out, store=s.repo(), env=s.env())
        assert out.read_bytes() == place.data and s.stats()['faults'] > 0


def test_a_line_that_comes_and_goes(place, big):
    """One loss is told, and one return: not each of many."""
    with Server(big) as s:
        s.command('break cut after=900000 times=12 scope=h2')
        out = place.dir / 'out'
        r = restore(place, f'vm/1/{T1}', 'drive.img', out, store=s.repo(), env=s.env())
        assert out.read_bytes() == place.data and s.stats()['connections'] >= 10
        assert r.stderr.count('trying again') == 1 and r.stderr.count('connected again') == 1, r.stderr


def test_what_the_server_cannot_give_now_is_not_called_damaged(place, big):
    x = big.index(f'vm/1/{T1}', 'drive.img.fidx')
    d = next(e[2] for e in x.entries[3:] if any(place.data[e[0]:e[1]]))
    with Server(big) as s:
        s.command(f'rule status code=503 times=all on=chunk digest={d.hex()} text=overloaded')
        r = restore(place, f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=s.repo(), env=s.env(), status=FAIL)
        assert '503' in r.stderr and 'could not be had' in r.stderr
        r = place.run('verify', '--repository', s.repo(), 'vm/1', env=s.env())
        assert r.returncode == FAIL and '0 chunks and 0 files damaged, 1 chunk could not be read' in r.stdout, r.stdout
        # What is damaged besides is.
        other = next(e[2] for e in x.entries[9:] if e[2] != d and any(place.data[e[0]:e[1]]))
        big.chunk(other).unlink()
        r = place.run('verify', '--repository', s.repo(), 'vm/1', env=s.env())
        assert r.returncode == DAMAGED and '1 chunk and 0 files damaged, 1 chunk could not be read' in r.stdout
        restore(place, '--yes', f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=s.repo(), env=s.env(), status=DAMAGED)


def test_server_that_falls_silent(place, big):
    with Server(big, violations=True) as s:
        s.command('rule hang times=all on=chunk')
        r = restore(place, '--timeout', 2, f'vm/1/{T1}', 'drive.img', place.dir / 'out', store=s.repo(), env=s.env(), status=FAIL)
        assert 'no data came for 2 s' in r.stderr
        p = start(place, f'vm/1/{T1}', 'drive.img', place.dir / 'out2', store=s.repo(), env=s.env())
        time.sleep(1)
        p.send_signal(signal.SIGINT)
        assert b'interrupted' in p.communicate(timeout=10)[1] and p.returncode == FAIL
