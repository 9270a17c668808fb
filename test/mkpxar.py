"""Writes file archives (.pxar) for tests, from the format's description alone: right ones of any kind, and ones that lie."""
import struct

FORMAT_VERSION, ENTRY, ENTRY_V1 = 0x730f6c75df16a40d, 0xd5956474e588acef, 0x11da850a1c1cceff
PRELUDE = 0xe309d79d9f7b771b
FILENAME, SYMLINK, HARDLINK, DEVICE = 0x16701121063917b3, 0x27f971e7dbf5dc5f, 0x51269c8422bd7275, 0x9fc9e906586d5ce9
XATTR, FCAPS, QUOTA = 0x0dab0229b57dcd03, 0x2da9dd9db5f7fb67, 0xe07540e82f7d1cbb
ACL_USER, ACL_GROUP, ACL_GROUP_OBJ = 0x2ce8540a457d55b8, 0x136e3eceb04c03ab, 0x10868031e9582876
ACL_DEFAULT, ACL_DEFAULT_USER, ACL_DEFAULT_GROUP = 0xbbbb13415a6896f5, 0xc89357b40532cd1f, 0xf90a8a5816038ffe
PAYLOAD, PAYLOAD_REF, GOODBYE, TAIL = 0x28147a1b0b7c1a25, 0x419d3d6bc4ba977e, 0x2fec4fa642d5731d, 0xef5eed5b753e1555
START_MARKER, TAIL_MARKER = 0x834c68c2194a4ed2, 0x6c72b78b984c81b5
MASK = (1 << 64) - 1


def siphash(data, k0=0x83ac3f1cfbb450db, k1=0xaa4f1b6879369fbd):
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def rotl(x, n):
        return (x << n | x >> (64 - n)) & MASK

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotl(v[1], 13) ^ v[0]
            v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotl(v[1], 17) ^ v[2]
            v[2] = rotl(v[2], 32)
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 255])
    for m, in struct.iter_unpack('<Q', padded):
        v[3] ^= m
        rounds(2)
        v[0] ^= m
    v[2] ^= 0xff
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def name_hash(name):
    return siphash(as_bytes(name))


def as_bytes(name):
    return name if isinstance(name, bytes) else name.encode()


def item(kind, content=b'', size=None):
    return struct.pack('<QQ', kind, 16 + len(content) if size is None else size) + content


def tree(rows):
    """Sorted rows as a complete binary search tree in an array."""
    out = [None] * len(rows)
    it = iter(rows)

    def place(i):
        if i < len(out):
            place(2 * i + 1)
            out[i] = next(it)
            place(2 * i + 2)
    place(0)
    return out


