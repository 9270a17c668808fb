"""The test server's faults: that each is the fault it says, and that a client's violations are seen."""
import contextlib
import hashlib
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import time

import hpack
import pytest

from rawclient import (CHUNKS, CONTINUATION, DATA, GOAWAY, H2, HEADERS, INDEX, PING, PRIORITY, RST, SETTINGS, SNAPSHOT, STORE, TOKEN, WINDOW,
                       chunk_file, connect, head_of, http)
from server import KINDS, Server, binary, certificate


@pytest.fixture
def server():
    with Server(STORE) as s:
        yield s


def test_frame_sizes(server):
    """Frames are as large as the client takes; `set frame` and the client's settings make them smaller."""
    def largest(settings):
        with H2(server, settings) as h:
            assert len(h.fetch('/speedtest')[1]) == 1 << 20
            return max(len(f[3]) for f in h.frames if f[0] == DATA)
    assert largest(((4, 1 << 30),)) == 16384
    assert largest(((4, 1 << 30), (5, 1 << 20))) == 1 << 20
    server.command('set frame 1000')
    assert largest(((4, 1 << 30), (5, 1 << 20))) == 1000


def test_flow_control(server):
    """No more than the client's windows allow."""
    with H2(server, ((4, 50_000),)) as h:
        got, allowed = 0, 50_000
        h.get('/speedtest')
        while got < 1 << 20:
            kind, _, of, payload = h.step()
            if kind == DATA:
                got += len(payload)
                assert got <= allowed
                if got == allowed:
                    allowed += 50_000
                    h.send(WINDOW, 0, of, struct.pack('>I', 50_000))


# Faults of connections.

def test_break_after_bytes(server):
    for kind in ('cut', 'rst'):
        server.command(f'break {kind} after=5000 times=1')
        with H2(server) as h, pytest.raises((EOFError, OSError)):
            h.fetch('/speedtest')
        with H2(server) as h:	# once only
            assert len(h.fetch('/speedtest')[1]) == 1 << 20


def test_cut_is_exact(server):
    """Raw bytes, counted from the 101 on."""
    server.command('set late 200')	# or SETTINGS might be counted with the 101
    server.command('break cut after=1234 times=all')
    for _ in range(3):
        with socket.create_connection(('127.0.0.1', server.port)) as raw:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
            ctx.maximum_version = ssl.TLSVersion.TLSv1_2
            tls = ctx.wrap_bio(incoming, outgoing)
            count = 0

            def pull(what):
                nonlocal count
                while True:
                    try:
                        return what()
                    except ssl.SSLWantReadError:
                        raw.sendall(outgoing.read())
                        data = raw.recv(65536)
                        count += len(data)
                        if not data:
                            raise EOFError from None
                        incoming.write(data)
            pull(tls.do_handshake)
            tls.write((f'GET /api2/json/reader?{SNAPSHOT} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n'
                       f'Upgrade: proxmox-backup-reader-protocol-v1\r\nAuthorization: {TOKEN["Authorization"]}\r\n\r\n').encode())
            head = pull(lambda: tls.read(65536))
            assert head.startswith(b'HTTP/1.1 101') and head.endswith(b'\r\n\r\n')
            at_101 = count
            tls.write(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + H2.frame(SETTINGS, 0, 0))
            block = hpack.Encoder().encode([(':method', 'GET'), (':scheme', 'https'), (':authority', 'x'), (':path', '/speedtest')])
            tls.write(H2.frame(HEADERS, 5, 1, block))
            with pytest.raises(EOFError):
                while True:
                    pull(lambda: tls.read(65536))
            assert count - at_101 == 1234


def quiet(h, seconds):
    """Nothing more comes for so long."""
    h.sock.settimeout(seconds)
    try:
        while True:
            h.step()
    except TimeoutError:
        return True
    except OSError:
        return False
    finally:
        h.sock.settimeout(5)


@pytest.mark.parametrize('how', ('stall', 'freeze'))
def test_stall_and_resume(server, how):
    server.command(f'break {how} after=100000')
    with H2(server) as h:
        s = h.get('/speedtest')
        h.answers[s] = [[], b'', False]
        assert quiet(h, 0.3)
        server.command('kick resume')
        got = sum(len(f[3]) for f in h.frames if f[0] == DATA)
        while got < 1 << 20:
            kind, _, _, payload = h.step()
            got += len(payload) if kind == DATA else 0


