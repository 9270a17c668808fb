"""mkstore against the fixtures and against a reader that shares nothing with it."""
import hashlib
import json
import subprocess

import pytest

import formats
from formats import Key, Store
from lib import GOLDEN, KEYS, SUMS, T1, mixed, mkstore, tool

GOLD = Store(GOLDEN / 'store')
NONE = Key(KEYS / 'none.json')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """The golden images, out of the golden store."""
    d = tmp_path_factory.mktemp('images')
    for name, snapshot, stored in (('gpt', f'vm/100/{T1}', 'drive-scsi0.img.fidx'), ('mbr', f'vm/100/{T1}', 'drive-scsi1.img.fidx')):
        data = GOLD.content(snapshot, stored)
        assert hashlib.sha256(data).hexdigest() == SUMS[f'{name}.img']
        (d / f'{name}.img').write_bytes(data)
    return d


def test_same_digests_as_the_real_client(images, tmp_path):
    mkstore(tmp_path / 's', f'vm/100/{T1}', f'drive-scsi0.img={images}/gpt.img', f'drive-scsi1.img={images}/mbr.img')
    new, old = Store(tmp_path / 's').manifest(f'vm/100/{T1}'), GOLD.manifest(f'vm/100/{T1}')
    assert new['files'] == [f for f in old['files'] if f['filename'].startswith('drive-scsi')]
    assert set(new) == set(old) and new['signature'] is None
    assert all(new[k] == old[k] for k in ('backup-id', 'backup-type', 'backup-time'))
    for f in new['files']:
        a, b = (s.index(f'vm/100/{T1}', f['filename']) for s in (Store(tmp_path / 's'), GOLD))
        a.check()
        assert (a.entries, a.size, a.chunk_size) == (b.entries, b.size, b.chunk_size)
        for _, _, d in a.entries:
            raw = Store(tmp_path / 's').chunk(d).read_bytes()
            assert formats.unblob(raw) == formats.unblob(GOLD.chunk(d).read_bytes())
            assert raw[:8] == GOLD.chunk(d).read_bytes()[:8]


def test_encrypted_digests_as_the_real_client(images, tmp_path):
    mkstore(tmp_path / 's', f'vm/101/{T1}', '--key', KEYS / 'none.json', f'drive-scsi0.img={images}/gpt.img')
    s = Store(tmp_path / 's')
    new, old = s.manifest(f'vm/101/{T1}'), GOLD.manifest(f'vm/101/{T1}')
    assert new['files'][0] == old['files'][0]
    assert new['unprotected']['key-fingerprint'] == old['unprotected']['key-fingerprint'] == NONE.fingerprint
    assert new['signature'] == formats.sign(new, NONE)
    assert old['signature'] == formats.sign(old, NONE)
    assert hashlib.sha256(s.content(f'vm/101/{T1}', 'drive-scsi0.img.fidx', key=NONE)).hexdigest() == SUMS['gpt.img']


def test_signed_manifest_as_the_real_client(images, tmp_path):
    mkstore(tmp_path / 's', f'host/signed/{T1}', '--sign', KEYS / 'none.json', f'drive-scsi1.img={images}/mbr.img')
    new, old = Store(tmp_path / 's').manifest(f'host/signed/{T1}'), GOLD.manifest(f'host/signed/{T1}')
    assert new['files'] == old['files'] and new['signature'] == old['signature']


@pytest.mark.parametrize('options', [
    [], ['--compress', 'none'], ['--compress', '9'], ['--no-content-size'], ['--flush-blocks'],
    ['--flush-blocks', '--no-content-size'], ['--threads', '1'], ['--threads', '5']], ids=' '.join)