class Archive:
    """Call dir('') first; end() gives the bytes. With split=True file data is in `payload`."""

    def __init__(self, v1=False, split=False, prelude=None):
        self.v1, self.split = v1, split
        self.out, self.open, self.names = bytearray(), [], {}
        self.payload = bytearray(item(START_MARKER)) if split else None
        if split:
            self.out += item(FORMAT_VERSION, struct.pack('<Q', 2))
        if prelude is not None:
            self.out += item(PRELUDE, prelude)

    def path(self, name):
        return b'/'.join([d['name'] for d in self.open[1:]] + [as_bytes(name)])

    def entry(self, name, mode, uid=0, gid=0, mtime=0, xattrs=None, acl_user=(), acl_group=(), acl_group_obj=None,
              acl_default=None, acl_default_user=(), acl_default_group=(), fcaps=None, quota=None, flags=0, hash=None):
        """mtime in ns. Returns where the child starts."""
        start = len(self.out)
        if self.open:
            self.out += item(FILENAME, as_bytes(name) + b'\0')
            self.names[self.path(name)] = start
            self.open[-1]['rows'].append([name_hash(name) if hash is None else hash, start, None, as_bytes(name)])
        if self.v1:
            self.out += item(ENTRY_V1, struct.pack('<QQIIQ', mode, flags, uid, gid, mtime))
        else:
            self.out += item(ENTRY, struct.pack('<QQIIqII', mode, flags, uid, gid, mtime // 10**9, mtime % 10**9, 0))
        for k, v in (xattrs or {}).items():
            self.out += item(XATTR, as_bytes(k) + b'\0' + v)
        for kind, ids in ((ACL_USER, acl_user), (ACL_GROUP, acl_group)):
            for i, p in ids:
                self.out += item(kind, struct.pack('<QQ', i, p))
        if acl_group_obj is not None:
            self.out += item(ACL_GROUP_OBJ, struct.pack('<Q', acl_group_obj))
        if acl_default is not None:
            self.out += item(ACL_DEFAULT, struct.pack('<4Q', *acl_default))
        for kind, ids in ((ACL_DEFAULT_USER, acl_default_user), (ACL_DEFAULT_GROUP, acl_default_group)):
            for i, p in ids:
                self.out += item(kind, struct.pack('<QQ', i, p))
        if fcaps is not None:
            self.out += item(FCAPS, fcaps)
        if quota is not None:
            self.out += item(QUOTA, struct.pack('<Q', quota))

    def close(self):
        if self.open:
            row = self.open[-1]['rows'][-1]
            row[2] = len(self.out) - row[1]

    def file(self, name, data, mode=0o644, claim=None, ref=None, **meta):
        """claim: the size its item tells; ref: offset and size in place of the right ones."""
        self.entry(name, mode | 0o100000, **meta)
        if self.split:
            self.out += item(PAYLOAD_REF, struct.pack('<QQ', *(ref or (len(self.payload), len(data)))))
            self.payload += item(PAYLOAD, data)
        else:
            self.out += item(PAYLOAD, data, claim)
        self.close()
        if self.split:		# as the official writer does
            self.open[-1]['rows'][-1][2] += len(data)

    def symlink(self, name, target, **meta):
        self.entry(name, 0o120777, **meta)
        self.out += item(SYMLINK, as_bytes(target) + b'\0')
        self.close()

    def device(self, name, mode, major, minor, **meta):
        self.entry(name, mode, **meta)
        self.out += item(DEVICE, struct.pack('<QQ', major, minor))
        self.close()

    def special(self, name, mode, **meta):
        """A FIFO or a socket, or what claims to be one."""
        self.entry(name, mode, **meta)
        self.close()

    def link(self, name, target, offset=None):
        """A hard link to what was written before; offset: instead of the right one."""
        start = len(self.out)
        self.out += item(FILENAME, as_bytes(name) + b'\0')
        if offset is None:
            offset = start - self.names[as_bytes(target)]
        self.out += item(HARDLINK, struct.pack('<Q', offset) + as_bytes(target or '') + b'\0')
        self.open[-1]['rows'].append([name_hash(name), start, len(self.out) - start, as_bytes(name)])

    def dir(self, name, mode=0o755, **meta):
        self.entry(name, mode | 0o40000, **meta)
        start = self.open[-1]['rows'][-1][1] if self.open else None
        entry = len(self.out) if start is None else start + 17 + len(as_bytes(name))
        if start is None:
            entry = 0		# as the official writer has it, whatever comes before the ENTRY
        self.open.append({'name': as_bytes(name), 'rows': [], 'entry': entry})

    def up(self, tail=TAIL, back=None, rows=None, extra=(), shuffle=False, size=None, own_row=False):
        """Ends a directory. rows: name -> (distance, size) that its row tells instead; extra: names listed once more."""
        d = self.open.pop()
        here = len(self.out)
        table = []
        for h, start, length, name in d['rows']:
            distance, length = (rows or {}).get(name, (here - start, length))
            table += [(h, distance, length)] * (1 + list(extra).count(name))
        if own_row:
            table.append((1, here - d['entry'], here - d['entry']))
        table = table[::-1] if shuffle else tree(sorted(table))
        n = 16 + 24 * (len(table) + 1)
        table.append((tail, here - d['entry'] if back is None else back, n if size is None else size))
        self.out += item(GOODBYE, b''.join(struct.pack('<QQQ', *r) for r in table))
        self.close()

    def end(self, **damage):
        while self.open:
            self.up(**(damage if len(self.open) == 1 else {}))
        if self.split:
            self.payload += item(TAIL_MARKER)
            return bytes(self.out), bytes(self.payload)
        return bytes(self.out)


def every(v1=False, split=False):
    """One of each kind."""
    a = Archive(v1=v1, split=split, prelude=None if v1 else b'--exclude x')
    if split:
        a = Archive(split=True)
    elif not v1:
        a.out[:0] = item(FORMAT_VERSION, struct.pack('<Q', 2))
    a.dir('', mode=0o755, mtime=5 * 10**9)
    a.file('file', b'hello', mode=0o4711, uid=1000, gid=100000, mtime=-1 if not v1 else 7)
    a.symlink('link', 'file')
    a.link('hard', 'file')
    a.device('null', 0o20666, 1, 3)
    a.device('loop', 0o60640, 7, 1 << 19)
    a.special('fifo', 0o10600)
    a.special('sock', 0o140700)
    a.file('attrs', b'', mode=0o664, xattrs={'user.a': b'1', 'user.empty': b'', 'trusted.b': b'\0\1'}, fcaps=b'caps', quota=3,
           acl_user=[(1000, 6)], acl_group=[(1001, 4), (1002, 7)], acl_group_obj=4)
    a.dir('dir', mode=0o2775, acl_default=(7, 5, 1, 7), acl_default_user=[(5, 4)], acl_default_group=[(6, 1)])
    for i in range(20):
        a.file(f'f{i}', b'%d' % i)
    a.dir('empty')
    a.up()
    a.up()
    a.dir('same')
    for i in range(12):
        a.file(f'n{i}', b'', hash=name_hash('n5') if i < 9 else None)
    a.up()
    return a.end()


if __name__ == '__main__':
    import pathlib
    import sys
    for title, data in (('every', every()), ('every-v1', every(v1=True)), ('every-split', every(split=True)[0])):
        (pathlib.Path(sys.argv[1]) / title).write_bytes(data)
