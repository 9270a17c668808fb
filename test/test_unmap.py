"""unmap and status: every form, mappings that are held, that died, that others
took apart, and that others' tools undo."""
import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest

from lib import (BUSY, DONE, PBSMAP, IMAGES, RUN_DIR, SUMS, T1, file_sum, loops, mixed, mounted, place, read_device,
                 sysfs, wait_for)

pytestmark = pytest.mark.root


def unique(place, size=300_000):
    """A mapping whose archive's name no other mapping has."""
    archive = f'{place.token}.img'
    st = place.store(f'vm/1/{T1}', **{archive.replace('.', '_'): mixed(size)})
    return place.map(st, f'vm/1/{T1}', archive), f'{st}:vm/1/{T1}/{archive}', archive


def gone(m):
    return not m.attached() and not os.path.lexists(m.file) and not m.pid_file.exists()


def in_state(pid, states):
    with contextlib.suppress(OSError):
        return open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[0] in states


FORMS = {
    'device': lambda m, full, archive: m.dev,
    'loopN': lambda m, full, archive: f'loop{m.nr}',
    'number': lambda m, full, archive: str(m.nr),
    'full name': lambda m, full, archive: full,
    'archive': lambda m, full, archive: archive,
    'snapshot/archive': lambda m, full, archive: f'vm/1/{T1}/{archive}',
    'time/archive': lambda m, full, archive: f'{T1}/{archive}',
}


@pytest.mark.parametrize('form', FORMS)
def test_forms(place, form):
    m, full, archive = unique(place)
    start = time.monotonic()
    r = place.unmap(FORMS[form](m, full, archive))
    assert gone(m) and place.leftovers() == []
    assert time.monotonic() - start < 3, r.stderr


def test_escaped_name(place):
    """The name as it stands in /run; a directory's begins with what looks like an option."""
    for args in (), ('--',), ('-f',):
        m, *_ = unique(place)
        assert m.name.startswith('-')
        place.unmap(*args, m.name)
        assert gone(m)
    assert 'unknown option' in place.run('unmap', '-nosuch').stderr


@pytest.mark.parametrize('what', ['img', '{}.im', 'x{}.img', '1/{}.img'])
def test_only_whole_components(place, what):
    m, full, archive = unique(place)
    r = place.run('unmap', what.format(place.token))
    assert r.returncode not in (DONE, BUSY) and r.stderr, r
    assert m.attached()
    place.unmap(m.dev)


def test_ambiguous_names_are_refused_and_listed(place):
    archive = f'{place.token}.img'
    st = place.store(f'vm/1/{T1}', **{archive.replace('.', '_'): b'abc'})
    place.store(f'vm/2/{T1}', **{archive.replace('.', '_'): b'abc'})
    a, b = place.map(st, f'vm/1/{T1}', archive), place.map(st, f'vm/2/{T1}', archive)
    r = place.run('unmap', archive)
    assert r.returncode != DONE
    assert f'vm/1/{T1}' in r.stderr and f'vm/2/{T1}' in r.stderr
    assert a.attached() and b.attached()
    place.unmap(f'vm/2/{T1}/{archive}')
    assert a.attached() and gone(b)
    place.unmap(a.dev)


def test_three_messages(place):
    """Malformed, nothing mapped, in use by something else."""
    r = place.run('unmap', '/dev/loopx')
    assert r.returncode != DONE and '/dev/loopx' in r.stderr
    free = next(n for n in range(10000) if n not in loops())       # whether there is such a node or not
    n = place.run('unmap', f'/dev/loop{free}')
    assert n.returncode != DONE and f'loop{free}' in n.stderr
    (place.dir / 'other').write_bytes(bytes(1 << 20))
    dev = subprocess.run(['losetup', '--show', '-f', '-r', place.dir / 'other'], stdout=subprocess.PIPE, text=True,
                         check=True).stdout.strip()
    try:
        for arg in dev, dev[9:]:
            o = place.run('unmap', arg)
            assert o.returncode != DONE and 'not by pbsmap' in o.stderr and str(place.dir / 'other') in o.stderr, o.stderr
        assert sysfs(dev[9:], 'loop/backing_file') == str(place.dir / 'other')
    finally:
        subprocess.run(['losetup', '-d', dev], check=True)
    assert len({re.sub(r'/?\S*loop\w+|\S*/other\S*', '', x.stderr) for x in (r, n, o)}) == 3


