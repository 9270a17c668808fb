"""Every call that may fail, failing: the Nth allocation or system call (test/faulty.c), for each N, in every command that
needs no device. It ends with the status of a failure and a message, or with status 0 and the right output; in the
sanitizers' build also without a leak. In every run a few of the thousands, by a printed seed; all of them with FAULTS=all."""
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import threading

import pytest

from conftest import BUILD
from lib import DAMAGED, DONE, FAIL, GOLDEN, KEYS, ROOT, T1, TRUST, place
from server import Server

PROGRAM = ROOT / BUILD / 'test' / 'faulty'
STORE = GOLDEN / 'store'
ALL = os.environ.get('FAULTS') == 'all'
SAMPLE = 8 if 'san' in str(BUILD) else 30	# of each command
HANG = 20
SEED = int(os.environ.get('SEED', random.randrange(1 << 32)))
R = ['--repository', '$STORE']
FILES = f'host/files/{T1}'
# Words, and what is written besides stdout. $OUT: a directory that is new in every run.
COMMANDS = {
    'list': (['list', *R], None),
    'list group': (['list', *R, '--json', 'vm/100'], None),
    'list snapshot': (['list', *R, f'vm/100/{T1}'], None),
    'list ns': (['list', *R, '--recursive'], None),
    'list files': (['list', *R, '--long', FILES, 'root.pxar'], None),
    'verify': (['verify', *R, '--quiet', '--workers', '2', f'vm/100/{T1}', 'drive-efidisk0.img'], None),
    'verify encrypted': (['verify', *R, '--quiet', '--workers', '2', '--keyfile', KEYS / 'none.json', f'vm/101/{T1}', 'drive-scsi1.img'], None),
    'restore': (['restore', *R, '--quiet', '--workers', '2', f'vm/100/{T1}', 'drive-efidisk0.img', '$OUT/image'], 'image'),
    'restore stdout': (['restore', *R, '--quiet', '--workers', '2', f'vm/100/{T1}', 'drive-efidisk0.img', '-'], None),
    'restore blob': (['restore', *R, '--quiet', f'vm/100/{T1}', 'qemu-server.conf', '$OUT/conf'], 'conf'),
    'restore files': (['restore', *R, '--quiet', FILES, 'root.pxar', '$OUT/tree'], 'tree'),
    'tar': (['restore', *R, '--quiet', '--tar', FILES, 'root.pxar', '-'], None),
    'key show': (['key', 'show', KEYS / 'none.json'], None),
    'key recover': (['key', 'recover', *R, '--master', KEYS / 'master-private.pem', f'vm/101/{T1}'], None),
    'completion': (['completion', 'bash'], None),
    'server list': (['list', '--repository', '$SERVER', f'vm/100/{T1}'], None),
    'server verify': (['verify', '--repository', '$SERVER', '--quiet', '--workers', '2', f'vm/100/{T1}', 'drive-efidisk0.img'], None),
    'server restore': (['restore', '--repository', '$SERVER', '--quiet', '--workers', '2', f'vm/100/{T1}', 'drive-scsi1.img', '-'], None),
}


class Runs:
    """Runs of one command, with a fault or without."""

    def __init__(self, place, words, written, server=None):
        self.place, self.words, self.written = place, words, written
        self.server, self.lock, self.n = server, threading.Lock(), 0

    def run(self, fault):
        with self.lock:
            self.n += 1
            top = self.place.dir / str(self.n)
        (top / 'out').mkdir(parents=True)
        env = self.place.env(FAULT=fault, FAULT_LOG=top / 'log', **(self.server.env() if self.server else {}))
        words = [str(w).replace('$STORE', f'file:{STORE}').replace('$OUT', str(top / 'out'))
                 .replace('$SERVER', self.server.repo() if self.server else '') for w in self.words]
        try:
            r = subprocess.run([PROGRAM, *words], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=HANG)
        except subprocess.TimeoutExpired as e:
            r = subprocess.CompletedProcess(words, 'hangs', b'', e.stderr or b'')
        log = (top / 'log').read_text() if (top / 'log').exists() else ''
        got = r.stdout, self.tree(top / 'out'), sorted(os.listdir(top / 'out'))
        shutil.rmtree(top)
        return r, got, re.findall(r'^hit (.*)', log, re.M), [int(n) for n in re.findall(r'^total (\d+)', log, re.M)]

    @staticmethod
    def tree(top):
        out = {}
        for d, _, files in os.walk(top):
            for f in files:
                p = os.path.join(d, f)
                if os.path.islink(p):
                    out[os.path.relpath(p, top)] = os.readlink(p)
                elif os.path.isfile(p):
                    with open(p, 'rb') as f2:
                        out[os.path.relpath(p, top)] = f2.read()
        return out

    def judge(self, fault, right, counted):
        """What is wrong with this run; None when it is as promised."""
        r, got, hit, _ = self.run(fault)
        err = r.stderr.decode()
        counted[hit[0] if hit else 'not reached', r.returncode] += 1
        if r.returncode not in (DONE, FAIL, TRUST, DAMAGED) or 'Sanitizer' in err:
            return f'fault {fault} {hit}: status {r.returncode}, {err[-3000:]!r}'
        if r.returncode == DONE and got != right:
            return f'fault {fault} {hit}: status 0, and the output is not what it was'
        found = self.words[0] == 'verify' and r.stdout	# what it finds is its output
        if r.returncode != DONE and (not (found or re.search(r'^pbsmap: \S', err, re.M)) or re.search(r'\(null\)|Success|No error', err) or
                                     len(err.splitlines()) > 12):
            return f'fault {fault} {hit}: status {r.returncode} and no clear message: {err!r}'
        return None


@pytest.fixture(scope='module')
def server():
    with Server(STORE, name='store', violations=True) as s:
        yield s


@pytest.mark.timeout(3600 if ALL else 120)
@pytest.mark.parametrize('name', COMMANDS)
def test_command(request, place, name):
    words, written = COMMANDS[name]
    if not PROGRAM.exists():
        pytest.fail(f'{PROGRAM} is not built: make tests')
    runs = Runs(place, words, written, request.getfixturevalue('server') if name.startswith('server') else None)
    r, right, hit, total = runs.run(None)
    assert r.returncode == DONE and not hit and total[0] > 0, (r.stderr, hit, total)
    n = total[0]
    faults = range(1, n + 1) if ALL or n <= SAMPLE else random.Random(SEED).sample(range(1, n + 1), SAMPLE)
    counted = collections.Counter()
    wrong = [w for fault in [*map(str, faults), 'short', 'eintr'] if (w := runs.judge(fault, right, counted))]
    print(f'{name}: {n} calls, seed {SEED}', file=sys.stderr)
    for (what, status), count in sorted(counted.items(), key=str):
        print(f'{count:6} {what}: status {status}', file=sys.stderr)
    assert not wrong, f'seed {SEED}: ' + '\n'.join(wrong[:20])
    assert sum(c for (what, _), c in counted.items() if what != 'not reached') >= min(SAMPLE, n) // 2
