"""The test server itself: that it answers as the recorded servers did."""
import json
import os
import re
import subprocess
import time
import urllib.parse

import hpack
import pytest

from rawclient import CHUNKS, GOLDEN, H2, SETTINGS, SNAPSHOT, STORE, T1, TOKEN, WINDOW, chunk_file, http
from server import SECRETS, Server


def recorded(flavour, name):
    with open(f'{GOLDEN}/wire/{flavour}/{name}.http', 'rb') as f:
        head, body = f.read().split(b'\r\n\r\n', 1)
    lines = head.decode().split('\r\n')
    return lines[0], [tuple(line.split(': ', 1)) for line in lines[1:]], body


def unchunk(body):
    out = b''
    while True:
        size, body = body.split(b'\r\n', 1)
        if int(size, 16) == 0:
            return out
        out += body[:int(size, 16)]
        body = body[int(size, 16) + 2:]


@pytest.fixture(params=('3.2', '4.2'))
def both(request):
    with Server(STORE, flavour=request.param) as s:
        s.flavour = request.param
        yield s


@pytest.fixture
def server():
    with Server(STORE) as s:
        yield s


def same_shape(ours, theirs):
    """Equal but for what depends on the time and on the store."""
    def fields(pairs):
        return [(k, re.sub(r'\d+', 'N', v) if k in ('date', 'content-length') else v) for k, v in pairs]
    assert ours[0] == theirs[0]
    strip = re.compile(r'(Mon|Tue|Wed|Thu|Fri|Sat|Sun), N \w+')
    assert [(k, strip.sub('D', v)) for k, v in fields(ours[1])] == [(k, strip.sub('D', v)) for k, v in fields(theirs[1])]


API = {
    'version': 'version',
    'namespace': 'admin/datastore/golden/namespace',
    'no-store': 'admin/datastore/nosuch/snapshots',
    'reader-no-upgrade': f'reader?{SNAPSHOT}',
    'files': f'admin/datastore/golden/files?backup-type=vm&backup-id=100&backup-time={T1}',
}


@pytest.mark.parametrize('name', API)
def test_api_as_recorded(both, name):
    ours, theirs = http(both, '/api2/json/' + API[name], TOKEN), recorded(both.flavour, name)
    same_shape(ours, theirs)
    if not (name == 'files' and both.flavour == '4.2'):	# there it had been verified, which is in the manifest
        assert ours[2] == theirs[2]


def test_blank_after_token_as_recorded(both):
    ours = http(both, '/api2/json/version', {'Authorization': TOKEN['Authorization'].replace('=', ' ', 1)})
    same_shape(ours, recorded(both.flavour, 'auth-space'))


@pytest.mark.parametrize('name, headers', [('no-auth', {}), ('bad-token', {'Authorization': 'PBSAPIToken=test@pbs!tok:wrong'})])
def test_refused_as_recorded(both, name, headers):
    both.command('set auth-delay 300')
    begin = time.monotonic()
    ours, theirs = http(both, '/api2/json/version', headers), recorded(both.flavour, name)
    assert 0.3 <= time.monotonic() - begin < 2
    same_shape(ours, theirs)
    assert ours[2] == theirs[2]


def test_no_snapshot_as_recorded(both):
    ours = http(both, '/api2/json/reader?' + SNAPSHOT.replace(str(T1), str(T1 + 1)),
                {**TOKEN, 'Connection': 'upgrade, close', 'Upgrade': 'proxmox-backup-reader-protocol-v1'})
    theirs = recorded(both.flavour, 'reader-no-snapshot')
    same_shape(ours, theirs)
    assert ours[2] == theirs[2]


