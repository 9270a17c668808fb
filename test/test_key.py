"""key: what a key file tells, and the key out of the copy that a master key opens, however it is kept."""
import hashlib
import json
import os
import pty
import re
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from formats import raw_blob, write
from lib import DAMAGED, DONE, FAIL, GOLDEN, KEYS, T1, TRUST, USAGE, place
from server import Server

MASTER = KEYS / 'master-private.pem'
BLOB = f'vm/101/{T1}/rsa-encrypted.key.blob'
NONE = json.loads((KEYS / 'none.json').read_text())
PASS = {'PBS_ENCRYPTION_PASSWORD': 'golden-pass'}


def openssl(*args):
    subprocess.run(['openssl', *map(str, args)], check=True, capture_output=True)


def failed(r, status, *words):
    assert r.returncode == status, (r.returncode, r.stderr)
    assert r.stdout == '' and r.stderr.startswith('pbsmap: ') and r.stderr.count('\n') == 1
    for w in words:
        assert w in r.stderr, (w, r.stderr)


def recovered(r):
    assert r.returncode == DONE, r.stderr
    key = json.loads(r.stdout)
    assert key['data'] == NONE['data'] and key['kdf'] is None
    assert NONE['fingerprint'] in r.stderr


@pytest.mark.parametrize('name, kdf', [('none.json', 'none'), ('scrypt.json', 'scrypt, n=65536 r=8 p=1'), ('pbkdf2.json', 'PBKDF2, 65535'),
                                       ('paper.txt', 'scrypt')])
def test_show(place, name, kdf):
    text = (KEYS / name).read_text()
    want = json.loads(text[text.index('{'):text.rindex('}') + 1])
    r = place.run('key', 'show', KEYS / name)
    assert r.returncode == DONE and r.stderr == ''
    assert f"fingerprint  {want['fingerprint']}\n" in r.stdout and f'kdf          {kdf}' in r.stdout
    assert want['data'] not in r.stdout and want['created'] in r.stdout
    shown = json.loads(place.run('key', 'show', '--json', KEYS / name).stdout)
    assert shown['fingerprint'] == want['fingerprint'] and shown['kdf'].startswith(kdf) and 'data' not in shown


def test_show_hint_and_old_files(place):
    key = json.loads((KEYS / 'scrypt.json').read_text())
    del key['fingerprint']
    key['hint'] = 'the \x1b[31mdog'
    (place.dir / 'k').write_text(json.dumps(key))
    out = place.run('key', 'show', place.dir / 'k').stdout
    assert 'hint         the ?[31mdog\n' in out and 'not in the file' in out
    # Of a key that is there as it is, the fingerprint is the key's own.
    old = {k: v for k, v in NONE.items() if k != 'fingerprint'}
    (place.dir / 'k').write_text(json.dumps(old))
    assert NONE['fingerprint'] in place.run('key', 'show', place.dir / 'k').stdout


def test_show_damaged(place):
    other = json.loads((KEYS / 'scrypt.json').read_text())['fingerprint']
    (place.dir / 'k').write_text(json.dumps({**NONE, 'fingerprint': other}))
    failed(place.run('key', 'show', place.dir / 'k'), TRUST, NONE['fingerprint'], other)
    failed(place.run('key', 'show', place.dir / 'nowhere'), TRUST, 'nowhere', 'No such file')
    failed(place.run('key', 'show', MASTER), TRUST, 'no encryption key')
    failed(place.run('key', 'show', '/dev/zero'), TRUST, 'too long')


@pytest.mark.parametrize('how', ['no markers', 'no BEGIN', 'no END', 'sloppy', 'notes', 'blanks', 'one line', 'torn', 'crlf', 'wrong digit'])
def test_paper_key_typed_by_hand(place, how):
    text = (KEYS / 'paper.txt').read_text()
    typed = {'no markers': '\n'.join(text.splitlines()[1:-1]),
             'no BEGIN': text.split('\n', 1)[1],
             'no END': text.rstrip().rsplit('\n', 1)[0],
             'sloppy': re.sub(r'-+(BEGIN|END) (.*?)-+', r'-- \1 \2', text),
             'notes': 'the key of the office\n\n' + re.sub('^', '   ', text, flags=re.M) + '\t\npage 1/1\n',
             'blanks': text.replace('":', '"  :  ').replace('==', ' = ='),
             'one line': ' '.join(text.split()),
             'torn': re.sub(r'(.{17})', r'\1\n', text[text.index('{'):text.rindex('}') + 1]),
             'crlf': text.replace('\n', '\r\n'),
             'wrong digit': text.replace('uW/HV', 'uW/HW')}[how]
    (place.dir / 'paper').write_text(typed, newline='')
    r = place.run('verify', '--quiet', '--repository', GOLDEN / 'store', '--keyfile', place.dir / 'paper', f'vm/102/{T1}', env=PASS)
    assert (r.returncode == DONE) == (how != 'wrong digit'), (how, r.stderr)
    if how == 'wrong digit':
        assert r.returncode == TRUST and 'damaged' in r.stderr


