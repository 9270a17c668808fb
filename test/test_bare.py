"""Nothing but the program: a root with no /etc, /tmp, /run, /proc, /sys, no nodes in /dev, no environment, read-only."""
import hashlib
import os
import shutil
import subprocess

import pytest

from lib import DONE, FAIL, GOLDEN, PBSMAP, SUMS, T1, TRUST, file_sum, place
from server import Server

pytestmark = pytest.mark.root
SNAP = f'vm/100/{T1}'


class Bare:
    def __init__(self, place):
        self.root = place.dir / 'bare'
        for d in 'store', 'out', 'dev':
            (self.root / d).mkdir(parents=True)
        shutil.copy(PBSMAP, self.root / 'pbsmap')

    def run(self, *args, env=None, binary=False):
        """The root is a read-only mount of its own, with the store in it and a directory to write to."""
        r = self.root
        inside = (f'mount --bind {r} {r} && mount --bind {GOLDEN}/store {r}/store && mount -t tmpfs none {r}/out && mount -o remount,ro,bind {r} && '
                  f'cd {r} && exec chroot {r} /pbsmap "$@"')
        return subprocess.run(['unshare', '-m', '--propagation', 'private', 'sh', '-c', inside, 'sh', *map(str, args)], text=not binary,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
                              env={'PATH': os.environ['PATH'], **(env or {})})


def test_lists_and_restores(place):
    bare = Bare(place)
    r = bare.run('list', '--repository', '/store', SNAP)
    assert r.returncode == DONE and 'drive-scsi0.img' in r.stdout, r.stderr
    r = bare.run('restore', '--repository', '/store', '--verify', SNAP, 'drive-scsi1.img', '/out/disk')
    assert r.returncode == DONE, r.stderr


def test_writes_to_a_pipe(place):
    r = Bare(place).run('restore', '--quiet', '--repository', '/store', SNAP, 'drive-scsi1.img', '-', binary=True)
    assert r.returncode == DONE and hashlib.sha256(r.stdout).hexdigest() == SUMS['mbr.img']


def test_reads_from_a_server(place):
    bare = Bare(place)
    with Server(GOLDEN / 'store') as s:
        env = {k: v for k, v in s.env().items() if k.startswith('PBS_')}
        for host in '127.0.0.1', 'localhost':
            repo = s.repo().replace('127.0.0.1', host)
            r = bare.run('restore', '--repository', repo, SNAP, 'drive-scsi1.img', '/out/disk', env=env)
            assert r.returncode == DONE, r.stderr
        r = bare.run('list', '--repository', s.repo().replace('127.0.0.1', 'pbs.example'), env=env)
        assert r.returncode == FAIL and 'no /etc/resolv.conf; use a numeric address' in r.stderr
        # There are no authorities and nobody is there to ask.
        r = bare.run('list', '--repository', s.repo(), env={**env, 'PBS_FINGERPRINT': ''})
        assert r.returncode == TRUST and s.fingerprint in r.stderr


def test_map_says_what_is_missing(place):
    r = Bare(place).run('map', '--repository', '/store', SNAP, 'drive-scsi1.img')
    assert r.returncode == FAIL and r.stdout == ''
    assert [line for line in r.stderr.splitlines() if 'fuse' in line and ('/dev/fuse' in line or 'module' in line)], r.stderr
