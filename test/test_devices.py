"""Devices and the registry where the machine is not as usual: no /sys, no /proc,
the official client's mappings, files taken away, everything at once."""
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys

import pytest

from lib import BUSY, DONE, IMAGES, PBSMAP, RUN_DIR, SUMS, T1, file_sum, loops, mixed, place, sysfs, wait_for

pytestmark = pytest.mark.root


def apart(place, script):
    """A shell script in a mount namespace of its own; $P is pbsmap."""
    r = subprocess.run(['unshare', '-m', 'sh', '-ec', script], env={**place.env(), 'P': PBSMAP}, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=60)
    assert r.returncode == 0, (r.stdout, r.stderr)
    return r


def needs_no_sanitizer(hidden):
    if '/proc' in hidden and '/san/' in PBSMAP:
        pytest.skip('a sanitizer reads its options from /proc')


def strays(before):
    """Devices attached since whose backing file nobody knows any more."""
    return {nr: b for nr, b in loops().items() if b == '/' and nr not in before}


@pytest.fixture
def before():
    return set(loops())


@pytest.mark.parametrize('hidden', ['/sys', '/proc', '/sys /proc'])
def test_hidden_kernel(place, before, hidden):
    """Two mappings whose names differ only at the end, which lo_file_name does not hold."""
    data = mixed(300_000)
    st = place.store(f'vm/1/{T1}', a_img=data, b_img=data[::-1])
    needs_no_sanitizer(hidden)
    hide = ' && '.join(f'mount -t tmpfs none {d}' for d in hidden.split())
    args = f'--repository {st} vm/1/{T1}'
    r = apart(place, f'''mount -t tmpfs none /run && {hide}
a=$($P map {args} a.img); b=$($P map {args} b.img); test $a != $b
head -c 300000 $a | sha256sum; head -c 300000 $b | sha256sum
$P map {args} a.img 2>&1 && exit 1
$P status
$P unmap {st}:vm/1/{T1}/b.img; $P status; head -c 300000 $a | sha256sum
$P unmap $a
$P status; ls -A {RUN_DIR}; echo end''')
    lines = r.stdout.splitlines()
    assert lines[0] == lines[-2], r.stdout
    assert 'already mapped on /dev/loop' in r.stdout and lines[-1] == 'end'
    assert len([x for x in lines if x.endswith('/b.img')]) == 1 and len([x for x in lines if x.endswith('/a.img')]) == 2
    assert place.leftovers() == [] and not strays(before)


def test_leftovers_without_sys_and_proc(place, before):
    needs_no_sanitizer('/proc')
    st = place.golden()
    r = apart(place, f'''mount -t tmpfs none /run
dev=$($P map --repository {st} {IMAGES["scsi0"][0]} {IMAGES["scsi0"][1]})
pid=$(cat {RUN_DIR}/*.pid); kill -9 $pid
while grep -q 'State:.[RSD]' /proc/$pid/status; do sleep .01; done
mount -t tmpfs none /sys; mount -t tmpfs none /proc
$P status; ls -A {RUN_DIR}; echo end; ls /dev | grep "${{dev#/dev/}}p" || true''')
    assert r.stdout == 'end\n' and 'removed what was left of' in r.stderr, r
    assert place.leftovers() == [] and not strays(before)


@pytest.fixture
def official(place):
    """A process of the official client's name that keeps to its registry."""
    path = place.dir / 'proxmox-backup-client'
    shutil.copy(PBSMAP, path)
    return path


def test_official_mapping(place, official, before):
    st = place.golden()
    snapshot, archive, image, _ = IMAGES['scsi0']
    dev = subprocess.run([official, 'map', '--repository', str(st), snapshot, archive], env=place.env(), check=True,
                         stdout=subprocess.PIPE, text=True).stdout.strip()
    row, = (e for e in json.loads(place.run('status', '--json').stdout) if place.token in e['name'])
    assert (row['device'], row['number'], row['state'], row['size']) == (dev, int(dev[9:]), 'alive', 31458816)
    assert os.path.basename(os.readlink(f"/proc/{row['pid']}/exe")) == official.name
    r = place.run('map', '--repository', st, snapshot, archive)
    assert r.returncode == BUSY and f'already mapped on {dev}' in r.stderr
    place.unmap(row['name'])
    assert place.leftovers() == [] and not strays(before)


