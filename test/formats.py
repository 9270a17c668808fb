"""The datastore's formats for the tests, from their description alone and with
other libraries than pbsmap's: a reader, and what is needed to damage things
precisely. Large stores are written by mkstore.c."""
import base64
import hashlib
import hmac
import json
import os
import pathlib
import struct
import uuid
import zlib

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PLAIN, PACKED = bytes.fromhex('42ab3807be8370a1'), bytes.fromhex('31b958426fb6a37f')
SEALED, SEALED_PACKED = bytes.fromhex('7b6785be222d4cf0'), bytes.fromhex('e6591bbf0bbfd80b')
FIXED, DYNAMIC = bytes.fromhex('2f7f41ed91fd0fcd'), bytes.fromhex('1c914ea519bab3cd')


class Key:
    """What a key file holds, and what is derived from it."""

    def __init__(self, path, passphrase=''):
        text = pathlib.Path(path).read_text()
        if 'BEGIN PROXMOX' in text:
            text = text.split('KEY-----', 1)[1].split('-----END')[0]
        j = json.loads(text)
        key = base64.b64decode(j['data'])
        if j['kdf']:
            (kind, p), = j['kdf'].items()
            salt, pw = base64.b64decode(p['salt']), passphrase.encode()
            if kind == 'Scrypt':
                derived = hashlib.scrypt(pw, salt=salt, n=p['n'], r=p['r'], p=p['p'], maxmem=2**30, dklen=32)
            else:
                derived = hashlib.pbkdf2_hmac('sha256', pw, salt, p['iter'], 32)
            key = open_gcm(derived, key[:16], key[16:32], key[32:])
        self.key = key
        self.id_key = hashlib.pbkdf2_hmac('sha256', key, b'_id_key', 10, 32)
        text = hashlib.sha256(b'Proxmox Backup Encryption Key Fingerprint').digest()
        self.fingerprint = hashlib.sha256(text + self.id_key).digest().hex(':')
        self.file = j


def open_gcm(key, iv, tag, data):
    d = Cipher(algorithms.AES(key), modes.GCM(iv, tag)).decryptor()
    return d.update(data) + d.finalize()


def seal_gcm(key, iv, data):
    e = Cipher(algorithms.AES(key), modes.GCM(iv)).encryptor()
    out = e.update(data) + e.finalize()
    return e.tag, out


def blob(data, key=None, pack=True):
    """A blob of any kind."""
    payload = zstandard.ZstdCompressor(level=1).compress(data) if pack else data
    return raw_blob(payload, pack, key)


def raw_blob(payload, packed, key=None):
    """A blob with a right CRC (and tag) around a payload that may be nonsense."""
    if key is None:
        return (PACKED if packed else PLAIN) + struct.pack('<I', zlib.crc32(payload)) + payload
    iv = os.urandom(16)
    tag, payload = seal_gcm(key.key, iv, payload)
    return (SEALED_PACKED if packed else SEALED) + struct.pack('<I', zlib.crc32(payload)) + iv + tag + payload


def unblob(raw, key=None):
    """The data; asserts everything that a right blob has."""
    magic, crc = raw[:8], struct.unpack('<I', raw[8:12])[0]
    sealed = magic in (SEALED, SEALED_PACKED)
    assert sealed or magic in (PLAIN, PACKED), magic.hex()
    payload = raw[44 if sealed else 12:]
    assert zlib.crc32(payload) == crc
    if sealed:
        payload = open_gcm(key.key, raw[12:28], raw[28:44], payload)
    if magic in (PACKED, SEALED_PACKED):
        d = zstandard.ZstdDecompressor().decompressobj()
        payload = d.decompress(payload)
        assert d.unused_data == b''
    return payload


def digest(data, key=None):
    return hashlib.sha256(data + (key.id_key if key else b'')).digest()


def canonical(v):
    return json.dumps(v, ensure_ascii=False, sort_keys=True, separators=(',', ':')).encode()


def sign(manifest, key):
    signed = {k: v for k, v in manifest.items() if k not in ('unprotected', 'signature')}
    return hmac.new(key.id_key, canonical(signed), 'sha256').hexdigest()


class Index:
    """A parsed index file; entries are (start, end, digest)."""

    def __init__(self, raw):
        self.raw = raw
        self.fixed = raw[:8] == FIXED
        assert self.fixed or raw[:8] == DYNAMIC
        self.uuid, self.csum = uuid.UUID(bytes=raw[8:24]), raw[32:64]
        self.ctime, = struct.unpack('<q', raw[24:32])
        self.size, self.chunk_size = struct.unpack('<QQ', raw[64:80])
        self.entries, pos = [], 0
        for i in range(4096, len(raw), 32 if self.fixed else 40):
            if self.fixed:
                end, d = min(pos + self.chunk_size, self.size), raw[i:i + 32]
            else:
                end, d = struct.unpack('<Q', raw[i:i + 8])[0], raw[i + 8:i + 40]
            self.entries.append((pos, end, d))
            pos = end
        if not self.fixed:
            self.size = pos

    def check(self):
        assert hashlib.sha256(self.raw[4096:]).digest() == self.csum
        if self.fixed:
            assert len(self.entries) == -(-self.size // self.chunk_size)
        assert not any(self.raw[80 if self.fixed else 64:4096])


def fixed_index(size, chunk_size, digests, csum=None):
    body = b''.join(digests)
    return (FIXED + uuid.uuid4().bytes + struct.pack('<q', 0) + (csum or hashlib.sha256(body).digest())
            + struct.pack('<QQ', size, chunk_size)).ljust(4096, b'\0') + body


class Store:
    """A datastore's directory."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def __str__(self):
        return str(self.path)

    def snapshot(self, snapshot, ns=''):
        prefix = ''.join(f'ns/{p}/' for p in ns.split('/')) if ns else ''
        return self.path / (prefix + snapshot)

    def chunk(self, d):
        return self.path / '.chunks' / d.hex()[:4] / d.hex()

    def index(self, snapshot, stored, ns=''):
        return Index((self.snapshot(snapshot, ns) / stored).read_bytes())

    def manifest(self, snapshot, ns=''):
        return json.loads(unblob((self.snapshot(snapshot, ns) / 'index.json.blob').read_bytes()))

    def put_manifest(self, snapshot, manifest, ns='', key=None):
        """Writes it, signed anew when a key is given."""
        if key:
            manifest['signature'] = sign(manifest, key)
        text = json.dumps(manifest).encode()
        write(self.snapshot(snapshot, ns) / 'index.json.blob', blob(text))

    def put_index(self, snapshot, stored, raw, size, key=None):
        """Replaces an index file and tells the manifest."""
        write(self.snapshot(snapshot) / stored, raw)
        manifest = self.manifest(snapshot)
        for f in manifest['files']:
            if f['filename'] == stored:
                f['csum'], f['size'] = hashlib.sha256(raw[4096:]).hexdigest(), size
        self.put_manifest(snapshot, manifest, key=key)

    def put_chunk(self, d, raw):
        self.chunk(d).parent.mkdir(parents=True, exist_ok=True)
        write(self.chunk(d), raw)

    def content(self, snapshot, stored, ns='', key=None):
        """An archive's bytes, every chunk checked."""
        x = self.index(snapshot, stored, ns)
        x.check()
        out = bytearray()
        for start, end, d in x.entries:
            data = unblob(self.chunk(d).read_bytes(), key)
            assert len(data) == end - start and digest(data, key) == d
            out += data
        return bytes(out)


def write(path, data):
    """In place of a file that may be read-only or linked elsewhere."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
