"""What the tests of the whole program share: a place of one's own for each
test, running pbsmap, looking at what it left behind."""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import struct
import subprocess
import time

import pytest

from formats import Store

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / 'test' / 'golden'
KEYS = GOLDEN / 'keys'
RUN_DIR = pathlib.Path('/run/pbs-loopdev')
PBSMAP = os.environ.get('PBSMAP', str(ROOT / 'pbsmap'))
T1 = '2026-01-02T03:04:05Z'
DONE, FAIL, USAGE, BUSY, TRUST, DAMAGED = range(6)

# Everything that can be mapped in golden/store: snapshot, archive, image, its options.
IMAGES = {
    'scsi0': (f'vm/100/{T1}', 'drive-scsi0.img', 'gpt.img', {}),
    'scsi1': (f'vm/100/{T1}', 'drive-scsi1.img', 'mbr.img', {}),
    'efi': (f'vm/100/{T1}', 'drive-efidisk0.img', 'efi.img', {}),
    'newer': ('vm/100/2026-02-03T04:05:06Z', 'drive-scsi0.img', 'gpt2.img', {}),
    'encrypted0': (f'vm/101/{T1}', 'drive-scsi0.img', 'gpt.img', {'key': 'none'}),
    'encrypted1': (f'vm/101/{T1}', 'drive-scsi1.img', 'mbr.img', {'key': 'none'}),
    'scrypt': (f'vm/102/{T1}', 'drive-scsi1.img', 'mbr.img', {'key': 'scrypt'}),
    'zero': (f'vm/102/{T1}', 'zero.img', 'zero.img', {'key': 'scrypt'}),
    'pbkdf2': (f'vm/103/{T1}', 'drive-scsi1.img', 'mbr.img', {'key': 'pbkdf2'}),
    'signed': (f'host/signed/{T1}', 'drive-scsi1.img', 'mbr.img', {'key': 'none'}),
    'nested': (f'host/nested/{T1}', 'drive-scsi1.img', 'mbr.img', {'ns': 'a/b'}),
}
SUMS = {name: s for s, name in (line.split() for line in (GOLDEN / 'SHA256SUMS').read_text().splitlines())}


def tool(name):
    """A test program, built when it is not there."""
    path = ROOT / 'build' / 'test' / name
    if not path.exists():
        subprocess.run(['make', '-s', f'build/test/{name}'], cwd=ROOT, check=True)
    return str(path)


def mkstore(*args):
    subprocess.run([tool('mkstore'), *map(str, args)], check=True, timeout=300)


def wait_for(what, seconds=10, step=0.02):
    """Polls until what() is true; its last value."""
    end = time.monotonic() + seconds
    while not (value := what()) and time.monotonic() < end:
        time.sleep(step)
    return value


def escape(text):
    """systemd-escape, as the official client names its mappings."""
    out = ''
    for i, c in enumerate(text.encode()):
        if c == ord('/'):
            out += '-'
        elif chr(c).isascii() and (chr(c).isalnum() or chr(c) == '_' or (chr(c) == '.' and i)):
            out += chr(c)
        else:
            out += f'\\x{c:02x}'
    return out


def sysfs(nr, name):
    try:
        return pathlib.Path(f'/sys/block/loop{nr}/{name}').read_text().strip()
    except OSError:
        return None


def loops():
    """Number and backing file of every attached loop device."""
    out = {}
    for p in pathlib.Path('/sys/block').glob('loop*'):
        if (backing := sysfs(p.name[4:], 'loop/backing_file')) is not None:
            out[int(p.name[4:])] = backing
    return out


def read_device(path, offset, length, direct=False):
    """length bytes; with direct past every cache, offset and length then a multiple of 4096."""
    import mmap
    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    try:
        buf = mmap.mmap(-1, max(length, 1))
        pos = 0
        while pos < length:
            n = os.preadv(fd, [memoryview(buf)[pos:length]], offset + pos)
            if n == 0:
                break
            pos += n
        return buf[:pos]
    finally:
        os.close(fd)


