"""Every fault of map -> read -> unmap, one a run: the Nth system call of each kind fails or its process is killed
there (test/inject.c), and what must be true afterwards.

    faults.py [--workers N] [--part LOW-HIGH] [--most M] [--case local,server] [--phase map,unmap] [--what fail,kill,killone] [--only WORD]

runs all of them, each worker in namespaces of its own, and prints the figures. A failed point is printed so that
`faults.py --point 'server map fail read:socket 3 104'` repeats it.
"""
import argparse
import collections
import contextlib
import errno
import hashlib
import itertools
import json
import os
import pathlib
import re
import selectors
import signal
import subprocess
import sys
import time
import zlib

from lib import BUSY, DAMAGED, DONE, FAIL, GOLDEN, IMAGES, KEYS, SUMS, TRUST, Mapping, Place, read_device, tool, wait_for
from server import Server

E = errno
# What may fail how. Kinds as inject.c names them; the longest beginning that fits counts. An errno that the kernel
# never returns there would test nothing.
ERRNOS = {
    'mmap': [E.ENOMEM], 'mprotect': [E.ENOMEM], 'madvise': [E.EINVAL], 'mremap': [E.ENOMEM], 'mlockall': [E.ENOMEM], 'mlock': [E.ENOMEM], 'munlock': [E.ENOMEM],
    'open': [E.EMFILE, E.EACCES], 'openat': [E.EMFILE, E.EACCES], 'open:/dev': [E.EMFILE, E.ENXIO], 'open:/proc': [E.EMFILE, E.ENOENT],
    'open:/dev/null': [E.EMFILE],
    'close': [E.EIO], 'fstat': [E.EIO], 'stat': [E.EACCES], 'lstat': [E.EACCES], 'newfstatat': [E.EACCES], 'access': [E.EACCES],
    'faccessat': [E.EACCES], 'readlink': [E.EACCES], 'readlinkat': [E.ENOENT], 'getcwd': [E.ENOENT], 'getdents64': [E.EIO],
    'lseek': [E.EINVAL], 'fadvise64': [E.EINVAL], 'fcntl': [E.EINVAL],
    'dup': [E.EMFILE], 'dup2': [E.EBUSY], 'dup3': [E.EBUSY], 'fsync': [E.EIO], 'ftruncate': [E.EIO],
    'read': [E.EIO], 'read:/dev/fuse': [E.EINTR, E.ENOENT, E.ENODEV], 'read:eventfd': [E.EAGAIN], 'read:pipe': [E.EINTR],
    'read:socket': [E.ECONNRESET, E.EINTR], 'readv': [E.EIO], 'pread64': [E.EIO, E.EINTR],
    'write': [E.ENOSPC], 'write:/dev/fuse': [E.ENOENT, E.ENOMEM], 'write:eventfd': [E.EINTR], 'write:pipe': [E.EINTR],
    'write:/proc': [E.EACCES], 'write:/sys': [E.EACCES], 'writev': [E.EIO], 'writev:/dev/fuse': [E.ENOENT, E.ENOMEM], 'writev:pipe': [E.EPIPE],
    'recvfrom': [E.ECONNRESET, E.EINTR], 'recvmsg': [E.ECONNRESET, E.EINTR], 'sendto': [E.EPIPE, E.EINTR], 'sendmsg': [E.ENOBUFS, E.EINTR],
    'socket': [E.EMFILE], 'socketpair': [E.EMFILE], 'connect': [E.ECONNREFUSED, E.EINTR], 'setsockopt': [E.ENOPROTOOPT],
    'getsockopt': [E.ENOPROTOOPT], 'shutdown': [E.ENOTCONN], 'poll': [E.EINTR, E.ENOMEM], 'ppoll': [E.EINTR, E.ENOMEM],
    'ioctl': [E.EIO, E.EBUSY], 'mount': [E.EPERM, E.ENODEV], 'umount2': [E.EPERM, E.EBUSY], 'mkdir': [E.ENOSPC], 'mknod': [E.EPERM],
    'unlink': [E.EROFS], 'unlinkat': [E.EROFS], 'flock': [E.ENOLCK, E.EINTR], 'fchdir': [E.EACCES], 'chdir': [E.EACCES],
    'clone': [E.EAGAIN], 'clone3': [E.EAGAIN], 'fork': [E.EAGAIN], 'vfork': [E.EAGAIN], 'wait4': [E.EINTR], 'eventfd2': [E.EMFILE],
    'pipe': [E.EMFILE], 'pipe2': [E.EMFILE], 'setsid': [E.EPERM], 'prctl': [E.EINVAL], 'prlimit64': [E.EPERM], 'sysinfo': [E.EFAULT],
    'setpriority': [E.EACCES], 'getpriority': [E.EACCES], 'sched_getaffinity': [E.EINVAL], 'pidfd_open': [E.EMFILE, E.ENOSYS],
    'pidfd_send_signal': [E.EPERM, E.ENOSYS], 'kill': [E.EPERM], 'nanosleep': [E.EINTR], 'seccomp': [E.EINVAL], 'capset': [E.EPERM],
    'capget': [E.EPERM], 'setresuid': [E.EPERM], 'setresgid': [E.EPERM], 'setgroups': [E.EPERM], 'landlock': [E.EOPNOTSUPP],
    'getrandom': [E.ENOSYS], 'unshare': [E.EPERM], 'setns': [E.EPERM], 'chroot': [E.EPERM], 'setuid': [E.EPERM], 'setgid': [E.EPERM],
    'getrlimit': [E.EPERM], 'setrlimit': [E.EPERM], 'uname': [E.EFAULT], 'statfs': [E.EACCES], 'close_range': [E.ENOSYS],
}
# Not failed: they cannot, with descriptors that are there (fcntl 1, 2: FD_CLOEXEC, 4: flags; flock 8: LOCK_UN), or not in a
# way that a program could bear (the C library's own).
NEVER = ('fcntl:1', 'fcntl:2', 'fcntl:4', 'flock:8', 'futex', 'exit', 'rt_sig', 'set_tid_address', 'arch_prctl', 'restart_syscall', 'sched_yield', 'clock_gettime', 'brk',
         'munmap', 'getpid', 'getppid', 'gettid', 'getuid', 'geteuid', 'getgid', 'getegid', 'execve', 'total')