@pytest.mark.parametrize('name, ns', [('snapshots', ''), ('snapshots-ns', 'a/b'), ('groups', '')])
def test_lists_as_recorded(both, name, ns):
    """What was recorded is in our list as well, field by field (the store has grown since)."""
    target = f'/api2/json/admin/datastore/golden/{name.split("-")[0]}' + (f'?ns={urllib.parse.quote(ns, "")}' if ns else '')
    ours, theirs = http(both, target, TOKEN), recorded(both.flavour, name)
    same_shape(ours, theirs)
    chunked = dict(ours[1]).get('transfer-encoding') == 'chunked'
    got = json.loads(unchunk(ours[2]) if chunked else ours[2])['data']
    want = json.loads(unchunk(theirs[2]) if chunked else theirs[2])['data']

    def key(o):
        return o['backup-type'], o['backup-id'], o.get('backup-time')

    def plain(o):	# verifying a snapshot changes its manifest, and so the sizes
        o = {k: v for k, v in o.items() if k not in ('verification', 'size')}
        if name == 'groups':
            return {**o, 'files': sorted(o['files'])}
        return {**o, 'files': [f for f in o['files'] if f['filename'] != 'index.json.blob']}
    mine = {key(o): o for o in got}
    for o in want:
        if o['backup-id'] != 'splitref':	# not among the fixtures
            assert plain(mine[key(o)]) == plain(o)
            assert list(mine[key(o)]) == [k for k in o if k != 'verification']
    if ns:
        assert [key(o) for o in got] == [key(o) for o in want]


def login(server, user, password, form=False):
    if form:
        body, kind = urllib.parse.urlencode({'username': user, 'password': password}), 'application/x-www-form-urlencoded'
    else:
        body, kind = json.dumps({'username': user, 'password': password}), 'application/json'
    return http(server, '/api2/json/access/ticket', {'Content-Type': kind}, 'POST', body.encode())


@pytest.mark.parametrize('form', (False, True))
def test_login_as_recorded(both, form):
    ours = login(both, 'test@pbs', SECRETS['test@pbs'], form)
    theirs = recorded(both.flavour, 'ticket-form' if form else 'ticket-ok')
    same_shape(ours, theirs)
    got, want = json.loads(ours[2]), json.loads(theirs[2])
    assert list(got) == list(want) and list(got['data']) == list(want['data'])
    for k in got['data']:
        def shape(text):
            return re.sub('[A-Za-z0-9+/]', 'x', text)
        assert shape(got['data'][k]) == shape(want['data'][k])
    bad = login(both, 'test@pbs', 'wrong', form)
    same_shape(bad, recorded(both.flavour, 'ticket-bad'))


def test_tickets(server):
    ticket = json.loads(login(server, 'test@pbs', SECRETS['test@pbs'])[2])['data']['ticket']
    cookie = {'Cookie': 'PBSAuthCookie=' + urllib.parse.quote(ticket, '')}
    assert http(server, '/api2/json/version', cookie)[0].endswith('200 OK')
    again = json.loads(login(server, 'test@pbs', ticket)[2])['data']['ticket']
    assert again.startswith('PBS:test@pbs:')
    assert ' 401 ' in http(server, '/api2/json/version', {'Cookie': cookie['Cookie'][:-3] + 'AAA'})[0]
    server.command('expire')
    assert ' 401 ' in http(server, '/api2/json/version', cookie)[0]
    assert ' 401 ' in login(server, 'test@pbs', ticket)[0]
    tfa = json.loads(login(server, 'tfa@pbs', SECRETS['tfa@pbs'])[2])['data']
    assert tfa['ticket'].startswith('PBS:!tfa!') and tfa['NeedTFA']
    assert server.stats()['logins'] == 3


def test_short_tickets():
    with Server(STORE, ticket_life=1) as server:
        ticket = json.loads(login(server, 'test@pbs', SECRETS['test@pbs'])[2])['data']['ticket']
        time.sleep(2.1)
        assert ' 401 ' in http(server, '/api2/json/version', {'Cookie': 'PBSAuthCookie=' + urllib.parse.quote(ticket, '')})[0]


