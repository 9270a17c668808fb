"""check: the right verdict on each line for what is missing here, wrong with the repository, or in the way to a server."""
import json
import os

import pytest

from lib import DAMAGED, DONE, FAIL, GOLDEN, KEYS, T1, TRUST, USAGE, place
from server import Server

pytestmark = pytest.mark.root
STORE = GOLDEN / 'store'


@pytest.fixture(scope='module')
def shared():
    with Server(STORE) as s:
        yield s


@pytest.fixture
def server(shared):
    shared.command('clear')
    yield shared
    shared.command('clear')
    shared.tls('p256')


def check(place, *args, status=DONE, bad=(), warn=(), env=None, **kw):
    """The texts by name; exactly these lines say FAIL."""
    r = place.run('check', '--json', *args, env=env, start_new_session=True, **kw)
    assert r.returncode == status, (r.returncode, r.stdout, r.stderr)
    out = json.loads(r.stdout)
    said = {c['name']: c for c in out['checks']}
    assert len(said) == len(out['checks'])
    assert {n for n, c in said.items() if c['verdict'] == 'FAIL'} == set(bad), r.stdout
    assert {n for n, c in said.items() if c['verdict'] == 'warn'} - {'cpu', 'memory'} == set(warn), r.stdout
    assert out['works'] == (status == DONE)
    return {n: c['text'] for n, c in said.items()} | {'rate': out['rate']}


def test_directory(place):
    out = check(place, '--repository', STORE)
    assert out['rate'] > 1 << 20 and 'vm/100/2026-02-03T04:05:06Z' in out['snapshot'] and '8 groups' in out['datastore']
    r = place.run('check', '--repository', STORE)
    lines = r.stdout.splitlines()
    assert r.returncode == DONE and r.stderr == '' and len(lines) <= 24 and max(map(len, lines)) <= 80
    assert all(line[:18].split()[:1] in ([], ['ok'], ['warn']) for line in lines)


def test_encrypted(place):
    out = check(place, '--repository', STORE, '--keyfile', KEYS / 'none.json', 'vm/101', 'drive-scsi1.img')
    assert out['rate'] > 1 << 20 and out['key'].startswith('67:d0:f3:6d') and 'drive-scsi1' in out['snapshot']
    out = check(place, '--repository', STORE, 'vm/101', status=TRUST, bad=['key'])
    assert '--keyfile' in out['key']
    out = check(place, '--repository', STORE, '--keyfile', KEYS / 'pbkdf2.json', 'vm/101', status=TRUST, bad=['key'],
                env={'PBS_ENCRYPTION_PASSWORD': 'golden-pass'})
    assert '61:e6:d5:c1' in out['key'] and '67:d0:f3:6d' in out['key']


def test_repository(place):
    check(place, status=USAGE, bad=['repository'])
    check(place, '--repository', 'a b', status=USAGE, bad=['repository'])
    check(place, '--repository', STORE, 'vm', status=USAGE, bad=['repository'])
    check(place, '--repository', place.dir / 'none', status=FAIL, bad=['directory'])
    check(place, '--repository', STORE, 'vm/999', status=FAIL, bad=['snapshot'])
    check(place, '--repository', STORE, 'vm/100', 'none.img', status=FAIL, bad=['snapshot'])
    (place.dir / 'empty/.chunks').mkdir(parents=True)
    check(place, '--repository', place.dir / 'empty', status=FAIL, bad=['snapshot'], warn=['datastore'])


@pytest.mark.parametrize('how', ['missing', 'damaged', 'index', 'manifest'])
def test_damage(place, how):
    st = place.golden()
    snap = st.path / f'vm/100/{T1}'
    if how in ('missing', 'damaged'):
        for p in (st.path / '.chunks').glob('*/*'):
            if how == 'missing':
                p.unlink()
            else:
                p.write_bytes(p.read_bytes()[:-1] + b'?')
        bad = 'chunks'
    else:
        p = snap / ('drive-scsi0.img.fidx' if how == 'index' else 'index.json.blob')
        p.write_bytes(p.read_bytes()[:-1] + b'?')
        bad = 'index' if how == 'index' else 'snapshot'
    out = check(place, '--repository', st.path, f'vm/100/{T1}', status=DAMAGED, bad=[bad])
    assert 'decoding' not in out


# ---- this machine ----

def inside(script):
    """In a mount namespace of its own, after this; the words for wrap."""
    return ['unshare', '-m', '--propagation', 'private', 'sh', '-ec', script + '; exec "$@"', 'sh']


DEV = 'mount -t tmpfs none /dev; mknod /dev/null c 1 3'


