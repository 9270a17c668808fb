"""Damage of every kind, found before mapping (one clear line, the right exit
status, nothing left behind) or after it: never a wrong byte."""
import hashlib
import os
import shutil
import struct
import subprocess
import time
import zlib

import pytest
import zstandard

import formats
from formats import Key, blob, raw_blob
from lib import DAMAGED, FAIL, IMAGES, KEYS, SUMS, T1, file_sum, mixed, place, read_device, wait_for

pytestmark = pytest.mark.root
NONE = Key(KEYS / 'none.json')
SNAP, DISK = f'vm/100/{T1}', 'drive-scsi0.img'


# ---- chunks ----

def flip(raw, at, bit=1):
    return raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1:]


def rewrite(st, snapshot, stored, n, change):
    path = st.chunk(st.index(snapshot, stored).entries[n][2])
    formats.write(path, change(path.read_bytes()))


BOMB = zstandard.ZstdCompressor(level=19).compress(bytes(200 << 20))
ZEROS_4M = bytes(4 << 20)
CHUNK_DAMAGE = {
    'magic': lambda raw: flip(raw, 0),
    'magic of another kind': lambda raw: formats.PLAIN + raw[8:],
    'CRC': lambda raw: flip(raw, 9),
    'payload': lambda raw: flip(raw, len(raw) // 2),
    'last byte': lambda raw: flip(raw, len(raw) - 1, 0x80),
    'longer': lambda raw: raw + b'\0',
    'empty': lambda raw: b'',
    'half a header': lambda raw: raw[:10],
    'a header alone': lambda raw: raw[:12],
    'half': lambda raw: raw[:len(raw) // 2],
    'one byte less': lambda raw: raw[:-1],
    'enormous': lambda raw: raw + bytes(200 << 20),
    'bomb': lambda raw: raw_blob(BOMB, True),
    'shorter data': lambda raw: blob(formats.unblob(raw)[:-1]),
    'longer data': lambda raw: blob(formats.unblob(raw) + b'\0'),
    'other data': lambda raw: blob(flip(formats.unblob(raw), 12345)),
    'other data, not packed': lambda raw: blob(flip(formats.unblob(raw), 12345), pack=False),
    'no zstd': lambda raw: raw_blob(b'this is not a zstd frame', True),
    'half a frame': lambda raw: raw_blob(raw[12:len(raw) // 2], True),
    'trailing bytes in the frame': lambda raw: raw_blob(raw[12:] + b'\0', True),
    'encrypted in a plain index': lambda raw: blob(formats.unblob(raw), NONE),
}


@pytest.mark.parametrize('how', CHUNK_DAMAGE)
def test_first_chunk_damaged(place, how):
    """Found before anything is mapped."""
    st = place.golden()
    rewrite(st, SNAP, f'{DISK}.fidx', 0, CHUNK_DAMAGE[how])
    text = place.fail(st, SNAP, DISK, DAMAGED, st.index(SNAP, f'{DISK}.fidx').entries[0][2].hex()[:4])
    assert 'offset 0' in text or '(0)' in text or 'byte 0' in text, text


def test_repacked_chunk_is_as_good(place):
    """What the damage above is made with does not itself do any."""
    st = place.golden()
    rewrite(st, SNAP, f'{DISK}.fidx', 0, lambda raw: blob(formats.unblob(raw), pack=False))
    rewrite(st, SNAP, f'{DISK}.fidx', 1, lambda raw: blob(formats.unblob(raw)))
    m = place.map(st, SNAP, DISK)
    assert file_sum(m.dev)[0] == SUMS['gpt.img']
    place.unmap(m.dev)


ENCRYPTED_DAMAGE = {
    'tag': lambda raw: flip(raw, 30),
    'IV': lambda raw: flip(raw, 15),
    'ciphertext': lambda raw: raw[:8] + struct.pack('<I', zlib.crc32(flip(raw, 60)[44:])) + flip(raw, 60)[12:],
    'half a header': lambda raw: raw[:30],
    'a header alone': lambda raw: raw[:44],
    'other data': lambda raw: blob(flip(formats.unblob(raw, NONE), 5), NONE),
    'plain in an encrypted index': lambda raw: blob(formats.unblob(raw, NONE)),
    'another key': lambda raw: blob(formats.unblob(raw, NONE), Key(KEYS / 'pbkdf2.json', 'golden-pass')),
    'bomb': lambda raw: raw_blob(BOMB, True, NONE),
}


@pytest.mark.parametrize('how', ENCRYPTED_DAMAGE)
def test_first_encrypted_chunk_damaged(place, how):
    st = place.golden()
    snapshot = IMAGES['encrypted0'][0]
    rewrite(st, snapshot, f'{DISK}.fidx', 0, ENCRYPTED_DAMAGE[how])
    place.fail(st, snapshot, DISK, DAMAGED, st.index(snapshot, f'{DISK}.fidx').entries[0][2].hex()[:4], key='none')


@pytest.mark.parametrize('how', ['missing', 'directory', 'fifo', 'link', 'loop of links'])
def test_first_chunk_is_no_file(place, how):
    st = place.golden()
    path = st.chunk(st.index(SNAP, f'{DISK}.fidx').entries[0][2])
    path.rename(place.dir / 'kept')
    if how == 'directory':
        path.mkdir()
    elif how == 'fifo':
        os.mkfifo(path)
    elif how == 'link':
        path.symlink_to('/dev/zero')
    elif how == 'loop of links':
        path.symlink_to(path)
    r = place.run(*place.map_args(st, SNAP, DISK), timeout=20)
    assert r.returncode in (DAMAGED, FAIL), r.stderr
    place.failed(r, r.returncode, path.name[:4])
    if how == 'missing':
        assert r.returncode == DAMAGED and 'missing' in r.stderr


# ---- index ----

def index_bytes(st, snapshot=SNAP):
    return (st.snapshot(snapshot) / f'{DISK}.fidx').read_bytes()


INDEX_DAMAGE = {
    'magic': lambda x: flip(x, 0),
    'dynamic magic': lambda x: formats.DYNAMIC + x[8:],
    'csum in the header': lambda x: flip(x, 33),
    'a digest': lambda x: flip(x, 4096 + 40),
    'size': lambda x: x[:64] + struct.pack('<Q', 31458816 - 512) + x[72:],
    'size beyond all': lambda x: x[:64] + struct.pack('<Q', 2**64 - 1) + x[72:],
    'chunk size 0': lambda x: x[:72] + struct.pack('<Q', 0) + x[80:],
    'chunk size 1': lambda x: x[:72] + struct.pack('<Q', 1) + x[80:],
    'chunk size odd': lambda x: x[:72] + struct.pack('<Q', 3 << 20) + x[80:],
    'chunk size 2^63': lambda x: x[:72] + struct.pack('<Q', 1 << 63) + x[80:],
    'a digest less': lambda x: x[:-32],
    'a digest more': lambda x: x + bytes(32),
    'a byte less': lambda x: x[:-1],
    'header only': lambda x: x[:4096],
    'half a header': lambda x: x[:100],
    'empty': lambda x: b'',
}


@pytest.mark.parametrize('how', INDEX_DAMAGE)
def test_index_damaged(place, how):
    st = place.golden()
    formats.write(st.snapshot(SNAP) / f'{DISK}.fidx', INDEX_DAMAGE[how](index_bytes(st)))
    place.fail(st, SNAP, DISK, DAMAGED, f'{DISK}.fidx')


@pytest.mark.parametrize('how', ['magic', 'size beyond all', 'chunk size 0', 'chunk size odd', 'chunk size 2^63', 'a digest more', 'header only'])
def test_index_damaged_with_right_checksums(place, how):
    """Somebody made index and manifest to fit each other."""
    st = place.golden()
    raw = INDEX_DAMAGE[how](index_bytes(st))
    raw = raw[:32] + hashlib.sha256(raw[4096:]).digest() + raw[64:]
    size, = struct.unpack('<Q', raw[64:72])
    st.put_index(SNAP, f'{DISK}.fidx', raw, size)
    place.fail(st, SNAP, DISK, DAMAGED)


def test_index_of_another_archive(place):
    st = place.golden()
    shutil.copy(st.snapshot(SNAP) / 'drive-scsi1.img.fidx', st.snapshot(SNAP) / f'{DISK}.fidx')
    place.fail(st, SNAP, DISK, DAMAGED, f'{DISK}.fidx')


def test_index_missing(place):
    st = place.golden()
    (st.snapshot(SNAP) / f'{DISK}.fidx').unlink()
    place.fail(st, SNAP, DISK, DAMAGED, f'{DISK}.fidx')


def test_index_of_encrypted_chunks_in_a_plain_manifest(place):
    """The archive's index swapped for one whose chunks somebody else encrypted, and the other way round."""
    st = place.golden()
    raw = index_bytes(st, IMAGES['encrypted0'][0])
    st.put_index(SNAP, f'{DISK}.fidx', raw, 31458816)
    place.fail(st, SNAP, DISK, DAMAGED)
    st = place.golden('st2')
    other = IMAGES['encrypted0'][0]
    st.put_index(other, f'{DISK}.fidx', index_bytes(st), 31458816, key=NONE)
    place.fail(st, other, DISK, DAMAGED, key='none')


# ---- manifest ----

def test_manifest_blob_damaged(place):
    for how, change in {'crc': lambda r: flip(r, 9), 'magic': lambda r: flip(r, 0), 'half': lambda r: r[:100], 'empty': lambda r: b'',
                        'bomb': lambda r: raw_blob(BOMB, True), 'no JSON': lambda r: blob(b'nonsense'), 'no object': lambda r: blob(b'[]'),
                        'empty object': lambda r: blob(b'{}'), 'NUL': lambda r: blob(formats.unblob(r) + b'\0'),
                        'deep': lambda r: blob(b'[' * 100000), 'encrypted': lambda r: blob(formats.unblob(r), NONE)}.items():
        st = place.golden(how.replace(' ', ''))
        path = st.snapshot(SNAP) / 'index.json.blob'
        formats.write(path, change(path.read_bytes()))
        place.fail(st, SNAP, DISK, DAMAGED, 'manifest|index.json')


MANIFEST_DAMAGE = {
    'no files': lambda m: m.pop('files'),
    'files of a wrong type': lambda m: m.update(files={}),
    'no size': lambda m: m['files'][0].pop('size'),
    'negative size': lambda m: m['files'][0].update(size=-1),
    'size as text': lambda m: m['files'][0].update(size='31458816'),
    'no csum': lambda m: m['files'][0].pop('csum'),
    'short csum': lambda m: m['files'][0].update(csum='00'),
    'wrong csum': lambda m: m['files'][0].update(csum='0' * 64),
    'wrong size': lambda m: m['files'][0].update(size=31458816 + 512),
    'odd crypt mode': lambda m: m['files'][0].update({'crypt-mode': 'rot13'}),
    'name with a slash': lambda m: m['files'][0].update(filename='../drive-scsi0.img.fidx'),
    'a file twice': lambda m: m['files'].append(m['files'][0]),
    'another group': lambda m: m.update({'backup-id': '101'}),
    'another type': lambda m: m.update({'backup-type': 'ct'}),
    'another time': lambda m: m.update({'backup-time': 5}),
}


@pytest.mark.parametrize('how', MANIFEST_DAMAGE)
def test_manifest_says_something_else(place, how):
    st = place.golden()
    m = st.manifest(SNAP)
    MANIFEST_DAMAGE[how](m)
    st.put_manifest(SNAP, m)
    place.fail(st, SNAP, DISK, DAMAGED)


# ---- damage found after mapping ----

@pytest.fixture
def long_image(place):
    data = mixed(40 << 20)
    st = place.store(f'vm/1/{T1}', '--chunk-size', '1M', a_img=data)
    return data, st


def expect_eio(dev, offset, length):
    with pytest.raises(OSError) as e:
        read_device(dev, offset, length, direct=True)
    assert e.value.errno == 5


LATER = {'missing': None, 'damaged': lambda raw: flip(raw, len(raw) // 2), 'shortened': lambda raw: raw[:100], 'other': lambda raw: blob(b'x' * (1 << 20)),
         'empty': lambda raw: b'', 'bomb': lambda raw: raw_blob(BOMB, True)}


@pytest.mark.parametrize('how', LATER)
def test_damage_after_mapping(place, long_image, how):
    """EIO for that chunk only; everything else stays readable; and once the file is back, so is this."""
    data, st = long_image
    entries = st.index(f'vm/1/{T1}', 'a.img.fidx').entries
    m = place.map(st, f'vm/1/{T1}', 'a.img', opts=['--no-read-ahead'])
    bad = next(n for n in range(20, 40) if sum(e[2] == entries[n][2] for e in entries) == 1)
    path = st.chunk(entries[bad][2])
    good = path.read_bytes()
    if how == 'missing':
        path.rename(place.dir / 'kept')
    else:
        formats.write(path, LATER[how](good))
    at = bad << 20
    for start, n in ((at, 4096), (at + (1 << 20) - 4096, 4096), (at - 4096, 8192), (at, 1 << 20)):
        expect_eio(m.dev, start, n)
    for n in range(40):
        if n != bad:
            assert read_device(m.dev, n << 20, 1 << 20, direct=True) == data[n << 20:(n + 1) << 20], n
    with open(m.file, 'rb') as f:
        with pytest.raises(OSError):
            os.pread(f.fileno(), 4096, at)
        assert os.pread(f.fileno(), 4096, at - 4096) == data[at - 4096:at]
    path.unlink(missing_ok=True)
    path.write_bytes(good)
    wait_for(lambda: readable(m.dev, at, 1 << 20), 5)
    assert read_device(m.dev, at, 1 << 20, direct=True) == data[at:at + (1 << 20)]
    place.unmap(m.dev)


def readable(dev, at, n):
    try:
        return read_device(dev, at, n, direct=True)
    except OSError:
        return None


def test_all_chunks_gone(place, long_image):
    """A store that vanished: errors at once, no hang; unmap works."""
    data, st = long_image
    m = place.map(st, f'vm/1/{T1}', 'a.img', opts=['--no-read-ahead'])
    st.path.rename(place.dir / 'away')
    for p in (place.dir / 'away' / '.chunks').iterdir():
        shutil.rmtree(p)
    start = time.monotonic()
    for n in range(1, 40):
        if data[n << 20:(n + 1) << 20].strip(b'\0'):
            got = readable(m.dev, n << 20, 4096)
            assert got is None or got == data[n << 20:(n << 20) + 4096]
    assert time.monotonic() - start < 5
    place.unmap(m.dev)


def test_store_moved_while_mapped(place, long_image):
    """Its directories are held open: a moved or remounted path does no harm."""
    data, st = long_image
    m = place.map(st, f'vm/1/{T1}', 'a.img')
    st.path.rename(place.dir / 'moved')
    assert file_sum(m.dev)[0] == hashlib.sha256(data).hexdigest()
    place.unmap(m.dev)


def test_errors_do_not_spoil_neighbours_in_one_large_read(place, long_image):
    """Readers of good chunks run beside readers of a bad one."""
    data, st = long_image
    entries = st.index(f'vm/1/{T1}', 'a.img.fidx').entries
    bad = next(n for n in range(20, 40) if sum(e[2] == entries[n][2] for e in entries) == 1)
    st.chunk(entries[bad][2]).unlink()
    m = place.map(st, f'vm/1/{T1}', 'a.img')
    reader = subprocess.Popen(['dd', f'if={m.dev}', 'of=' + str(place.dir / 'out'), 'bs=1M', 'iflag=direct', 'conv=noerror,sync'],
                              stderr=subprocess.DEVNULL)
    for _ in range(3):
        for n in (1, bad - 1, bad + 1, 39):
            assert read_device(m.dev, n << 20, 1 << 20, direct=True) == data[n << 20:(n + 1) << 20]
    assert reader.wait(60) is not None
    got = (place.dir / 'out').read_bytes()
    assert got == data[:bad << 20] + bytes(1 << 20) + data[(bad + 1) << 20:]
    place.unmap(m.dev)