def test_kick_now(server):
    with H2(server) as h:
        h.index()
        server.command('kick cut')
        with pytest.raises((EOFError, OSError)):
            h.fetch('/speedtest')
    with H2(server) as h:
        h.index()
        server.command('kick stall')
        h.get('/speedtest')
        assert quiet(h, 0.2)


def test_restart(server):
    port = server.port
    with H2(server) as h:
        h.index()
        server.command('restart 400')
        with pytest.raises((EOFError, OSError)):
            h.fetch('/speedtest')
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', port))
        time.sleep(0.6)
        with H2(server) as again:
            assert len(again.fetch('/speedtest')[1]) == 1 << 20


def test_delays_do_not_add_up(server):
    """Each answer comes late by itself: 20 at once take as long as one."""
    server.command('set delay 200')
    with H2(server) as h:
        begin = time.monotonic()
        h.index()
        assert time.monotonic() - begin >= 0.2
        begin = time.monotonic()
        streams = [h.get(f'/chunk?digest={CHUNKS[i % 2]}') for i in range(20)]
        for i, s in enumerate(streams):
            assert h.answer(s)[1] == chunk_file(CHUNKS[i % 2])
        assert 0.2 <= time.monotonic() - begin < 0.6
        assert server.stats()['streams_max'] == 20


def test_round_trip(server):
    """Everything the client sends arrives late: the handshake, requests, PINGs."""
    server.command('set rtt 100')
    begin = time.monotonic()
    with H2(server) as h:
        assert time.monotonic() - begin >= 0.2	# one for TLS 1.3, one for the request
        begin = time.monotonic()
        h.send(PING, 0, 0, b'12345678')
        while h.step()[:2] != (PING, 1):
            pass
        assert 0.08 <= time.monotonic() - begin < 0.4


def test_rates(server):
    server.command('set rate 4000000')
    with H2(server) as h:
        begin = time.monotonic()
        h.fetch('/speedtest')
        assert 0.2 < time.monotonic() - begin < 0.5
    server.command('set rate 0 rate-all 4000000')
    with H2(server) as a, H2(server) as b:
        begin = time.monotonic()
        one, two = a.get('/speedtest'), b.get('/speedtest')
        a.answer(one), b.answer(two)
        assert 0.4 < time.monotonic() - begin < 1


def test_small_pieces(server):
    """Tiny records, tiny sends, tiny frames, padding, split headers: nothing changes but the pieces."""
    for settings in ('record 1', 'dribble 1', 'frame 1', 'padding 255', 'continuation 1', 'frame 3 padding 20 continuation 2 record 5'):
        server.command('clear')
        server.command(f'set {settings}')
        with H2(server) as h:
            h.index()
            fields, body = h.fetch(f'/chunk?digest={CHUNKS[0]}')
            assert body == chunk_file(CHUNKS[0]) and dict(fields)[':status'] == '200'
            kinds = [f[0] for f in h.frames]
            assert ('continuation' in settings and 'padding' not in settings) <= (CONTINUATION in kinds)
            assert ('padding' in settings) <= any(f[0] == DATA and f[1] & 8 for f in h.frames)
            assert ('frame' in settings) <= (max(len(f[3]) for f in h.frames if f[0] == DATA) < 30)


def test_late_settings(server):
    server.command('set late 300')
    with H2(server) as h:
        begin = time.monotonic()
        assert h.step()[0] == SETTINGS and time.monotonic() - begin >= 0.25


def test_no_ping(server):
    server.command('set no-ping 1')
    with H2(server) as h:
        h.send(PING, 0, 0, b'12345678')
        assert quiet(h, 0.3)


@pytest.mark.parametrize('front, says', [('http', b'HTTP/1.1 400'), ('ssh', b'SSH-2.0'), ('close', b''), ('silent', None)])
def test_fronts(server, front, says):
    server.command(f'set front {front}')
    with socket.create_connection(('127.0.0.1', server.port), 5) as s:
        s.settimeout(0.5)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            s.sendall(b'\x16\x03\x01\x00\x05hello')
        try:
            assert s.recv(100).startswith(says)
        except TimeoutError:
            assert says is None
        except ConnectionResetError:
            assert says == b''


