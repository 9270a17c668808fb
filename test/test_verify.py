"""verify: what is whole is called whole; every kind of damage, alone and together, is found, and nothing else."""
import json
import random
import re
import signal
import subprocess
import time

import pytest

import formats
from formats import Key
from lib import DAMAGED, DONE, FAIL, GOLDEN, KEYS, PBSMAP, T1, TRUST, USAGE, mixed, place
from server import Server
from test_damage import CHUNK_DAMAGE, flip

STORE = GOLDEN / 'store'
SNAP = f'vm/100/{T1}'
NONE = Key(KEYS / 'none.json')
CHUNK = 4 << 20


def verify(place, *args, store=STORE, key=None, status=DONE, env=None, **kw):
    args = ['verify', '--quiet', '--repository', store if '@' in str(store) else f'file:{store}',
            *(['--keyfile', KEYS / f'{key}.json'] if key else []), *args]
    env = {**({'PBS_ENCRYPTION_PASSWORD': 'golden-pass'} if key in ('scrypt', 'pbkdf2') else {}), **(env or {})}
    r = place.run(*args, env=env, **kw)
    assert r.returncode == status, (r.returncode, r.stdout, r.stderr)
    return r


def damaged(r):
    """(archive, offset) of each line but the last, and the last line."""
    *lines, last = r.stdout.splitlines()
    found = [re.fullmatch(r'(\S+): offset (\d+), [\d.]+ \w+(?:, in partition (.*?))?: chunk ([0-9a-f]{64}): (.*)', x) for x in lines]
    assert all(found), r.stdout
    return [(m[1], int(m[2])) for m in found], last


WHOLE = [(SNAP, None, ()), ('vm/100', None, ()), (f'vm/101/{T1}', 'none', ()), (f'vm/102/{T1}', 'scrypt', ()), (f'vm/103/{T1}', 'pbkdf2', ()),
         (f'host/signed/{T1}', 'none', ()), (f'host/files/{T1}', None, ()), ('host/files/2026-02-03T04:05:06Z', 'none', ()),
         (f'host/split/{T1}', None, ()), ('host/split/2026-02-03T04:05:06Z', 'none', ()), (f'host/nested/{T1}', None, ('--ns', 'a/b'))]


@pytest.mark.parametrize('snapshot, key, opts', WHOLE)
def test_whole(place, snapshot, key, opts):
    r = verify(place, *opts, snapshot, key=key)
    files = len(formats.Store(STORE).manifest(re.sub(r'^vm/100$', 'vm/100/2026-02-03T04:05:06Z', snapshot),
                                              opts[1] if opts else '')['files'])
    assert re.fullmatch(rf'{snapshot}\S*: {files} archives?, \d+ chunks? \([\d.]+ \w+\): all good\n', r.stdout), r.stdout
    assert r.stderr == ''


@pytest.mark.parametrize('snapshot', [s for s, key, _ in WHOLE if key])
def test_without_the_key_it_says_that_it_is_less(place, snapshot):
    r = verify(place, snapshot)
    assert 'signature was not checked (no key)' in r.stdout
    assert ('only checksums and lengths' in r.stdout) == ('signed' not in snapshot)


def test_chosen_archives(place):
    st = place.golden()
    x = st.index(SNAP, 'drive-scsi1.img.fidx')
    st.chunk(x.entries[1][2]).unlink()
    assert '1 archive, ' in verify(place, SNAP, 'drive-scsi0.img', store=st).stdout
    assert '2 archives, ' in verify(place, SNAP, 'drive-efidisk0.img', 'qemu-server.conf.blob', store=st).stdout
    verify(place, SNAP, 'drive-scsi1.img', store=st, status=DAMAGED)
    assert 'it holds: ' in verify(place, SNAP, 'nosuch.img', store=st, status=FAIL).stderr
    verify(place, store=st, status=USAGE)


@pytest.mark.parametrize('what', CHUNK_DAMAGE)
def test_a_damaged_chunk(place, what):
    st = place.golden()
    x = st.index(SNAP, 'drive-scsi0.img.fidx')
    start, _, d = x.entries[1]
    formats.write(st.chunk(d), CHUNK_DAMAGE[what](st.chunk(d).read_bytes()))
    r = verify(place, SNAP, store=st, status=DAMAGED)
    want = [(a, s) for a in ('drive-scsi0.img', 'drive-scsi1.img') for s, _, e in st.index(SNAP, a + '.fidx').entries if e == d]
    assert damaged(r)[0] == want and '1 chunk and 0 files damaged' in r.stdout
    assert 'in partition 1 (root)' in r.stdout