def test_host_cookie(server):
    server.command('set host-cookie 1')
    _, fields, body = login(server, 'a@b@pbs', 'two')
    assert 'ticket' not in json.loads(body)['data']
    cookie = dict(fields)['set-cookie'].split(';')[0]
    assert cookie.startswith('__Host-PBSAuthCookie=PBS%3A')
    assert http(server, '/api2/json/version', {'Cookie': cookie})[0].endswith('200 OK')
    assert ' 401 ' in http(server, '/api2/json/version', {'Cookie': cookie.replace('__Host-', '')})[0]


def test_rights(server):
    def auth(who):
        return {'Authorization': f'PBSAPIToken={who}:{SECRETS[who]}'}
    assert b'permission check failed' == http(server, '/api2/json/admin/datastore/golden/groups', auth('blind@pbs!tok'))[2]
    assert b'[]' in http(server, '/api2/json/admin/datastore', auth('blind@pbs!tok'))[2]
    upgrade = {'Connection': 'upgrade, close', 'Upgrade': 'proxmox-backup-reader-protocol-v1'}
    assert http(server, f'/api2/json/reader?{SNAPSHOT}', {**auth('blind@pbs!tok'), **upgrade})[2] == b'no permissions on /datastore/golden'
    assert http(server, f'/api2/json/reader?{SNAPSHOT}', {**auth('other@pbs!tok'), **upgrade})[2] == b'backup owner check failed!'


@pytest.mark.parametrize('flavour', ('3.2', '4.2'))
def test_session_as_recorded(flavour):
    """The recorded requests get the recorded answers; settings and windows too."""
    with open(f'{GOLDEN}/wire/{flavour}/session.json', encoding='ascii') as f:
        wanted = json.load(f)
    theirs = H2.__new__(H2)
    with open(f'{GOLDEN}/wire/{flavour}/session.server.bin', 'rb') as f:
        theirs.buf = f.read()
    theirs.sock, theirs.frames, theirs.answers, theirs.decoder = None, [], {}, hpack.Decoder()
    theirs.send = lambda *_: None
    with Server(STORE, flavour=flavour, violations=True) as server, H2(server, ((1, 0), (4, 1 << 30))) as h:
        head = recorded(flavour, 'session.101')
        lines = h.head.decode().split('\r\n')
        same_shape((lines[0], [tuple(x.split(': ', 1)) for x in lines[1:]]), head)
        for w in wanted:
            ours, body = h.fetch(w['path'])
            told, text = theirs.answer(w['stream'])
            assert [k for k, _ in ours] == [k for k, _ in told] == list(w['headers'])
            skip = ('date',) + (('content-length',) if 'nosuch.blob' in w['path'] else ())
            assert [x for x in ours if x[0] not in skip] == [x for x in told if x[0] not in skip]
            if 'index.json' not in w['path'] and 'nosuch.blob' not in w['path'] and 'speedtest' not in w['path']:
                assert body == text
            assert len(body) == int(dict(ours).get('content-length', len(body)))
        assert [f for f in h.frames if f[0] == SETTINGS][0] == theirs.frames[0]
        assert [f for f in h.frames if f[0] == WINDOW][0] in theirs.frames
        assert (SETTINGS, 1, 0, b'') in h.frames
        stats = server.stats()
        assert stats['chunks'] == 4 and stats['digests'][CHUNKS[0]] == 2 and stats['downloads'] == 3
        assert stats['violations'] == 4		# two chunks before their index, the bad name, the unknown path


def test_chunk_bodies(server):
    with H2(server) as h:
        h.index()
        for digest in CHUNKS:
            fields, body = h.fetch(f'/chunk?digest={digest}')
            assert body == chunk_file(digest) and dict(fields)['content-length'] == str(len(body))


def test_chunk_gone(tmp_path):
    subprocess.run(['cp', '-r', STORE, tmp_path / 's'], check=True)
    os.unlink(tmp_path / 's' / '.chunks' / CHUNKS[0][:4] / CHUNKS[0])
    with Server(tmp_path / 's') as server, H2(server) as h:
        fields, body = h.index().fetch(f'/chunk?digest={CHUNKS[0]}')
        assert dict(fields)[':status'] == '400' and body.endswith(b'No such file or directory (os error 2)')