def test_recover_from_snapshot(place):
    recovered(place.run('key', 'recover', '--master', MASTER, '--repository', GOLDEN / 'store', 'vm/101'))
    failed(place.run('key', 'recover', '--master', MASTER, '--repository', GOLDEN / 'store', 'vm/100'), FAIL, 'without a master key')


def test_recover_of_another_key(place):
    """What the master key opens is a key, but not the snapshot's: both fingerprints are told, and nothing is written."""
    st, snap, name = place.golden(), f'vm/101/{T1}', 'rsa-encrypted.key.blob'
    master = serialization.load_pem_private_key(MASTER.read_bytes(), None)
    other = json.loads((KEYS / 'none.json').read_text())
    other.update(data='QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=')
    del other['fingerprint']
    raw = raw_blob(master.public_key().encrypt(json.dumps({'kdf': None, 'data': other['data']}).encode(), padding.PKCS1v15()), False)
    write(st.snapshot(snap) / name, raw)
    m = st.manifest(snap)
    next(f for f in m['files'] if f['filename'] == name).update(csum=hashlib.sha256(raw).hexdigest(), size=len(raw))
    st.put_manifest(snap, m)
    (place.dir / 'other.json').write_text(json.dumps(other))
    theirs = json.loads(place.run('key', 'show', '--json', place.dir / 'other.json').stdout)['fingerprint']
    failed(place.run('key', 'recover', '--master', MASTER, '--repository', st.path, 'vm/101', place.dir / 'out'), TRUST,
           theirs, NONE['fingerprint'])
    assert not (place.dir / 'out').exists()


def test_recover_from_server(place):
    with Server(GOLDEN / 'store') as s:
        recovered(place.run('key', 'recover', '--master', MASTER, '--repository', s.repo(), 'vm/101', env=s.env()))


def test_a_piece_of_a_key_does_not_stay(place):
    wrap = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fsync', '-e', 'inject=fsync:error=ENOSPC']
    r = place.run('key', 'recover', '--master', MASTER, '--repository', GOLDEN / 'store', 'vm/101', place.dir / 'out', wrap=wrap)
    failed(r, FAIL, 'No space left')
    assert not (place.dir / 'out').exists()


def test_recover_from_files(place):
    out = place.dir / 'out.json'
    r = place.run('key', 'recover', '--master', MASTER, GOLDEN / 'store' / BLOB, out)
    assert r.returncode == DONE and r.stdout == '' and out.stat().st_mode & 0o777 == 0o600
    assert place.run('verify', '--quiet', '--repository', GOLDEN / 'store', '--keyfile', out, 'vm/101').returncode == DONE
    # What is there stays.
    failed(place.run('key', 'recover', '--master', MASTER, GOLDEN / 'store' / BLOB, out), FAIL, 'not overwritten')
    # Without the blob around it, as the official client restores it.
    bare = place.dir / 'bare'
    bare.write_bytes((GOLDEN / 'store' / BLOB).read_bytes()[12:])
    recovered(place.run('key', 'recover', '--master', MASTER, bare))


def test_recover_damaged(place):
    raw = bytearray((GOLDEN / 'store' / BLOB).read_bytes())
    raw[100] ^= 1
    (place.dir / 'b').write_bytes(raw)
    failed(place.run('key', 'recover', '--master', MASTER, place.dir / 'b'), DAMAGED, 'CRC')
    bare = bytearray(raw[12:])
    (place.dir / 'b').write_bytes(bare)
    failed(place.run('key', 'recover', '--master', MASTER, place.dir / 'b'), TRUST, 'does not open it')
    (place.dir / 'b').write_bytes(bare[:-1])
    failed(place.run('key', 'recover', '--master', MASTER, place.dir / 'b'), DAMAGED, 'no copy of a key')