PASSING = {E.EINTR, E.ENOENT, E.EAGAIN}	# mean: once more; for ever they would be no fault of this world
HANG = 40			# seconds until a run counts as hung
CASES = ('local', 'server')


def errnos(kind):
    if kind.startswith(NEVER):
        return []
    fits = [k for k in ERRNOS if kind == k or (kind.startswith(k) and not kind[len(k)].isalnum()) or (k == 'landlock' and kind.startswith(k))]
    if not fits:
        return [E.EPERM]
    return ERRNOS[max(fits, key=len)]


class Point(collections.namedtuple('Point', 'case phase mode kind n errno')):
    """mode: fail, lasting, kill, killone, or short, eintr (n: every nth). kind '' and errno 0 where they mean nothing."""
    def __str__(self):
        return ' '.join(str(x) for x in self if x not in ('', 0))

    def args(self):
        return [self.mode, self.kind, self.n, self.errno] if self.mode in ('fail', 'lasting') else [self.mode, self.n]

    @classmethod
    def parse(cls, text):
        w = text.split()
        return cls(*w[:3], w[3], int(w[4]), int(w[5])) if w[2] in ('fail', 'lasting') else cls(*w[:3], '', int(w[3]), 0)


class Wrong(AssertionError):
    pass


class Bench:
    """What the points of one case need: a store, perhaps a server, the right bytes, and how it is without a fault."""

    def __init__(self, place, case):
        self.place, self.case = place, case
        self.log = place.dir / 'inject'
        self.stack = contextlib.ExitStack()
        self.more = {}
        if case == 'local':
            self.snapshot, self.archive = IMAGES['scsi1'][:2]
            self.repo, self.opts = place.golden(), ('--cache', '8M', '--workers', '2')
        else:
            self.snapshot, self.archive = IMAGES['encrypted1'][:2]
            server = self.stack.enter_context(Server(GOLDEN / 'store', name=place.token, violations=True))
            self.repo, self.opts = server.repo(), ('--cache', '8M', '--workers', '2', '--keyfile', KEYS / 'none.json')
            self.more = server.env()
        m = self.map()
        self.data = read_device(m.dev, 0, m.size)
        assert hashlib.sha256(self.data).hexdigest() == SUMS['mbr.img']
        self.name = m.name
        self.fds = self.descriptors()
        place.unmap(m.dev)

    def close(self):
        self.stack.close()

    def descriptors(self):
        """Of all its processes together."""
        return sum(len(os.listdir(f'/proc/{p}/fd')) for p in self.place.processes())

    def args(self):
        return self.place.map_args(self.repo, self.snapshot, self.archive, opts=self.opts)

    def map(self):
        r = self.run(self.args())
        if r.returncode != DONE:
            raise Wrong(f'map without a fault: {r.returncode} {r.stderr}')
        return Mapping(self.place, r)

    def run(self, args, point=None, wrap=()):
        if point:
            wrap = [tool('inject'), self.log, *point.args()]
        try:
            return self.place.run(*args, wrap=list(map(str, wrap)), env=self.more, timeout=HANG)
        except subprocess.TimeoutExpired as e:
            raise Wrong(f'{args[0]} hangs; stderr so far: {e.stderr}') from None

    def lines(self):
        try:
            return [line.rsplit(' ', 1) for line in self.log.read_text().splitlines()]
        except OSError:
            return []

    def hit(self):
        return any(w.startswith('hit ') for w, _ in self.lines())

    def counts(self, phase):
        """How often each kind of call is made without a fault."""
        point = Point(self.case, phase, 'count', '', '', 0)
        count = [tool('inject'), str(self.log), 'count']
        m = None
        if phase == 'unmap':
            m = self.map()
            self.read(m.dev)
            r = self.place.run('unmap', m.dev, wrap=count, env=self.more)
        else:
            r = self.place.run(*self.args(), wrap=count, env=self.more)
            dev = r.stdout.strip()
            self.read(dev)
            self.place.unmap(dev)
        assert r.returncode == 0, (point, r.stderr)
        assert wait_for(lambda: any(w == 'total' for w, _ in self.lines()), 10), 'the tracer did not end'
        return {w: int(n) for w, n in self.lines() if not w.startswith('hit ')}

    # ---- looking ----

    def read(self, dev):
        """Buffered and past the caches; EIO or what is no device any more: None, wrong bytes never."""
        for direct in True, False:
            try:
                got = read_device(dev, 0, len(self.data), direct)
            except OSError as e:
                if e.errno not in (E.EIO, E.ENXIO, E.ENOENT, E.ENODEV):
                    raise Wrong(f'reading gives {e}') from None
                return None
            if got != self.data[:len(got)]:
                raise Wrong('a wrong byte was read')
            if len(got) != len(self.data):
                return None
        return True

    def told(self, r, statuses=(FAIL, BUSY, TRUST, DAMAGED)):
        """Failed as promised."""
        if r.returncode not in statuses:
            raise Wrong(f'exit status {r.returncode}: {r.stderr!r}')
        if not re.search(r'^pbsmap: \S', r.stderr, re.M) or re.search(r'\(null\)|Success|No error', r.stderr):
            raise Wrong(f'failed without a clear message: {r.stderr!r}')

    def left(self, seconds=2):
        left = []

        def look():
            left[:] = self.place.leftovers()
            return not left
        wait_for(look, seconds, 0.01)
        return left

    # ---- running ----

    def failed_map(self, point):
        """A fault in map, or in its process while it serves or ends. What became of it."""
        r = self.run(self.args(), point)
        if r.returncode != DONE:
            self.told(r)
            if r.stdout and point.kind.split(':')[0] not in ('write', 'writev', 'close'):
                raise Wrong(f'failed, yet printed {r.stdout!r}')
            how = 'refused'
        else:
            how = self.use(r, point)
        if left := self.left():
            # What a failed umount2, unlinkat or ioctl leaves is found by the next command.
            s = self.run(['status'])
            if left2 := self.left():
                raise Wrong(f'{how}; left {left}, after status {left2}: {r.stderr!r} {s.stderr!r}')
            how += ', the rest removed by status'
            if r.returncode == DONE and point.kind.split(':')[0] not in ('umount2', 'unlinkat', 'flock', 'ioctl'):
                raise Wrong(f'{how}: left {left}, {r.stderr!r} {s.stderr!r}')
        return how

    def use(self, r, point):
        if not re.fullmatch(r'/dev/loop\d+\n', r.stdout):
            raise Wrong(f'status 0, and stdout is {r.stdout!r}')
        dev = r.stdout.strip()
        ok = self.read(dev)
        how = 'worked'
        if not ok:
            if point.mode not in ('kill', 'killone', 'group') and not self.hit():
                raise Wrong('reads fail, and nothing was injected yet')
            how = 'EIO once'
            if not self.read(dev):
                how = 'ended'
        elif (point.mode == 'fail' and not self.hit() or point.mode in ('short', 'eintr')) and (fds := self.descriptors()) > self.fds:
            raise Wrong(f'{fds} descriptors, without a fault {self.fds}')
        u = self.run(['unmap', dev])
        if u.returncode != DONE and how != 'ended':
            # Perhaps it ended by itself between.
            if not re.search('nothing is mapped', u.stderr):
                self.told(u)
                how += ', unmap refused'
        if how == 'ended' and self.place.loops() and point.mode not in ('kill', 'killone', 'group'):
            raise Wrong(f'it gives errors for ever, and is still there: {u.stderr!r}')
        return how

    def failed_unmap(self, point):
        m = self.map()
        self.read(m.dev)
        r = self.run(['unmap', m.dev], point)
        how = 'worked'
        if r.returncode != DONE:
            self.told(r)
            how = 'refused'
            if m.attached() and not self.read(m.dev) and self.place.processes():
                raise Wrong(f'refused, and the device gives errors: {r.stderr!r}')
            u = self.run(['unmap', m.dev])
            if u.returncode != DONE and 'nothing is mapped' not in u.stderr:
                raise Wrong(f'refused with {r.stderr!r}, and the next says {u.stderr!r}')
        if left := self.left():
            s = self.run(['status'])
            if left2 := self.left():
                raise Wrong(f'{how}; left {left}, after status {left2}: {r.stderr!r} {s.stderr!r}')
            how += ', the rest removed by status'
        return how

    def killed(self, point):
        """SIGKILL; then a command cleans up: status, unmap or the next map, in turn."""
        if point.phase == 'unmap':
            m = self.map()
            r = self.run(['unmap', m.dev], point)
        else:
            r = self.run(self.args(), point)
        how = 'killed'
        if r.returncode == DONE and point.phase == 'map':
            dev = r.stdout.strip()
            self.read(dev)
            self.run(['unmap', dev])
            how = 'killed later'
        elif point.mode == 'killone' and r.returncode not in (128 + 9, DONE):
            self.told(r)
        elif r.returncode not in (128 + 9, DONE):
            raise Wrong(f'exit status {r.returncode}: {r.stderr!r}')
        wait_for(lambda: point.mode != 'kill' or point.phase == 'unmap' or not self.place.processes(), 5, 0.01)
        way = ('status', 'unmap', 'map')[point.n % 3]
        return f'{how}, {way} went on' if self.clean_up(way) else how

    def clean_up(self, way):
        # The other process of a mapping may still be ending what it has.
        if way == 'status':
            wait_for(lambda: not self.place.processes(), 0.3, 0.02)
            r = self.run(['status'])
            if r.returncode != DONE:
                raise Wrong(f'status: {r.returncode} {r.stderr!r}')
            if self.place.processes():
                self.run(['unmap', '--', self.name])
        elif way == 'unmap':
            r = self.run(['unmap', '--', self.name])
            if r.returncode != DONE:
                self.told(r, (FAIL,))
        else:
            wait_for(lambda: not self.place.processes(), 0.3, 0.02)
            r = self.run(self.args())
            if r.returncode == DONE:
                if not self.read(r.stdout.strip()):
                    raise Wrong('the next map gives read errors')
            elif r.returncode != BUSY or 'already' not in r.stderr:
                raise Wrong(f'the next map: {r.returncode} {r.stderr!r}')
            self.run(['unmap', '--', self.name])
        if left := self.left():
            raise Wrong(f'{way} left {left}: {r.stderr!r}')
        return True

    def little(self, point):
        """With so much memory: it works, or it is said, or the kernel kills it, and nothing is left."""
        with limited(point, self.place.token) as wrap:
            r = self.run(self.args(), wrap=wrap)
            if r.returncode == DONE:
                how = self.use(r, point)
            elif r.returncode == -9 and point.mode == 'group' or r.returncode in (126, 127, 128 + 9):
                how = 'killed'			# before it could say anything
            else:
                self.told(r)
                how = 'refused'
            if left := self.left():
                s = self.run(['status'])
                if left2 := self.left():
                    raise Wrong(f'{how}; left {left}, after status {left2}: {r.stderr!r} {s.stderr!r}')
                how += ', the rest removed by status'
        return how

    def point(self, point):
        """Outcome in words; raises Wrong."""
        self.log.unlink(missing_ok=True)
        if point.mode in ('as', 'group'):
            return self.little(point)
        if point.mode in ('kill', 'killone'):
            how = self.killed(point)
        else:
            how = (self.failed_map if point.phase == 'map' else self.failed_unmap)(point)
        return how if self.hit() else 'not reached'


