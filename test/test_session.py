"""The session against the test server: what breaks, and that everything asked for comes all the same, once and right."""
import os
import re
import signal
import subprocess
import time

import pytest

from formats import Index
from lib import GOLDEN, ROOT, T1, mixed, mkstore, wait_for
from server import SECRETS, Server

SESGET = str(ROOT / os.environ.get('BUILD', 'build') / 'test' / 'sesget')
GROUP, IMAGE = 'vm/1', 'disk.img.fidx'
CHUNKS, STALL = 96, 2


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    """CHUNKS chunks of 256 KiB, of every kind, none twice."""
    path = tmp_path_factory.mktemp('store')
    data = bytearray(mixed(CHUNKS << 18))
    for i in range(CHUNKS):
        data[i << 18:(i << 18) + 8] = b'%08d' % i
    (path / 'image').write_bytes(data)
    mkstore(path / 'ds', f'{GROUP}/{T1}', '--chunk-size', 262144, f'{IMAGE[:-5]}={path / "image"}')
    return path / 'ds'


@pytest.fixture(scope='module')
def shared(store):
    with Server(store) as s:
        yield s


@pytest.fixture
def server(shared):
    """Fair weather, counters at zero; no rule broken by the client at the end."""
    shared.command('clear')
    shared.command('zero')
    yield shared
    shared.command('clear')
    assert shared.stats()['violation_texts'] == []


