"""What make bench's files share: the image and its stores, mappings, readers."""
import json
import mmap
import os
import pathlib
import random
import re
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PBSMAP = os.environ.get('PBSMAP', str(ROOT / 'pbsmap'))
TOOLS = ROOT / 'build' / 'test'
CHUNK = 4 << 20
CPUS = os.cpu_count()
SNAPSHOT = 'vm/1/2026-01-02T03:04:05Z'
RTT = 20
FILLED = 20		# chunks, more than the cache holds


def size_of(text):
    return int(text.rstrip('GM')) << {'G': 30, 'M': 20}[text[-1]]


SIZE = size_of(os.environ.get('BENCH_SIZE', '4G'))
DIR = pathlib.Path(os.environ.get('BENCH_DIR', ROOT / 'build' / 'bench')) / str(SIZE >> 20)
DATA = SIZE * 29 // 40 // CHUNK * CHUNK		# 2.9 GiB of 4; the rest is zeros
MAP_OPTIONS = os.environ.get('BENCH_MAP', '').split()


# ---- the image and its stores ----

def system_files():
    """The machine's files, in an order that is always the same."""
    for base, dirs, names in os.walk('/usr'):
        dirs.sort()
        for name in sorted(names):
            path = os.path.join(base, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def write_data(f):
    """Files one after the other, each on a block of its own as in a file system. Few files: again and again, never
    at the same place of a chunk."""
    turn = 0
    while f.tell() < DATA:
        for path in system_files():
            with open(path, 'rb') as one:
                data = one.read(DATA - f.tell())
            f.write(data + bytes(-len(data) % 4096))
            if f.tell() >= DATA:
                break
        turn += 1
        f.write(turn.to_bytes(4096, 'big'))
    f.truncate(DATA)


def make_stores():
    if (DIR / 'done').exists():
        return
    DIR.mkdir(parents=True, exist_ok=True)
    say(f'making {SIZE >> 20} MiB of image and two datastores in {DIR}')
    with open(DIR / 'image', 'wb') as f:
        write_data(f)
        f.truncate(SIZE)
    run(TOOLS / 'mkstore', '--genkey', DIR / 'key.json')
    for name, options in (('plain', ()), ('encrypted', ('--key', DIR / 'key.json'))):
        run(TOOLS / 'mkstore', DIR / name, SNAPSHOT, *options, f'drive.img={DIR}/image')
    os.sync()		# or it is written while we measure
    (DIR / 'done').touch()


def index_of(store):
    return DIR / store / SNAPSHOT / 'drive.img.fidx'


def chunk_files(store):
    return (DIR / store / '.chunks').glob('*/*')


def raw_bytes(store):
    """Bytes of all chunk files but that of the zeros: it is read once or never."""
    sizes = [f.stat().st_size for f in chunk_files(store)]
    return sum(sizes) - min(sizes)


def warm(store):
    """The server's cache is warm in every row."""
    for f in chunk_files(store):
        f.read_bytes()


# ---- running things ----

def say(text):
    print(f'bench: {text}', file=sys.stderr, flush=True)


def run(*argv, **more):
    p = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **more)
    if p.returncode:
        raise RuntimeError(f'{argv}: {p.returncode}: {p.stderr}')
    return p.stdout


def stat_of(pid):
    """Fields of /proc/PID/stat from the third on."""
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    except OSError:
        return None


ended_ticks = [0]		# of mappings that are no more


def cpu_seconds(*pids):
    """CPU time so far of these processes, of the children and mappings that have ended, and of the kernel's threads. (What
    others on this machine use does not count.)"""
    ticks = ended_ticks[0]
    for pid in filter(str.isdigit, os.listdir('/proc')):
        stat = stat_of(pid)
        if stat and (int(pid) in pids or stat[1] == '2'):
            ticks += int(stat[11]) + int(stat[12])
    t = os.times()
    return ticks / os.sysconf('SC_CLK_TCK') + t.children_user + t.children_system