@pytest.mark.parametrize('how, says', [('html', b'502 Bad Gateway'), ('strip', b'missing Upgrade header'), ('plain', b'200 OK'), ('close', b'')])
def test_upgrades_refused(server, how, says):
    server.command(f'set upgrade {how}')
    with H2(server) as h:
        if how == 'strip':
            h.sock.settimeout(1)
            assert says in h.head + h.buf + (b'' if h.buf else h.sock.recv(1000))
        else:
            assert says in h.head


@pytest.mark.parametrize('version', ('1.2', '1.3'))
def test_tls_versions(version):
    with Server(STORE, tls=version) as server, connect(server) as s:
        assert s.version() == f'TLSv{version}'


@pytest.mark.parametrize('kind', [k for k in KINDS if k != 'rsa8192'] + [pytest.param('rsa8192', marks=pytest.mark.slow)])
def test_certificates(kind):
    with Server(STORE, cert=kind) as server, connect(server) as s:
        digest = hashlib.sha256(s.getpeercert(True)).hexdigest()
        assert server.fingerprint.replace(':', '') == digest
        ctx = ssl.create_default_context(cafile=server.certificate.ca)
        with socket.create_connection(('127.0.0.1', server.port), 5) as raw:
            try:
                ctx.wrap_socket(raw, server_hostname='localhost').close()
                fine = True
            except ssl.SSLCertVerificationError:
                fine = False
            assert fine == (kind not in ('expired', 'future', 'wrongname'))


def test_certificate_changes(server):
    server.tls('p384')
    with connect(server) as s:
        assert ssl.DER_cert_to_PEM_cert(s.getpeercert(True)).split() == open(certificate('p384').cert, encoding='ascii').read().split()


# Faults of answers.

def chunk(h, n=0):
    return h.fetch(f'/chunk?digest={CHUNKS[n]}')


def test_status_rules(server):
    server.command(f'rule status code=503 digest={CHUNKS[1]} text=not+today times=2')
    with H2(server) as h:
        h.index()
        for _ in range(2):
            fields, body = chunk(h, 1)
            assert dict(fields)[':status'] == '503' and body == b'not today'
        assert chunk(h, 1)[1] == chunk_file(CHUNKS[1])
        server.command('rule status code=400 nth=3 times=1')
        assert [dict(chunk(h)[0])[':status'] for _ in range(4)] == ['200', '200', '400', '200']
        server.command('rule status code=404 on=file times=all')
        assert dict(h.fetch(f'/download?file-name={INDEX}')[0])[':status'] == '404'
        assert server.stats()['faults'] == 4


@pytest.mark.parametrize('rule', ('corrupt', 'corrupt at=0', 'short by=5', 'long by=7', 'garbage', 'empty', 'nolength', 'trailer'))
def test_wrong_bodies(server, rule):
    true = chunk_file(CHUNKS[0])
    server.command(f'rule {rule}')
    with H2(server) as h:
        h.index()
        fields, body = chunk(h)
        length = dict(fields).get('content-length')
        kind = rule.split()[0]
        if kind == 'corrupt':
            at = 0 if 'at' in rule else len(true) // 2
            assert [i for i in range(len(true)) if body[i] != true[i]] == [at]
        elif kind == 'short':
            assert body == true[:-5] and length == str(len(true))
        elif kind == 'long':
            assert body == true + bytes(7) and length == str(len(true))
        elif kind == 'garbage':
            assert len(body) == len(true) and sum(a != b for a, b in zip(body, true)) > len(true) // 2
        elif kind == 'empty':
            assert body == b'' and length == '0'
        elif kind == 'nolength':
            assert body == true and length is None
        else:
            assert body == true and ('x-trailer', 'end') in fields
        assert chunk(h)[1] == true


def test_stream_faults(server):
    with H2(server) as h:
        h.index()
        server.command('rule rst code=7')
        assert chunk(h) == ('reset', 7)
        server.command('rule rst code=2 at=100')
        assert chunk(h) == ('reset', 2)
        assert sum(len(f[3]) for f in h.frames if f[0] == DATA and f[2] == h.next - 2) == 100
        server.command('rule hang at=50')
        s = h.get(f'/chunk?digest={CHUNKS[0]}')
        assert chunk(h, 1)[1] == chunk_file(CHUNKS[1])
        h.send(RST, 0, s, struct.pack('>I', 8))
        server.command('rule hang')
        s = h.get(f'/chunk?digest={CHUNKS[0]}')
        assert chunk(h, 1)[1] == chunk_file(CHUNKS[1]) and s not in h.answers
        server.command('rule delay ms=300')
        begin = time.monotonic()
        assert chunk(h)[1] == chunk_file(CHUNKS[0]) and time.monotonic() - begin >= 0.3
        server.command('rule cut at=10')
        with pytest.raises((EOFError, OSError)):
            chunk(h)
        assert sum(len(f[3]) for f in h.frames if f[0] == DATA and f[2] == h.next - 2) == 10