def file_sum(path, limit=None):
    """sha256 of the first limit bytes, and what follows them."""
    h, left = hashlib.sha256(), limit
    with open(path, 'rb') as f:
        while left is None or left > 0:
            data = f.read(1 << 20 if left is None else min(left, 1 << 20))
            if not data:
                break
            h.update(data)
            left = None if left is None else left - len(data)
        return h.hexdigest(), f.read()


def is_of(backing, path):
    """Is this the device of that file? sysfs calls a file that was unmounted lazily `/`."""
    return backing in (path, f'{path} (deleted)', '/')


class Mapping:
    """One mapping as `map` reported it."""

    def __init__(self, place, proc):
        self.place, self.proc = place, proc
        self.stdout, self.stderr = proc.stdout, proc.stderr
        assert re.fullmatch(r'/dev/loop\d+\n', proc.stdout), (proc.stdout, proc.stderr)
        self.dev = proc.stdout.strip()
        self.nr = int(self.dev[9:])
        self.file = sysfs(self.nr, 'loop/backing_file')
        place.used[self.nr] = self.file

    @property
    def name(self):
        return os.path.basename(self.file)

    @property
    def pid_file(self):
        return RUN_DIR / (self.name.rsplit('.', 1)[0] + '.pid')

    @property
    def pid(self):
        return int(self.pid_file.read_text())

    @property
    def worker(self):
        """The process that serves, without rights."""
        return int(pathlib.Path(f'/proc/{self.pid}/task/{self.pid}/children').read_text().split()[0])

    @property
    def size(self):
        return int(sysfs(self.nr, 'size')) * 512

    def part(self, n):
        return f'{self.dev}p{n}'

    def attached(self):
        return is_of(sysfs(self.nr, 'loop/backing_file'), self.file)


