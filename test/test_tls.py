"""Trust and TLS against a real OpenSSL server: every kind of certificate, every way to trust or to refuse, in words."""
import os
import pathlib
import subprocess
import time

import pytest

from server import ROOT, Server, certificate

TLSGET = str(ROOT / os.environ.get('BUILD', 'build') / 'test' / 'tlsget')
STORE = ROOT / 'test' / 'golden' / 'store'
HAS_AES = ' aes' in pathlib.Path('/proc/cpuinfo').read_text()
USABLE = ('rsa2048', 'rsa4096', 'p256', 'p384', 'expired', 'future', 'wrongname', 'ca', 'chain')


@pytest.fixture(scope='module')
def server():
    with Server(STORE) as s:
        yield s


@pytest.fixture
def get(tmp_path):
    """Runs tlsget; the status and what it printed."""
    def run(server, *options, host='localhost', wrap=(), port=None, **env):
        argv = [*wrap, TLSGET, '-n', '0', *options, host, str(port or server.port)]
        clean = {'HOME': str(tmp_path), 'PATH': os.environ['PATH'], **env}
        r = subprocess.run(argv, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert r.returncode in (0, 1, 2, 4), (r.returncode, r.stdout)
        return r.returncode, r.stdout
    return run


@pytest.mark.parametrize('kind', USABLE)
def test_pin(server, get, kind):
    server.tls(kind)
    status, text = get(server, '-f', server.fingerprint)
    assert status == 0 and f'ok by=pin fingerprint={server.fingerprint}' in text
    for form in (server.fingerprint.upper(), server.fingerprint.replace(':', ''),
                 'sha256 Fingerprint=' + server.fingerprint):
        assert get(server, '-f', form)[0] == 0
    wrong = 'fe' + server.fingerprint[2:] if server.fingerprint[:2] != 'fe' else 'ff' + server.fingerprint[2:]
    status, text = get(server, '-f', wrong)
    assert status == 4 and wrong in text and server.fingerprint in text and 'not the right certificate' in text


@pytest.mark.parametrize('kind', ('rsa2048', 'rsa4096', 'p256', 'p384', 'ca', 'chain'))
def test_authority(server, get, kind):
    server.tls(kind)
    for host in ('localhost', '127.0.0.1'):
        status, text = get(server, '-c', server.certificate.ca, host=host)
        assert status == 0 and 'ok by=ca' in text, text
    assert get(server, SSL_CERT_FILE=server.certificate.ca)[0] == 0


@pytest.mark.parametrize('kind, words', (
    ('expired', 'it expired at 20'),
    ('future', 'it is valid from 20'),
    ('wrongname', 'it is for backup.example.org, not for localhost'),
))
def test_authority_refuses(server, get, kind, words):
    server.tls(kind)
    status, text = get(server, '-c', server.certificate.ca)
    assert status == 4 and words in text and '--fingerprint ' + server.fingerprint in text


def test_unknown(server, get):
    server.tls('rsa2048')
    mine = server.certificate.ca
    status, text = get(server, SSL_CERT_FILE=certificate('ca').ca)	# a minimal system has none
    assert status == 4 and 'it is self-signed' in text and '--fingerprint ' + server.fingerprint in text
    server.tls('chain')
    status, text = get(server, '-c', mine)
    assert status == 4 and 'it is signed by nobody in ' + mine in text
    status, text = get(server, '-c', '/nonexistent')
    assert status == 4 and 'cannot read CA certificates from /nonexistent' in text
    status, text = get(server, '-f', 'ab:cd')
    assert status == 2 and '64 hex digits' in text


def test_ask(server, get, tmp_path):
    server.tls('rsa2048')
    status, text = get(server, '-y', 'n')
    assert status == 4 and 'Trust it' in text
    status, text = get(server, '-y', 'y')
    digits = server.fingerprint.replace(':', '')
    groups = [digits[i:i + 4] for i in range(0, 64, 4)]
    assert status == 0 and ' '.join(text.split()).find(' '.join(groups)) > 0
    known = tmp_path / '.config' / 'proxmox-backup' / 'fingerprints'
    assert known.read_text() == f'localhost {server.fingerprint}\n'
    status, text = get(server)
    assert status == 0 and 'by=pin' in text and 'Trust' not in text
    server.tls('p256')			# another certificate there: no question, but a refusal that names the file
    status, text = get(server, '-y', 'y')
    assert status == 4 and str(known) in text and 'Trust it' not in text


@pytest.mark.parametrize('how', ('-f', '-c'))
@pytest.mark.parametrize('kind, words', (
    ('rsa8192', 'key is RSA 8192, which pbsmap cannot use'),
    ('ed25519', 'its certificate is of a kind that does not work (Ed25519)'),
))
def test_unusable(server, get, how, kind, words):
    server.tls(kind)
    status, text = get(server, how, server.fingerprint if how == '-f' else certificate('p256').ca)
    assert status in (1, 4) and words in text, text


def test_versions(server, get):
    server.tls('p256', version='1.3')
    status, text = get(server, '-f', server.fingerprint)
    assert status == 1 and 'server offers only TLS 1.3' in text
    server.tls('p256', version='1.2')
    assert get(server, '-f', server.fingerprint)[0] == 0
    server.tls('p256', version='all')


@pytest.mark.parametrize('ciphers, want', (
    ('DEFAULT', 'ECDHE-RSA-AES128-GCM' if HAS_AES else 'ECDHE-RSA-CHACHA20'),
    ('ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256'),
    ('ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'),
    ('ECDHE-RSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305'),
    ('DHE-RSA-AES128-GCM-SHA256', None),
    ('ECDHE-RSA-AES128-SHA', None),
    ('AES128-GCM-SHA256', None),
))
def test_ciphers(get, tmp_path, ciphers, want):
    with Server(STORE, cert='rsa2048', options=('--ciphers', ciphers)) as s:
        status, text = get(s, '-f', s.fingerprint)
        if want:
            assert status == 0 and want in text
        else:
            assert status == 1 and 'no cipher in common' in text


# --- names; in a mount namespace, so that /etc is ours ---

def etc(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / name.replace('_', '.')).write_text(text)
    return ['unshare', '-m', 'sh', '-c', f'mount --bind {tmp_path} /etc && exec "$@"', 'sh']


@pytest.mark.root
def test_hosts_file(server, get, tmp_path):
    server.tls('p256')
    wrap = etc(tmp_path, hosts='127.0.0.2 pbs.test\n127.0.0.1 pbs.test\n')
    status, text = get(server, '-f', server.fingerprint, host='pbs.test', wrap=wrap)	# nobody listens on the first
    assert status == 0 and 'peer=127.0.0.1' in text
    status, text = get(server, '-f', server.fingerprint, host='pbs.test', wrap=wrap, port=1)
    assert status == 1 and '127.0.0.2: connection refused' in text and '; 127.0.0.1: connection refused' in text


@pytest.mark.root
def test_no_resolver(server, get, tmp_path):
    server.tls('p256')
    start = time.monotonic()
    status, text = get(server, '-t', '700', host='pbs.test', wrap=etc(tmp_path))
    assert status == 1 and 'this system has no /etc/resolv.conf; use a numeric address' in text
    assert time.monotonic() - start < 3
    # names that need no resolver
    for host in ('localhost', '127.0.0.1'):
        assert get(server, '-f', server.fingerprint, host=host, wrap=etc(tmp_path))[0] == 0


@pytest.mark.root
def test_dead_resolver(server, get, tmp_path):
    """A look-up that takes longer than the deadline does not delay the failure."""
    wrap = etc(tmp_path, resolv_conf='nameserver 127.0.0.1\noptions timeout:5 attempts:2\n')
    start = time.monotonic()
    status, text = get(server, '-t', '500', host='pbs.test', wrap=['unshare', '-n', *wrap])
    assert status == 1 and 'cannot look up pbs.test: no answer from the name server' in text
    assert time.monotonic() - start < 3


@pytest.mark.root
def test_resolver_gone(server, get, tmp_path):
    """As after switch_root: a name that was found once is found again, without a long wait."""
    server.tls('p256')
    wrap = etc(tmp_path, hosts='127.0.0.1 pbs.test\n')
    start = time.monotonic()
    status, text = get(server, '-x', 'rm /etc/hosts', '-f', server.fingerprint, host='pbs.test', wrap=wrap)
    assert status == 0 and text.count('ok by=pin') == 2
    assert time.monotonic() - start < 4.5
