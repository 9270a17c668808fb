"""A client of the test server that checks nothing and may do anything: HTTP/1.1 and HTTP/2 by hand."""
import contextlib
import socket
import ssl
import struct

import hpack

from server import SECRETS

GOLDEN = 'test/golden'
STORE = f'{GOLDEN}/store'
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
T1 = 1767323045
INDEX = 'drive-scsi1.img.fidx'
CHUNKS = ('522104b05eb2b3bc5b555c233e184077e2ec5209a36d243757720b2f2163fe92',
          '5814aeca6484a14a916199aac5743eb02a7b6b60d6baabd6114da5313fca88f8')
SNAPSHOT = f'backup-type=vm&backup-id=100&backup-time={T1}&store=golden'
TOKEN = {'Authorization': f'PBSAPIToken=test@pbs!tok:{SECRETS["test@pbs!tok"]}'}


def chunk_file(digest):
    with open(f'{STORE}/.chunks/{digest[:4]}/{digest}', 'rb') as f:
        return f.read()


def connect(server, **tls):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    if tls.get('alpn'):
        ctx.set_alpn_protocols(tls['alpn'])
    return ctx.wrap_socket(socket.create_connection(('127.0.0.1', server.port), 5))


def head_of(sock):
    data = b''
    while b'\r\n\r\n' not in data:
        piece = sock.recv(65536)
        if not piece:
            return data, b''
        data += piece
    head, rest = data.split(b'\r\n\r\n', 1)
    return head, rest


def http(server, target, headers=None, method='GET', body=b'', sock=None):
    """Status line, header fields (list of pairs), body."""
    with contextlib.ExitStack() as stack:
        s = sock or stack.enter_context(connect(server))
        fields = {'Host': 'x', **({'Connection': 'close'} if sock is None else {}), **(headers or {})}
        if body:
            fields['Content-Length'] = str(len(body))
        s.sendall(f'{method} {target} HTTP/1.1\r\n'.encode() + ''.join(f'{k}: {v}\r\n' for k, v in fields.items()).encode() + b'\r\n' + body)
        head, data = head_of(s)
        lines = head.decode().split('\r\n')
        pairs = [tuple(line.split(': ', 1)) for line in lines[1:]]
        length = dict(pairs).get('content-length')
        while (piece := s.recv(65536) if length is None or len(data) < int(length) else b''):
            data += piece
    return lines[0], pairs, data


class H2:
    """The least of a client, which looks at every frame."""

    def __init__(self, server, settings=((1, 0), (4, 1 << 30)), snapshot=SNAPSHOT, window=(1 << 30)):
        self.sock = connect(server)
        self.sock.sendall((f'GET /api2/json/reader?{snapshot} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n'
                           f'Upgrade: proxmox-backup-reader-protocol-v1\r\nAuthorization: {TOKEN["Authorization"]}\r\n\r\n').encode())
        self.head, self.buf = head_of(self.sock)
        self.decoder, self.next, self.frames, self.answers = hpack.Decoder(), 1, [], {}
        if self.head.startswith(b'HTTP/1.1 101'):
            self.sock.sendall(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + self.frame(SETTINGS, 0, 0, b''.join(struct.pack('>HI', *s) for s in settings))
                              + self.frame(WINDOW, 0, 0, struct.pack('>I', window)))

    @staticmethod
    def frame(kind, flags, stream, payload=b''):
        return struct.pack('>I', len(payload))[1:] + bytes((kind, flags)) + struct.pack('>I', stream) + payload

    def send(self, *args):
        self.sock.sendall(self.frame(*args))

    def get(self, path, method='GET'):
        block = hpack.Encoder().encode([(':method', method), (':scheme', 'https'), (':authority', 'x'), (':path', path)], huffman=False)
        self.send(HEADERS, 5, self.next, block)
        self.next += 2
        return self.next - 2

    def need(self, n):
        while len(self.buf) < n:
            piece = self.sock.recv(1 << 20)
            if not piece:
                raise EOFError
            self.buf += piece

    def read(self, n):
        self.need(n)
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def step(self):
        """One frame: (type, flags, stream, payload)."""
        self.need(9)
        self.need(9 + int.from_bytes(self.buf[:3], 'big'))
        head = self.read(9)
        kind, flags, stream = head[3], head[4], struct.unpack('>I', head[5:])[0]
        payload = self.read(int.from_bytes(head[:3], 'big'))
        self.frames.append((kind, flags, stream, payload))
        if kind == SETTINGS and not flags & 1:
            self.send(SETTINGS, 1, 0)
        if kind == PING and not flags & 1:
            self.send(PING, 1, 0, payload)
        return self.frames[-1]

    def answer(self, stream):
        """(fields, body) of a stream, whatever else comes meanwhile; ('reset', code) when it was."""
        while True:
            done = self.answers.pop(stream, None)
            if done and done[2]:
                return done[0], done[1]
            if done:
                self.answers[stream] = done
            kind, flags, of, payload = self.step()
            a = self.answers.setdefault(of, [[], b'', False])
            if kind == RST and of == stream:
                return 'reset', struct.unpack('>I', payload)[0]
            if kind in (DATA, HEADERS) and flags & 8:
                payload = payload[1:len(payload) - payload[0]]
            if kind == HEADERS:
                block = payload
                while not flags & 4:
                    kind, more, again, piece = self.step()
                    assert kind == CONTINUATION and again == of
                    block, flags = block + piece, flags | more & 4
                a[0] = a[0] + self.decoder.decode(block)
            if kind == DATA:
                a[1] += payload
            if kind in (DATA, HEADERS, CONTINUATION) and flags & 1:
                a[2] = True

    def fetch(self, path):
        return self.answer(self.get(path))

    def index(self):
        self.fetch(f'/download?file-name={INDEX}')
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