# Those that need no key to be made.
RAW_DAMAGE = list(CHUNK_DAMAGE)[:list(CHUNK_DAMAGE).index('bomb') + 1]


@pytest.mark.parametrize('what', RAW_DAMAGE)
def test_a_damaged_encrypted_chunk(place, what):
    st = place.golden()
    snap = f'vm/101/{T1}'
    d = st.index(snap, 'drive-scsi0.img.fidx').entries[1][2]
    formats.write(st.chunk(d), CHUNK_DAMAGE[what](st.chunk(d).read_bytes()))
    r = verify(place, snap, store=st, key='none', status=DAMAGED)
    assert ('drive-scsi0.img', CHUNK) in damaged(r)[0] and '1 chunk and 0 files damaged' in r.stdout
    r = verify(place, snap, store=st, status=DAMAGED)
    assert ('drive-scsi0.img', CHUNK) in damaged(r)[0]


def test_only_the_key_sees_a_wrong_tag(place):
    """A right CRC over changed data: without the key not to be seen, with it found."""
    st = place.golden()
    snap = f'vm/101/{T1}'
    d = st.index(snap, 'drive-scsi0.img.fidx').entries[1][2]
    raw = st.chunk(d).read_bytes()
    body = flip(raw[44:], 100)
    import struct
    import zlib
    formats.write(st.chunk(d), raw[:8] + struct.pack('<I', zlib.crc32(body)) + raw[12:44] + body)
    verify(place, snap, store=st)
    r = verify(place, snap, store=st, key='none', status=DAMAGED)
    assert 'wrong tag' in r.stdout and ('drive-scsi0.img', CHUNK) in damaged(r)[0]


def test_length_of_uncompressed_encrypted_chunks_is_seen_without_the_key(place):
    data = random.Random(3).randbytes(65536)
    st = place.store(f'vm/1/{T1}', '--chunk-size', 65536, '--key', KEYS / 'none.json', '--compress', 'off', drive_img=data)
    d = st.index(f'vm/1/{T1}', 'drive.img.fidx').entries[0][2]
    assert st.chunk(d).read_bytes()[:8] == formats.SEALED
    verify(place, f'vm/1/{T1}', store=st)
    formats.write(st.chunk(d), formats.blob(data[:-1], NONE, pack=False))
    assert 'wrong length' in verify(place, f'vm/1/{T1}', store=st, status=DAMAGED).stdout


def test_much_damage_is_named_exactly(place):
    """Of 512 chunks, forty at random, some used several times, some zero, in two archives."""
    data = bytearray(mixed(32 << 20, 11))
    data[10 << 20:12 << 20] = bytes(2 << 20)
    data[20 << 20:22 << 20] = data[1 << 20:3 << 20]
    st = place.store(f'vm/1/{T1}', '--chunk-size', 65536, a_img=bytes(data), b_img=bytes(data[8 << 20:16 << 20]) + b'end',
                     f_pxar=mixed(3 << 20, 12))
    r = random.Random(13)
    archives = {n: st.index(f'vm/1/{T1}', n + s).entries for n, s in (('a.img', '.fidx'), ('b.img', '.fidx'), ('f.pxar', '.didx'))}
    digests = sorted({d for e in archives.values() for _, _, d in e})
    bad = set(r.sample(digests, 40))
    for d in sorted(bad):
        what = r.choice([w for w in RAW_DAMAGE if w not in ('enormous', 'bomb')])
        formats.write(st.chunk(d), CHUNK_DAMAGE[what](st.chunk(d).read_bytes())) if r.random() < 0.7 else st.chunk(d).unlink()
    want = [(n, s) for n in archives for s, _, d in archives[n] if d in bad]
    assert len(want) > 45
    got, last = damaged(verify(place, f'vm/1/{T1}', store=st, status=DAMAGED))
    assert sorted(got) == sorted(want) and '40 chunks and 0 files damaged' in last
    assert f'{len(digests)} chunks' in last