class Get:
    """A sesget under way."""

    def __init__(self, server, *options, auth='test@pbs!tok', snapshot=GROUP, file=IMAGE, env=None):
        argv = [SESGET, '-s', str(STALL), *map(str, options), server.repo(auth), snapshot, *([file] if file else [])]
        self.proc = subprocess.Popen(argv, env={**os.environ, **server.env(auth), **(env or {})}, text=True, bufsize=1,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.text = ''

    def until(self, words):
        """Reads lines until one has these words."""
        for line in self.proc.stdout:
            self.text += line
            if words in line:
                return
        raise AssertionError(f'no "{words}" in: {self.text}')

    def end(self, seconds=60):
        try:
            self.text += self.proc.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            self.proc.kill()
            raise AssertionError(f'hangs: {self.text}{self.proc.communicate()[0]}')
        return self.proc.returncode, self.text


def get(server, *options, seconds=60, **kw):
    return Get(server, *options, **kw).end(seconds)


def rounds(text):
    """(chunks, failed, ms) of each round."""
    return [tuple(map(int, r)) for r in re.findall(r'round \d+: (\d+) chunks, \d+ bytes, (\d+) failed, \d+ taken back, (\d+) ms', text)]


def all_came(result, count=1):
    status, text = result
    assert status == 0, text
    assert [r[:2] for r in rounds(text)] == [(CHUNKS, 0)] * count, text
    return rounds(text)


# --- login, lists, words ---

@pytest.mark.parametrize('flavour', ('3.2', '4.2'))
@pytest.mark.parametrize('auth', ('test@pbs!tok', 'test@pbs', 'a@b@pbs'))
def test_golden(flavour, auth):
    with Server(GOLDEN / 'store', flavour=flavour) as s:
        status, text = get(s, auth=auth, snapshot='vm/100', file=None)
        assert status == 0
        assert set(text.splitlines()[:3]) == {f'vm/100/{T1}', 'vm/100/2026-02-03T04:05:06Z', 'vm/100/2026-03-04T05:06:07Z unfinished'}
        for snapshot, image, options in ((f'vm/100/{T1}', 'drive-scsi0.img', ()), (f'host/nested/{T1}', 'drive-scsi1.img', ('-n', 'a/b')),
                                         (f'host/files/{T1}', 'root.pxar', ())):
            status, text = get(s, *options, auth=auth, snapshot=snapshot, file=image + ('.didx' if 'pxar' in image else '.fidx'))
            assert status == 0 and rounds(text)[0][1] == 0 and rounds(text)[0][0] > 0, text
        stats = s.stats()
        assert stats['logins'] == (0 if '!' in auth else stats['upgrades'] + 1)


def test_host_cookie(server):
    server.command('set host-cookie 1')
    all_came(get(server, auth='test@pbs'))


def test_ticket_as_password(server):
    """A ticket instead of the password, as people with a second factor use it."""
    import http.client
    import json
    import ssl
    import urllib.parse
    c = http.client.HTTPSConnection('127.0.0.1', server.port, context=ssl._create_unverified_context())
    c.request('POST', '/api2/json/access/ticket', urllib.parse.urlencode({'username': 'test@pbs', 'password': SECRETS['test@pbs']}),
              {'Content-Type': 'application/x-www-form-urlencoded'})
    ticket = json.load(c.getresponse())['data']['ticket']
    all_came(get(server, auth='test@pbs', env={'PBS_PASSWORD': ticket}))


@pytest.mark.parametrize('auth, kw, status, words', (
    ('test@pbs!tok', {'env': {'PBS_PASSWORD': 'wrong'}}, 4, ('test@pbs!tok is not let in', 'authentication failed')),
    ('test@pbs', {'env': {'PBS_PASSWORD': 'wrong'}}, 4, ('test@pbs is not let in', 'permission check failed')),
    ('tfa@pbs', {}, 4, ('second factor', 'API token')),
    ('blind@pbs!tok', {}, 4, ('lacks the permission', 'Datastore.Read')),
    ('test@pbs!tok', {'snapshot': 'vm/2'}, 1, ('no vm/2 there',)),
    ('test@pbs!tok', {'snapshot': f'{GROUP}/2020-01-01T00:00:00Z'}, 1, ('does not exist', f'the newest of {GROUP}: {T1}')),
    ('test@pbs!tok', {'file': 'nosuch.img.fidx'}, 5, ('nosuch.img.fidx: is not in the snapshot',)),
))
def test_refused(server, auth, kw, status, words):
    got, text = get(server, auth=auth, **kw)
    assert got == status, text
    for w in words:
        assert w in text


@pytest.mark.parametrize('how, words', (
    ('upgrade html', 'proxy'), ('upgrade strip', 'removes the Upgrade header'), ('upgrade close', 'without an answer'),
    ('upgrade plain', 'ignores the upgrade'), ('front http', 'HTTP'), ('front ssh', 'SSH'), ('front close', 'closed the connection'),
))
def test_proxies(server, how, words):
    server.command(f'set {how}')
    status, text = get(server, snapshot=f'{GROUP}/{T1}')
    assert status == 1 and words in text, text


def test_silent(server):
    """Somebody who takes the connection and says nothing."""
    server.command('set front silent')
    g = Get(server, snapshot=f'{GROUP}/{T1}')
    time.sleep(1)
    g.proc.send_signal(signal.SIGTERM)
    g.end(5)


# --- weather ---

@pytest.mark.parametrize('weather', (
    'frame 1', 'frame 100 padding 255', 'padding 255', 'continuation 1', 'continuation 5 padding 100', 'record 1', 'record 100',
    'dribble 1', 'dribble 1000 rtt 20', 'late 500', 'delay 300', 'rtt 100', 'rate 20000000', 'handshake 300',
))
def test_weather(server, weather):
    words = weather.split()
    if words[:2] in (['frame', '1'], ['dribble', '1'], ['record', '1']):
        # a byte at a time: that of one chunk is enough
        server.command(f'rule status times=all on=chunk code=500 text=tiny')
        server.command(f'set {weather}')
        status, text = get(server)
        assert status == 0 and rounds(text)[0][:2] == (0, CHUNKS) and 'tiny' in text, text
        return
    server.command(f'set {weather}')
    ((_, _, ms),) = all_came(get(server))
    if weather == 'delay 300':
        # answered side by side, not one after the other
        assert ms < CHUNKS * 300 / 8
    assert server.stats()['streams_max'] <= 24


@pytest.mark.parametrize('name', ('unknown', 'unknown-idle', 'altsvc', 'priority', 'ping', 'window', 'window-stream'))
def test_legal_frames(server, name):
    assert name in server.frames(legal=True)
    server.command(f'rule inject nth=10 times=20 at=16 text={name}')
    all_came(get(server))
    assert server.stats()['upgrades'] == 1


def test_demand_first(store):
    """On a slow line a reader does not wait for all that was asked for ahead of him."""
    with Server(store, do=('set rate 2000000',)) as s:
        status, text = get(s, '-a', '-q')
        assert status == 0
        # the whole takes 3.5 s, its read-ahead of 16 chunks about 0.6 s
        slowest = int(re.search(r'demands (\d+) ms', text)[1])
        assert slowest < 1200 < rounds(text)[0][2], text


# --- what breaks ---

def test_illegal_frames(server):
    """Each ends the connection with a reason, and everything comes on the next one."""
    told = 0
    for name in server.frames(legal=False):
        server.command('clear')
        server.command('zero')
        server.command(f'rule inject nth=20 at=16 text={name}')
        status, text = result = get(server)
        all_came(result)
        stats = server.stats()
        assert (stats['upgrades'], stats['faults']) == (2, 1), (name, stats)
        told += stats['client_goaway']
        assert re.search(r'breaks the protocol: .*; trying again\n.*connected again', text), (name, text)
    # GOAWAY goes out before the end, but where more was on its way to us TCP may overtake it.
    assert told > 10


@pytest.mark.parametrize('kind', ('cut', 'rst', 'stall', 'freeze'))
@pytest.mark.parametrize('after', (0, 100, 3_000, 1_000_000, 7_654_321))
def test_broken(server, kind, after):
    g = Get(server, '-r', 2)
    g.until('opened')
    g.until('round 0')
    server.command(f'break {kind} after={after}')
    server.command('kick cut')
    ((_, _, _), (_, _, ms)) = all_came(g.end(), 2)
    limit = 2000 + (STALL * 1500 if kind in ('stall', 'freeze') else 0)
    assert ms < limit


def test_broken_everywhere(server):
    """Connections that end at every few bytes of the beginning: nothing hangs, nothing is lost."""
    for after in (*range(0, 2000, 97), 9_999):
        server.command('clear')
        server.command(f'break cut after={after} times=3 scope=all')
        g = Get(server, '-r', 1, snapshot=f'{GROUP}/{T1}')
        status, text = g.end()
        # Before there is a session it is an error; after it, nothing is.
        assert (status == 1 and 'closed' in text and 'status 1' in text) or rounds(text) and rounds(text)[0][:2] == (CHUNKS, 0), text


def test_cut_again_and_again(server):
    """Every connection lives for 2 MB only: slow, but whole, and no storm."""
    server.command('break cut after=2000000 times=all')
    start = time.monotonic()
    all_came(get(server))
    upgrades = server.stats()['upgrades']
    assert 3 < upgrades < 10 + 20 * (time.monotonic() - start)


@pytest.mark.parametrize('auth', ('test@pbs!tok', 'test@pbs'))
def test_restart(server, auth):
    g = Get(server, '-r', 2, '-w', 300, auth=auth)
    g.until('round 0')
    if auth == 'test@pbs':
        server.command('expire')
    server.command('restart 1500')
    rc = all_came(g.end(), 2)
    assert 500 < rc[1][2] < 6000
    text = g.text
    assert text.count('trying again') <= 2 and 'connected again after' in text
    assert server.stats()['connections'] < 40


def test_expired(server):
    """The ticket is void, the session's connection ends: one new login."""
    g = Get(server, '-r', 2, '-w', 300, auth='test@pbs')
    g.until('round 0')
    server.command('expire')
    server.command('kick cut')
    all_came(g.end(), 2)
    assert server.stats()['logins'] <= 4


def test_goaway(server):
    """Graceful: what is under way ends, the rest is asked for elsewhere, nothing twice."""
    for last in (-1, -2):
        server.command('zero')
        server.command('set rate 30000000')
        g = Get(server, '-r', 2)
        g.until('round 0')
        server.command(f'kick goaway last={last}')
        all_came(g.end(), 2)
        stats = server.stats()
        assert stats['upgrades'] == 2
        assert sum(stats['digests'].values()) <= 2 * CHUNKS + 24


def test_goaway_error(server):
    g = Get(server, '-r', 2)
    g.until('round 0')
    server.command('kick goaway code=11 last=0 close=1')
    status, text = g.end()
    all_came((status, text), 2)


def some_digest(store, n):
    index = Index((store / GROUP / T1 / IMAGE).read_bytes())
    return index.entries[n][2].hex()


@pytest.mark.parametrize('rule, came, words', (
    ('rst', CHUNKS, None),			# asked for once more
    ('rst times=2', CHUNKS - 1, '5 the server breaks its answer off (INTERNAL_ERROR)'),
    ('rst code=7', CHUNKS, None),
    ('rst code=7 times=5', CHUNKS, None),	# refused unread, always worth another try
    ('status code=500 text=out+of+order', CHUNKS - 1, '5 the server cannot read it (status 500): out of order'),
    ('status code=503 text=', CHUNKS - 1, '(status 503)'),
    ('status code=400 text=No+such+file+or+directory', CHUNKS - 1, '2 is missing from the datastore: No such file'),
    ('status code=401 text=not+yours', CHUNKS, None),	# registers the index again
    ('status code=401 times=2 text=not+yours', CHUNKS - 1, '5 the server does not let us read it: not yours'),
    ('short by=10', CHUNKS - 1, '74 came with'),
    ('long by=10', CHUNKS - 1, '74 came with'),
    ('corrupt at=14', CHUNKS - 1, '74 '),
    ('garbage', CHUNKS - 1, '74 '),
    ('empty', CHUNKS - 1, '74 '),
    ('nolength', CHUNKS, None),
    ('trailer', CHUNKS, None),
    ('cut at=16', CHUNKS, None),
    ('stall at=16', CHUNKS, None),
    ('delay ms=500', CHUNKS, None),
))
def test_one_chunk(server, store, rule, came, words):
    """A fault of one chunk is that chunk's alone."""
    kind, *rest = rule.split()
    digest = some_digest(store, 7)
    server.command(' '.join(['rule', kind, f'digest={digest}', *rest]))
    status, text = get(server)
    assert status == 0 and rounds(text)[0][:2] == (came, CHUNKS - came), text
    if words:
        assert f'chunk {digest}: {words}' in text or re.search(f'chunk {digest}: .*{re.escape(words)}', text), text
    stats = server.stats()
    assert all(n == 1 for d, n in stats['digests'].items() if d != digest) or stats['upgrades'] > 1


def test_server_that_refuses_everything(server, store):
    """No storm: after a while each connection gets a pause that grows."""
    server.command('rule rst code=7 times=all')
    with pytest.raises(AssertionError, match='refuses all'):
        get(server, seconds=4)
    stats = server.stats()
    assert sum(stats['digests'].values()) < 3000 and stats['upgrades'] <= 10, stats
    server.command('clear')


def test_hanging_chunk(server, store):
    """One answer that never comes, while others do: it is asked for again."""
    digest = some_digest(store, 7)
    server.command(f'rule hang digest={digest}')
    server.command('set rate 1300000')
    status, text = get(server, '-s', 1)
    assert status == 0 and rounds(text)[0][:2] == (CHUNKS, 0), text
    stats = server.stats()
    assert (stats['upgrades'], stats['client_rst'], stats['digests'][digest]) == (1, 1, 2)
    assert rounds(text)[0][2] < 9000


@pytest.mark.parametrize('name', ('ping', 'settings', 'empty-data', 'continuation', 'window', 'priority', 'unknown'))
def test_flood(server, name):
    g = Get(server, '-r', 2, '-w', 200)
    g.until('round 0')
    server.command('set rate 20000000')
    time.sleep(0.3)
    server.command(f'kick flood name={name} count=1000000')
    all_came(g.end(), 2)
    if name == 'settings':
        # the server's own library does not know of these, and takes our acknowledgements amiss
        server.command('zero')


# --- idle, and the end ---

def test_idle(server):
    """A connection that is not used is kept alive, and its loss is noticed and mended before it is used."""
    g = Get(server, '-r', 2, '-w', 2500)
    g.until('round 0')
    server.command('kick cut')
    wait_for(lambda: server.stats()['upgrades'] == 2, 5)
    assert server.stats()['upgrades'] == 2
    all_came(g.end(), 2)


@pytest.mark.slow
def test_idle_long(server):
    """PINGs; and a server that has gone silently."""
    g = Get(server, '-r', 2, '-w', 40_000)
    g.until('round 0')
    time.sleep(18)
    assert server.stats()['pings'] >= 1
    server.command('kick freeze')
    wait_for(lambda: server.stats()['upgrades'] == 2, 25)
    all_came(g.end(), 2)


@pytest.mark.parametrize('how', ('kick stall', 'kick freeze', 'restart 4000', 'set front silent;kick cut', 'set handshake 9000;kick cut'))
def test_close(server, how):
    """The end comes at once, whatever the server does."""
    g = Get(server, '-b')
    g.until('opened')
    for command in how.split(';'):
        server.command(command)
    status, text = g.end(20)
    assert int(re.search(r'closed: (\d+) ms', text)[1]) < 100, text
    if how.startswith('restart'):
        wait_for(lambda: get(server, file=None)[0] == 0, 15, 0.5)


def test_file_timeout(server):
    """A file that cannot be had within the time limit is an error, in words."""
    server.command('rule hang on=file times=all')
    status, text = get(server, '-t', 1)
    assert status == 1 and 'no answer within 1 s' in text


def test_meddling(server):
    """Raised, taken back, on several connections, while all break now and then."""
    server.command('break cut after=5000000 times=4')
    status, text = get(server, '-x', '-c', 3, '-r', 4)
    assert status == 0 and [r[1] for r in rounds(text)] == [0] * 4, text


@pytest.mark.parametrize('options, least, most', [(('-g', 1), 3, 4), (('-g', 1 << 30), 1, 1), (('-c', 1), 1, 1)])
def test_more_connections_by_themselves(server, options, least, most):
    """Where one flow is the limit, by what it has on the way; each has read the index."""
    server.command('set rate 3000000')
    all_came(get(server, *options, '-r', 2 if most > 1 else 1), 2 if most > 1 else 1)
    stats = server.stats()
    assert least <= stats['upgrades'] <= most and stats['downloads'] >= stats['upgrades'], stats


def test_more_connections_that_break(server):
    server.command('set rate 3000000')
    server.command('break cut after=1000000 times=4')
    all_came(get(server, '-g', 1, '-r', 2), 2)
