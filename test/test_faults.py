"""map -> read -> unmap with a fault somewhere in it: a few of the thousands of points that `make faults` runs (faults.py),
by a printed seed, and those that once went wrong."""
import os
import pathlib
import random
import re
import stat
import subprocess
import sys
import time

import pytest

from faults import CASES, Bench, Point, Wrong, limits, points
from lib import BUSY, DONE, FAIL, IMAGES, KEYS, PBSMAP, RUN_DIR, SUMS, file_sum, place, tool, wait_for	# noqa: F401

pytestmark = [pytest.mark.root, pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason='sanitizers do not bear a tracer')]
SEED = int(os.environ.get('SEED', random.randrange(1 << 32)))
SAMPLE = 60
SECONDS = 6				# a case

ONCE_WRONG = (
    'local unmap fail open:/proc 69 24',	# a living process was taken for none: status 0, and all was still there
    'server map fail sendmsg:socket 3 105',	# said nothing
    'local unmap short 2',		# half a pid was another one, or none: status 0, and all was still there
    'local unmap short 3',
    'local unmap short 7',
    'local map fail sendmsg:socket 2 105',	# the worker waited for an answer to a question never sent
    'local map fail dup2 2 16',		# stdout stayed open: $(pbsmap map) hung
    'local map fail write:pipe 2 4',	# the signal that ends it was lost
    'local map fail unlinkat 1 30',	# the name stayed without its pid file, in the way of the next map
)


@pytest.fixture
def bench(place, request):
    b = Bench(place, request.param)
    yield b
    b.close()


def choose(all_points):
    """Of each kind of call as many as of any other, whether it is made once or a thousand times."""
    r, kinds = random.Random(SEED), {}
    for p in all_points:
        kinds.setdefault((p.phase, p.mode, p.kind), []).append(p)
    return [r.choice(kinds[k]) for k in r.choices(sorted(kinds), k=SAMPLE)]


@pytest.mark.parametrize('bench', CASES, indirect=True)
def test_sample(bench):
    all_points = list(points(bench, what=('fail', 'storm')))
    chosen = choose(all_points)
    print(f'seed {SEED}: {SAMPLE} of {len(all_points)} points of {bench.case}', file=sys.stderr)
    end = time.monotonic() + SECONDS
    done = 0
    for p in chosen:
        try:
            bench.point(p)
        except Wrong as e:
            pytest.fail(f'seed {SEED}: {p}: {e}')
        done += 1
        if time.monotonic() > end:
            break
    print(f'{done} tried', file=sys.stderr)
    assert done >= 10


@pytest.mark.parametrize('bench', CASES, indirect=True)
def test_once_wrong(bench):
    for point in map(Point.parse, ONCE_WRONG):
        if point.case == bench.case:
            print(point, bench.point(point))


