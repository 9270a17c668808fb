"""What the processes of a mapping may still do, and what is left when one of them dies."""
import ctypes
import os
import pathlib
import platform
import re
import signal
import socket
import subprocess
import time

import pytest
from lib import DONE, FAIL, GOLDEN, IMAGES, PBSMAP, T1, mixed, place, read_device, wait_for  # noqa: F401
from server import Server
from test_mount import mount
from test_tls import etc

pytestmark = [pytest.mark.root, pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason='the list of system calls is about musl')]
PART_ID = 0x7062736d
MONITOR = 1 << 21 | 1 << 5 | 1 << 27 | 1 << 18      # SYS_ADMIN, KILL, MKNOD, SYS_CHROOT
DAC_READ_SEARCH = 1 << 2


def status(pid):
    text = pathlib.Path(f'/proc/{pid}/status').read_text()
    return {k: v.strip() for k, v in (line.split(':', 1) for line in text.splitlines())}


def children(pid):
    return [int(p) for p in pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def parts(pid):
    """Monitor, worker, and its broker if there is one."""
    worker, = children(pid)
    return [pid, worker, *children(worker)]


def check_rights(pid, name, uid, caps):
    s = status(pid)
    assert s['Name'] == name
    assert set(s['Uid'].split()) == set(s['Gid'].split()) == {str(uid)}
    for c in ('CapEff', 'CapPrm'):
        assert int(s[c], 16) == caps, (name, c, s[c])
    assert int(s['CapBnd'], 16) == int(s['CapInh'], 16) == int(s['CapAmb'], 16) == 0
    assert s['NoNewPrivs'] == '1' and s['Seccomp'] == '2'
    if uid:
        assert s['Groups'] == ''
    for task in os.listdir(f'/proc/{pid}/task'):
        t = status(f'{pid}/task/{task}')
        assert (t['CapEff'], t['Seccomp'], t['NoNewPrivs'], t['Uid']) == (s['CapEff'], s['Seccomp'], s['NoNewPrivs'], s['Uid'])
    assert re.search(r'Max core file size\s+0\s+0', pathlib.Path(f'/proc/{pid}/limits').read_text())
    # not dumpable: what is its own in /proc is root's
    assert os.stat(f'/proc/{pid}/mem').st_uid == 0
    return s


def files(pid):
    return [os.readlink(f'/proc/{pid}/fd/{f}') for f in os.listdir(f'/proc/{pid}/fd')]


def is_harmless(name):
    return name in ('/dev/null', '/dev/fuse') or re.match(r'(socket|pipe|anon_inode):', name)


def test_rights_of_a_directory(place):
    m = place.map_golden('encrypted0')
    monitor, worker, broker = parts(m.pid)
    check_rights(monitor, 'pbsmap', 0, MONITOR)
    s = check_rights(worker, 'pbsmap-worker', PART_ID, 0)
    check_rights(broker, 'pbsmap-files', 0, DAC_READ_SEARCH)
    assert int(s['VmLck'].split()[0]) > 0               # the key
    # the worker holds no directory and no path, the broker two directories of the datastore
    assert [f for f in files(worker) if not is_harmless(f)] == []
    store = str(place.dir / 'st')
    assert sorted(f for f in files(broker) if not is_harmless(f)) == sorted(
        [f'{store}/.chunks', f'{store}/vm/101/{T1}'])
    for pid in (worker, broker):
        assert os.readlink(f'/proc/{pid}/cwd') == '/'
        assert os.getsid(pid) != os.getsid(0)
    for pid in (monitor, broker):
        assert int(status(pid)['RssAnon'].split()[0]) < 600
    place.unmap(m.dev)


def test_rights_with_a_server(place):
    with Server(GOLDEN / 'store') as server:
        m = place.map(server.repo('test@pbs'), *IMAGES['scsi0'][:2], env=server.env('test@pbs'))
        monitor, worker = parts(m.pid)                  # an address needs nobody who looks up names
        check_rights(monitor, 'pbsmap', 0, MONITOR)
        check_rights(worker, 'pbsmap-worker', PART_ID, 0)
        assert [f for f in files(worker) if not is_harmless(f)] == []
        place.unmap(m.dev)


def test_rights_of_a_mount(place):
    with mount(place, GOLDEN / 'store', f'host/files/{T1}') as m:
        monitor, worker, broker = parts(m.pid())
        check_rights(monitor, 'pbsmap', 0, MONITOR)
        check_rights(worker, 'pbsmap-worker', PART_ID, 0)
        check_rights(broker, 'pbsmap-files', 0, DAC_READ_SEARCH)


def test_a_store_that_only_its_owner_may_read(place):
    st = place.golden()
    for p in [st.path, *st.path.rglob('*')]:
        os.chown(p, 34, 34)
        p.chmod(0o700 if p.is_dir() else 0o600)
    m = place.map(st, *IMAGES['scsi0'][:2])
    assert read_device(m.dev, 0, 1 << 20)
    place.unmap(m.dev)


# ---- a worker that was taken over ----

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
LIBC.ptrace.restype = ctypes.c_long
SEIZE, INTERRUPT, GETREGS, SETREGS, DETACH = 0x4206, 0x4207, 12, 13, 17
ORIG_RAX, RIP, RAX, RDI, RSI, RDX = 15, 16, 10, 14, 13, 12


def ptrace(request, pid, data=None):
    if LIBC.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), f'ptrace {request:#x}')