def test_partition_is_no_device_to_unmap(place):
    m = place.map_golden('scsi0')
    r = place.run('unmap', m.part(1))
    assert r.returncode != DONE and m.attached()
    place.unmap(m.dev)


def test_unmap_removes_partitions_and_waits(place):
    m = place.map_golden('scsi0')
    pid = m.pid
    place.unmap(m.dev)
    assert gone(m) and not os.path.exists(m.part(1)) and sysfs(m.nr, f'loop{m.nr}p1/start') is None
    assert in_state(pid, 'Z') or not os.path.exists(f'/proc/{pid}')


# ---- status ----

def test_status(place):
    st = place.golden()
    a, b = place.map_golden('scsi0', st), place.map_golden('encrypted0', st)
    for command in ['status'], ['unmap']:
        r = place.run(*command)
        assert r.returncode == DONE, r.stderr
        for m, which in (a, 'scsi0'), (b, 'encrypted0'):
            line, = (x for x in r.stdout.splitlines() if f'{st}:{IMAGES[which][0]}/' in x)
            assert re.search(rf'{m.dev}\b', line) and re.search(rf'\b{m.pid}\b', line)
            assert re.search(r'\b3\d([.,]\d)? ?M|31458816', line), line
        j = json.loads(place.run(*command, '--json').stdout)
        mine = {e['device']: e for e in j if place.token in e['name']}
        assert set(mine) == {a.dev, b.dev}
        assert mine[a.dev]['pid'] == a.pid and mine[a.dev]['size'] == 31458816
        assert mine[a.dev]['name'] == f"{st}:{IMAGES['scsi0'][0]}/{IMAGES['scsi0'][1]}"
    assert a.attached() and b.attached()
    place.unmap(a.dev)
    place.unmap(b.dev)
    assert place.token not in place.run('status').stdout


def test_status_only_ascii_and_no_escapes_on_a_pipe(place):
    m = place.map_golden('efi')
    r = place.run('status')
    assert r.stdout.isascii() and '\x1b' not in r.stdout
    place.unmap(m.dev)


# ---- held ----

def test_refused_while_mounted(place):
    m = place.map_golden('scsi0')
    with mounted(place, m.part(1), 'ext4', 'ro,noload') as at:
        r = place.run('unmap', m.dev)
        assert r.returncode == BUSY and str(at) in r.stderr and m.part(1) in r.stderr
        assert m.attached() and os.path.exists(m.part(1))
        assert file_sum(at / 'home/rescue/photo.bin')[0]
    place.unmap(m.dev)
    assert place.leftovers() == []