class Place:
    """A directory and a token of one's own: names of mappings hold the token, so that tests run beside
    each other and beside whatever else the machine has mapped."""

    def __init__(self):
        self.token = 'pbt' + secrets.token_hex(5)
        self.dir = pathlib.Path('/dev/shm') / self.token
        self.dir.mkdir()
        self.home = self.dir / 'home'
        self.home.mkdir()
        self.used = {}          # loop device: the file it was mapped to

    def golden(self, name='st'):
        """A copy of golden/store, to be damaged at will."""
        path = self.dir / name
        shutil.copytree(GOLDEN / 'store', path)
        for p in path.rglob('*'):
            p.chmod(0o755 if p.is_dir() else 0o644)
        path.chmod(0o755)
        return Store(path)

    def store(self, snapshot, *args, name='st', **files):
        """A store written by mkstore; files: archive name with '_' for '.' = its bytes."""
        path = self.dir / name
        for archive, data in files.items():
            (self.dir / archive).write_bytes(data)
            args += (f"{archive.replace('_', '.')}={self.dir / archive}",)
        mkstore(path, snapshot, *args)
        return Store(path)

    def env(self, **extra):
        env = {'PATH': os.environ['PATH'], 'HOME': str(self.home), 'PBSMAP_TEST': self.token, 'LC_ALL': 'C',
               'PBSMAP_SECCOMP': 'kill'}        # a system call that is not in filter.c's list is an error
        env.update({k: str(v) for k, v in extra.items() if v is not None})
        if os.environ.get('ASAN_OPTIONS'):
            env['ASAN_OPTIONS'] = os.environ['ASAN_OPTIONS']
            supp = self.dir / 'lsan'
            supp.write_text('leak:fuse_session_mount\n')       # libfuse's copy of the path, which only its own unmount frees
            env['LSAN_OPTIONS'] = f'suppressions={supp}:print_suppressions=0'
        return env

    def run(self, *args, env=None, timeout=60, wrap=(), **kw):
        """Runs pbsmap to its end; stdin is empty."""
        kw.setdefault('stdin', subprocess.DEVNULL)
        return subprocess.run([*wrap, PBSMAP, *map(str, args)], env=self.env(**(env or {})), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **kw)

    def strace(self, faults, args, timeout=60):
        """As run(), with faults (of strace's `inject`) in it and in the process behind; strace would hold pipes open as long as that lives."""
        calls = ','.join(f.split(':')[0] for f in faults)
        wrap = ['strace', '-D', '-f', '-q', '-o', '/dev/null', '-e', f'trace={calls}', *(x for f in faults for x in ('-e', f'inject={f}'))]
        with open(self.dir / 'out', 'w+') as out, open(self.dir / 'err', 'w+') as err:
            argv = [*wrap, PBSMAP, *map(str, args)]
            p = subprocess.Popen(argv, env=self.env(), stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            try:
                p.wait(timeout)
            finally:
                p.kill()
                p.wait()
            return subprocess.CompletedProcess(argv, p.returncode, (self.dir / 'out').read_text(), (self.dir / 'err').read_text())

    def map_args(self, store, snapshot, archive, key=None, ns=None, opts=()):
        args = ['map', '--repository', str(store), *opts]
        if ns:
            args += ['--ns', ns]
        if key:
            args += ['--keyfile', KEYS / f'{key}.json' if '/' not in str(key) else key]
        return [*args, snapshot, archive]

    def map(self, store, snapshot, archive, key=None, ns=None, opts=(), env=None, **kw):
        env = dict(env or {})
        if key in ('scrypt', 'pbkdf2'):
            env.setdefault('PBS_ENCRYPTION_PASSWORD', 'golden-pass')
        r = self.run(*self.map_args(store, snapshot, archive, key, ns, opts), env=env, **kw)
        assert r.returncode == 0, r.stderr
        return Mapping(self, r)

    def map_golden(self, which, store=None, **kw):
        snapshot, archive, _, extra = IMAGES[which]
        return self.map(store or self.golden(), snapshot, archive, **{**extra, **kw})

    def unmap(self, *args, status=DONE, **kw):
        r = self.run('unmap', *args, **kw)
        assert r.returncode == status, (r.returncode, r.stderr)
        return r

    def fail(self, store, snapshot, archive, status, *words, **kw):
        """map must fail with this status, say these words (each a regular expression) in one line, and leave nothing."""
        env = dict(kw.pop('env', None) or {})
        r = self.run(*self.map_args(store, snapshot, archive, *(kw.pop(k, None) for k in ('key', 'ns')),
                                    kw.pop('opts', ())), env=env, **kw)
        return self.failed(r, status, *words)

    def failed(self, r, status, *words):
        assert r.returncode in (status if isinstance(status, tuple) else (status,)), (r.returncode, r.stdout, r.stderr)
        assert r.stdout == ''
        lines = r.stderr.splitlines()
        assert lines and all(line.startswith('pbsmap: ') or line.startswith(' ') for line in lines), r.stderr
        assert sum(line.startswith('pbsmap: ') for line in lines) == 1, r.stderr
        for w in words:
            assert re.search(w, r.stderr, re.I), (w, r.stderr)
        assert self.leftovers() == []
        return r.stderr

    def processes(self):
        """pids of living processes that this place's runs started."""
        out = []
        for p in pathlib.Path('/proc').glob('[0-9]*'):
            with contextlib.suppress(OSError):
                if f'PBSMAP_TEST={self.token}'.encode() in (p / 'environ').read_bytes().split(b'\0') and (p / 'comm').read_text() not in ('strace\n', 'inject\n'):
                    if (p / 'stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z':
                        out.append(int(p.name))
        return out

    def mounts(self):
        out = []
        for line in pathlib.Path('/proc/self/mountinfo').read_text().splitlines():
            point = re.sub(r'\\(\d{3})', lambda m: chr(int(m[1], 8)), line.split()[4])
            if self.token in point:
                out.append(point)
        return out

    def loops(self):
        """Attached devices of this place's mappings; a lost one shows only by its number."""
        return {nr: b for nr, b in loops().items()
                if (b.startswith(str(RUN_DIR)) and self.token in b) or (nr in self.used and is_of(b, self.used[nr]))}

    def leftovers(self):
        """What a failed or ended mapping must not leave."""
        files = [str(p) for p in RUN_DIR.glob('*') if self.token in p.name] if RUN_DIR.is_dir() else []
        mine = [f'/dev/loop{nr} {b}' for nr, b in self.loops().items()]
        mounts = [m for m in self.mounts() if m.startswith(str(RUN_DIR))]
        return files + mine + mounts + [f'process {p}' for p in self.processes()]

    def clear(self):
        """Takes all mappings away by force, whatever state a failed test left them in."""
        for m in reversed([m for m in self.mounts() if not m.startswith(str(RUN_DIR))]):
            subprocess.run(['umount', '-l', m], check=False, stderr=subprocess.DEVNULL)
        for sig in (signal.SIGINT, signal.SIGKILL):
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sig)
            if wait_for(lambda: not self.processes(), 3):
                break
        for nr in self.loops():
            subprocess.run(['losetup', '-d', f'/dev/loop{nr}'], check=False, stderr=subprocess.DEVNULL)
        for m in reversed(self.mounts()):
            subprocess.run(['umount', '-l', m], check=False, stderr=subprocess.DEVNULL)
        for p in RUN_DIR.glob('*') if RUN_DIR.is_dir() else ():
            if self.token in p.name:
                p.unlink(missing_ok=True)

    def sweep(self):
        self.clear()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture
def place():
    p = Place()
    try:
        yield p
        assert wait_for(lambda: p.leftovers() == [], 0.5) or p.leftovers() == []
    finally:
        p.sweep()


@contextlib.contextmanager
def mounted(place, dev, fstype, options='ro'):
    """A directory on which dev is mounted."""
    at = place.dir / f'mnt{secrets.token_hex(3)}'
    at.mkdir()
    subprocess.run(['mount', '-t', fstype, '-o', options, dev, str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(['umount', str(at)], check=True)


def gpt_image(sector, size, parts, primary=True):
    """A disk with a GPT; parts: (first byte, bytes, name). What lies in it is zero."""
    import uuid
    import zlib
    linux = uuid.UUID('0FC63DAF-8483-4772-8E79-3D69D8477DE4').bytes_le
    last = size // sector - 1
    entries = b''
    for start, length, name in parts:
        entries += (linux + uuid.uuid4().bytes_le + struct.pack('<QQQ', start // sector, (start + length) // sector - 1, 0)
                    + name.encode('utf-16-le').ljust(72, b'\0'))
    entries = entries.ljust(128 * 128, b'\0')
    table = len(entries) // sector
    disk = uuid.uuid4().bytes_le

    def header(here, other, at):
        def make(crc):
            return (b'EFI PART' + struct.pack('<IIIIQQQQ', 0x10000, 92, crc, 0, here, other, 2 + table, last - table - 1)
                    + disk + struct.pack('<QIII', at, 128, 128, zlib.crc32(entries)))
        return make(zlib.crc32(make(0))).ljust(sector, b'\0')
    img = bytearray(size)
    img[446:462] = struct.pack('<B3sB3sII', 0, b'\0\2\0', 0xee, b'\xff' * 3, 1, min(last, 0xffffffff))
    img[510:512] = b'\x55\xaa'
    if primary:
        img[sector:2 * sector] = header(1, last, 2)
        img[2 * sector:2 * sector + len(entries)] = entries
    img[last * sector:] = header(last, 1, last - table)
    img[(last - table) * sector:last * sector] = entries
    return img


def mixed(size, seed=1):
    """Bytes of all kinds: chance, text, zeros, in stretches of up to 300 KB."""
    import random
    r, out = random.Random(seed), bytearray()
    while len(out) < size:
        n = r.randrange(1, 300_000)
        kind = r.randrange(4)
        if kind == 0:
            out += bytes(n)
        elif kind == 1:
            out += r.randbytes(n)
        else:
            out += (b'%d line of text\n' % r.randrange(1000) * (n // 8))[:n]
    return bytes(out[:size])
