"""Images whose index is large: from a directory and from a server, in little memory."""
import os
import random
import re

import pytest

import server
from formats import fixed_index
from lib import FAIL, T1, mixed, place, read_device		# noqa: F401

pytestmark = [pytest.mark.root, pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason='sanitizers need more')]
CHUNK = 4 << 20
KINDS = 12			# different chunks with data
SNAP = f'vm/1/{T1}'


def memory(m):
    """MiB at most of the two processes of a mapping."""
    kib = 0
    for pid in m.pid, m.worker:
        with open(f'/proc/{pid}/status', encoding='ascii') as f:
            kib += int(re.search(r'VmHWM:\s+(\d+)', f.read())[1])
    return kib / 1024


def kind_of(chunk):
    """Which data a chunk has: every fourth some, in no order, the others none."""
    return (chunk // 4 * 2654435761 >> 9) % KINDS if chunk % 4 == 0 else None


def enlarge(st, chunks):
    """The snapshot's image becomes one of so many chunks, made of the few that are there."""
    here = [d for _, _, d in st.index(SNAP, 'a.img.fidx').entries]
    kinds, zero = here[:KINDS], here[KINDS]
    index = fixed_index(chunks * CHUNK, CHUNK, [zero if kind_of(c) is None else kinds[kind_of(c)] for c in range(chunks)])
    st.put_index(SNAP, 'a.img.fidx', index, chunks * CHUNK)


@pytest.fixture(name='data')
def _data():
    return mixed(KINDS * CHUNK)


@pytest.fixture(name='store')
def _store(place, data):
    return place.store(SNAP, a_img=data + bytes(CHUNK))


def read_all_over(m, data, chunks):
    r = random.Random(chunks)
    places = [0, chunks * CHUNK - 4096] + [r.randrange(chunks // 4) * 4 * CHUNK + r.randrange(CHUNK // 4096) * 4096 for _ in range(60)]
    for at in places:
        k = kind_of(at // CHUNK)
        want = bytes(4096) if k is None else data[k * CHUNK + at % CHUNK:][:4096]
        assert read_device(m.dev, at, 4096, direct=True) == want, at
    start = chunks // 2 // 4 * 4
    got = read_device(m.dev, start * CHUNK, 16 * CHUNK)
    for i in range(16):
        k = kind_of(start + i)
        assert got[i * CHUNK:(i + 1) * CHUNK] == (bytes(CHUNK) if k is None else data[k * CHUNK:(k + 1) * CHUNK]), i


@pytest.fixture(name='at', params=['directory', 'server'])
def _at(request, store):
    """Repository and environment of the store, one way or the other."""
    if request.param == 'directory':
        yield store, {}
    else:
        with server.Server(store, 'golden') as s:
            yield s.repo('test@pbs!tok'), s.env('test@pbs!tok')


def test_a_tebibyte_in_40_mebibytes(place, store, data, at):
    chunks = (1 << 40) // CHUNK
    enlarge(store, chunks)
    m = place.map(at[0], SNAP, 'a.img', opts=['--cache', '16M'], env=at[1])
    assert m.size == chunks * CHUNK
    begin = memory(m)
    read_all_over(m, data, chunks)
    print(f'1 TiB with --cache 16M: {begin:.1f} MiB after map, {memory(m):.1f} MiB at most')
    assert memory(m) < 40
    place.unmap(m.dev)


def test_an_index_that_does_not_fit_is_said(place, store, at):
    """8 TiB: 64 MiB of index."""
    enlarge(store, (8 << 40) // CHUNK)
    r = place.run(*place.map_args(at[0], SNAP, 'a.img', opts=['--cache', '16M']), env=at[1], wrap=['prlimit', '--as=60000000'])
    place.failed(r, FAIL, 'a.img.fidx.*memory')