def test_refused_while_the_file_is_mounted_elsewhere(place):
    """In another mount namespace, which /proc/self/mountinfo does not show."""
    m = place.map_golden('scsi0')
    at = place.dir / 'at'
    at.mkdir()
    p = subprocess.Popen(['unshare', '-m', 'sh', '-c', f'mount -t ext4 -o ro,noload {m.part(1)} {at} && echo ok && read x'],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == 'ok\n'
    try:
        r = place.run('unmap', m.dev)
        assert r.returncode == BUSY, r.stderr
        assert m.attached()
    finally:
        p.communicate('\n')
    place.unmap(m.dev)
    assert place.leftovers() == []


@pytest.mark.parametrize('what', ['device', 'partition'])
def test_refused_while_open(place, what):
    m = place.map_golden('scsi0')
    holder = subprocess.Popen(['sleep', '60'], stdin=open(m.dev if what == 'device' else m.part(1), 'rb'))
    try:
        r = place.run('unmap', m.dev)
        assert r.returncode == BUSY and str(holder.pid) in r.stderr and 'sleep' in r.stderr, r.stderr
        assert m.attached()
    finally:
        holder.kill()
        holder.wait()
    place.unmap(m.dev)


def test_refused_while_stacked(place):
    """A loop device on a partition of the mapping."""
    m = place.map_golden('scsi0')
    dev = subprocess.run(['losetup', '--show', '-f', '-r', m.part(2)], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    try:
        r = place.run('unmap', m.dev)
        assert r.returncode == BUSY and m.attached(), r.stderr
    finally:
        subprocess.run(['losetup', '-d', dev], check=True)
    place.unmap(m.dev)


def test_force_while_mounted(place):
    m = place.map_golden('scsi0')
    at = place.dir / 'at'
    at.mkdir()
    subprocess.run(['mount', '-t', 'ext4', '-o', 'ro,noload', m.part(1), at], check=True)
    pid = m.pid
    start = time.monotonic()
    r = place.run('unmap', '-f', m.dev, timeout=30)
    assert time.monotonic() - start < 15
    assert r.returncode == DONE, r.stderr
    assert wait_for(lambda: not place.processes())
    # What is mounted fails, and does not hang; then everything can be taken away.
    p = subprocess.run(['dd', 'if=' + str(at / 'home/rescue/photo.bin'), 'of=/dev/null', 'iflag=direct'], timeout=20,
                       stderr=subprocess.DEVNULL, check=False)
    assert p.returncode != 0 or not m.attached()
    subprocess.run(['umount', at], check=True, timeout=20)
    assert wait_for(lambda: in_state(pid, 'Z') or not os.path.exists(f'/proc/{pid}'))
    assert wait_for(lambda: not m.attached())
    assert place.leftovers() == []


def test_force_while_open(place):
    m = place.map_golden('scsi0')
    with open(m.dev, 'rb') as f:
        start = time.monotonic()
        r = place.run('unmap', '-f', m.dev, timeout=30)
        assert r.returncode == DONE, r.stderr
        assert time.monotonic() - start < 3.5		# what udev may need is waited for once
        assert wait_for(lambda: not place.processes())
        with contextlib.suppress(OSError):
            assert os.pread(f.fileno(), 4096, 20 << 20) == b''
    assert wait_for(lambda: not m.attached())
    assert place.leftovers() == []


def test_swap_on_it_is_a_holder(place):
    img = bytearray(8 << 20)
    page = os.sysconf('SC_PAGE_SIZE')
    img[page - 10:page] = b'SWAPSPACE2'
    st = place.store(f'vm/1/{T1}', a_img=bytes(img))
    m = place.map(st, f'vm/1/{T1}', 'a.img')
    if subprocess.run(['swapon', m.dev], stderr=subprocess.DEVNULL).returncode == 0:
        try:
            r = place.run('unmap', m.dev)
            assert r.returncode == BUSY and 'swap' in r.stderr
        finally:
            subprocess.run(['swapoff', m.dev], check=True)
    place.unmap(m.dev)       # a read-only device cannot be swapped to, as a rule


def test_all(place):
    """In a mount namespace with a registry of its own, since others' mappings are not ours to end."""
    st = place.golden()
    maps = ' && '.join(f"{PBSMAP} map --repository {st} {IMAGES[w][0]} {IMAGES[w][1]}" for w in ('scsi0', 'scsi1', 'efi'))
    script = f'''mkdir -p {RUN_DIR} && mount -t tmpfs -o mode=0755 none {RUN_DIR} && {maps} && {PBSMAP} unmap -a && ls -A {RUN_DIR} && echo end'''
    r = subprocess.run(['unshare', '-m', 'sh', '-c', script], env=place.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    lines = r.stdout.splitlines()
    assert lines[-1] == 'end' and len([x for x in lines if re.fullmatch(r'/dev/loop\d+', x)]) == 3, r.stdout
    assert place.leftovers() == []


# ---- processes that die, devices that others take ----

@pytest.mark.parametrize('cleaner', ['unmap device', 'unmap name', 'status', 'map'])
def test_killed(place, cleaner):
    m, full, archive = unique(place)
    os.kill(m.pid, signal.SIGKILL)
    assert wait_for(lambda: not place.processes())
    assert m.attached(), 'the kernel was kinder than expected: this test is void'
    start = time.monotonic()
    with pytest.raises(OSError):
        read_device(m.dev, 0, 4096, direct=True)
    assert time.monotonic() - start < 2
    if cleaner == 'map':
        n = place.map(place.dir / 'st', f'vm/1/{T1}', archive)
        assert file_sum(n.dev, 300_000)[0]
        place.unmap(n.dev)
    elif cleaner == 'status':
        place.run('status')
    else:
        place.unmap(m.dev if 'device' in cleaner else full)
    assert wait_for(lambda: place.leftovers() == []), place.leftovers()


def test_killed_with_partitions(place):
    m = place.map_golden('scsi0')
    os.kill(m.pid, signal.SIGKILL)
    assert wait_for(lambda: not place.processes())
    place.unmap(m.dev)
    assert place.leftovers() == [] and not os.path.exists(m.part(1)) and sysfs(m.nr, f'loop{m.nr}p1/start') is None


def test_killed_while_mounted(place):
    """Nothing can free the device then, but nothing may hang either, and afterwards all is clean."""
    st = place.golden()
    m = place.map_golden('scsi0', st)
    with mounted(place, m.part(1), 'ext4', 'ro,noload'):
        os.kill(m.pid, signal.SIGKILL)
        assert wait_for(lambda: not place.processes())
        r = place.run('unmap', m.dev, timeout=30)
        assert r.returncode in (DONE, BUSY), r.stderr
    place.run('status')
    if place.leftovers():
        place.unmap(m.dev)
    assert place.leftovers() == []
    n = place.map_golden('scsi0', st)
    assert file_sum(n.dev)[0] == SUMS['gpt.img']
    place.unmap(n.dev)


def test_killed_without_tools(place):
    """Clean-up needs no other program."""
    m, full, _ = unique(place)
    os.kill(m.pid, signal.SIGKILL)
    assert wait_for(lambda: not place.processes())
    place.unmap(full, env={'PATH': '/nowhere'})
    assert place.leftovers() == []


def test_detached_by_losetup(place):
    m = place.map_golden('scsi0')
    subprocess.run(['losetup', '-d', m.dev], check=True)
    assert wait_for(lambda: place.leftovers() == [], 10), place.leftovers()


def test_detached_by_losetup_while_open_then_closed(place):
    m = place.map_golden('scsi0')
    with open(m.dev, 'rb') as f:
        subprocess.run(['losetup', '-d', m.dev], check=True)
        assert len(f.read(4096)) == 4096
        assert place.processes()
    assert wait_for(lambda: place.leftovers() == [], 10), place.leftovers()


@pytest.fixture
def fusectl(place):
    at = place.dir / 'fusectl'
    at.mkdir()
    subprocess.run(['mount', '-t', 'fusectl', 'none', at], check=True)
    yield at
    subprocess.run(['umount', '-l', at], check=True)


def abort(at, m):
    minor = os.minor(os.stat(m.file).st_dev)
    (at / str(minor) / 'abort').write_text('1')


def test_fuse_connection_aborted(place, fusectl):
    m = place.map_golden('scsi0')
    abort(fusectl, m)
    assert wait_for(lambda: place.leftovers() == [], 10), place.leftovers()


def test_fuse_file_unmounted_by_force(place):
    m = place.map_golden('scsi0')
    subprocess.run(['umount', '-l', m.file], check=True)
    place.run('unmap', m.dev)
    assert wait_for(lambda: place.leftovers() == [], 10), place.leftovers()


def test_mapping_lives_after_a_stranger_took_its_files(place):
    """Nobody should, but neither a hang nor a stuck device may come of it."""
    m = place.map_golden('scsi0')
    m.pid_file.unlink()
    assert file_sum(m.dev)[0] == SUMS['gpt.img']
    place.run('unmap', m.dev)
    assert wait_for(lambda: place.leftovers() == [], 10), place.leftovers()


def test_pid_file_of_somebody_else(place):
    """A pid that now belongs to another process: it is not to be harmed, the leftovers are to be cleaned."""
    m, full, archive = unique(place)
    pid_file = m.pid_file
    os.kill(m.pid, signal.SIGKILL)
    assert wait_for(lambda: not place.processes())
    other = subprocess.Popen(['sleep', '60'])
    try:
        pid_file.write_text(str(other.pid))
        place.unmap(full)
        assert other.poll() is None
        assert place.leftovers() == []
    finally:
        other.kill()
        other.wait()


def test_the_official_way(place):
    """Its client sends SIGINT to the process in the pid file and waits for it to go."""
    m = place.map_golden('scsi0')
    text = m.pid_file.read_text()
    assert text.isdigit()
    assert m.pid_file.name == m.name[:-len('.img')] + '.pid'
    os.kill(int(text), signal.SIGINT)
    assert wait_for(lambda: not os.path.exists(f'/proc/{text}'), 10)
    assert place.leftovers() == []


@pytest.mark.parametrize('sig', [signal.SIGINT, signal.SIGTERM])
def test_signals_while_held(place, sig):
    """The official client's unmap ends a mounted mapping; so must the signal, without a hang and without a stuck device."""
    m = place.map_golden('scsi0')
    with mounted(place, m.part(1), 'ext4', 'ro,noload'):
        os.kill(m.pid, sig)
        assert wait_for(lambda: not place.processes(), 15)
    assert wait_for(lambda: not m.attached(), 5)
    place.run('status')
    assert place.leftovers() == []


def test_sighup_and_sigpipe_do_not_end_it(place):
    m = place.map_golden('efi')
    for sig in signal.SIGHUP, signal.SIGPIPE:
        os.kill(m.pid, sig)
    time.sleep(0.2)
    assert file_sum(m.dev)[0] == SUMS['efi.img']
    place.unmap(m.dev)


def test_unmap_while_readers_are_killed(place):
    """Reads that are on their way when the readers and the mapping end."""
    data = mixed(64 << 20)
    st = place.store(f'vm/1/{T1}', a_img=data)
    for _ in range(5):
        m = place.map(st, f'vm/1/{T1}', 'a.img')
        readers = [subprocess.Popen(['dd', f'if={m.dev}', 'of=/dev/null', 'bs=1M', f'skip={i * 10}', 'iflag=direct'],
                                    stderr=subprocess.DEVNULL) for i in range(6)]
        time.sleep(0.02)
        for r in readers:
            r.kill()
        result = place.run('unmap', '-f', m.dev, timeout=30)
        for r in readers:
            r.wait(20)
        assert result.returncode == DONE, result.stderr
        assert wait_for(lambda: place.leftovers() == [], 10), place.leftovers()


def test_unmap_under_reading(place):
    data = mixed(64 << 20)
    st = place.store(f'vm/1/{T1}', a_img=data)
    m = place.map(st, f'vm/1/{T1}', 'a.img')
    readers = [subprocess.Popen(['sh', '-c', f'while dd if={m.dev} of=/dev/null bs=1M iflag=direct; do :; done'],
                                stderr=subprocess.DEVNULL, start_new_session=True) for _ in range(3)]
    try:
        time.sleep(0.3)
        r = place.run('unmap', '-f', m.dev, timeout=30)
        assert r.returncode == DONE, r.stderr
    finally:
        for p in readers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            p.wait(20)
    assert wait_for(lambda: place.leftovers() == [], 10), place.leftovers()


def test_map_and_unmap_at_once(place):
    """Several at the same name: one wins, the others are told, nothing is left."""
    m, full, archive = unique(place)
    place.unmap(m.dev)
    args = [PBSMAP, *map(str, place.map_args(place.dir / 'st', f'vm/1/{T1}', archive))]
    for _ in range(5):
        ps = [subprocess.Popen(args, env=place.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
              for _ in range(4)]
        outs = [p.communicate(timeout=30) for p in ps]
        codes = sorted(p.returncode for p in ps)
        assert codes == [DONE, BUSY, BUSY, BUSY], outs
        us = [subprocess.Popen([PBSMAP, 'unmap', full], env=place.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
              for _ in range(3)]
        for u in us:
            u.communicate(timeout=30)
        assert any(u.returncode == DONE for u in us)
        assert wait_for(lambda: place.leftovers() == [], 5), place.leftovers()


def test_many_rounds(place):
    """Descriptors of anything are not left behind; partitions come and go."""
    st = place.golden()
    for _ in range(15):
        m = place.map_golden('scsi0', st)
        read_device(m.part(1), 0, 4096)
        place.unmap(m.dev)
        assert place.leftovers() == []


# ---- the registry in /run ----

@pytest.mark.parametrize('what', ['file', 'link', 'world-writable', 'other owner'])
def test_registry_that_is_not_to_be_trusted(place, what):
    st = place.golden()
    bad = {'file': f'touch {RUN_DIR}', 'link': f'mkdir /run/elsewhere && ln -s /run/elsewhere {RUN_DIR}',
           'world-writable': f'mkdir -m 0777 {RUN_DIR} && chmod 0777 {RUN_DIR}', 'other owner': f'mkdir {RUN_DIR} && chown 1000 {RUN_DIR}'}[what]
    r = subprocess.run(['unshare', '-m', 'sh', '-c', f'mount -t tmpfs none /run && {bad} && exec {PBSMAP} map --repository {st} '
                        f'{IMAGES["efi"][0]} {IMAGES["efi"][1]}'], env=place.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=30)
    place.failed(r, 1, str(RUN_DIR))


def test_odd_entries_in_the_registry(place):
    """Whatever lies there: status lists what it can, and unmap of a good mapping works."""
    st = place.golden()
    script = f'''mount -t tmpfs -o mode=0755 none /run && mkdir -m 0755 {RUN_DIR} && cd {RUN_DIR} &&
mkdir adirectory && ln -s /etc/passwd alink && echo 99999999 > gone.pid && echo -5 > negative.pid && echo x > odd.pid &&
: > empty.pid && : > lonely.img && printf %0300d 1 > long.pid && echo 1 > init.pid &&
dev=$({PBSMAP} map --repository {st} {IMAGES["efi"][0]} {IMAGES["efi"][1]}) && sha256sum < $dev && {PBSMAP} status && {PBSMAP} unmap $dev &&
ls -d adirectory alink && cat /etc/passwd | head -n 1'''
    r = subprocess.run(['unshare', '-m', 'sh', '-c', script], env=place.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=30)
    assert r.returncode == 0 and SUMS['efi.img'] in r.stdout, (r.stdout, r.stderr)
    assert place.leftovers() == []


def test_without_run_and_without_udev(place):
    """A bare initramfs: no /run, /dev a plain tmpfs with a few nodes that nobody manages."""
    st = place.golden()
    script = f'''mount -t tmpfs none /run && mkdir /run/d && mount -t tmpfs -o mode=0755 none /run/d && cd /run/d &&
cp -a /dev/null /dev/fuse /dev/loop-control /dev/zero . && mkdir shm && mount --bind /dev/shm shm && mount --move /run/d /dev &&
dev=$({PBSMAP} map --repository {st} {IMAGES["scsi0"][0]} {IMAGES["scsi0"][1]}) && ls $dev $dev"p1" $dev"p2" && sha256sum < $dev &&
{PBSMAP} unmap $dev && ls /dev'''
    r = subprocess.run(['unshare', '-m', 'sh', '-c', script], env=place.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=30)
    assert r.returncode == 0 and SUMS['gpt.img'] in r.stdout, (r.stdout, r.stderr)
    assert not re.search(r'loop\d+p', r.stdout.rsplit('-\n', 1)[1]), 'partition nodes that nobody manages were left'
    assert place.leftovers() == []


# ---- a mapping that does not answer ----

def test_outstanding_reads_of_killed_readers(place):
    """The process is stopped, so that reads are certainly on their way when their readers are killed."""
    data = mixed(64 << 20)
    st = place.store(f'vm/1/{T1}', a_img=data)
    m = place.map(st, f'vm/1/{T1}', 'a.img')
    os.kill(m.pid, signal.SIGSTOP)
    readers = [subprocess.Popen(['dd', f'if={m.dev}', 'of=/dev/null', 'bs=1M', f'skip={i * 10}', 'iflag=direct'],
                                stderr=subprocess.DEVNULL) for i in range(6)]
    assert wait_for(lambda: all(in_state(r.pid, 'D') for r in readers), 5)
    for r in readers:
        r.kill()
    p = subprocess.Popen([PBSMAP, 'unmap', '-f', m.dev], env=place.env(), stderr=subprocess.PIPE, text=True)
    time.sleep(0.3)
    os.kill(m.pid, signal.SIGCONT)
    for r in readers:
        r.wait(20)
    _, err = p.communicate(timeout=30)
    assert p.returncode == DONE, err
    assert wait_for(lambda: place.leftovers() == [], 10), place.leftovers()


@pytest.mark.parametrize('force', [False, True])
def test_stopped_mapping_hangs_no_shell(place, force):
    m = place.map_golden('scsi0')
    pid = m.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        assert place.run('status', timeout=20).returncode == DONE
        assert time.monotonic() - start < 5
        r = place.run('unmap', *(['-f'] if force else []), m.dev, timeout=60)
        assert r.returncode != DONE or wait_for(lambda: place.leftovers() == [], 2), place.leftovers()	# its last process hears it from the others
        if r.returncode != DONE:
            assert str(pid) in r.stderr or m.dev in r.stderr
            assert '-f kills it' in r.stderr
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: place.leftovers() == [], 5)
    if place.leftovers():
        place.unmap(m.dev)
    assert place.leftovers() == []