def test_goaway(server):
    with H2(server) as h:
        h.index()
        server.command('kick goaway last=-2')
        while (frame := h.step())[0] != GOAWAY:
            pass
        assert struct.unpack('>II', frame[3]) == ((1 << 31) - 1, 0)
        assert chunk(h)[1] == chunk_file(CHUNKS[0])	# a notice only
        server.command('set delay 200')
        s = h.get(f'/chunk?digest={CHUNKS[0]}')
        time.sleep(0.05)
        server.command('kick goaway')
        assert h.answer(s)[1] == chunk_file(CHUNKS[0])
        assert any(f[0] == GOAWAY and struct.unpack('>II', f[3]) == (s, 0) for f in h.frames)
        with pytest.raises((EOFError, OSError)):
            h.step()
    with H2(server) as h:
        h.index()
        server.command('kick goaway code=11 close=1')
        with pytest.raises((EOFError, OSError)):
            chunk(h)
        assert struct.unpack('>II', [f for f in h.frames if f[0] == GOAWAY][-1][3])[1] == 11


def test_settings_and_ping(server):
    with H2(server) as h:
        h.index()
        server.command('kick settings id=3 value=5')
        server.command('kick ping')
        while not {SETTINGS, PING} <= {f[0] for f in h.frames[3:]}:
            h.step()
        h.fetch('/speedtest')
        assert server.stats()['ping_acks'] == 1


@pytest.mark.parametrize('kind', ('ping', 'settings', 'empty-data', 'unknown', 'window', 'priority'))
def test_floods(kind):
    window = 5000 if kind == 'empty-data' else 1 << 30	# small: the body is still being sent when the flood comes
    with Server(STORE, violations=kind == 'settings') as server, H2(server, ((1, 0), (4, window))) as h:
        h.index()
        h.answers.clear()
        if kind == 'empty-data':
            h.get('/speedtest')
            while h.step()[0] != DATA:
                pass
        number = {'ping': PING, 'settings': SETTINGS, 'empty-data': DATA, 'unknown': 0xbb, 'window': WINDOW, 'priority': PRIORITY}[kind]
        server.command(f'kick flood name={kind} count=3000')
        n = 0
        with contextlib.suppress(EOFError, OSError):	# SETTINGS that nghttp2 knows nothing of are not to be answered
            while n < 3000:
                frame = h.step()
                n += frame[0] == number and (kind != 'empty-data' or frame[3] == b'')
        assert n >= (3000 if kind != 'settings' else 100)


def raw_answer(server):
    """All bytes that come for one chunk, the last of which are its body."""
    with H2(server) as h:
        h.index()
        while (SETTINGS, 1, 0, b'') not in h.frames:
            h.step()
        h.get(f'/chunk?digest={CHUNKS[0]}')
        with contextlib.suppress(EOFError):
            while not h.buf.endswith(chunk_file(CHUNKS[0])):
                h.need(len(h.buf) + 1)
        return h.buf


def test_named_frames(server):
    """Each name is some bytes in front of the answer, none the same as another's."""
    legal, illegal = server.frames(True), server.frames(False)
    assert len(legal) >= 8 and len(illegal) >= 45
    usual, seen = len(raw_answer(server)), set()
    for name in legal + illegal:
        server.command(f'rule inject text={name}')
        raw = raw_answer(server)
        assert len(raw) >= usual + 7, name	# 9 at least; the date's Huffman code varies by two
        seen.add(raw[:len(raw) - usual + 2])
    assert len(seen) == len(legal + illegal)


