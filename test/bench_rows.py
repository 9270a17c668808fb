"""The rows of make bench that read images: ROWS. A row's second word says from where."""
import re
import statistics
import subprocess
import threading
import time

from bench_base import CHUNK, DATA, RTT, SIZE, Direct, Mapped, dd, random_chunks, random_reads


# ---- rows: each returns a figure; the round is the seed ----

def sequential(place, _):
    with Mapped(place) as m:
        return dd(m.device, 0, DATA)


def sequential_kept(place, _):
    with Mapped(place) as m:
        return dd(m.device, 0, DATA // 2, keep=True)


def zeros(place, _):
    with Mapped(place) as m:
        return dd(m.device, DATA, SIZE - DATA)


def random_1(place, seed):
    with Mapped(place) as m:
        return random_reads(m.device, 1, 100, seed)


def random_16(place, seed):
    with Mapped(place) as m:
        return random_reads(m.device, 16, 400, seed)


def restore(place, _, *before):
    """MB/s of the whole image to nowhere, zeros and all."""
    argv = [*before, *place.pbsmap('restore')]
    begin = time.monotonic()
    with open('/dev/null', 'wb') as null:
        p = subprocess.run([*argv, '-'], env=place.env, stdout=null, stderr=subprocess.PIPE, check=False)
    if p.returncode:
        raise RuntimeError(p.stderr)
    return SIZE / (time.monotonic() - begin) / 1e6


def restore_1(place, _):
    """With one CPU: what it is short of the row before tells how decoding grows with them."""
    return restore(place, _, 'taskset', '-c', '0')


def map_time(place, _):
    with Mapped(place) as m:
        return m.seconds * 1e3


def memory(place, seed):
    with Mapped(place) as m:
        dd(m.device, 0, DATA)
        random_reads(m.device, 16, 100, seed)
        return m.peak()


def latencies(place, seed, with_dd):
    """ms of reads of uncached and of cached blocks, each a median, and the worst cached one; beside a dd or alone."""
    def reader():
        while not stop.is_set():
            dd(m.device, 0, DATA // 2)

    stop, fresh, again = threading.Event(), [], []
    with Mapped(place) as m, Direct(m.device) as d:
        t = threading.Thread(target=reader)
        if with_dd:
            t.start()
            time.sleep(1)
        for offset in random_chunks(seed, 400):
            if offset < DATA // 2 + CHUNK:
                continue
            fresh.append(d.read(offset))
            again.append(d.read(offset ^ 4096))
            if len(fresh) == 100:
                break
        stop.set()
        if with_dd:
            t.join()
    return statistics.median(fresh), statistics.median(again), max(again)


def cliff(place, seed):
    """How many times longer an uncached read takes beside a dd."""
    return latencies(place, seed, True)[0] / latencies(place, seed, False)[0]


def cliff_cached(place, seed):
    return latencies(place, seed, True)[1]


ROWS = (
    # name, unit, function, the official client's figures where they are known
    ('sequential, local plain', 'MB/s', sequential, ''),
    ('sequential, local encrypted', 'MB/s', sequential, ''),
    ('sequential, server plain', 'MB/s', sequential, '144-188'),
    ('sequential, server encrypted', 'MB/s', sequential, ''),
    ('sequential kept, server plain', 'MB/s', sequential_kept, ''),
    (f'sequential, server plain, {RTT} ms', 'MB/s', sequential, '93'),
    (f'sequential, server encrypted, {RTT} ms', 'MB/s', sequential, ''),
    ('zeros, local plain', 'MB/s', zeros, ''),
    ('zeros, server plain', 'MB/s', zeros, '383'),
    ('random 1, local plain', '/s', random_1, ''),
    ('random 1, local encrypted', '/s', random_1, ''),
    ('random 1, server plain', '/s', random_1, '85'),
    ('random 1, server encrypted', '/s', random_1, ''),
    (f'random 1, server plain, {RTT} ms', '/s', random_1, ''),
    ('random 16, local plain', '/s', random_16, ''),
    ('random 16, local encrypted', '/s', random_16, ''),
    ('random 16, server plain', '/s', random_16, '169'),
    ('random 16, server encrypted', '/s', random_16, ''),
    (f'random 16, server plain, {RTT} ms', '/s', random_16, '39'),
    ('restore, local plain', 'MB/s', restore, ''),
    ('restore, local plain, 1 CPU', 'MB/s', restore_1, ''),
    ('restore, local encrypted', 'MB/s', restore, ''),
    ('restore, server plain', 'MB/s', restore, '440-500'),
    ('restore, server encrypted', 'MB/s', restore, ''),
    ('map, server plain', 'ms', map_time, '95'),
    ('map, local plain', 'ms', map_time, ''),
    ('memory, server plain', 'MiB', memory, '58'),
    ('memory, local plain', 'MiB', memory, ''),
    ('uncached beside dd, server plain', 'times', cliff, ''),
    ('cached beside dd, server plain', 'ms', cliff_cached, ''),
)