def inject(pid, nr, *args):
    """The main thread, which is in poll(), makes this system call instead."""
    regs = (ctypes.c_ulong * 27)()
    ptrace(SEIZE, pid)
    ptrace(INTERRUPT, pid)
    os.waitpid(pid, 0x40000000)
    ptrace(GETREGS, pid, ctypes.byref(regs))
    regs[RIP] -= 2                                      # the instruction that called poll()
    regs[RAX], regs[ORIG_RAX] = nr, ctypes.c_ulong(-1).value
    for reg, value in zip((RDI, RSI, RDX), args):
        regs[reg] = value
    ptrace(SETREGS, pid, ctypes.byref(regs))
    ptrace(DETACH, pid)


CALLS = {'openat': (257, ctypes.c_ulong(-100).value, 0, 0), 'execve': (59, 0, 0, 0), 'mount': (165, 0, 0, 0), 'ptrace': (101, 16, 1, 0),
         'socket': (41, socket.AF_UNIX, socket.SOCK_STREAM, 0), 'kill': (62, 1, 0), 'fork': (57,), 'setuid': (105, 0)}


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='knows the registers of x86_64')
@pytest.mark.parametrize('call', CALLS)
def test_a_worker_that_was_taken_over(place, call):
    """As the tests have it, a call that is not in the list ends it; the monitor cleans up."""
    m = place.map_golden('scsi0')
    inject(m.worker, *CALLS[call])
    assert wait_for(lambda: place.leftovers() == [], 3), place.leftovers()
    assert not m.attached()


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='knows the registers of x86_64')
def test_what_is_not_listed_is_refused_and_logged_once(place):
    """As users have it."""
    log = place.dir / 'log'
    with open(log, 'w') as err:
        p = subprocess.Popen([PBSMAP, *map(str, place.map_args(place.golden(), *IMAGES['scsi0'][:2], opts=['-v']))],
                             env={**place.env(), 'PBSMAP_SECCOMP': ''}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, text=True)
        dev = p.stdout.readline().strip()
        worker, = children(p.pid)
        for _ in range(3):
            inject(worker, *CALLS['openat'])
            time.sleep(0.1)
        assert read_device(dev, 0, 1 << 20, direct=True)
        assert log.read_text().count('system call 257 was refused') == 1
        p.send_signal(signal.SIGINT)
        assert p.wait(5) == DONE
        p.stdout.close()


# ---- death ----

def readers(m, n=4):
    return [subprocess.Popen(['dd', f'if={m.dev}', 'of=/dev/null', 'bs=64K', 'iflag=direct', f'skip={i * 90}'], stderr=subprocess.DEVNULL)
            for i in range(n)]