def test_violations_are_seen():
    """What a careful client does not do."""
    cases = {
        'ALPN': lambda s: connect(s, alpn=['h2', 'http/1.1']).close(),
        'bytes after a request': lambda s: raw_request(s, b'GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\nPRI * HTTP/2.0\r\n\r\n'),
        'malformed': lambda s: raw_request(s, b'GET /api2/json/version HTTP/1.1\r\n\r\n'),
        'that are no request': lambda s: raw_request(s, b'GET /api2', 0.1),
        'query': lambda s: http(s, '/api2/json/version?a=%zz', TOKEN),
        'percent-encoded': lambda s: http(s, '/api2/json/version', {'Cookie': 'PBSAuthCookie=PBS:test@pbs:6B::x'}),
        'without Connection': lambda s: http(s, f'/api2/json/reader?{SNAPSHOT}', {**TOKEN, 'Upgrade': 'proxmox-backup-reader-protocol-v1'}),
        'before its index': lambda s: in_session(s, lambda h: chunk(h)),
        'request POST': lambda s: in_session(s, lambda h: h.answer(h.get('/speedtest', 'POST'))),
        'magic': lambda s: bad_preface(s),
        'FRAME_SIZE': lambda s: in_session(s, lambda h: (h.send(SETTINGS, 1, 0, b'123456'), quiet(h, 0.2))),
        'PROTOCOL_ERROR': lambda s: in_session(s, lambda h: (h.send(DATA, 0, 0, b'x'), quiet(h, 0.2))),
        'REFUSED|PROTOCOL': lambda s: (s.command('set delay 500'), in_session(s, too_many)),
    }
    for text, act in cases.items():
        with Server(STORE, violations=True) as server:
            with contextlib.suppress(OSError, EOFError):
                act(server)
            end = time.monotonic() + 3
            while not (texts := server.stats()['violation_texts']) and time.monotonic() < end:
                time.sleep(0.02)
            assert any(re.search(text, t, re.I) for t in texts), (text, texts)


def raw_request(server, data, wait=0.5):
    with connect(server) as s:
        s.sendall(data)
        s.settimeout(wait)
        with contextlib.suppress(TimeoutError):
            s.recv(1000)


def in_session(server, act):
    with H2(server) as h:
        while h.step()[0] != SETTINGS:
            pass
        act(h)


def bad_preface(server):
    with connect(server) as s:
        s.sendall((f'GET /api2/json/reader?{SNAPSHOT} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n'
                   f'Upgrade: proxmox-backup-reader-protocol-v1\r\nAuthorization: {TOKEN["Authorization"]}\r\n\r\n').encode())
        head_of(s)
        s.sendall(b'GET /speedtest HTTP/1.1\r\nHost: x\r\n\r\n')
        s.settimeout(0.3)
        s.recv(100)


def too_many(h):
    """More streams than the server allows."""
    h.fetch('/speedtest')
    for _ in range(250):
        h.get(f'/download?file-name={INDEX}')
    quiet(h, 0.5)


def test_many_connections(server):
    """Each waits for itself."""
    server.command('set delay 300')
    with contextlib.ExitStack() as stack:
        begin = time.monotonic()
        sessions = [stack.enter_context(connect(server)) for _ in range(60)]
        for s in sessions:
            s.sendall(b'GET /api2/json/version HTTP/1.1\r\nHost: x\r\nAuthorization: ' + TOKEN['Authorization'].encode() + b'\r\n\r\n')
        for s in sessions:
            assert head_of(s)[0].startswith(b'HTTP/1.1 200')
        assert time.monotonic() - begin < 5
        assert server.stats()['open_max'] >= 60


def test_ends_with_its_input_and_its_parent(tmp_path):
    with Server(STORE) as server, H2(server) as h:
        h.index()
    c = certificate()
    out = subprocess.run(
        [sys.executable, '-c', 'import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE);'
         'p.stdout.readline(); print(p.pid, flush=True); os._exit(0)',
         binary(), '--store', STORE, '--name', 'golden', '--cert', c.cert, '--key', c.key, '--no-stdin'],
        stdout=subprocess.PIPE, text=True, timeout=10, check=True).stdout
    pid = int(out.split()[0])
    end = time.monotonic() + 3
    while os.path.exists(f'/proc/{pid}') and time.monotonic() < end:
        time.sleep(0.02)
    assert not os.path.exists(f'/proc/{pid}')


def test_loopback_only():
    c = certificate()
    for addr in ('0.0.0.0:0', '192.0.2.1:0', '[::]:0'):
        assert subprocess.run([binary(), '--store', STORE, '--name', 'g', '--cert', c.cert, '--key', c.key, '--listen', addr],
                              stderr=subprocess.DEVNULL, check=False).returncode == 2
