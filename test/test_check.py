"""check: the right verdict on each line for what is missing here, wrong with the repository, or in the way to a server."""
import json
import os
import re

import pytest

from lib import DAMAGED, DONE, FAIL, GOLDEN, KEYS, PBSMAP, T1, TRUST, USAGE, place
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
    assert re.search(r'limited by (decoding on this CPU|the disk)', out['expected']) and '/s a core' in out['decoding'] and 'line' not in out
    assert re.search(r'; parsers: (none|GPT|MBR|GPT, MBR|unknown); pbsmap has its own$', out['kernel']), out['kernel']
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
    assert 'not known' in out['memory'] and (hide != 'umount -l /proc' or 'parsers: unknown' in out['kernel'])


def test_little_memory(place):
    """As /proc/meminfo tells it; the advice is one that helps."""
    mem = place.dir / 'meminfo'
    mem.write_text('MemTotal: 262144 kB\nMemFree: 1000 kB\nMemAvailable: 40960 kB\n')
    for more, verdict in ((), 'warn'), (('--cache', '8M'), 'ok'):
        r = place.run('check', '--json', *more, '--repository', STORE, wrap=inside(f'mount --bind {mem} /proc/meminfo'))
        said = next(c for c in json.loads(r.stdout)['checks'] if c['name'] == 'memory')
        assert r.returncode == DONE and said['verdict'] == verdict and said['text'].startswith('40 MiB free'), said
        assert ('--cache' in said['text']) == (verdict == 'warn')


def test_old_kernel(place):
    r = place.run('check', '--repository', STORE, wrap=['setarch', os.uname().machine, '--uname-2.6'])
    assert r.returncode == DONE and re.search(r'^warn  kernel      2\.6\..*older than 4\.4', r.stdout, re.M), r.stdout


@pytest.mark.parametrize('symbols, said', (
    ('efi_partition msdos_partition', 'GPT, MBR'), ('efi_partition', 'GPT'), ('msdos_partition', 'MBR'),
    ('efi_partitions my_msdos_partition sys_read', 'none'), ('', 'unknown')))
def test_parsers(place, symbols, said):
    """As the kernel's list of its functions says; an empty one says nothing. No verdict hangs on it."""
    listed = place.dir / 'kallsyms'
    listed.write_text(''.join(f'0000000000000000 T {s}\n' for s in symbols.split()))
    out = check(place, '--repository', STORE, wrap=inside(f'mount --bind {listed} /proc/kallsyms'))
    assert f'; parsers: {said}; pbsmap' in out['kernel'], out['kernel']


def test_registry(place):
    """Others may write there; it cannot be made."""
    out = check(place, '--repository', STORE, wrap=inside('mount -t tmpfs none /run; mkdir -m 777 /run/pbs-loopdev'), status=FAIL,
                bad=['registry'])
    assert 'others than root' in out['registry']
    out = check(place, '--repository', STORE, wrap=inside('mount -t tmpfs -o nr_inodes=1 none /run'), status=FAIL, bad=['registry'])
    assert 'cannot make /run/pbs-loopdev' in out['registry']


def test_a_bare_machine(place):
    """A root with nothing in it but the program and the datastore: no /proc, no /sys, no /run, no /etc, nothing in /dev."""
    r = place.run('check', '--json', '--repository', '/st', wrap=[
        'unshare', '-m', '--propagation', 'private', 'sh', '-ec', f'd={place.dir}/root; mkdir -p $d/st $d/dev; mount --bind {STORE} $d/st; '
        f'cp {PBSMAP} $d/pbsmap; shift; exec chroot $d /pbsmap "$@"', 'sh'])
    said = {c['name']: c for c in json.loads(r.stdout)['checks']}
    bad = {n for n, c in said.items() if c['verdict'] == 'FAIL'}
    # Nodes and /run are made; what cannot be known is said to be unknown.
    assert r.returncode == DONE and not bad, r.stdout
    assert 'not known' in said['memory']['text'] and 'loop0' not in r.stdout