def test_official_mapping_without_pid_file(place, official, before):
    """It writes the file late, and may have died or been killed just then."""
    st = place.golden()
    snapshot, archive, *_ = IMAGES['scsi0']
    for dead in False, True:
        dev = subprocess.run([official, 'map', '--repository', str(st), snapshot, archive], env=place.env(), check=True,
                             stdout=subprocess.PIPE, text=True).stdout.strip()
        pid_file, = (p for p in RUN_DIR.glob('*.pid') if place.token in p.name)
        pid = int(pid_file.read_text())
        pid_file.unlink()
        row, = (e for e in json.loads(place.run('status', '--json').stdout) if place.token in e['name'])
        assert row['pid'] == pid and row['state'] == 'alive'
        if dead:
            os.kill(pid, signal.SIGKILL)
            assert wait_for(lambda: not place.processes())
        place.unmap(dev)
        assert place.leftovers() == [] and not strays(before)


def take_files(m):
    subprocess.run(['umount', '-l', m.file], check=True)
    os.unlink(m.file)
    m.pid_file.unlink()


def test_stray_device(place, before):
    """Everything but the device was taken away, with tools that do not know it."""
    m = place.map_golden('scsi0')
    pid = m.pid
    take_files(m)
    r = place.run('unmap', m.dev)
    assert r.returncode == BUSY and str(pid) in r.stderr, r.stderr       # somebody serves it
    assert file_sum(m.dev)[0] == SUMS['gpt.img']
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: not place.processes())
    with open(m.part(1), 'rb'):
        r = place.run('unmap', m.nr)
        assert r.returncode == BUSY and f'{m.part(1)} is open by process {os.getpid()}' in r.stderr, r.stderr
    place.unmap(m.nr)
    assert sysfs(m.nr, 'loop/backing_file') is None and not os.path.exists(m.part(1))
    assert place.leftovers() == [] and not strays(before)


@pytest.mark.parametrize('how', ['unmap', 'signal'])
def test_mount_taken_away(place, before, how):
    m = place.map_golden('scsi0')
    subprocess.run(['umount', '-l', m.file], check=True)
    if how == 'unmap':
        place.unmap(m.dev)
    else:
        os.kill(m.pid, signal.SIGINT)
        assert wait_for(lambda: not place.processes())
    assert place.leftovers() == [] and not strays(before)


