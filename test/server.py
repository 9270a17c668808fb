"""The test server (pbsd) for tests: starting, commanding, stopping it; certificates of every kind."""
import atexit
import datetime
import functools
import hashlib
import ipaddress
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ROOT = pathlib.Path(__file__).resolve().parent.parent
# id, secret, rights
ACCOUNTS = (
    ('test@pbs', 'pass word:of test', 'read'),
    ('test@pbs!tok', '3f0c0b1e-5a52-4e0e-9d5e-6c5c2f1d7a10', 'read'),
    ('a@b@pbs', 'two', 'read'),
    ('tfa@pbs', 'second', 'tfa'),
    ('blind@pbs!tok', 'dark', 'none'),
    ('other@pbs!tok', 'otherone', 'backup'),
)
SECRETS = {name: secret for name, secret, _ in ACCOUNTS}
KINDS = ('rsa2048', 'rsa4096', 'rsa8192', 'p256', 'p384', 'ed25519', 'expired', 'future', 'wrongname', 'ca', 'chain')


@functools.cache
def directory():
    path = pathlib.Path(tempfile.mkdtemp(prefix='pbsd'))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def private_key(kind):
    if kind.startswith('rsa'):
        return rsa.generate_private_key(65537, int(kind[3:]))
    if kind == 'ed25519':
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if kind == 'p384' else ec.SECP256R1())


def make_certificate(subject, key, issuer=None, names=None, days=(-1, 30), is_ca=False):
    """issuer: (certificate, its key), else self-signed. days: valid from and until, counted from today."""
    day = datetime.datetime.utcnow()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    signer = issuer[1] if issuer else key
    b = (x509.CertificateBuilder().subject_name(name).issuer_name(issuer[0].subject if issuer else name)
         .public_key(key.public_key()).serial_number(x509.random_serial_number())
         .not_valid_before(day + datetime.timedelta(days=days[0])).not_valid_after(day + datetime.timedelta(days=days[1]))
         .add_extension(x509.BasicConstraints(is_ca, None), True))
    if names:
        b = b.add_extension(x509.SubjectAlternativeName(names), False)
    return b.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


class Certificate:
    """Files of one kind: cert (with its chain), key, ca (what signed it; itself when nothing did)."""

    def __init__(self, kind):
        here = [x509.DNSName('localhost'), x509.IPAddress(ipaddress.ip_address('127.0.0.1')),
                x509.IPAddress(ipaddress.ip_address('::1'))]
        if kind == 'wrongname':
            here = [x509.DNSName('backup.example.org')]
        days = {'expired': (-30, -2), 'future': (2, 30)}.get(kind, (-1, 30))
        key = private_key(kind if kind in ('rsa2048', 'rsa4096', 'rsa8192', 'p384', 'ed25519') else 'p256')
        chain, issuer = [], None
        if kind in ('ca', 'chain', 'wrongname', 'expired', 'future'):
            ca_key = ec.generate_private_key(ec.SECP256R1())
            root = make_certificate('pbsd test root', ca_key, is_ca=True, days=(-40, 400))
            issuer = root, ca_key
            if kind == 'chain':
                middle_key = ec.generate_private_key(ec.SECP256R1())
                middle = make_certificate('pbsd test intermediate', middle_key, issuer, is_ca=True)
                chain, issuer = [middle], (middle, middle_key)
        leaf = make_certificate('localhost' if kind != 'wrongname' else 'backup.example.org', key, issuer, here, days)
        base = directory() / kind
        self.cert, self.key, self.ca = f'{base}.pem', f'{base}.key', f'{base}.ca'
        pem = [c.public_bytes(serialization.Encoding.PEM) for c in [leaf, *chain]]
        pathlib.Path(self.cert).write_bytes(b''.join(pem))
        pathlib.Path(self.ca).write_bytes((root if issuer else leaf).public_bytes(serialization.Encoding.PEM))
        pathlib.Path(self.key).write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        digest = hashlib.sha256(leaf.public_bytes(serialization.Encoding.DER)).hexdigest()
        self.fingerprint = ':'.join(digest[i:i + 2] for i in range(0, 64, 2))


# The default is not the cache's: certificate() and certificate('p256') are one, with one file.
made = functools.cache(Certificate)


def certificate(kind='p256'):
    return made(kind)


def binary():
    path = os.environ.get('PBSD')
    if path:
        return path
    path = ROOT / 'build' / 'test' / 'pbsd'
    if not path.exists():
        subprocess.run(['make', '-s', 'build/test/pbsd'], cwd=ROOT, check=True)
    return str(path)


class Server:
    """A running server. Commands: see the head of pbsd.c. As a context manager it asserts at a good end that the client
    broke no rule, unless violations=True."""

    def __init__(self, store, name='golden', cert='p256', flavour='4.2', tls='all', auth_delay=100, do=(), listen='127.0.0.1:0',
                 ticket_life=7200, verbose=False, violations=False, options=()):
        self.name, self.listen, self.violations = name, listen, violations
        self.certificate = certificate(cert)
        self.lock = threading.Lock()
        argv = [binary(), '--store', str(store), '--name', name, '--listen', listen, '--flavour', flavour, '--tls', tls,
                '--cert', self.certificate.cert, '--key', self.certificate.key, '--ticket-life', str(ticket_life)]
        for account, secret, rights in ACCOUNTS:
            argv += ['--user', f'{account}:{secret}', '--rights', f'{account}={rights}']
        for command in (f'set auth-delay {auth_delay}', *do):
            argv += ['--do', command]
        argv += (['--verbose'] if verbose or os.environ.get('PBSD_VERBOSE') else []) + list(options)
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.proc.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f'pbsd did not start: {line!r}, status {self.proc.wait()}')
        self.port = int(line)

    @property
    def fingerprint(self):
        return self.certificate.fingerprint

    @property
    def host(self):
        return self.listen.rsplit(':', 1)[0]

    def repo(self, auth='test@pbs!tok'):
        return f'{auth}@{self.host}:{self.port}:{self.name}'

    def env(self, auth='test@pbs!tok', **more):
        """What a client needs to trust and to be let in."""
        return {'PBS_PASSWORD': SECRETS[auth], 'PBS_FINGERPRINT': self.fingerprint, **more}

    def command(self, text):
        """The answer; raises when the command was wrong."""
        with self.lock:
            self.proc.stdin.write(text + '\n')
            self.proc.stdin.flush()
            answer = self.proc.stdout.readline().rstrip('\n')
        if not answer or answer.startswith('error'):
            raise RuntimeError(f'{text}: {answer or "pbsd is gone"}')
        return answer

    def tls(self, cert, **more):
        """Another certificate from now on."""
        self.certificate = certificate(cert)
        more = {'cert': self.certificate.cert, 'key': self.certificate.key, **more}
        self.command('tls ' + ' '.join(f'{k}={v}' for k, v in more.items()))

    def stats(self):
        return json.loads(self.command('stats'))

    def frames(self, legal):
        """Names of the frames that `inject` knows."""
        return [w.lstrip('!') for w in self.command('frames').split() if w.startswith('!') != legal]

    def stop(self):
        """Its exit status."""
        if self.proc.poll() is None:
            self.proc.stdin.close()
            try:
                self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
        self.proc.stdout.close()
        return self.proc.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        texts = []
        if kind is None and not self.violations:
            texts = self.stats()['violation_texts']
        status = self.stop()
        if kind is None:
            assert not texts, texts
            assert status == 0, f'pbsd ended with {status}'
