"""Walks through mounted file archives: what is read for them, together and one after the other; seeking in directories."""
import ctypes
import io
import os
import pathlib
import random
import re
import signal
import subprocess
import tarfile
import threading
import time

import pytest
from lib import T1, place  # noqa: F401
from mkpxar import Archive
from server import Server
from test_mount import mount

pytestmark = pytest.mark.root
DIRS, FILES, SIZE = 60, 20, 20_000


@pytest.fixture(scope='module', name='tree')
def _tree():
    """24 MB in small files; in two halves, too. Paths and contents."""
    from lib import Place
    p, r, want = Place(), random.Random(5), {}
    for split in (False, True):
        a = Archive(split=split)
        a.dir('')
        for d in range(DIRS):
            a.dir(f'd{d}')
            for i in range(FILES):
                want[f'd{d}/f{i}'] = want.get(f'd{d}/f{i}') or r.randbytes(SIZE)
                a.file(f'f{i}', want[f'd{d}/f{i}'])
            a.up()
        data = a.end()
        more = {'root_mpxar': data[0], 'root_ppxar': data[1]} if split else {'root_pxar': data}
        p.store('host/split/' + T1 if split else 'host/x/' + T1, '--average', 65536, **more)
    yield p.dir / 'st', want
    p.sweep()


def peak(pid):
    """MiB"""
    return int(re.search(r'VmHWM:\s+(\d+)', pathlib.Path(f'/proc/{pid}/status').read_text())[1]) / 1024


@pytest.mark.parametrize('snapshot', ['host/x', 'host/split'])
@pytest.mark.parametrize('work', ['find {} -printf %s', 'du -s {}', 'tar -cf - -C {} . | cat'])
def test_each_chunk_about_once(place, tree, work, snapshot):
    """With a cache of a third of the archive; and memory does not grow with it."""
    with Server(tree[0]) as s, mount(place, s.repo(), snapshot, env=s.env(), opts=['--cache', '8M']) as m:
        subprocess.run(work.format(m.at), shell=True, check=True, stdout=subprocess.DEVNULL)
        got = s.stats()['digests']
        reads_all = 'tar' in work or snapshot == 'host/x'
        assert len(got) > 300 if reads_all else len(got) < 20
        assert sum(got.values()) < 1.2 * len(got) + 4, (len(got), sum(got.values()))
        assert peak(m.pid()) < 8 + 32


def test_walks_together(place, tree):
    """Cold, at the same time, in other orders: all see the same."""
    store, want = tree
    bad = []

    def by_find(at):
        out = subprocess.run(['find', at, '-type', 'f', '-printf', '%P %s\n'], capture_output=True, text=True, check=True).stdout
        if sorted(out.splitlines()) != sorted(f'{n} {SIZE}' for n in want):
            bad.append('find')

    def by_tar(at):
        tar = subprocess.run(['tar', '-cf', '-', '-C', at, '.'], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(tar)) as t:
            if {f.name[2:]: t.extractfile(f).read() for f in t if f.isfile()} != want:
                bad.append('tar')

    def by_name(at, seed):
        names = list(want)
        random.Random(seed).shuffle(names)
        for n in names[:300]:
            if (at / n).read_bytes() != want[n]:
                bad.append(n)

    with mount(place, store, 'host/x', opts=['--cache', '8M']) as m:
        threads = [threading.Thread(target=f, args=(m.at, *more)) for f, *more in
                   ((by_find,), (by_tar,), (by_find,), (by_name, 1), (by_name, 2), (by_tar,))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not bad


class Dirent(ctypes.Structure):
    _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('reclen', ctypes.c_ushort), ('type', ctypes.c_ubyte),
                ('name', ctypes.c_char * 256)]


def test_seekdir(place):
    """Back to any place that telldir gave, in any order; '.' and '..' are there."""
    a = Archive()
    a.dir('')
    for i in range(3000):
        a.file(f'f{i}', b'')
    st = place.store('host/x/' + T1, root_pxar=a.end())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.argtypes, libc.readdir.restype = [ctypes.c_void_p], ctypes.POINTER(Dirent)
    libc.telldir.argtypes, libc.telldir.restype = [ctypes.c_void_p], ctypes.c_long
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    libc.closedir.argtypes = [ctypes.c_void_p]
    with mount(place, st.path, 'host/x') as m:
        d, seen = libc.opendir(os.fsencode(m.at)), []
        while True:
            at = libc.telldir(d)
            ent = libc.readdir(d)
            if not ent:
                break
            seen.append((at, ent.contents.name, ent.contents.ino))
        assert [n for _, n, _ in seen] == [b'.', b'..', *(b'f%d' % i for i in range(3000))]
        random.Random(1).shuffle(seen)
        for at, name, ino in seen[:500]:
            libc.seekdir(d, at)
            got = libc.readdir(d).contents
            assert (got.name, got.ino) == (name, ino)
        libc.closedir(d)


def test_signals_while_a_chunk_is_on_its_way(place):
    """What only stops a program breaks nothing it does; what ends it ends it soon."""
    r, a = random.Random(3), Archive()
    a.dir('')
    for d in 'ab':
        a.dir(d)
        a.file('f', r.randbytes(3 << 20))
        a.file('g', b'')
        a.file('h', r.randbytes(1 << 20))
        a.up()
    st = place.store('host/x/' + T1, '--average', 262144, root_pxar=a.end())
    with Server(st.path) as s, mount(place, s.repo(), 'host/x', env=s.env(), opts=['--no-read-ahead']) as m:
        s.command('set delay 150')
        with subprocess.Popen(['tar', '-cf', '-', '-C', m.at, 'a'], stdout=subprocess.PIPE) as p:
            out = []
            t = threading.Thread(target=lambda: out.append(p.stdout.read()))
            t.start()
            while t.is_alive():
                p.send_signal(signal.SIGSTOP)
                p.send_signal(signal.SIGCONT)
                t.join(0.05)
        assert p.returncode == 0 and len(out[0]) > 3 << 20
        s.command('set delay 20000')
        for name in ('b/f', 'b/g'):		# a read, a look-up
            with subprocess.Popen(['cat', m.at / name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
                time.sleep(0.3)
                assert p.poll() is None
                p.send_signal(signal.SIGINT)
                assert p.wait(3) == -signal.SIGINT