@pytest.mark.parametrize('which, sig', ((1, signal.SIGKILL), (1, signal.SIGSEGV), (2, signal.SIGKILL)), ids=('killed', 'crashed', 'files'))
def test_death_while_it_serves(place, which, sig):
    """Readers get an error at once, and nothing stays."""
    data = mixed(24 << 20)
    m = place.map(place.store(f'vm/1/{T1}', a_img=data), f'vm/1/{T1}', 'a.img')
    dds = readers(m)
    time.sleep(0.05)
    begin = time.monotonic()
    os.kill(parts(m.pid)[which], sig)
    assert wait_for(lambda: place.leftovers() == [], 5, 0.005), place.leftovers()
    took = time.monotonic() - begin
    for d in dds:
        d.wait(5)
    print(f'{took:.3f} s')
    assert took < 2


def test_death_of_a_worker_that_nobody_uses_is_cleaned_up(place):
    m = place.map_golden('scsi0')
    os.kill(m.worker, signal.SIGKILL)
    assert wait_for(lambda: place.leftovers() == [], 3), place.leftovers()


def test_death_of_the_monitor_takes_the_worker_along(place):
    m = place.map_golden('scsi0')
    pids = parts(m.pid)
    os.kill(m.pid, signal.SIGKILL)
    assert wait_for(lambda: not place.processes(), 2), (pids, place.processes())
    r = place.run('status')
    assert r.returncode == DONE and 'removed what was left' in r.stderr
    assert place.leftovers() == []


def test_death_of_a_worker_in_a_mount(place):
    with mount(place, GOLDEN / 'store', f'host/files/{T1}') as m:
        os.kill(parts(m.pid())[1], signal.SIGKILL)
        assert wait_for(lambda: not m.there() and not place.processes(), 3)


def test_stopped_worker_does_not_stop_the_end(place):
    m = place.map_golden('scsi0')
    worker = m.worker
    os.kill(worker, signal.SIGSTOP)
    begin = time.monotonic()
    place.unmap('-f', m.dev)
    assert time.monotonic() - begin < 12
    assert wait_for(lambda: place.leftovers() == [], 2), place.leftovers()


@pytest.mark.parametrize('delay', (0, 5, 10, 15, 20, 30, 50))
def test_death_of_a_worker_while_it_starts(place, delay):
    """map fails and says why; or it had come so far that the mapping ends at once."""
    with Server(GOLDEN / 'store') as server:
        server.command('set rtt 10')
        p = subprocess.Popen([PBSMAP, *map(str, place.map_args(server.repo(), *IMAGES['scsi0'][:2]))], env=place.env(**server.env()),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        found = []

        def find():
            found[:] = [w for c in children(p.pid) for w in children(c)]
            return found or p.poll() is not None
        assert wait_for(find, 5, 0.001)
        time.sleep(delay / 1000)
        for w in found:
            try:
                os.kill(w, signal.SIGKILL)
            except ProcessLookupError:
                pass
        out, err = p.communicate(timeout=10)
        assert p.returncode == FAIL and 'the worker process died (signal 9: killed' in err and out == '' or p.returncode == DONE, (out, err)
        assert wait_for(lambda: place.leftovers() == [], 3), place.leftovers()


# ---- who looks up names ----

@pytest.mark.parametrize('mode', (0o755, 0o700))
def test_names_are_looked_up_by_another_process(place, tmp_path, mode):
    """By the hosts file; the process that reads it has no rights either, but root's id where only root may read. The mapping outlives it."""
    tmp_path.chmod(mode)
    with Server(GOLDEN / 'store') as server:
        args = place.map_args(server.repo().replace('127.0.0.1', 'backup.test'), *IMAGES['scsi0'][:2], opts=['-v'])
        p = subprocess.Popen([*etc(tmp_path, hosts='127.0.0.1 backup.test\n'), PBSMAP, *map(str, args)], env=place.env(**server.env()),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        dev = p.stdout.readline().strip()
        assert dev.startswith('/dev/loop')
        names = parts(p.pid)[2]
        check_rights(names, 'pbsmap-names', 0 if mode == 0o700 else PART_ID, 0)
        server.command('kick cut')
        assert read_device(dev, 0, 1 << 20, direct=True)
        os.kill(names, signal.SIGKILL)
        server.command('kick cut')
        assert read_device(dev, 1 << 20, 1 << 20, direct=True)
        p.send_signal(signal.SIGINT)
        assert p.wait(5) == DONE
        p.stdout.close()