@pytest.mark.parametrize('key', [None, NONE], ids=['plain', 'encrypted'])
@pytest.mark.parametrize('chunk', ['64K', '512K', '4M'])
def test_every_way_to_write(tmp_path, options, key, chunk):
    data = mixed(5_000_001, seed=len(options))
    (tmp_path / 'f').write_bytes(data)
    keys = ['--key', KEYS / 'none.json'] if key else []
    mkstore(tmp_path / 's', f'ct/7/{T1}', '--ns', 'x/y', '--chunk-size', chunk, *options, *keys,
            *(f'{n}={tmp_path}/f' for n in ('a.img', 'b.pxar', 'c.conf')))
    s = Store(tmp_path / 's')
    x = s.index(f'ct/7/{T1}', 'a.img.fidx', 'x/y')
    assert x.chunk_size == {'64K': 65536, '512K': 524288, '4M': 4194304}[chunk]
    man = s.manifest(f'ct/7/{T1}', 'x/y')
    for f in man['files']:
        raw = (s.snapshot(f'ct/7/{T1}', 'x/y') / f['filename']).read_bytes()
        if f['filename'].endswith('.blob'):
            assert f['size'] == len(raw) and f['csum'] == hashlib.sha256(raw).hexdigest()
            assert formats.unblob(raw, key) == data
        else:
            assert f['size'] == len(data)
            assert s.content(f'ct/7/{T1}', f['filename'], 'x/y', key) == data
        assert f['crypt-mode'] == ('encrypt' if key else 'none')
    kinds = {s.chunk(d).read_bytes()[:8] for _, _, d in x.entries}
    packed, plain = (formats.SEALED_PACKED, formats.SEALED) if key else (formats.PACKED, formats.PLAIN)
    assert kinds <= {packed, plain}
    assert (packed in kinds) == (options[:2] != ['--compress', 'none'])


def test_content_size_is_there_or_not(tmp_path):
    import zstandard
    for options, known in ([], True), (['--no-content-size'], False):
        (tmp_path / 'f').write_bytes(bytes(70000))
        mkstore(tmp_path / f's{known}', f'vm/1/{T1}', f'a.img={tmp_path}/f', *options)
        s = Store(tmp_path / f's{known}')
        raw = s.chunk(s.index(f'vm/1/{T1}', 'a.img.fidx').entries[0][2]).read_bytes()
        size = zstandard.get_frame_parameters(raw[12:]).content_size
        assert (size == 70000) == known


def test_chunks_kept_and_counted(tmp_path):
    (tmp_path / 'f').write_bytes(bytes(3 << 16) + b'x' * 10)
    mkstore(tmp_path / 's', f'vm/1/{T1}', '--threads', '1', '--chunk-size', '64K', f'a.img={tmp_path}/f')
    s = Store(tmp_path / 's')
    stats = s.manifest(f'vm/1/{T1}')['unprotected']['chunk_upload_stats']
    assert (stats['count'], stats['duplicates'], stats['size']) == (4, 2, (3 << 16) + 10)
    files = {p: p.stat().st_ino for p in (tmp_path / 's' / '.chunks').rglob('*') if p.is_file()}
    assert len(files) == 2 and stats['compressed_size'] == sum(p.stat().st_size for p in files)
    mkstore(tmp_path / 's', 'vm/1/2026-01-03T00:00:00Z', '--chunk-size', '64K', f'a.img={tmp_path}/f')
    assert files == {p: p.stat().st_ino for p in (tmp_path / 's' / '.chunks').rglob('*') if p.is_file()}


def test_holes_are_zeros(tmp_path):
    with open(tmp_path / 'f', 'wb') as f:
        f.truncate(100 << 20)
        f.seek((50 << 20) + 12345)
        f.write(b'data')
    mkstore(tmp_path / 's', f'vm/1/{T1}', '--chunk-size', '1M', f'a.img={tmp_path}/f')
    s = Store(tmp_path / 's')
    assert len({d for _, _, d in s.index(f'vm/1/{T1}', 'a.img.fidx').entries}) == 2
    assert s.content(f'vm/1/{T1}', 'a.img.fidx') == (tmp_path / 'f').read_bytes()