def test_another_namespace(place, before):
    """A mapping of another registry: its device is seen here, and is not ours to end."""
    st = place.golden()
    p = subprocess.Popen(['unshare', '-m', 'sh', '-ec', f'mount -t tmpfs none /run; $P map --repository {st} {IMAGES["efi"][0]} '
                          f'{IMAGES["efi"][1]}; read x; $P unmap -a; echo end'], env={**place.env(), 'P': PBSMAP},
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    dev = p.stdout.readline().strip()
    assert place.token not in place.run('status').stdout
    r = place.run('unmap', dev)
    assert r.returncode == BUSY and 'registry' in r.stderr, r.stderr
    # The same archive, mapped here as well, is another mapping.
    m = place.map(st, IMAGES['efi'][0], IMAGES['efi'][1])
    assert m.dev != dev
    place.unmap(f'{st}:{IMAGES["efi"][0]}/{IMAGES["efi"][1]}')
    assert file_sum(dev)[0] == SUMS['efi.img']
    out, err = p.communicate('\n', timeout=30)
    assert out == 'end\n' and p.returncode == 0, err
    assert place.leftovers() == [] and not strays(before)


def test_not_root(place):
    """Anybody may look; nobody else cleans or ends anything."""
    m = place.map_golden('scsi0')
    os.kill(m.pid, signal.SIGKILL)
    assert wait_for(lambda: not place.processes())
    user = {'user': 65534, 'group': 65534, 'extra_groups': []}
    exe = place.dir / 'pbsmap'
    shutil.copy(PBSMAP, exe)
    os.chmod(place.dir, 0o755)
    os.chmod(exe, 0o755)
    r = subprocess.run([exe, 'status'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={}, timeout=20, **user)
    assert r.returncode == DONE and place.token in r.stdout and r.stderr == '', r
    r = subprocess.run([exe, 'unmap', m.dev], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={}, timeout=20, **user)
    assert r.returncode == 1 and 'root' in r.stderr
    assert m.attached() and m.pid_file.exists()
    place.unmap(m.dev)
    assert place.leftovers() == []


def test_no_mappings(place):
    for command in ['status'], ['unmap'], ['unmap', '-a']:
        r = apart(place, f'mount -t tmpfs none /run; $P {" ".join(command)}; test ! -e {RUN_DIR}')
        assert r.stdout == r.stderr == ''
    r = apart(place, 'mount -t tmpfs none /run; $P status --json')
    assert json.loads(r.stdout) == []
    r = place.run('unmap', f'{place.token}.img')
    assert r.returncode == 1 and place.token in r.stderr


def test_json_of_odd_names(place):
    """Whatever a directory is called, the output stays JSON, and the table one line a mapping."""
    st = place.store(f'vm/1/{T1}', a_img=b'x' * 70000)
    odd = place.dir / 'a "b"\\\n\té\x7f'
    os.rename(st.path if hasattr(st, 'path') else str(st), odd)
    r = place.run('map', '--repository', odd, f'vm/1/{T1}', 'a.img')
    assert r.returncode == DONE, r.stderr
    row, = (e for e in json.loads(place.run('status', '--json').stdout) if place.token in e['name'])
    assert row['device'] == r.stdout.strip() and 'a "b"\\??é?' in row['name'], row
    line, = (x for x in place.run('status').stdout.splitlines() if place.token in x)
    assert line.startswith(row['device'])
    place.unmap(row['device'])


ROUNDS = int(os.environ.get('ROUNDS', 50))


@pytest.mark.timeout(max(120, 5 * ROUNDS))
def test_everything_at_once(place, before):
    """Rounds of maps, unmaps and looks at one name, with a SIGKILL now and then: whatever comes
    first, everyone ends, and at last nothing is left."""
    archive = f'{place.token}.img'
    st = place.store(f'vm/1/{T1}', **{archive.replace('.', '_'): mixed(70_000)})
    full = f'{st}:vm/1/{T1}/{archive}'
    seed = random.randrange(1 << 32)
    rnd = random.Random(seed)
    print('seed', seed, file=sys.stderr)
    map_it = [*map(str, place.map_args(st, f'vm/1/{T1}', archive))]
    for n in range(ROUNDS):
        todo = [map_it, map_it, ['unmap', full], ['status'], map_it if n % 2 else ['unmap', '-f', archive]]
        rnd.shuffle(todo)
        ps = [(args[0], subprocess.Popen([PBSMAP, *args], env=place.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                         stdin=subprocess.DEVNULL, text=True)) for args in todo]
        if n % 5 == 0:      # the mapping of just now, or of the round before
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(next((p for p in RUN_DIR.glob('*.pid') if place.token in p.name), RUN_DIR).read_text()), signal.SIGKILL)
        for what, p in ps:
            out, err = p.communicate(timeout=40)
            text = (seed, n, what, p.returncode, out, err)
            assert p.returncode in {'map': (0, 1, 3), 'unmap': (0, 1, 3), 'status': (0,)}[what], text
            if what == 'map':
                assert (p.returncode == 0) == bool(re.fullmatch(r'/dev/loop\d+\n', out)), text
                assert p.returncode != 1 or n % 5 == 0 or 'interrupted' in err, text
            assert 'cannot' not in err, text
        if n % 10 == 9:
            place.run('unmap', '-f', full)
            assert wait_for(lambda: place.leftovers() == []), place.leftovers()
    place.run('unmap', '-f', full)
    place.run('status')
    assert wait_for(lambda: place.leftovers() == []), place.leftovers()
    assert not strays(before)