def spread(count, most):
    """1 to count, or so many of them."""
    return range(1, count + 1) if count <= most else sorted({1 + i * (count - 1) // (most - 1) for i in range(most)})


def points(bench, phases=('map', 'unmap'), what=('fail', 'kill', 'killone', 'storm'), most=1 << 30):
    """All points of a case, in an order of no meaning."""
    if 'limits' in what and 'map' in phases:
        yield from limits(bench.case)
    if not set(what) - {'limits'}:
        return
    for phase in phases:
        counts = bench.counts(phase)
        case = bench.case
        if 'fail' in what:
            for kind, count in sorted(counts.items()):
                for n, e in itertools.product(spread(count, most), errnos(kind)):
                    yield Point(case, phase, 'fail', kind, n, e)
        if 'lasting' in what:
            for kind in sorted(set(counts) - {'poll', 'ppoll', 'dup2'}):
                for e in set(errnos(kind)) - PASSING:
                    yield Point(case, phase, 'lasting', kind, 1, e)
        for mode in 'kill', 'killone':
            if mode in what:
                for n in spread(counts['total'], most * 20):
                    yield Point(case, phase, mode, '', n, 0)
        if 'storm' in what:
            for mode, every in itertools.product(('short', 'eintr'), (2, 3, 7)):
                yield Point(case, phase, mode, '', every, 0)


# ---- too little memory ----

GROUP = pathlib.Path('/sys/fs/cgroup/memory')	# of version 1; there is none where version 2 has it, or nobody
STEPS = [*range(2, 16), *range(16, 64, 4), *range(64, 160, 16)]


def limits(case):
    """As points: a limit in MiB of address space, and of memory."""
    for mib in STEPS:
        yield Point(case, 'map', 'as', '', mib, 0)
        if mib <= 64 and (GROUP / 'memory.limit_in_bytes').exists():
            yield Point(case, 'map', 'group', '', mib, 0)


@contextlib.contextmanager
def limited(point, token):
    """What to write before a command so that it has only so much."""
    if point.mode == 'as':
        yield ['prlimit', f'--as={point.n << 20}']
        return
    group = GROUP / token
    group.mkdir()
    try:
        (group / 'memory.limit_in_bytes').write_text(str(point.n << 20))
        yield ['sh', '-c', f'echo $$ >{group}/cgroup.procs && exec "$@"', 'sh']
    finally:
        wait_for(lambda: (group / 'tasks').read_text() == '', 5)
        group.rmdir()


# ---- all of them ----

def worker(o):
    place = Place()
    try:
        for case in o.case:
            bench = Bench(place, case)
            try:
                for p in points(bench, o.phase, o.what, o.most):
                    if zlib.crc32(str(p).encode()) % o.of in o.parts[o.worker::o.workers] and (not o.only or o.only in str(p)):
                        one(place, bench, p)
            finally:
                bench.close()
    finally:
        place.sweep()


def one(place, bench, p, again=True):
    try:
        out = {'point': str(p), 'mode': p.mode, 'kind': p.kind, 'phase': p.phase, 'how': bench.point(p)}
    except (Wrong, AssertionError) as e:
        if again and 'hangs' in str(e):		# unless it was the machine that stood still
            place.clear()
            return one(place, bench, p, False)
        out = {'point': str(p), 'mode': p.mode, 'kind': p.kind, 'phase': p.phase, 'wrong': str(e)}
        place.clear()
    return print(json.dumps(out), flush=True)


def main():
    a = argparse.ArgumentParser()
    a.add_argument('--workers', type=int, default=os.cpu_count())
    a.add_argument('--worker', type=int)
    a.add_argument('--most', type=int, default=1 << 30, help='of a kind of call; of all to be killed at 20 times as many')
    a.add_argument('--part', default='0-99', help='of a hundred')
    a.add_argument('--case', type=lambda s: s.split(','), default=CASES)
    a.add_argument('--phase', type=lambda s: s.split(','), default=('map', 'unmap'))
    a.add_argument('--what', type=lambda s: s.split(','), default=('fail', 'lasting', 'kill', 'killone', 'storm', 'limits'))
    a.add_argument('--only')
    a.add_argument('--point')
    a.add_argument('--results', default=os.devnull, help='appended to')
    a.add_argument('--report', help='only the figures of such a file')
    o = a.parse_args()
    low, high = map(int, o.part.split('-'))
    o.of, o.parts = 100, range(low, high + 1)
    if o.point:
        return single(Point.parse(o.point))
    if o.report:
        with open(o.report, encoding='ascii') as f:
            return report(map(json.loads, f), [], time.monotonic())
    if o.worker is not None:
        worker(o)
        return 0
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    apart = ['unshare', '-m', '-p', '-f', '--kill-child', '--mount-proc', '--propagation', 'private', 'sh', '-c', 'mount -t tmpfs none /run && exec "$@"', 'sh']
    ps = [subprocess.Popen([*apart, sys.executable, __file__, *sys.argv[1:], '--workers', str(o.workers), '--worker', str(i)],
                           stdout=subprocess.PIPE, text=True) for i in range(o.workers)]
    try:
        return report(outcomes(ps, o.results), ps, begin)
    finally:
        for p in ps:
            p.kill()


def outcomes(ps, keep):
    """What all workers tell, as it comes."""
    with selectors.DefaultSelector() as s, open(keep, 'a', encoding='ascii', buffering=1) as f:
        for p in ps:
            s.register(p.stdout, selectors.EVENT_READ)
        while s.get_map():
            for key, _ in s.select():
                if line := key.fileobj.readline():
                    f.write(line)
                    yield json.loads(line)
                else:
                    s.unregister(key.fileobj)


def single(p):
    place = Place()
    try:
        bench = Bench(place, p.case)
        try:
            print(p, '->', bench.point(p))
        finally:
            bench.close()
    finally:
        place.sweep()
    return 0


def report(results, ps, begin):
    kinds, hows, wrong = collections.Counter(), collections.Counter(), []
    for r in results:
        if 'wrong' in r:
            wrong.append(r)
            print(f"WRONG {r['point']}: {r['wrong']}", flush=True)
        elif r['how'] != 'not reached':
            kinds[r['phase'], r['mode'], r['kind'].split(':')[0]] += 1
        if 'how' in r:
            hows[r['mode'], r['how']] += 1
    for (phase, mode, kind), n in sorted(kinds.items()):
        print(f'{n:6} {phase:6} {mode} {kind}')
    for (mode, how), n in sorted(hows.items()):
        print(f'{n:6} {mode}: {how}')
    status = [p.wait() for p in ps]
    print(f'{sum(kinds.values())} faults injected, {len(wrong)} wrong, {time.monotonic() - begin:.0f} s')
    return 1 if wrong or any(status) or not kinds else 0


if __name__ == '__main__':
    sys.exit(main())
