"""map, through the real FUSE and loop device: every fixture, every way to give
a key, odd sizes, partitions, what scripts rely on."""
import fcntl
import hashlib
import json
import multiprocessing
import os
import pty
import random
import re
import select
import shutil
import signal
import statistics
import subprocess
import time

import pytest

from lib import (BUSY, FAIL, GOLDEN, IMAGES, KEYS, PBSMAP, SUMS, T1, Mapping, escape, file_sum, gpt_image, mixed, mounted,
                 place, read_device, sysfs, wait_for)
from server import Server

pytestmark = pytest.mark.root
TREE = dict(reversed(line.split()) for line in (GOLDEN / 'tree.sha256').read_text().splitlines())


def padded(size):
    return -(-size // 512) * 512


def check_content(m, size, sha):
    """Device and file: the image, then zeros to the end of the sector, nothing else."""
    for path in m.dev, m.file:
        got, tail = file_sum(path, size)
        assert got == sha, path
        assert tail == bytes(padded(size) - size), path
    assert m.size == padded(size) == os.stat(m.file).st_size


@pytest.mark.parametrize('which', IMAGES)
def test_every_fixture(place, which):
    snapshot, archive, image, extra = IMAGES[which]
    st = place.golden()
    m = place.map_golden(which, st)
    size = {'gpt.img': 31458816, 'mbr.img': 8 << 20, 'efi.img': 528 << 10, 'zero.img': 9 << 20, 'gpt2.img': 31458816}[image]
    check_content(m, size, SUMS[image])
    ns = ''.join(f'ns/{p}/' for p in extra.get('ns', '').split('/') if p)
    assert m.name == escape(f'{st}:{ns}{snapshot}/{archive}')
    assert f"Image '{st}:{ns}{snapshot}/{archive}' mapped on {m.dev}" in m.stderr or f"mapped on {m.dev}" in m.stderr
    assert sysfs(m.nr, 'ro') == '1'
    assert m.pid in place.processes()
    place.unmap(m.dev)
    assert place.leftovers() == []


def test_device_is_read_past_the_cache(place):
    m = place.map_golden('scsi0')
    got = b''.join(read_device(m.dev, o, 1 << 20, direct=True) for o in range(0, m.size, 1 << 20))
    assert hashlib.sha256(got).hexdigest() == SUMS['gpt.img']
    assert sysfs(m.nr, 'loop/dio') == '1'
    place.unmap(m.dev)


@pytest.mark.parametrize('way', ['plain', 'FD', 'FILE', 'CMD'])
@pytest.mark.parametrize('key', ['scrypt', 'pbkdf2'])
def test_passphrase(place, key, way):
    (place.dir / 'pass').write_text('golden-pass\nnot this line\n')
    env, fds = {'PBS_ENCRYPTION_PASSWORD': None}, []
    if way == 'plain':
        env['PBS_ENCRYPTION_PASSWORD'] = 'golden-pass'
    elif way == 'FD':
        fds = [os.open(place.dir / 'pass', os.O_RDONLY)]
        env['PBS_ENCRYPTION_PASSWORD_FD'] = fds[0]
    elif way == 'FILE':
        env['PBS_ENCRYPTION_PASSWORD_FILE'] = place.dir / 'pass'
    else:
        env['PBS_ENCRYPTION_PASSWORD_CMD'] = f'cat {place.dir}/pass'
    m = place.map_golden(key, env=env, pass_fds=fds)
    for fd in fds:
        os.close(fd)
    assert file_sum(m.dev)[0] == SUMS['mbr.img']
    place.unmap(m.dev)


@pytest.mark.parametrize('where', ['xdg', 'home', 'keyfd', 'paper', 'option=value'])
def test_where_the_key_comes_from(place, where):
    st, env, opts, fds, key, which = place.golden(), {}, [], [], None, 'encrypted1'
    config = place.dir / 'config' if where == 'xdg' else place.home / '.config'
    if where in ('xdg', 'home'):
        (config / 'proxmox-backup').mkdir(parents=True)
        shutil.copy(KEYS / 'none.json', config / 'proxmox-backup' / 'encryption-key.json')
        if where == 'xdg':
            env['XDG_CONFIG_HOME'] = config
    elif where == 'keyfd':
        fds = [os.open(KEYS / 'none.json', os.O_RDONLY)]
        opts = ['--keyfd', fds[0]]
    elif where == 'paper':
        key, which = KEYS / 'paper.txt', 'scrypt'
        env['PBS_ENCRYPTION_PASSWORD'] = 'golden-pass'
    else:
        opts = [f'--keyfile={KEYS}/none.json']
    snapshot, archive, image, _ = IMAGES[which]
    m = place.map(st, snapshot, archive, key=key, opts=opts, env=env, pass_fds=fds)
    for fd in fds:
        os.close(fd)
    assert file_sum(m.dev)[0] == SUMS[image]
    place.unmap(m.dev)


def on_terminal(place, args, answer, after=b'ass(phrase|word)'):
    """Runs pbsmap on a terminal of its own and answers once; what was shown, and the exit status."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(PBSMAP, [PBSMAP, *map(str, args)], place.env())
    shown, answered, end = b'', False, time.monotonic() + 30
    try:
        while time.monotonic() < end:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    data = os.read(master, 4096)
                except OSError:
                    break
                if not data:
                    break
                shown += data
            if not answered and re.search(after, shown) and shown.rstrip().endswith(b':'):
                os.write(master, answer)
                answered = True
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(master)
    return shown.decode(), status


def test_passphrase_at_the_terminal(place):
    shown, status = on_terminal(place, place.map_args(place.golden(), *IMAGES['scrypt'][:2], key='scrypt'), b'golden-pass\n')
    assert status == 0, shown
    assert 'golden-pass' not in shown
    dev = re.search(r'^(/dev/loop\d+)\r?$', shown, re.M)[1]
    # The terminal is gone (and its SIGHUP sent): the mapping lives on.
    assert file_sum(dev)[0] == SUMS['mbr.img']
    place.unmap(dev)


def test_partitions_gpt(place):
    m = place.map_golden('scsi0')
    for n, (start, fstype, options) in {1: (2048, 'ext4', 'ro,noload'), 2: (51200, 'squashfs', 'ro')}.items():
        assert re.search(rf'{m.part(n)}\b.*Linux', m.stderr), m.stderr
        assert sysfs(m.nr, f'loop{m.nr}p{n}/start') == str(start)
        with mounted(place, m.part(n), fstype, options) as at:
            for name, sha in TREE.items():
                assert file_sum(at / name)[0] == sha
    place.unmap(m.dev)
    assert not os.path.exists(m.part(1)) and sysfs(m.nr, f'loop{m.nr}p1/start') is None


def test_partitions_mbr(place):
    m = place.map_golden('scsi1')
    want = {1: (2048, 2048), 5: (6144, 4096), 6: (12288, 4096)}
    for n, (start, count) in want.items():
        assert os.path.exists(m.part(n))
        assert (sysfs(m.nr, f'loop{m.nr}p{n}/start'), sysfs(m.nr, f'loop{m.nr}p{n}/size')) == (str(start), str(count))
        assert re.search(rf'{m.part(n)}\b', m.stderr), m.stderr
        assert read_device(m.part(n), 0, 4096) == read_device(m.dev, start * 512, 4096)
    place.unmap(m.dev)


def test_gpt_on_4096_byte_sectors(place):
    img = gpt_image(4096, 32 << 20, [(1 << 20, 8 << 20, 'first'), (9 << 20, 4 << 20, 'zweite \u00e4')])
    img[1 << 20:(1 << 20) + 5] = b'hello'
    st = place.store(f'vm/1/{T1}', a_img=img)
    m = place.map(st, f'vm/1/{T1}', 'a.img')
    assert sysfs(m.nr, 'queue/logical_block_size') == '4096'
    assert (sysfs(m.nr, f'loop{m.nr}p1/start'), sysfs(m.nr, f'loop{m.nr}p1/size')) == ('2048', '16384')
    assert (sysfs(m.nr, f'loop{m.nr}p2/start'), sysfs(m.nr, f'loop{m.nr}p2/size')) == ('18432', '8192')
    assert read_device(m.part(1), 0, 5) == b'hello'
    assert 'first' in m.stderr
    assert file_sum(m.dev)[0] == hashlib.sha256(img).hexdigest()
    place.unmap(m.dev)


def test_gpt_backup_header(place):
    img = gpt_image(512, 8 << 20, [(1 << 20, 2 << 20, 'only')], primary=False)
    m = place.map(place.store(f'vm/1/{T1}', a_img=img), f'vm/1/{T1}', 'a.img')
    assert sysfs(m.nr, f'loop{m.nr}p1/size') == '4096'
    assert 'only' in m.stderr
    place.unmap(m.dev)


def test_hostile_partition_name_is_not_shown_raw(place):
    img = gpt_image(512, 8 << 20, [(1 << 20, 2 << 20, 'a\x1b[31m\nb')])
    m = place.map(place.store(f'vm/1/{T1}', a_img=img), f'vm/1/{T1}', 'a.img')
    assert '\x1b' not in m.stderr and '\nb' not in m.stderr
    place.unmap(m.dev)


ODD = [1, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, (1 << 20) + 1, (4 << 20) - 1, (8 << 20) + 513]


@pytest.mark.parametrize('chunk', ['64K', '128K', '1M', '4M'])
def test_odd_sizes(place, chunk):
    for size in ODD:
        data = mixed(size, size) if size > 1 else b'x'
        st = place.store(f'vm/{size}/{T1}', '--chunk-size', chunk, a_img=data)
        m = place.map(st, f'vm/{size}/{T1}', 'a.img')
        check_content(m, size, hashlib.sha256(data).hexdigest())
        with open(m.file, 'rb') as f:
            f.seek(size - 1)
            assert f.read(1) == data[-1:]
        place.unmap(m.dev)
    assert place.leftovers() == []


@pytest.mark.parametrize('options', [['--compress', 'none'], ['--no-content-size', '--flush-blocks'], ['--chunk-size', '512K']],
                         ids=' '.join)
@pytest.mark.parametrize('key', [None, 'none'])
def test_other_writers(place, options, key):
    data = mixed(11_000_000)
    st = place.store(f'ct/5/{T1}', *options, *(['--key', KEYS / f'{key}.json'] if key else []), a_img=data)
    m = place.map(st, f'ct/5/{T1}', 'a.img', key=key)
    check_content(m, len(data), hashlib.sha256(data).hexdigest())
    place.unmap(m.dev)


def test_a_group_is_its_newest_finished_snapshot(place):
    st = place.golden()
    m = place.map(st, 'vm/100', 'drive-scsi0.img.fidx')
    assert file_sum(m.dev)[0] == SUMS['gpt2.img']
    assert m.name == escape(f'{st}:vm/100/2026-02-03T04:05:06Z/drive-scsi0.img')
    r = place.run(*place.map_args(st, 'vm/100/2026-02-03T04:05:06Z', 'drive-scsi0.img'))
    assert (r.returncode, r.stdout) == (BUSY, '') and f'already mapped on {m.dev}' in r.stderr
    assert m.attached() and file_sum(m.dev)[0] == SUMS['gpt2.img']
    place.unmap(m.dev)


@pytest.mark.parametrize('form', ['file:{}', '{}/', '{}/../st', './st', '{}/link'])
def test_one_name_for_all_forms_of_the_repository(place, form):
    st = place.golden()
    (st.path / 'link').symlink_to(st.path)
    m = place.map(form.format(st), *IMAGES['efi'][:2], cwd=place.dir)
    assert m.name == escape(f'{st}:vm/100/{T1}/drive-efidisk0.img')
    assert file_sum(m.dev)[0] == SUMS['efi.img']
    place.unmap(m.dev)


def test_repository_from_the_environment_and_options_anywhere(place):
    st = place.golden()
    m = Mapping(place, place.run('map', f'vm/101/{T1}', '--keyfile', KEYS / 'none.json', 'drive-scsi1.img', env={'PBS_REPOSITORY': st}))
    assert file_sum(m.dev)[0] == SUMS['mbr.img']
    place.unmap(m.dev)


def test_same_snapshot_of_two_namespaces(place):
    one, two = mixed(100_000, 1), mixed(100_000, 2)
    st = place.store(f'vm/1/{T1}', a_img=one)
    place.store(f'vm/1/{T1}', '--ns', 'x', a_img=two)
    a, b = place.map(st, f'vm/1/{T1}', 'a.img'), place.map(st, f'vm/1/{T1}', 'a.img', ns='x')
    assert a.dev != b.dev and a.name != b.name
    assert file_sum(a.dev, len(one))[0] == hashlib.sha256(one).hexdigest()
    assert file_sum(b.dev, len(two))[0] == hashlib.sha256(two).hexdigest()
    place.unmap(a.dev)
    assert file_sum(b.dev, len(two))[0] == hashlib.sha256(two).hexdigest()
    place.unmap(b.dev)


def test_long_names(place):
    st = place.store(f'vm/{"x" * 120}/{T1}', name='y' * 120, a_img=b'abc')
    m = place.map(st, f'vm/{"x" * 120}/{T1}', 'a.img')
    assert len(m.pid_file.name) <= 255 and m.pid_file.exists()
    r = place.run(*place.map_args(st, f'vm/{"x" * 120}', 'a.img'))
    assert r.returncode == BUSY and m.dev in r.stderr
    place.unmap(m.dev)
    # The token is cut off such a name, so the finalizer would not see what is left.
    assert not os.path.exists(m.file) and not m.pid_file.exists() and not m.attached()


def test_json(place):
    m = place.run(*place.map_args(place.golden(), *IMAGES['scsi0'][:2], opts=['--json']))
    assert m.returncode == 0
    j = json.loads(m.stdout)
    assert m.stdout.count('\n') == 1 or m.stdout.endswith('}\n')
    assert re.fullmatch(r'/dev/loop\d+', j['device'])
    assert j['size'] == 31458816 and len(j['partitions']) == 2
    assert j['partitions'][0]['device'] == j['device'] + 'p1'
    place.unmap(j['device'])


def test_verbose_stays_in_the_foreground(place):
    p = subprocess.Popen([PBSMAP, *map(str, place.map_args(place.golden(), *IMAGES['scsi0'][:2], opts=['--verbose']))],
                         env=place.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    dev = p.stdout.readline().strip()
    assert file_sum(dev)[0] == SUMS['gpt.img']
    assert p.poll() is None
    p.send_signal(signal.SIGINT)
    _, log = p.communicate(timeout=20)
    assert p.returncode == 0 and f'mapped on {dev}' in log
    assert place.leftovers() == []


def test_a_held_device_is_named_once(place):
    p = subprocess.Popen([PBSMAP, *map(str, place.map_args(place.golden(), *IMAGES['scsi0'][:2], opts=['--verbose']))],
                         env=place.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    dev = p.stdout.readline().strip()
    with open(dev, 'rb'):
        p.send_signal(signal.SIGINT)
        _, log = p.communicate(timeout=20)
    assert f'pbsmap: {dev} is still held' in log
    assert wait_for(lambda: place.leftovers() == [])


def test_nothing_inherited_is_kept(place):
    """$(...), ssh and flock wait until the last process closes what it inherited."""
    lock = os.open(place.dir / 'lock', os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    read_end, write_end = os.pipe()
    start = time.monotonic()
    m = place.map_golden('scsi0', pass_fds=[lock, write_end])
    os.close(lock)
    os.close(write_end)
    assert select.select([read_end], [], [], 5)[0] and os.read(read_end, 1) == b''
    os.close(read_end)
    other = os.open(place.dir / 'lock', os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
    assert time.monotonic() - start < 5
    held = [os.readlink(f'/proc/{m.pid}/fd/{f}') for f in os.listdir(f'/proc/{m.pid}/fd')]
    assert not [h for h in held if h.startswith(str(place.dir)) and h.endswith('lock')]
    assert os.readlink(f'/proc/{m.pid}/cwd') in ('/', '/run/pbs-loopdev')
    sid = int(open(f'/proc/{m.pid}/stat').read().rsplit(')', 1)[1].split()[3])
    assert sid != os.getsid(0)
    place.unmap(m.dev)


@pytest.mark.parametrize('sig', (signal.SIGKILL, signal.SIGTERM))
def test_killed_while_it_starts(place, sig):
    """Nobody would know of the device: nothing stays, also when the command had no time to end it."""
    with Server(GOLDEN / 'store') as s:
        s.command('set rtt 300')
        p = subprocess.Popen([PBSMAP, *map(str, place.map_args(s.repo(), *IMAGES['scsi0'][:2]))], env=place.env(**s.env()),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert wait_for(lambda: len(place.processes()) == 3)
        p.send_signal(sig)
        assert p.wait(5) != 0
        assert wait_for(lambda: not place.processes(), 3)
    assert place.leftovers() == []


def test_registry_that_cannot_be_made(place):
    """What was tried is said, not what came of it."""
    r = place.run(*place.map_args(GOLDEN / 'store', *IMAGES['scsi0'][:2]), wrap=[
        'unshare', '-m', '--propagation', 'private', 'sh', '-ec', 'mount -t tmpfs none /run; : >/run/pbs-loopdev; exec "$@"', 'sh'])
    assert r.returncode == FAIL and 'no directory' in r.stderr
    r = place.run(*place.map_args(GOLDEN / 'store', *IMAGES['scsi0'][:2]), wrap=[
        'unshare', '-m', '--propagation', 'private', 'sh', '-ec', 'mount -t tmpfs -o nr_inodes=1 none /run; exec "$@"', 'sh'])
    assert r.returncode == FAIL and 'cannot make /run/pbs-loopdev: No space left' in r.stderr, r.stderr


def test_a_mount_that_fails_is_told_readably(place):
    r = place.strace(['mount:error=EPERM'], place.map_args(GOLDEN / 'store', *IMAGES['scsi0'][:2]))
    assert r.returncode == FAIL and 'cannot mount the image' in r.stderr and '\\x2d' not in r.stderr, r.stderr


def test_command_substitution_in_a_shell(place):
    args = ' '.join(map(str, place.map_args(place.golden(), *IMAGES['scsi0'][:2])))
    r = subprocess.run(['sh', '-c', f'dev=$({PBSMAP} {args} 2>/dev/null) && sha256sum $dev && {PBSMAP} unmap $dev'],
                       env=place.env(), stdout=subprocess.PIPE, text=True, timeout=30)
    assert r.returncode == 0 and r.stdout.startswith(SUMS['gpt.img'])


@pytest.mark.parametrize('closed', [(0,), (1,), (2,), (0, 1, 2)])
def test_standard_descriptors_may_be_closed(place, closed):
    """Then files opened first would get their numbers, and be written into."""
    m = place.map_golden('scsi0')
    args = ' '.join(map(str, place.map_args(place.dir / 'st', *IMAGES['efi'][:2])))
    shut = ' '.join(f'{n}>&-' if n else '0<&-' for n in closed)
    r = subprocess.run(['sh', '-c', f'{PBSMAP} {args} {shut}'], env=place.env(), timeout=30, check=False,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert r.returncode == 0
    dev, = (e['device'] for e in json.loads(place.run('status', '--json').stdout) if place.token in e['name'] and e['device'] != m.dev)
    assert file_sum(dev)[0] == SUMS['efi.img']
    place.unmap(dev)
    place.unmap(m.dev)


def test_device_that_nobody_is_told(place):
    """stdout does not take it: the status tells, and the mapping is undone."""
    with open('/dev/full', 'w') as full:
        r = subprocess.run([PBSMAP, *map(str, place.map_args(place.golden(), *IMAGES['efi'][:2]))], env=place.env(), stdin=subprocess.DEVNULL,
                           stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    r.stdout = ''
    place.failed(r, 1, 'stdout')


def test_many_maps_at_once(place):
    """All race for free loop devices; each gets one of its own, with its own bytes."""
    images = {n: mixed(200_000 + n, n) for n in range(12)}
    st = place.store(f'vm/1/{T1}', **{f'i{n}_img': data for n, data in images.items()})
    ps = [subprocess.Popen([PBSMAP, *map(str, place.map_args(st, f'vm/1/{T1}', f'i{n}.img'))], env=place.env(), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for n in images]
    outs = [p.communicate(timeout=60) for p in ps]
    assert [p.returncode for p in ps] == [0] * len(ps), outs
    devs = [out.strip() for out, _ in outs]
    assert len(set(devs)) == len(devs)
    for n, dev in enumerate(devs):
        assert file_sum(dev, len(images[n]))[0] == hashlib.sha256(images[n]).hexdigest()
    for dev in devs:
        place.unmap(dev)
    assert place.leftovers() == []


@pytest.mark.parametrize('opts', [['--no-direct-io'], ['--no-read-ahead'], ['--workers', '1'], ['--workers', '9', '--cache', '8M']], ids=' '.join)
def test_other_ways_to_serve(place, opts):
    data = mixed(20_000_001)
    m = place.map(place.store(f'vm/1/{T1}', a_img=data), f'vm/1/{T1}', 'a.img', opts=opts)
    assert sysfs(m.nr, 'loop/dio') == ('0' if '--no-direct-io' in opts else '1')
    check_content(m, len(data), hashlib.sha256(data).hexdigest())
    read_by_many([(m.dev, data, False), (m.file, data, False)], 40)
    place.unmap(m.dev)


def test_4096_byte_sectors_and_an_odd_end(place):
    """The file is padded to whole sectors of the device's."""
    img = bytes(gpt_image(4096, 16 << 20, [(1 << 20, 8 << 20, 'first')]))[:-1000]
    m = place.map(place.store(f'vm/1/{T1}', a_img=img), f'vm/1/{T1}', 'a.img')
    assert sysfs(m.nr, 'queue/logical_block_size') == '4096' and m.size == 16 << 20
    sha, tail = file_sum(m.dev, len(img))
    assert sha == hashlib.sha256(img).hexdigest() and tail == bytes(1000)
    place.unmap(m.dev)


def reader(path, data, seed, direct, count, failed):
    r = random.Random(seed)
    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    import mmap
    buf = mmap.mmap(-1, 1 << 20)
    for _ in range(count):
        n = r.choice([1, 512, 4096, r.randrange(1, 1 << 20)])
        at = r.randrange(0, len(data))
        if direct:
            n, at = max(n // 4096 * 4096, 4096), at // 4096 * 4096
        n = min(n, len(data) - at)
        got = os.preadv(fd, [memoryview(buf)[:n]], at)
        if got != n or buf[:n] != data[at:at + n]:
            failed.set()
            return


def read_by_many(jobs, count=150):
    """Each job (path, data, direct) by a process of its own, all at once."""
    ctx = multiprocessing.get_context('fork')
    failed = ctx.Event()
    ps = [ctx.Process(target=reader, args=(p, d, i, direct, count, failed)) for i, (p, d, direct) in enumerate(jobs)]
    for p in ps:
        p.start()
    for p in ps:
        p.join(120)
    assert not failed.is_set() and all(p.exitcode == 0 for p in ps)


@pytest.mark.parametrize('chunk', ['64K', '4M'])
@pytest.mark.parametrize('key', [None, 'none'])
def test_many_readers_two_mappings(place, chunk, key):
    one, two = mixed(48 << 20, 1), mixed(9 << 20, 2)
    st = place.store(f'vm/1/{T1}', '--chunk-size', chunk, *(['--key', KEYS / f'{key}.json'] if key else []), a_img=one, b_img=two)
    a, b = (place.map(st, f'vm/1/{T1}', n, key=key) for n in ('a.img', 'b.img'))
    read_by_many([(a.dev, one, True), (a.dev, one, True), (a.dev, one, False), (a.file, one, False), (a.file, one, False),
                  (b.dev, two, True), (b.file, two, False)])
    place.unmap(a.dev)
    place.unmap(b.dev)


def test_small_cache(place):
    data = mixed(40 << 20)
    st = place.store(f'vm/1/{T1}', '--chunk-size', '1M', a_img=data)
    m = place.map(st, f'vm/1/{T1}', 'a.img', opts=['--cache', '8M'])
    read_by_many([(m.dev, data, True), (m.dev, data, True), (m.file, data, False)], 60)
    assert file_sum(m.dev)[0] == hashlib.sha256(data).hexdigest()
    hwm = memory(m.worker)
    print(f'peak with --cache 8M: {hwm} KiB')
    assert hwm < (8 + 16) << 10
    place.unmap(m.dev)


def memory(pid):
    return int(re.search(r'VmHWM:\s+(\d+)', open(f'/proc/{pid}/status').read())[1])


@pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason='sanitizers need more')
def test_memory(place):
    data = mixed(256 << 20)
    st = place.store(f'vm/1/{T1}', a_img=data)
    m = place.map(st, f'vm/1/{T1}', 'a.img')
    start = memory(m.worker)
    assert file_sum(m.dev)[0] == hashlib.sha256(data).hexdigest()
    read_by_many([(m.dev, data, True)] * 4, 50)
    print(f'peak after map: {start} KiB, after 256 MiB read and random reads: {memory(m.worker)} KiB')
    assert memory(m.worker) < (64 + 16) << 10
    place.unmap(m.dev)


@pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason='sanitizers are slow')
def test_time_to_map(place):
    st, times = place.golden(), []
    for _ in range(11):
        start = time.monotonic()
        m = place.map_golden('scsi0', st)
        times.append(time.monotonic() - start)
        place.unmap(m.dev)
    print(f'map: median of 10, warm: {statistics.median(times[1:]) * 1000:.1f} ms')
    assert statistics.median(times[1:]) < 0.25