def test_not_root(place):
    os.chmod(place.dir, 0o755)
    r = place.run('check', '--json', '--repository', STORE, user=65534, group=65534, extra_groups=[])
    said = {c['name']: c for c in json.loads(r.stdout)['checks']}
    assert r.returncode == FAIL and said['root']['verdict'] == 'FAIL' and 'sudo' in said['root']['text']
    # The rest is looked at all the same.
    assert 'expected' in said and said['repository']['verdict'] == 'ok'


def test_rights(place):
    out = check(place, '--repository', STORE, wrap=['setpriv', '--bounding-set=-sys_admin'], status=FAIL, bad=['root'])
    assert 'CAP_SYS_ADMIN' in out['root']


# ---- a server ----

def test_server(place, server):
    out = check(place, '--repository', server.repo(), env=server.env())
    assert server.fingerprint in out['certificate'] and 'PBS_FINGERPRINT' in out['certificate'] and 'localhost' in out['certificate']
    assert re.fullmatch(r'works, round trip \d+ ms', out['upgrade']) and 'round trip' not in out['line']
    assert 'TLS 1.2' in out['tls'] and 'test@pbs!tok' in out['login'] and '/s' in out['line'] and out['rate'] > 1 << 20
    # One screen of an old terminal, for people.
    r = place.run('check', '--repository', server.repo().replace('127.0.0.1', 'localhost'), env=server.env())
    assert re.search(r'^ok    name        localhost is .*127\.0\.0\.1', r.stdout, re.M) and r.stderr == ''
    assert len(r.stdout.splitlines()) <= 24 and max(map(len, r.stdout.splitlines())) <= 80, r.stdout


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
    out = check(place, '--repository', server.repo(), status=FAIL, bad=['upgrade'], env=server.env())
    assert 'login' in out and 'proxy' in out['upgrade'] and 'snapshot' not in out
    assert how == 'plain' or '8007' in out['upgrade'] or 'port' in out['upgrade']


def test_old_tls(place, server):
    server.tls('p256', version='1.3')
    out = check(place, '--repository', server.repo(), status=FAIL, bad=['tls'], env=server.env())
    assert 'TLS 1.3' in out['tls']
    server.tls('p256', version='all')


# ---- each of the test server's faults ----

FAULTS = {						# commands: status, the line that fails, its words
    'set front http': (FAIL, 'tls', 'plain HTTP'),
    'set front ssh': (FAIL, 'tls', 'SSH server'),
    'set front close': (FAIL, 'tls', 'closed the connection'),
    'set front silent': (FAIL, 'tls', 'does not answer'),
    'set rate 1000': (FAIL, 'index', 'no answer within 1 s'),
    'rule status code=503 text=busy times=all on=chunk': (FAIL, 'chunks', 'status 503'),
    'rule status code=400 text=No+such+file+or+directory times=all on=chunk': (DAMAGED, 'chunks', 'missing from the datastore'),
    'rule status code=401 text=no times=all on=chunk': (DAMAGED, 'chunks', 'does not let us read'),
    'rule rst times=all on=chunk': (FAIL, 'chunks', 'breaks its answer off'),
    'rule corrupt times=all on=chunk': (DAMAGED, 'chunks', 'wrong CRC'),
    'rule short times=all on=chunk': (DAMAGED, 'chunks', 'not as many as'),
    'rule long times=all on=chunk': (DAMAGED, 'chunks', 'not as many as'),
    'rule garbage times=all on=chunk': (DAMAGED, 'chunks', 'no blob'),
    'rule empty times=all on=chunk': (DAMAGED, 'chunks', 'impossible length'),
    'rule hang times=all on=chunk': (FAIL, 'chunks', 'do not come within 1 s'),
    'rule cut times=all on=chunk': (FAIL, 'chunks', 'do not come within 1 s'),
    'rule stall times=all on=chunk': (FAIL, 'chunks', 'do not come within 1 s'),
    'rule status code=503 text=busy times=all on=file': (FAIL, 'snapshot', 'status 503'),
    'rule status code=400 text=No+such+file+or+directory times=all on=file': (DAMAGED, 'snapshot', 'unfinished'),
    'rule status code=401 text=no times=all on=file': (TRUST, 'snapshot', 'not allowed'),
    'rule rst times=all on=file': (FAIL, 'snapshot', 'breaks its answer off'),
    'rule corrupt times=all on=file': (DAMAGED, 'snapshot', 'wrong CRC'),
    'rule short times=all on=file': (DAMAGED, 'snapshot', 'wrong CRC'),
    'rule garbage times=all on=file': (DAMAGED, 'snapshot', 'no blob'),
    'rule empty times=all on=file': (DAMAGED, 'snapshot', 'too short'),
    'rule hang times=all on=file': (FAIL, 'snapshot', 'no answer within 1 s'),
    'rule cut times=all on=file': (FAIL, 'snapshot', 'no answer within 1 s'),
    'break cut after=3000 times=all': (FAIL, 'index', 'no answer within 1 s'),
    'break freeze after=3000 times=all': (FAIL, 'index', 'no answer within 1 s'),
    'restart 60000': (FAIL, 'tcp', 'refused'),
}


