"""Reads for a long time while everything goes wrong that may: several mappings and a file archive, from a directory and
from a server, plain and encrypted; sequential and random readers, past the caches and through them; the server breaks
connections, falls silent, restarts and lies, chunk files are damaged and mended, other mappings come and go. Every byte is
compared. A read may fail only where and while a chunk was damaged on purpose. Memory, descriptors and threads stay flat.

    SOAK=SECONDS SEED=N soak.py
"""
import collections
import contextlib
import errno
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

from lib import GOLDEN, IMAGES, KEYS, SUMS, T1, Mapping, Place, file_sum, mixed, mkstore, read_device, wait_for
from server import Server

MIB = 1 << 20
SIZE = 48 * MIB
CHUNK = 512 << 10
GRACE = 15			# seconds after which a mended chunk must be read: a new connection for it comes after 10
DAMAGE = 2			# seconds that damage lasts
IMAGE = {False: f'vm/1/{T1}', True: f'vm/2/{T1}'}
FILES = f'host/files/{T1}'


class Target:
    """A mapping that stays, what it must give, and where it may fail at the moment."""

    def __init__(self, name, m, store, encrypted):
        self.name, self.m, self.encrypted = name, m, encrypted
        raw = (store / IMAGE[encrypted] / 'a.img.fidx').read_bytes()[4096:]
        self.digests = [raw[i:i + 32].hex() for i in range(0, len(raw), 32)]
        self.bad = []		# (digest, since, until or None)

    def ranges(self, digest):
        return [(i * CHUNK, (i + 1) * CHUNK) for i, d in enumerate(self.digests) if d == digest]

    def may_fail(self, at, length, begun):
        low, high = at & ~4095, (at + length + 4095) & ~4095
        for digest, since, until in list(self.bad):
            if (until is None or begun < until + GRACE) and since <= time.monotonic():
                if any(a < high and low < b for a, b in self.ranges(digest)):
                    return True
        return False


