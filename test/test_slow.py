"""Chunks that take long: the threads that read and decode are stopped one by one
with ptrace, as a hung disk would stop them, while the thread that answers runs."""
import contextlib
import ctypes
import os
import random
import signal
import subprocess
import time

import pytest

from lib import DONE, KEYS, PBSMAP, T1, file_sum, mixed, place, read_device, wait_for

pytestmark = pytest.mark.root
LIBC = ctypes.CDLL(None, use_errno=True)
SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000


def ptrace(request, tid):
    if LIBC.ptrace(request, tid, None, None) < 0:
        raise OSError(ctypes.get_errno(), f'ptrace {request:#x}')


@contextlib.contextmanager
def frozen(m):
    """While this lasts only the main thread of the one that serves runs: a hung disk does not stop it."""
    tids = [int(t) for t in os.listdir(f'/proc/{m.worker}/task') if int(t) != m.worker]
    assert tids
    for t in tids:
        ptrace(SEIZE, t)
        ptrace(INTERRUPT, t)
        os.waitpid(t, WALL)
    try:
        yield
    finally:
        for t in tids:
            with contextlib.suppress(OSError):
                ptrace(DETACH, t)


@pytest.fixture
def slow(place):
    data = mixed(40 << 20)
    return data, place.store(f'vm/1/{T1}', '--chunk-size', '1M', '--key', KEYS / 'none.json', a_img=data)


def dd(m, mib, path=None):
    return subprocess.Popen(['dd', f'if={path or m.dev}', 'of=/dev/null', 'bs=64K', 'count=1', f'skip={mib * 16}', *([] if path else ['iflag=direct'])],
                            stderr=subprocess.DEVNULL)


def test_cached_reads_pass_waiting_ones(place, slow):
    data, st = slow
    m = place.map(st, f'vm/1/{T1}', 'a.img', key='none', opts=['--no-read-ahead'])
    read_device(m.dev, 0, 4 << 20, direct=True)
    r, times = random.Random(1), []
    with frozen(m):
        waiting = [dd(m, n) for n in range(20, 30)]
        time.sleep(0.2)
        for _ in range(200):
            at = r.randrange(1024) * 4096
            start = time.monotonic()
            assert read_device(m.dev, at, 4096, direct=True) == data[at:at + 4096]
            times.append(time.monotonic() - start)
        assert all(w.poll() is None for w in waiting), 'nothing waited: this test is void'
    assert all(w.wait(20) == 0 for w in waiting)
    times.sort()
    print(f'cached 4 KiB while others wait: median {times[100] * 1e6:.0f} us, worst {times[-1] * 1e6:.0f} us')
    assert times[100] < 0.005 and times[-1] < 0.5
    place.unmap(m.dev)


def test_reads_that_wait_too_long_fail_and_recover(place, slow):
    data, st = slow
    m = place.map(st, f'vm/1/{T1}', 'a.img', key='none', opts=['--no-read-ahead', '--timeout', '1'])
    with frozen(m):
        start = time.monotonic()
        with pytest.raises(OSError) as e:
            read_device(m.dev, 20 << 20, 4096, direct=True)
        assert e.value.errno == 5 and 0.8 < time.monotonic() - start < 3
        assert read_device(m.dev, 4096, 4096, direct=True) == data[4096:8192]
    assert wait_for(lambda: again(m, data), 5), 'it did not recover'
    place.unmap(m.dev)


def again(m, data):
    try:
        return read_device(m.dev, 20 << 20, 4096, direct=True) == data[20 << 20:(20 << 20) + 4096]
    except OSError:
        return False


def test_a_killed_reader_of_the_file_goes_at_once(place, slow):
    data, st = slow
    m = place.map(st, f'vm/1/{T1}', 'a.img', key='none', opts=['--no-read-ahead'])
    with frozen(m):
        p = dd(m, 20, m.file)
        time.sleep(0.3)
        assert p.poll() is None
        p.kill()
        assert p.wait(5) == -signal.SIGKILL
    assert file_sum(m.file)[0]
    place.unmap(m.dev)


@pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason="glibc's condition variables do not bear stopped threads")
@pytest.mark.parametrize('how', ['unmap', 'unmap -f', 'SIGINT'])
def test_unmap_with_a_hung_disk(place, slow, how):
    """Nothing waits for the disk: waiting reads fail, the device and the files go."""
    data, st = slow
    m = place.map(st, f'vm/1/{T1}', 'a.img', key='none', opts=['--no-read-ahead'])
    pid = m.pid
    with frozen(m):
        waiting = [dd(m, n) for n in range(20, 25)]
        time.sleep(0.3)
        if how == 'unmap':
            r = place.run('unmap', m.dev, timeout=30)
            assert r.returncode == 3 and 'dd' in r.stderr, r.stderr
            for w in waiting:
                w.kill()
            r = place.run('unmap', '-f', m.dev, timeout=30)
            assert r.returncode == DONE, r.stderr
        elif how == 'unmap -f':
            r = place.run('unmap', '-f', m.dev, timeout=30)
            assert r.returncode == DONE, r.stderr
        else:
            os.kill(pid, signal.SIGINT)
        assert wait_for(lambda: all(w.poll() is not None for w in waiting), 10), 'readers hang'
        assert all(w.returncode != 0 for w in waiting)
        assert wait_for(lambda: not m.attached() and not os.path.lexists(m.file), 15)
    assert wait_for(lambda: place.leftovers() == [], 5), place.leftovers()


def test_interrupted_before_it_stands(place, slow):
    """SIGINT, as Ctrl-C sends it to the whole group, while the first chunk hangs: nothing stays, and the status tells."""
    data, st = slow
    p = subprocess.Popen(['strace', '-f', '-q', '-o', '/dev/null', '-e', 'trace=read', '-e', 'inject=read:delay_enter=2s:when=1+',
                          PBSMAP, *map(str, place.map_args(st, f'vm/1/{T1}', 'a.img', key='none'))], env=place.env(),
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    for wait in 1, 4:
        time.sleep(wait)
        for pid in place.processes():
            os.kill(pid, signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode != 0 and out == '', (out, err)
    assert wait_for(lambda: place.leftovers() == [], 5), place.leftovers()