def test_path_of_the_node_above_255(place):
    """Loop numbers need not fit in a byte."""
    nr = 300 + random.Random(place.token).randrange(500)
    with open('/dev/loop-control') as control:
        fcntl.ioctl(control, 0x4C80, nr)
    try:
        # GET_FREE takes the lowest number, so the others are made to look taken by hiding it in time: all lower ones are attached.
        (place.dir / 'small').write_bytes(bytes(4096))
        taken = []
        while True:
            r = subprocess.run(['losetup', '--show', '-f', place.dir / 'small'], stdout=subprocess.PIPE, text=True, check=True)
            taken.append(r.stdout.strip())
            if taken[-1] == f'/dev/loop{nr}':
                break
            assert len(taken) < 64, 'too many free loop devices'
        subprocess.run(['losetup', '-d', taken.pop()], check=True)
        m = place.map_golden('scsi1')
        assert m.nr >= 255
        assert file_sum(m.dev)[0] == SUMS['mbr.img']
        assert os.path.exists(m.part(1))
        place.unmap(m.dev)
    finally:
        for dev in taken:
            subprocess.run(['losetup', '-d', dev], check=False)
        with open('/dev/loop-control') as control:
            wait_for(lambda: sysfs(nr, 'loop/backing_file') is None)
            fcntl.ioctl(control, 0x4C81, nr)


def test_help_warns():
    r = subprocess.run([PBSMAP, 'map', '--help'], stdout=subprocess.PIPE, text=True)
    assert r.returncode == 0 and 'trust' in r.stdout