class Soak:
    def __init__(self, place, seconds, seed):
        self.place, self.seconds, self.random = place, seconds, random.Random(seed)
        self.seed = seed
        self.stop, self.calm = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.compared, self.eio, self.events = (collections.Counter() for _ in range(3))
        self.memory = collections.defaultdict(list)
        self.wrong = []
        self.stack = contextlib.ExitStack()
        self.data = {False: mixed(SIZE, seed), True: mixed(SIZE, seed + 1)}
        self.here, self.there = place.dir / 'here', place.dir / 'there'
        for top in self.here, self.there:
            self.make_store(top)
        self.server = self.stack.enter_context(Server(self.there, name=place.token, violations=True))
        self.targets = [self.target(False, None), self.target(True, None), self.target(False, self.server), self.target(True, self.server)]
        self.tree = self.mount()

    def make_store(self, top):
        shutil.copytree(GOLDEN / 'store', top)
        for p in [top, *top.rglob('*')]:
            p.chmod(0o755 if p.is_dir() else 0o644)
        for encrypted in False, True:
            shutil.rmtree(top / IMAGE[encrypted], ignore_errors=True)
            image = self.place.dir / 'image'
            image.write_bytes(self.data[encrypted])
            mkstore(top, IMAGE[encrypted], '--chunk-size', CHUNK, *(['--key', KEYS / 'none.json'] if encrypted else []), f'a.img={image}')
            image.unlink()

    def target(self, encrypted, server):
        opts = ('--cache', '8M', '--stall', '3')
        m = self.place.map(server.repo() if server else self.here, IMAGE[encrypted], 'a.img', key='none' if encrypted else None, opts=opts,
                           env=server.env() if server else None)
        return Target(('server' if server else 'directory') + (' encrypted' if encrypted else ' plain'), m, self.here, encrypted)

    def mount(self):
        """A file archive from the server; what is in it as read from the directory, without a fault."""
        want, at = self.place.dir / 'want', self.place.dir / 'at'
        r = self.place.run('restore', '--repository', self.here, '--quiet', FILES, 'root.pxar', want)
        assert r.returncode == 0, r.stderr
        at.mkdir()
        r = self.place.run('mount', '--repository', self.server.repo(), '--cache', '8M', '--stall', '3', FILES, 'root.pxar', at, env=self.server.env())
        assert r.returncode == 0, r.stderr
        self.stack.callback(subprocess.run, ['umount', '-l', str(at)], check=False)
        return {os.path.relpath(p, want): p.read_bytes() for p in want.rglob('*') if p.is_file() and not p.is_symlink()}, at

    # ---- readers ----

    def fail(self, text):
        with self.lock:
            self.wrong.append(text)
        self.stop.set()

    def judge(self, target, at, length, direct, kind):
        """Reads and compares once."""
        begun = time.monotonic()
        try:
            got = read_device(target.m.dev, at, length, direct)
        except OSError as e:
            if e.errno != errno.EIO or not target.may_fail(at, length, begun):
                self.fail(f'{target.name}, {kind} read of {length} at {at}: {e}')
            else:
                with self.lock:
                    self.eio[target.name] += 1
            return
        if got != self.data[target.encrypted][at:at + length]:
            self.fail(f'{target.name}, {kind} read of {length} at {at}: wrong bytes')
        with self.lock:
            self.compared[f'{target.name}, {kind}'] += length

    def sequential(self, target, direct):
        while not self.stop.is_set():
            with open(target.m.dev, 'rb') as f:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            for at in range(0, SIZE, MIB):
                if self.stop.is_set():
                    return
                self.judge(target, at, MIB, direct, 'sequential direct' if direct else 'sequential buffered')

    def any(self, target, direct, seed):
        r = random.Random(seed)
        while not self.stop.is_set():
            length = r.choice((4096, 16384, 131072)) if direct else r.randrange(1, 100_000)
            at = r.randrange(SIZE - length)
            if direct:
                at &= ~4095
            else:
                with open(target.m.dev, 'rb') as f:
                    os.posix_fadvise(f.fileno(), at & ~4095, length + 4096, os.POSIX_FADV_DONTNEED)
            self.judge(target, at, length, direct, 'random direct' if direct else 'random buffered')

    def files(self, seed):
        r, (tree, at) = random.Random(seed), self.tree
        names = sorted(tree)
        while not self.stop.is_set():
            name = r.choice(names)
            try:
                with open(at / name, 'rb') as f:
                    os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    got = f.read()
            except OSError as e:
                self.fail(f'file archive: {name}: {e}')
                return
            if got != tree[name]:
                self.fail(f'file archive: {name}: wrong bytes')
            with self.lock:
                self.compared['file archive'] += len(got)
            time.sleep(0.001)

    def comers(self, seed):
        """Mappings that come and go."""
        r = random.Random(seed)
        while not self.stop.is_set():
            which = r.choice(('efi', 'scsi1', 'encrypted1'))
            snapshot, archive, image, extra = IMAGES[which]
            server = self.server if r.randrange(2) else None
            kw = {'env': server.env()} if server else {}
            out = self.place.run(*self.place.map_args(server.repo() if server else self.here, snapshot, archive, **extra), timeout=120, **kw)
            if out.returncode:
                # While the server is away there is nothing to wait for yet.
                # And the other comer may have the same.
                if not (server or 'already' in out.stderr) or not out.stderr.startswith('pbsmap: '):
                    self.fail(f'map of {which}: {out.returncode} {out.stderr!r}')
                self.events['map refused'] += 1
                self.stop.wait(0.3)
                continue
            m = Mapping(self.place, out)
            try:
                got, more = file_sum(m.dev)
                if got != SUMS[image] and not more and m.size == os.path.getsize(m.dev):
                    self.fail(f'{which}: wrong bytes')
                with self.lock:
                    self.compared['come and gone'] += m.size
            except OSError as e:
                self.fail(f'{which}: {e}')
            u = self.place.run('unmap', *(['-f'] if r.randrange(2) else []), m.dev)
            if u.returncode:
                self.fail(f'unmap of {which}: {u.returncode} {u.stderr!r}')
            self.place.used.pop(m.nr, None)
            self.events['mapped and unmapped'] += 1

    # ---- what goes wrong ----

    def damage_server(self, target):
        digest = self.random.choice(sorted(set(target.digests)))
        how = self.random.choice(('corrupt', 'garbage', 'short by=10', 'empty', 'status code=400 text=reading+file+failed'))
        entry = [digest, time.monotonic(), None]
        target.bad.append(entry)
        self.server.command(f'rule {how} digest={digest} times=all')
        self.stop.wait(DAMAGE)
        self.server.command('clear')
        entry[2] = time.monotonic()
        return 'chunk damaged on the server'

    def damage_directory(self, target):
        digest = self.random.choice(sorted(set(target.digests)))
        path = self.here / '.chunks' / digest[:4] / digest
        good = path.read_bytes()
        entry = [digest, time.monotonic(), None]
        target.bad.append(entry)
        bad = bytearray(good)
        bad[self.random.randrange(len(bad))] ^= 1 << self.random.randrange(8)
        new = path.with_name('.new')
        new.write_bytes(self.random.choice((bad, good[:len(good) // 2], b'')))
        new.replace(path)
        self.stop.wait(DAMAGE)
        new.write_bytes(good)
        new.replace(path)
        entry[2] = time.monotonic()
        return 'chunk damaged in the directory'

    def once(self, target):
        """Wrong once is asked for again; nobody notices."""
        now = time.monotonic()
        quiet = [d for d in set(target.digests) if all(b[0] != d for b in target.bad)]
        digest = self.random.choice(sorted(quiet))
        target.bad.append([digest, now, now])	# unless a cut comes between
        self.server.command(f"rule {self.random.choice(('corrupt', 'garbage', 'short by=3', 'rst', 'rst at=1000'))} digest={digest} times=1")
        return 'chunk wrong once'

    def connection(self):
        r = self.random
        what = r.choice(('kick cut', 'kick rst', 'kick goaway', 'kick goaway code=2 close=1', 'kick stall', 'kick freeze', 'restart 200', 'restart 1500',
                         'break cut after={} times=1', 'rule cut at={} times=1', 'set front close', 'set rtt 10', 'set frame 3000', 'set padding 100',
                         'kick ping', 'kick settings id=3 value=1', 'set late 300', 'expire')).format(r.randrange(1_000_000))
        self.server.command(what)
        if what.startswith('set front'):
            self.server.command('kick cut')
            self.stop.wait(1)
        if what.startswith('set'):
            self.stop.wait(0.5)
            word = what.split()[1]
            self.server.command(f"set {word} {'tls' if word == 'front' else 4194304 if word == 'frame' else 0}")
        return ' '.join(what.split()[:2])

    def misfortune(self):
        while not self.calm.wait(self.random.random() * min(3, self.seconds / 20)):
            kind = self.random.randrange(8)
            here, there = self.random.choice(self.targets[:2]), self.random.choice(self.targets[2:])
            try:
                what = (self.damage_server(there) if kind == 0 else self.damage_directory(here) if kind == 1 else
                        self.once(there) if kind == 2 else self.connection())
            except (OSError, RuntimeError) as e:
                self.fail(f'the test itself: {e}')
                return
            self.events[what] += 1
        self.server.command('clear')
        self.server.command('kick cut')		# also what is stalled

    # ---- figures ----

    def family(self, pid):
        """A mapping's processes."""
        parents = {}
        for p in pathlib.Path('/proc').glob('[0-9]*/stat'):
            with contextlib.suppress(OSError, ValueError):
                parents[int(p.parent.name)] = int(p.read_text().rsplit(')', 1)[1].split()[1])
        out = [pid]
        for p in out:
            out += [c for c, parent in parents.items() if parent == p]
        return out

    def figures(self, pid):
        """KiB of memory, descriptors, threads."""
        kib = fds = threads = 0
        for p in self.family(pid):
            status = pathlib.Path(f'/proc/{p}/status').read_text()
            kib += int(status.split('RssAnon:')[1].split()[0]) + int(status.split('RssShmem:')[1].split()[0])
            threads += int(status.split('Threads:')[1].split()[0])
            fds += len(os.listdir(f'/proc/{p}/fd'))
        return kib, fds, threads

    def mount_pid(self):
        mine = {p for t in self.targets for p in self.family(t.m.pid)}
        return min(p for p in self.place.processes() if p not in mine)

    def pids(self):
        return {**{t.name: t.m.pid for t in self.targets}, 'file archive': self.archive_pid}

    def watch(self):
        """Memory while it works."""
        while not self.stop.wait(0.5):
            with contextlib.suppress(OSError):
                for name, pid in self.pids().items():
                    self.memory[name].append(self.figures(pid)[0])

    def flat(self, before, after):
        """Descriptors and threads as they were; memory in the last quarter as in the second."""
        spare = 4096 if self.seconds >= 60 else 16384
        for name, (_, fds, threads) in before.items():
            m, (_, fds2, threads2) = self.memory[name], after[name]
            early, late = max(m[len(m) // 4:len(m) // 2]), max(m[-len(m) // 4:])
            print(f'{name:20} memory {early / 1024:.1f} -> {late / 1024:.1f} MiB, descriptors {fds} -> {fds2}, threads {threads} -> {threads2}')
            if late > early * 1.1 + spare or fds2 > fds or threads2 > threads:
                self.wrong.append(f'{name} has grown: {early} -> {late} KiB, {fds} -> {fds2} descriptors, {threads} -> {threads2} threads')

    def everything(self, seconds):
        """All of it once, without a fault: no error any more."""
        for t in self.targets:
            t.bad.clear()
            end = time.monotonic() + seconds
            for at in range(0, SIZE, MIB):
                while not self.wrong:
                    try:
                        if read_device(t.m.dev, at, MIB, direct=True) != self.data[t.encrypted][at:at + MIB]:
                            self.wrong.append(f'{t.name}: wrong bytes at {at} in the end')
                        self.compared[f'{t.name}, in the end'] += MIB
                        break
                    except OSError as e:
                        if time.monotonic() > end:
                            self.wrong.append(f'{t.name}: {e} at {at} in the end, {seconds} s after the last fault')
                        time.sleep(0.2)

    def settled(self):
        """Figures when nothing happens."""
        time.sleep(1)
        return {name: self.figures(pid) for name, pid in self.pids().items()}

    def guard(self, f, *args):
        try:
            f(*args)
        except Exception as e:	# noqa: BLE001
            self.fail(f'the test itself, {f.__name__}: {e!r}')

    def run(self):
        self.archive_pid = self.mount_pid()
        self.everything(1)		# caches are full and threads there
        before = self.settled()
        begin = time.monotonic()
        work = [(self.sequential, t, d) for t in self.targets for d in (True, False)]
        work += [(self.any, t, d, self.random.random()) for t in self.targets for d in (True, False)]
        work += [(self.files, self.random.random()), (self.comers, self.random.random()), (self.comers, self.random.random()),
                 (self.watch,), (self.misfortune,)]
        threads = [threading.Thread(target=self.guard, args=args, daemon=True) for args in work]
        for t in threads:
            t.start()
        self.stop.wait(self.seconds)
        self.calm.set()
        threads[-1].join(60)
        self.stop.set()
        for t in threads:
            t.join(130)
            if t.is_alive():
                self.wrong.append('a reader hangs')
        if not self.wrong:
            self.everything(GRACE + 5)
            self.flat(before, self.settled())
        self.end(begin)
        return self.wrong

    def end(self, begin):
        for name, n in sorted(self.compared.items()):
            print(f'{name:44} {n / MIB:10.0f} MiB compared')
        for name, n in sorted(self.events.items()):
            print(f'{name:44} {n:6} times')
        print(f'{time.monotonic() - begin:.0f} s, seed {self.seed}: {sum(self.compared.values()) / MIB:.0f} MiB compared, '
              f'{sum(self.eio.values())} reads failed where chunks were damaged, {len(self.wrong)} wrong')

    def close(self):
        for t in self.targets:
            self.place.run('unmap', '-f', t.m.dev)
        self.stack.close()


def soak(place, seconds, seed):
    s = Soak(place, seconds, seed)
    try:
        return s.run()
    finally:
        s.close()


def main():
    place = Place()
    seed = int(os.environ.get('SEED', random.randrange(1 << 32)))
    try:
        wrong = soak(place, float(os.environ.get('SOAK', 180)), seed)
        for w in wrong[:20]:
            print('WRONG', w)
        left = [] if wait_for(lambda: place.leftovers() == [], 5) else place.leftovers()
        if left:
            print('WRONG left', left)
        return 1 if wrong or left else 0
    finally:
        place.sweep()


if __name__ == '__main__':
    sys.exit(main())
