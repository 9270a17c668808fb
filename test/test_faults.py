"""map -> read -> unmap with a fault somewhere in it: a few of the thousands of points that `make faults` runs (faults.py),
by a printed seed, and those that once went wrong."""
import os
import random
import subprocess
import sys
import time

import pytest

from faults import CASES, Bench, Point, Wrong, points
from lib import KEYS, place, tool, wait_for	# noqa: F401

pytestmark = [pytest.mark.root, pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason='sanitizers do not bear a tracer')]
SEED = int(os.environ.get('SEED', random.randrange(1 << 32)))
SAMPLE = 60
SECONDS = 12				# a case

ONCE_WRONG = (
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


@pytest.mark.parametrize('bench', ['local'], indirect=True)
@pytest.mark.parametrize('point', ONCE_WRONG)
def test_once_wrong(bench, point):
    assert bench.point(Point.parse(point)) != 'not reached'


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