def test_unfinished_owner_notes(tmp_path):
    (tmp_path / 'f').write_bytes(b'abc')
    mkstore(tmp_path / 's', f'vm/1/{T1}', '--unfinished', '--owner', 'a@pbs!t', f'a.img={tmp_path}/f')
    s = Store(tmp_path / 's')
    assert sorted(p.name for p in s.snapshot(f'vm/1/{T1}').iterdir()) == ['a.img.fidx']
    assert (tmp_path / 's/vm/1/owner').read_text() == 'a@pbs!t\n'
    mkstore(tmp_path / 's', 'vm/1/2026-01-03T00:00:00Z', '--notes', 'a "b"\\\n\u00e9', f'a.img={tmp_path}/f')
    assert s.manifest('vm/1/2026-01-03T00:00:00Z')['unprotected']['notes'] == 'a "b"\\\n\u00e9'


def test_dynamic_boundaries(tmp_path):
    (tmp_path / 'f').write_bytes(mixed(20 << 20))
    ends = []
    for seed in 1, 1, 2:
        mkstore(tmp_path / f's{len(ends)}', f'host/h/{T1}', '--seed', seed, '--average', '256K', f'a.pxar={tmp_path}/f')
        x = Store(tmp_path / f's{len(ends)}').index(f'host/h/{T1}', 'a.pxar.didx')
        x.check()
        assert all(65536 <= e - s <= 16 << 20 for s, e, _ in x.entries[:-1])
        ends.append([e for _, e, _ in x.entries])
    assert ends[0] == ends[1] != ends[2]
    assert 40 < len(ends[0]) < 160


@pytest.mark.parametrize('kdf', [[], ['--scrypt', 'geheim', '--n', '1024'], ['--pbkdf2', 'geheim', '--n', '1000']])
def test_keys(tmp_path, kdf):
    mkstore('--genkey', tmp_path / 'k', *kdf, '--hint', 'wie "immer"')
    k = Key(tmp_path / 'k', 'geheim')
    assert len(k.key) == 32 and k.file['fingerprint'] == k.fingerprint and k.file['hint'] == 'wie "immer"'
    assert (tmp_path / 'k').stat().st_mode & 0o777 == 0o600
    mkstore('--genkey', tmp_path / 'k2', '--from', KEYS / 'none.json', *kdf)
    assert Key(tmp_path / 'k2', 'geheim').key == NONE.key


def test_golden_keys_are_read_alike():
    for name in 'scrypt', 'pbkdf2', 'none':
        k = Key(KEYS / f'{name}.json', 'golden-pass')
        assert k.fingerprint == k.file['fingerprint']
    assert Key(KEYS / 'paper.txt', 'golden-pass').key == Key(KEYS / 'scrypt.json', 'golden-pass').key


@pytest.mark.parametrize('args', [['x'], ['s', 'vm/1'], ['s', 'vm/1/today'], ['s', f'vm/1/{T1}', 'a.img'],
                                  ['s', f'vm/1/{T1}', 'a.img=/no/such'], ['s', f'vm/1/{T1}', '--chunk-size', 'x']])
def test_wrong_usage(tmp_path, args):
    r = subprocess.run([tool('mkstore'), *args], cwd=tmp_path, capture_output=True, text=True)
    assert r.returncode == 1 and r.stderr.startswith('mkstore: ')


def test_size_zero(tmp_path):
    (tmp_path / 'f').write_bytes(b'')
    mkstore(tmp_path / 's', f'vm/1/{T1}', f'a.img={tmp_path}/f', f'b.conf={tmp_path}/f')
    s = Store(tmp_path / 's')
    assert s.index(f'vm/1/{T1}', 'a.img.fidx').size == 0
    assert json.loads(json.dumps(s.manifest(f'vm/1/{T1}')))['files'][0]['size'] == 0
