"""What the machine can do at most: parts of pbsmap alone, and what they allow together."""
import os
import re
import subprocess
import tempfile

from bench_base import CHUNK, CPUS, DATA, DIR, RTT, SIZE, SNAPSHOT, TOOLS, chunk_files, cpu_seconds, dd, index_of, run


# ---- the parts alone ----

def rate_of_cpus(work, length, *pids):
    """Image bytes that one CPU-second of all that takes part is good for (MB/s)."""
    begin = cpu_seconds(*pids)
    work()
    return length / max(cpu_seconds(*pids) - begin, 0.01) / 1e6


def decode_alone(store, threads):
    key = DIR / 'key.json' if store == 'encrypted' else '-'
    return float(run(TOOLS / 'roof', 'decode', DIR / store, index_of(store), key, threads, 1))


def read_alone(store):
    """A directory's chunk files into memory, one after the other."""
    buf = bytearray(CHUNK + 4096)
    for path in chunk_files(store):
        with open(path, 'rb', buffering=0) as f:
            f.readinto(buf)


def receive_alone(place, *more):
    """Seconds to receive all chunks without decoding them (TLS, HTTP/2 and the server's work)."""
    out = run(TOOLS / 'sesget', '-q', *more, place.repo, SNAPSHOT, 'drive.img.fidx', env=place.env)
    return int(re.search(r'taken back, (\d+) ms', out)[1]) / 1e3


def fuse_alone(work):
    with tempfile.NamedTemporaryFile(prefix='pbsmap-bench') as f:
        p = subprocess.Popen([TOOLS / 'roof', 'fuse', f.name, str(SIZE >> 20)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        device = p.stdout.readline().strip()
        try:
            return work(device, p.pid)
        finally:
            p.stdin.close()
            p.wait(20)


def parts(places):
    """MB/s of image data: what each part does alone with one CPU (`wall`: as fast as it goes)."""
    out = {}
    for store in ('plain', 'encrypted'):
        out[f'decode {store}'] = decode_alone(store, 1)
        out[f'decode {store}, {CPUS} threads, each'] = decode_alone(store, CPUS)
        # The best of two and three: the first one finds the reader's pages untouched.
        out[f'read {store}'] = max(rate_of_cpus(lambda store=store: read_alone(store), DATA, os.getpid()) for _ in range(2))
    remote = places['server plain']
    # Of the whole index: the zero chunk is received as often as it occurs, and is next to nothing.
    seconds = []
    out['receive'] = max(rate_of_cpus(lambda: seconds.append(receive_alone(remote)), DATA, remote.host.proc.pid)
                         for _ in range(2))
    out['receive wall'] = DATA / min(seconds) / 1e6
    speeds = []
    out['fuse'] = fuse_alone(lambda d, pid: max(
        rate_of_cpus(lambda: speeds.append(dd(d, 0, DATA)), DATA, pid) for _ in range(3)))
    out['fuse wall'] = max(speeds)
    return out


def together(*rates):
    """What all CPUs do when each byte costs them all of these."""
    return CPUS / sum(1 / r for r in rates)


def limits(p):
    """The limit of each row, from the parts of this run: {name: figure}. What one image byte costs in all its stations is added
    up, and all CPUs together do no more: the reader's copy and the loop device's are in `fuse`, the server's work is in `receive`."""
    chunk = CHUNK / 1e6
    out = {}
    for store in ('plain', 'encrypted'):
        decode, read = p[f'decode {store}, {CPUS} threads, each'], p[f'read {store}']
        local, remote = f'local {store}', f'server {store}'
        out[f'sequential, {local}'] = together(decode, read, p['fuse'])
        out[f'sequential, {remote}'] = min(together(decode, p['receive'], p['fuse']), p['receive wall'])
        out[f'restore, {local}'] = together(decode, read) * SIZE / DATA
        out[f'restore, {local}, 1 CPU'] = together(p[f'decode {store}'], read) / CPUS * SIZE / DATA
        out[f'restore, {remote}'] = min(together(decode, p['receive']), p['receive wall']) * SIZE / DATA
        # One read is for one chunk, whose stations come one after the other.
        out[f'random 1, {local}'] = 1 / (chunk / read + chunk / p[f'decode {store}'])
        out[f'random 16, {local}'] = together(decode, read) / chunk
        fetch = chunk / p['receive wall'] + chunk / p[f'decode {store}']
        out[f'random 1, {remote}'] = 1 / fetch
        out[f'random 16, {remote}'] = together(decode, p['receive']) / chunk
        out[f'random 1, {remote}, {RTT} ms'] = 1 / (fetch + RTT / 1e3)
        out[f'random 16, {remote}, {RTT} ms'] = min(out[f'random 16, {remote}'], 16 / (fetch + RTT / 1e3))
        out[f'sequential, {remote}, {RTT} ms'] = out[f'sequential, {remote}']
        out[f'zeros, {local}'] = out[f'zeros, {remote}'] = p['fuse wall']
    return out
