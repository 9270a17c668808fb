"""restore: what is half done is never told as done."""
import subprocess

import pytest

from lib import BUSY, DAMAGED, FAIL, PBSMAP, T1, USAGE, mixed, place  # noqa: F401
from test_restore import DISK, SNAP, STORE, restore


@pytest.fixture
def holes(place):
    """An image of zeros but for four chunks."""
    data = bytearray(32 << 20)
    for n in (5, 77, 300, 400):
        data[n << 16:(n + 1) << 16] = mixed(1 << 16, n)
    place.data = bytes(data)
    return place.store(f'vm/1/{T1}', '--chunk-size', 65536, name='holes', drive_img=place.data)


def test_a_blank_is_not_what_was_written(place, holes):
    """Zeros are on every blank disk: they do not show that it is the one that the state speaks of."""
    state, out = place.dir / 'state', place.dir / 'out'
    chunk = holes.chunk(holes.index(f'vm/1/{T1}', 'drive.img.fidx').entries[400][2])
    kept = chunk.read_bytes()
    chunk.unlink()
    restore(place, '--yes', '--resume', state, f'vm/1/{T1}', 'drive.img', out, store=holes, status=DAMAGED)
    assert state.exists()
    chunk.write_bytes(kept)
    out.write_bytes(bytes(32 << 20))
    r = place.run('restore', '--repository', f'file:{holes}', '--yes', '--resume', state, f'vm/1/{T1}', 'drive.img', out)
    assert r.returncode == BUSY or out.read_bytes() == place.data


def test_a_failed_sync_is_not_forgotten(place):
    """The kernel tells of lost writes once; the next fsync succeeds."""
    trace = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fsync', '-e', 'inject=fsync:error=EIO:when=1']
    r = subprocess.run([*trace, PBSMAP, 'restore', '--repository', STORE, '--resume', place.dir / 'state', SNAP, DISK,
                        place.dir / 'out'], capture_output=True, text=True, check=False)
    assert r.returncode == FAIL and 'cannot bring' in r.stderr and 'restored,' not in r.stderr


def test_delta_is_not_sparse(place):
    restore(place, '--delta', '--sparse', SNAP, DISK, place.dir / 'out', status=USAGE)