def busy():
    """Seconds that this machine's CPUs have worked so far, on whatever."""
    fields = pathlib.Path('/proc/stat').read_text().split('\n')[0].split()[1:]
    user, nice, system, _, _, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf('SC_CLK_TCK')


class Place:
    """Where an image comes from: repository, environment, options."""

    def __init__(self, store, host=None):
        self.store, self.host = store, host
        self.repo = host.repo() if host else str(DIR / store)
        self.env = {**os.environ, **(host.env() if host else {})}
        self.options = ['--keyfile', str(DIR / 'key.json')] if store == 'encrypted' else []

    def pbsmap(self, command, *more):
        return [PBSMAP, command, '--repository', self.repo, *self.options, *more, SNAPSHOT, 'drive.img']


class Mapped:
    """A mapping of a place, anew: nothing of the image is cached but at the source."""

    def __init__(self, place, *more):
        begin = time.monotonic()
        out = run(*place.pbsmap('map', '--json', *MAP_OPTIONS, *more), env=place.env)
        self.seconds = time.monotonic() - begin
        got = json.loads(out)
        self.device, self.pid = got['device'], got['pid']

    def peak(self):
        """MiB of memory its processes have had at most; what they share is counted in each."""
        texts = [pathlib.Path(f'/proc/{pid}/status').read_text() for pid in self.pids()]
        return sum(int(re.search(r'VmHWM:\s+(\d+)', text)[1]) for text in texts) / 1024

    def pids(self):
        """The monitor, its worker, and that one's broker."""
        out = [self.pid]
        for pid in out:
            out += map(int, pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split())
        return out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.pids():
            stat = stat_of(pid)
            ended_ticks[0] += int(stat[11]) + int(stat[12])
        run(PBSMAP, 'unmap', self.device)


# ---- readers ----

def dd(device, start, length, keep=False):
    """MB/s of a sequential reader. Unless it is to keep them, it gives the page cache's pages back as it goes: in a virtual
    machine whose host takes unused memory away, fresh pages cost more than all else (2 s a GB were seen). The kernel only drops
    whole folios, of up to 2 MiB: so the blocks must be larger than these."""
    block = 8 << 20
    begin = time.monotonic()
    run('dd', f'if={device}', 'of=/dev/null', f'bs={block}', f'skip={start // block}', f'count={length // block}',
        *([] if keep else ['iflag=nocache']))
    return length // block * block / (time.monotonic() - begin) / 1e6


class Direct:
    """Reads 4 KiB past the kernel's caches."""

    def __init__(self, device):
        self.fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
        self.buf = threading.local()

    def read(self, offset):
        """ms"""
        if not hasattr(self.buf, 'page'):
            self.buf.page = mmap.mmap(-1, 4096)
        begin = time.monotonic()
        if os.preadv(self.fd, [self.buf.page], offset) != 4096:
            raise RuntimeError('short read')
        return (time.monotonic() - begin) * 1e3

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)


def random_chunks(seed, count):
    """Offsets in as many chunks of the data part, none twice: none is cached."""
    r = random.Random(seed)
    chunks = r.sample(range(1, DATA // CHUNK), min(count, DATA // CHUNK - 1))
    return [c * CHUNK + r.randrange(CHUNK // 4096) * 4096 for c in chunks]


def random_reads(device, depth, count, seed):
    """Reads a second, `depth` at a time. The first ones fill the cache for the first time, with memory that was never
    used: they are not counted, for the same reason as in dd()."""
    todo = random_chunks(seed, count + FILLED)
    left, lock = list(todo), threading.Lock()

    def reader(until):
        while True:
            with lock:
                if len(left) <= until:
                    return
                offset = left.pop()
            d.read(offset)

    def read(until):
        threads = [threading.Thread(target=reader, args=(until,)) for _ in range(depth)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    with Direct(device) as d:
        rest = max(len(todo) - FILLED, len(todo) // 2)
        read(rest)
        begin = time.monotonic()
        read(0)
        return rest / (time.monotonic() - begin)