@pytest.mark.parametrize('bits', [1024, 2048, 3072, 4096])
def test_all_sizes_and_wrong_keys(place, bits):
    key = rsa.generate_private_key(65537, bits)
    pem = place.dir / 'm.pem'
    pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
    text = json.dumps(NONE if bits > 3000 else {'kdf': None, 'data': NONE['data']}, separators=(',', ':')).encode()
    (place.dir / 'b').write_bytes(key.public_key().encrypt(text, padding.PKCS1v15()))
    r = place.run('key', 'recover', '--master', pem, place.dir / 'b')
    assert r.returncode == DONE and json.loads(r.stdout)['data'] == NONE['data'], r.stderr
    failed(place.run('key', 'recover', '--master', pem, GOLDEN / 'store' / BLOB), TRUST, 'does not open it')
    # A key, but another one than the snapshot's: both fingerprints are told.
    (place.dir / 'b').write_bytes(key.public_key().encrypt(b'no key at all', padding.PKCS1v15()))
    failed(place.run('key', 'recover', '--master', pem, place.dir / 'b'), TRUST, 'no encryption key')


@pytest.mark.parametrize('cipher', ['aes-128-cbc', 'aes-192-cbc', 'aes-256-cbc'])
def test_encrypted_master_key(place, cipher):
    pem = place.dir / 'm.pem'
    openssl('pkcs8', '-topk8', '-v2', cipher, '-passout', 'pass:golden-pass', '-in', MASTER, '-out', pem)
    args = ('key', 'recover', '--master', pem, GOLDEN / 'store' / BLOB)
    recovered(place.run(*args, env=PASS))
    failed(place.run(*args, env={'PBS_ENCRYPTION_PASSWORD': 'wrong'}), TRUST, 'wrong passphrase')
    failed(place.run(*args, start_new_session=True), TRUST, 'PBS_ENCRYPTION_PASSWORD')


@pytest.mark.parametrize('how, words', [
    (('rsa', '-traditional', '-aes256', '-passout', 'pass:abcde'), 'openssl rsa -in'),
    (('pkcs8', '-topk8', '-v2', 'aes-256-cbc', '-v2prf', 'hmacWithSHA1', '-passout', 'pass:abcde'), 'openssl pkey -in'),
    (('pkcs8', '-topk8', '-v1', 'PBE-SHA1-3DES', '-passout', 'pass:abcde'), 'openssl pkey -in'),
    (('pkcs8', '-topk8', '-scrypt', '-passout', 'pass:abcde'), 'openssl pkey -in'),
    (('rsa', '-pubout'), 'but a PUBLIC KEY')])
def test_other_pem(place, how, words):
    pem = place.dir / 'm.pem'
    openssl(*how, '-in', MASTER, '-out', pem)
    failed(place.run('key', 'recover', '--master', pem, GOLDEN / 'store' / BLOB, env=PASS), TRUST, words)


def test_damaged_pem(place):
    pem = place.dir / 'm.pem'
    text = MASTER.read_text()
    for bad in ('', 'rubbish', text[:900], text.replace('MII', 'NII'), text.replace('MII', '!II')):
        pem.write_text(bad)
        failed(place.run('key', 'recover', '--master', pem, GOLDEN / 'store' / BLOB), TRUST, str(pem))
    # No RSA key
    openssl('genpkey', '-algorithm', 'ed25519', '-out', pem)
    failed(place.run('key', 'recover', '--master', pem, GOLDEN / 'store' / BLOB), TRUST, 'no RSA key')


def test_usage(place):
    for args in (('show',), ('show', 'a', 'b'), ('recover', 'vm/101'), ('dance', 'x'), ()):
        assert place.run('key', *args).returncode == USAGE


def test_a_terminal_is_asked(place):
    pem = place.dir / 'm.pem'
    openssl('pkcs8', '-topk8', '-passout', 'pass:golden-pass', '-in', MASTER, '-out', pem)
    pid, fd = pty.fork()
    if pid == 0:
        from lib import PBSMAP
        os.execve(PBSMAP, [PBSMAP, 'key', 'recover', '--master', str(pem), str(GOLDEN / 'store' / BLOB)], place.env())
    text = b''
    while b'master key: ' not in text:
        text += os.read(fd, 4096)
    os.write(fd, b'golden-pass\n')
    try:
        while chunk := os.read(fd, 4096):
            text += chunk
    except OSError:
        pass
    assert os.waitpid(pid, 0)[1] == 0 and NONE['data'].encode() in text and b'golden-pass' not in text
    os.close(fd)