@pytest.mark.parametrize('command', FAULTS)
def test_faults(place, command):
    status, name, words = FAULTS[command]
    with Server(STORE, violations=True) as s:
        s.command(command)
        out = check(place, '--timeout', 1, '--stall', 1, '--repository', s.repo(), status=status, bad=[name], env=s.env())
    assert words in out[name] and out['rate'] == 0
    # What comes after the upgrade is not blamed on it.
    assert ('upgrade' in out) == (name in ('snapshot', 'index', 'chunks'))


def test_a_server_that_is_only_odd(place, server):
    for command in ('set dribble 97', 'set record 300', 'set padding 200', 'set late 100', 'set no-ping 1', 'set host-cookie 1',
                    'break cut after=100000 times=1 scope=h2', 'rule status code=503 times=1 on=chunk'):
        server.command(command)
    check(place, '--repository', server.repo('test@pbs'), env=server.env('test@pbs'))


def test_round_trip_and_what_limits(place, server):
    """A far and slow line is told as both; the expectation follows it."""
    server.command('set rtt 60')
    server.command('set rate-all 3000000')
    out = check(place, '--repository', server.repo(), env=server.env())
    assert 60 <= int(re.search(r'round trip (\d+) ms', out['upgrade'])[1]) < 1000, out['upgrade']
    assert 'KiB/s' in out['line'] or re.match(r'[0-3]\.\d MiB/s', out['line']), out['line']
    assert 'limited by the server or the line' in out['expected']


def test_second_factor(place, server):
    out = check(place, '--repository', server.repo('tfa@pbs'), status=TRUST, bad=['login'], env=server.env('tfa@pbs'))
    assert 'second factor' in out['login']


@pytest.mark.parametrize('kind, ca, status, words', (
    ('ed25519', False, FAIL, 'Ed25519'), ('expired', True, TRUST, 'it expired at'), ('future', True, TRUST, 'on, and this machine'),
    ('wrongname', True, TRUST, 'it is for backup.example.org')))
def test_certificates(place, server, kind, ca, status, words):
    server.tls(kind)
    env = server.env() if not ca else {'PBS_PASSWORD': server.env()['PBS_PASSWORD']}
    args = ['--ca', server.certificate.ca] if ca else []
    r = place.run('check', '--json', *args, '--repository', server.repo(), env=env, start_new_session=True)
    said = {c['name']: c for c in json.loads(r.stdout)['checks']}
    assert r.returncode == status, (kind, r.stdout)
    assert status == DONE or said['tls']['verdict'] == 'FAIL' and words in said['tls']['text'], said


def test_no_permission(place, server):
    out = check(place, '--repository', server.repo('blind@pbs!tok'), status=TRUST, bad=['datastore'], env=server.env('blind@pbs!tok'))
    assert 'blind@pbs!tok' in out['login'] and 'permission' in out['datastore']