def test_the_tracer_itself(place, tmp_path):
    """What it is told to fail fails, and nothing else; without a fault the command does not notice it."""
    log = tmp_path / 'log'

    def run(*args, script='cat /etc/hostname; exit 3'):
        r = subprocess.run([tool('inject'), log, *args, 'sh', '-c', script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20)
        time.sleep(0.05)
        return r, log.read_text()
    r, text = run('count')
    assert r.returncode == 3 and r.stdout and 'read:file' in text and 'hit' not in text
    r, text = run('fail', 'read:file', '99', '5')
    assert r.returncode == 3 and 'hit' not in text
    r, text = run('lasting', 'write:pipe', '1', '28', script='cat /etc/hostname')
    assert r.returncode == 1 and r.stdout == '' and 'hit write:pipe 1\n' in text
    r, text = run('kill', '30')
    assert r.returncode == 128 + 9 and 'hit ' in text
    # (A dynamic loader does not bear what a program has to.)
    right = place.run('key', 'show', KEYS / 'scrypt.json').stdout
    for how, every in ('short', 1), ('eintr', 2):
        r = place.run('key', 'show', KEYS / 'scrypt.json', wrap=[tool('inject'), str(log), how, str(every)])
        assert r.stdout == right and r.returncode == 0, (r, right)
        assert wait_for(lambda: f'hit {how}' in log.read_text()), how	# noqa: B023


# ---- what the machine has too little of ----

@pytest.mark.parametrize('bench', CASES, indirect=True)
def test_memory(bench):
    """An address space, and where there are such groups a memory, of any size: it works, or says that it does not."""
    all_points = list(limits(bench.case))
    chosen = random.Random(SEED).sample(all_points, 6)
    outcomes = {}
    for p in chosen:
        try:
            outcomes[str(p)] = bench.point(p)
        except Wrong as e:
            pytest.fail(f'seed {SEED}: {p}: {e}')
    print(f'seed {SEED}:', outcomes, file=sys.stderr)


@pytest.mark.parametrize('room', ['size=4k,nr_inodes=1', 'size=4k,nr_inodes=2', 'size=4k,nr_inodes=3', 'size=4k,nr_inodes=4', 'size=4k'])
def test_run_is_full(place, room):
    """One clear line and nothing left, or a mapping that works."""
    snapshot, archive, image, _ = IMAGES['efi']
    script = f'''mount -t tmpfs -o mode=0755,{room} none /run
if dev=$("$@"); then sha256sum <$dev; $P unmap $dev || echo unmap failed; else echo status $?; fi
ls -A {RUN_DIR} 2>/dev/null; grep {RUN_DIR} /proc/self/mountinfo; echo end'''
    r = subprocess.run(['unshare', '-m', 'sh', '-c', script, 'sh', PBSMAP, *map(str, place.map_args(place.golden(), snapshot, archive))],
                       env=place.env(P=PBSMAP), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=60)
    if room == 'size=4k':		# which is enough, for comparison
        assert SUMS[image] in r.stdout
    lines = r.stdout.splitlines()
    assert lines[0] == f'{SUMS[image]}  -' or (lines[0] == f'status {FAIL}' and re.match('pbsmap: .*(/run|space)', r.stderr)), r
    assert lines[1:] == ['end'], r


# ---- names that are taken ----

TAKEN = {
    'a directory': lambda p: p.mkdir(),
    'a directory with something in it': lambda p: (p.mkdir(), (p / 'x').touch()),
    'a link to a file': lambda p: p.symlink_to(p.with_name('precious')),
    'a link to nothing': lambda p: p.symlink_to('/nonexistent/x'),
    'a link to itself': lambda p: p.symlink_to(p),
    'a pipe': lambda p: os.mkfifo(p),
    'a device': lambda p: os.mknod(p, stat.S_IFBLK | 0o600, os.makedev(7, 1)),
    'a file with something in it': lambda p: p.write_text('precious'),
    'a file of somebody else': lambda p: (p.touch(), os.chown(p, 1000, 1000)),
}


@pytest.mark.parametrize('which', ['name', 'pid file'])
@pytest.mark.parametrize('what', TAKEN)
def test_taken(place, which, what):
    """What is not ours is not touched, and does not hang us; it is named, and in the way until somebody removes it."""
    st = place.golden()
    m = place.map(st, *IMAGES['efi'][:2])
    path = pathlib.Path(m.file) if which == 'name' else m.pid_file
    place.unmap(m.dev)
    precious = path.with_name('precious')
    precious.write_text('precious')
    try:
        TAKEN[what](path)
        before = os.lstat(path)
        r = place.run(*place.map_args(st, *IMAGES['efi'][:2]), timeout=20)
        assert r.returncode in (BUSY, FAIL) and r.stdout == '' and path.name in r.stderr, r
        for command in (['status'], ['unmap', '--', path.name], ['unmap', '-a']):
            assert place.run(*command, timeout=20).returncode in (DONE, FAIL)
        after = os.lstat(path)
        assert (after.st_ino, after.st_mode, after.st_size, after.st_nlink) == (before.st_ino, before.st_mode, before.st_size, before.st_nlink)
        assert precious.read_text() == 'precious'
    finally:
        precious.unlink()
        subprocess.run(['rm', '-rf', '--', path], check=True)
    m = place.map(st, *IMAGES['efi'][:2])
    assert file_sum(m.dev)[0] == SUMS['efi.img']
    place.unmap(m.dev)
    assert place.leftovers() == []