def test_damaged_files(place):
    """Indexes and blobs; what else there is, is checked all the same."""
    st = place.golden()
    at = st.snapshot(SNAP)
    for name, change in (('drive-scsi0.img.fidx', lambda b: flip(b, 4200)), ('qemu-server.conf.blob', lambda b: flip(b, len(b) - 1))):
        formats.write(at / name, change((at / name).read_bytes()))
    (at / 'drive-efidisk0.img.fidx').unlink()
    d = st.index(SNAP, 'drive-scsi1.img.fidx').entries[1][2]
    st.chunk(d).unlink()
    r = verify(place, SNAP, store=st, status=DAMAGED)
    lines = r.stdout.splitlines()
    assert len(lines) == 5 and '4 archives' in lines[-1] and '1 chunk and 3 files damaged' in lines[-1]
    for name, words in (('drive-scsi0.img.fidx', 'wrong checksum'), ('qemu-server.conf.blob', 'another checksum'),
                        ('drive-efidisk0.img.fidx', ''), ('drive-scsi1.img', 'missing')):
        assert sum(x.startswith(name + ': ') and words in x for x in lines) == 1, (name, lines)


def test_manifest(place):
    st = place.golden()
    path = st.snapshot(SNAP) / 'index.json.blob'
    raw = path.read_bytes()
    formats.write(path, flip(raw, 30))
    assert 'manifest' in verify(place, SNAP, store=st, status=DAMAGED).stderr
    formats.write(path, raw)
    snap = f'vm/101/{T1}'
    m = st.manifest(snap)
    m['files'][0]['size'] += 1
    st.put_manifest(snap, m)
    assert 'wrong signature' in verify(place, snap, store=st, key='none', status=TRUST).stderr
    assert 'fingerprint' in verify(place, snap, store=st, key='scrypt', status=TRUST).stderr
    assert 'size' in verify(place, snap, store=st, status=DAMAGED).stdout
    verify(place, 'vm/100/2026-03-04T05:06:07Z', store=st, status=DAMAGED)


def test_a_file_that_is_none(place):
    st = place.golden()
    d = st.index(SNAP, 'drive-scsi1.img.fidx').entries[1][2]
    st.chunk(d).unlink()
    st.chunk(d).mkdir()
    r = verify(place, SNAP, store=st, status=DAMAGED)
    assert 'no regular file' in r.stdout


def test_each_chunk_once(place):
    """However often and by how many archives it is used: counted by the server."""
    data = mixed(4 << 20, 21)
    st = place.store(f'vm/1/{T1}', '--chunk-size', 65536, a_img=data * 2, b_img=data)
    n = len({d for _, _, d in st.index(f'vm/1/{T1}', 'a.img.fidx').entries})
    with Server(st) as s:
        r = verify(place, f'vm/1/{T1}', store=s.repo(), env=s.env())
        assert f'2 archives, {n} chunks' in r.stdout and s.stats()['chunks'] == n
        st.chunk(st.index(f'vm/1/{T1}', 'b.img.fidx').entries[7][2]).unlink()
        r = verify(place, f'vm/1/{T1}', store=s.repo(), env=s.env(), status=DAMAGED)
        assert len(damaged(r)[0]) == 3


@pytest.mark.parametrize('snapshot, key, opts', [w for w in WHOLE if w[1] != 'scrypt'])
def test_server(place, snapshot, key, opts):
    with Server(STORE) as s:
        r = verify(place, *opts, snapshot, key=key, store=s.repo(), env=s.env())
        assert r.stdout == verify(place, *opts, snapshot, key=key).stdout


def test_interrupted(place):
    st = place.store(f'vm/1/{T1}', '--chunk-size', 65536, drive_img=mixed(8 << 20, 9))
    p = subprocess.Popen([PBSMAP, 'verify', '--limit', '1M', '--repository', st.path, f'vm/1/{T1}'], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=5)
    assert p.returncode == FAIL and b'interrupted' in err and b'all good' not in out


def test_progress(place):
    st = place.store(f'vm/1/{T1}', '--chunk-size', 65536, drive_img=mixed(8 << 20, 9))
    r = place.run('verify', '--limit', '2M', '--progress=json', '--repository', st, f'vm/1/{T1}')
    lines = [json.loads(x) for x in r.stderr.splitlines()]
    assert r.returncode == DONE and lines[-1]['done'] == lines[-1]['total'] > 0 and len(r.stdout.splitlines()) == 1