def test_no_fuse(place):
    out = check(place, '--repository', STORE, wrap=inside(DEV + '; mount -o remount,ro /dev'), status=FAIL, bad=['fuse', 'loop'])
    assert 'modprobe fuse' in out['fuse'] and out['rate'] > 0


def test_no_loop(place):
    out = check(place, '--repository', STORE, wrap=inside(DEV + '; mknod /dev/fuse c 10 229; mount -o remount,ro /dev'),
                status=FAIL, bad=['loop'])
    assert 'modprobe loop' in out['loop']


def test_run_is_read_only(place):
    # Then a file system of our own is mounted there.
    check(place, '--repository', STORE, wrap=inside('mount -t tmpfs -o ro none /run'))


def test_no_proc(place):
    # A sanitizer finds its own options there.
    hide = 'mount --bind /dev/null /proc/meminfo' if os.environ.get('ASAN_OPTIONS') else 'umount -l /proc'
    out = check(place, '--repository', STORE, wrap=inside(hide))
    assert 'not known' in out['memory']


def test_rights(place):
    out = check(place, '--repository', STORE, wrap=['setpriv', '--bounding-set=-sys_admin'], status=FAIL, bad=['root'])
    assert 'CAP_SYS_ADMIN' in out['root']


# ---- a server ----

def test_server(place, server):
    out = check(place, '--repository', server.repo(), env=server.env())
    assert server.fingerprint in out['certificate'] and 'PBS_FINGERPRINT' in out['certificate'] and 'localhost' in out['certificate']
    assert 'TLS 1.2' in out['tls'] and 'test@pbs!tok' in out['login'] and '/s' in out['line'] and out['rate'] > 1 << 20
    out = check(place, '--repository', server.repo().replace('127.0.0.1', 'localhost'), env=server.env())
    assert '127.0.0.1' in out['name']


def test_trusted_by_a_ca(place, server):
    server.tls('ca')
    env = {'PBS_PASSWORD': server.env()['PBS_PASSWORD']}
    out = check(place, '--repository', server.repo(), '--ca', server.certificate.ca, env=env)
    assert server.certificate.ca in out['certificate']


def test_not_trusted(place, server):
    env = {'PBS_PASSWORD': server.env()['PBS_PASSWORD'], 'SSL_CERT_FILE': ''}
    out = check(place, '--repository', server.repo(), status=TRUST, bad=['tls', 'certificate'], env=env)
    assert server.fingerprint in out['certificate'] and 'login' not in out
    out = check(place, '--repository', server.repo(), status=TRUST, bad=['tls', 'certificate'], env={**env, 'PBS_FINGERPRINT': 'ab' * 32})
    assert server.fingerprint in out['tls'] and 'ab:ab' in out['tls']


def test_nobody_there(place, server):
    check(place, '--repository', 'a@pbs@no-such-host.invalid:store', status=FAIL, bad=['name'], env=server.env())
    out = check(place, '--repository', 'a@pbs@127.0.0.1:1:store', status=FAIL, bad=['tcp'], env=server.env())
    assert 'refused' in out['tcp']


def test_no_password(place, server):
    out = check(place, '--repository', server.repo(), status=TRUST, bad=['access'], env={'PBS_FINGERPRINT': server.fingerprint})
    assert 'PBS_PASSWORD' in out['access'] and server.fingerprint in out['certificate']


def test_wrong_password(place, server):
    out = check(place, '--repository', server.repo(), status=TRUST, bad=['login'], env=server.env(PBS_PASSWORD='no'))
    assert 'not let in' in out['login']


def test_no_such_store(place, server):
    out = check(place, '--repository', server.repo() + 'x', status=FAIL, bad=['datastore'], env=server.env())
    assert 'no such datastore' in out['datastore']


@pytest.mark.parametrize('how', ['html', 'strip', 'plain', 'close'])
def test_upgrade_is_eaten(place, server, how):
    server.command(f'set upgrade {how}')
    out = check(place, '--repository', server.repo(), status=FAIL, bad=['snapshot'], env=server.env())
    assert 'login' in out and (how == 'close' or 'proxy' in out['snapshot'])


def test_old_tls(place, server):
    server.tls('p256', version='1.3')
    out = check(place, '--repository', server.repo(), status=FAIL, bad=['tls'], env=server.env())
    assert 'TLS 1.3' in out['tls']
    server.tls('p256', version='all')


def test_no_permission(place, server):
    out = check(place, '--repository', server.repo('blind@pbs!tok'), status=TRUST, bad=['datastore'], env=server.env('blind@pbs!tok'))
    assert 'blind@pbs!tok' in out['login'] and 'permission' in out['datastore']
