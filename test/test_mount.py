"""File archives as a file system: everything in them as it was, from directories and servers."""
import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import threading

import pytest
from lib import BUSY, DAMAGED, DONE, FAIL, GOLDEN, KEYS, PBSMAP, T1, USAGE, Place, place, wait_for  # noqa: F401
from formats import DYNAMIC, blob, digest
from mkpxar import Archive, name_hash
from server import Server

pytestmark = pytest.mark.root
TREE = [json.loads(line) for line in (GOLDEN / 'pxtree.jsonl').read_text().splitlines()]
T2 = '2026-02-03T04:05:06Z'
ALL = {'unified': (f'host/files/{T1}', None), 'unified-sealed': (f'host/files/{T2}', 'none'),
       'split': (f'host/split/{T1}', None), 'split-sealed': (f'host/split/{T2}', 'none')}


def options(store, key=None, opts=()):
    return ['--repository', str(store), *(['--keyfile', KEYS / f'{key}.json'] if key else []), *opts]


class Mount:
    def __init__(self, place, at, run):
        self.place, self.at, self.said = place, at, run.stderr

    def status(self):
        return [m for m in json.loads(self.place.run('status', '--json').stdout) if m.get('directory') == str(self.at)]

    def pid(self):
        return self.status()[0]['pid']

    def there(self):
        return str(self.at) in self.place.mounts()


@contextlib.contextmanager
def mount(place, store, snapshot, archive='root.pxar', key=None, opts=(), env=None):
    at = place.dir / f'm{len(list(place.dir.glob("m*")))}'
    at.mkdir()
    r = place.run('mount', *options(store, key, opts), snapshot, archive, at, env=env)
    assert r.returncode == 0 and r.stdout == '', (r.stdout, r.stderr)
    m = Mount(place, at, r)
    try:
        yield m
    finally:
        subprocess.run(['umount', '-l', str(at)], check=False, stderr=subprocess.DEVNULL)
        assert wait_for(lambda: not place.processes())


def file_digest(path):
    h = hashlib.sha256()
    with open(path, 'rb') as f:
        while data := f.read(1 << 20):
            h.update(data)
    return h.hexdigest()


def xattrs(path):
    return {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in os.listxattr(path, follow_symlinks=False)}


def describe(base, path):
    """What pxtree.jsonl has of one entry."""
    full = os.path.join(os.fsencode(base), os.fsencode(path))
    st = os.lstat(full)
    out = {'path': path, 'mode': oct(st.st_mode), 'uid': st.st_uid, 'gid': st.st_gid, 'mtime_ns': st.st_mtime_ns}
    if stat.S_ISREG(st.st_mode):
        out |= {'size': st.st_size, 'sha256': file_digest(full)}
    if stat.S_ISLNK(st.st_mode):
        out['target'] = os.fsdecode(os.readlink(full))
    if stat.S_ISBLK(st.st_mode) or stat.S_ISCHR(st.st_mode):
        out['rdev'] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
    if x := xattrs(full):
        out['xattrs'] = x
    return out


def walk(base):
    out = ['.']
    for here, dirs, files in os.walk(base):
        out += [os.path.relpath(os.path.join(here, n), base) for n in dirs + files]
    return sorted(out)


def compare(base, tree=TREE):
    assert walk(base) == sorted(e['path'] for e in tree)
    links = {}
    for e in tree:
        want = {k: v for k, v in e.items() if k != 'hardlinked'}
        assert describe(base, e['path']) == want
        if e.get('hardlinked'):
            links.setdefault(e['sha256'], []).append(os.lstat(os.path.join(base, e['path'])))
    for same in links.values():
        assert len({(s.st_dev, s.st_ino) for s in same}) == 1 and {s.st_nlink for s in same} == {len(same)}


@pytest.mark.parametrize('which', ALL)
def test_everything_as_it_was(place, which):
    snapshot, key = ALL[which]
    with mount(place, GOLDEN / 'store', snapshot, key=key) as m:
        compare(m.at)
        assert f'{snapshot}/root.pxar' in m.said and str(m.at) in m.said


@pytest.mark.parametrize('which', ALL)
def test_from_a_server(place, which):
    snapshot, key = ALL[which]
    with Server(GOLDEN / 'store') as s, mount(place, s.repo(), snapshot, key=key, env=s.env()) as m:
        compare(m.at)


@pytest.mark.parametrize('name', ['root.pxar', 'root.mpxar', 'root.mpxar.didx', 'root.pxar.didx'])
def test_names_of_a_split_archive(place, name):
    with mount(place, GOLDEN / 'store', 'host/split/' + T1, name) as m:
        assert (m.at / 'hello.txt').exists()


@pytest.mark.parametrize(('snapshot', 'archive', 'status', 'words'), [
    ('vm/100/' + T1, 'drive-scsi0.img', USAGE, "disk image: use 'map'"),
    ('vm/100/' + T1, 'qemu-server.conf', USAGE, 'no file archive'),
    ('host/files/' + T1, 'home.pxar', FAIL, 'holds: .*root.pxar'),
])
def test_what_is_no_archive(place, snapshot, archive, status, words):
    place.failed(place.run('mount', *options(GOLDEN / 'store'), snapshot, archive, place.dir), status, words)


def test_no_directory(place):
    place.failed(place.run('mount', *options(GOLDEN / 'store'), 'host/files/' + T1, 'root.pxar', place.dir / 'none'), FAIL, 'No such file')
    (place.dir / 'file').write_text('')
    place.failed(place.run('mount', *options(GOLDEN / 'store'), 'host/files/' + T1, 'root.pxar', place.dir / 'file'), FAIL, 'is no directory')


def test_subdir(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1, opts=['--subdir', '/dir/./sub/']) as m:
        assert os.listdir(m.at) == ['deep.txt']
    r = place.run('mount', *options(GOLDEN / 'store', opts=['--subdir', 'hello.txt']), 'host/files/' + T1, 'root.pxar', place.dir)
    place.failed(r, FAIL, 'no directory')
    r = place.run('mount', *options(GOLDEN / 'store', opts=['--subdir', 'nowhere']), 'host/files/' + T1, 'root.pxar', place.dir)
    place.failed(r, FAIL, 'nowhere: No such file')


def flags(at):
    for line in open('/proc/self/mounts', encoding='utf-8'):
        if line.split()[1] == str(at):
            return set(line.split()[3].split(','))
    return None


def test_mount_options(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        assert {'ro', 'nosuid', 'nodev', 'allow_other', 'default_permissions'} <= flags(m.at)
    with mount(place, GOLDEN / 'store', 'host/files/' + T1, opts=['-o', 'suid,dev,noexec,rw']) as m:
        assert {'ro', 'noexec'} <= flags(m.at) and not {'nosuid', 'nodev'} & flags(m.at)
        with open(m.at / 'null', 'rb') as f:
            assert f.read(1) == b''
    r = place.run('mount', *options(GOLDEN / 'store', opts=['-o', 'nonsense']), 'host/files/' + T1, 'root.pxar', place.dir)
    place.failed(r, FAIL, 'nonsense')


def test_nothing_can_be_changed(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        for act in (lambda: open(m.at / 'hello.txt', 'r+'), lambda: os.unlink(m.at / 'hello.txt'), lambda: os.mkdir(m.at / 'new')):
            with pytest.raises(OSError, match='Read-only') as e:
                act()
            assert e.value.errno == errno.EROFS


def as_nobody(act):
    """What act() returns, or the number of its OSError, with no rights."""
    r, w = os.pipe()
    if (pid := os.fork()) == 0:
        code = b'?'
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            code = repr(act()).encode()
        except OSError as e:
            code = b'%d' % e.errno
        finally:
            os.write(w, code)
            os._exit(0)
    os.close(w)
    os.waitpid(pid, 0)
    with open(r, 'rb') as f:
        return f.read().decode()


def test_modes_and_acls_count_for_others(place):
    a = Archive()
    a.dir('', mode=0o755)
    a.file('secret', b'x', mode=0o600)
    a.file('open', b'y', mode=0o644)
    a.file('granted', b'z', mode=0o640, acl_user=[(65534, 4)], acl_group_obj=4)
    place.dir.chmod(0o755)
    st = place.store('host/x/' + T1, root_pxar=a.end())
    with mount(place, st.path, 'host/x') as m:
        assert as_nobody(lambda: (m.at / 'secret').read_text()) == str(errno.EACCES)
        assert as_nobody(lambda: (m.at / 'open').read_text()) == "'y'"
        assert as_nobody(lambda: (m.at / 'granted').read_text()) == "'z'"


# ---- ending it ----

def test_status_and_unmap(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        s, = m.status()
        assert s['state'] == 'alive' and s['name'].endswith(f'host/files/{T1}/root.pxar') and s['device'] is None
        assert str(m.at) in place.run('status').stdout
        place.unmap(m.at)
        assert not m.there() and not place.processes() and not m.status()


def test_unmap_by_name(place):
    st = place.golden(place.token)
    with mount(place, st.path, 'host/files/' + T1) as m:
        place.unmap(f'{place.token}:host/files/{T1}/root.pxar')
        assert not m.there()


def test_umount(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        subprocess.run(['umount', m.at], check=True)
        assert wait_for(lambda: not place.processes())


@pytest.mark.parametrize('sig', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it(place, sig):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        os.kill(m.pid(), sig)
        assert wait_for(lambda: not m.there() and not place.processes())


def test_busy(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        with open(m.at / 'dir/text.txt', 'rb') as f:
            r = place.run('unmap', m.at)
            assert r.returncode == BUSY and f'  {m.at}/dir/text.txt is open by process {os.getpid()} (' in r.stderr
            assert r.stderr.endswith(f'{m.at} is in use: not unmounted (-f does it all the same)\n')
            assert f.read(1)
            place.unmap('-f', m.at)
            assert not m.there()
            with pytest.raises(OSError, match=''):
                os.pread(f.fileno(), 10, 1_000_000) and os.fstat(f.fileno()) and os.listdir(m.at / 'dir')


def test_holders_are_named(place):
    """Whoever has something of it; a process in it; what is mounted in it."""
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m, \
            subprocess.Popen(['sleep', '60'], cwd=m.at / 'dir') as p:
        subprocess.run(['mount', '-t', 'tmpfs', 'thing', m.at / 'empty-dir'], check=True)
        try:
            r = place.run('unmap', m.at)
            assert r.returncode == BUSY and m.there()
            assert f'  {m.at}/dir is in use by process {p.pid} (sleep)\n' in r.stderr
            assert f'  thing is mounted on {m.at}/empty-dir\n' in r.stderr
        finally:
            p.kill()
            subprocess.run(['umount', m.at / 'empty-dir'], check=True)
        p.wait()
        place.unmap(m.at)


def test_who_is_not_root(place):
    """fusermount3 mounts for him; the mount is his alone, and he can end it."""
    user = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups']
    at, exe, store = place.dir / 'm', shutil.copy(PBSMAP, place.dir), place.golden()
    at.mkdir()
    os.chown(at, 65534, 65534)
    place.dir.chmod(0o755)

    def run(*args):
        return subprocess.run([*user, *map(str, args)], env=place.env(), check=False, capture_output=True, text=True)
    r = run(exe, 'mount', *options(store.path), 'host/files/' + T1, 'root.pxar', at)
    assert r.returncode == DONE, r.stderr
    assert 'user_id=65534' in flags(at) and {'ro', 'nosuid', 'nodev'} <= flags(at) and 'allow_other' not in flags(at)
    assert run('cat', at / 'hello.txt').stdout == 'hello, rescue\n'
    with pytest.raises(OSError, match='') as e:		# not even root's
        (at / 'hello.txt').stat()
    assert e.value.errno == errno.EACCES
    r = run('sh', '-c', f'exec 3<{at}/hello.txt; {exe} unmap {at}')
    assert r.returncode == BUSY and f'{at}/hello.txt is open by process' in r.stderr and str(at) in place.mounts()
    assert run(exe, 'unmap', at).returncode == DONE
    assert str(at) not in place.mounts() and wait_for(lambda: not place.processes())


def test_lazily_unmounted_it_serves_until_the_end(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        with open(m.at / 'dir/text.txt', 'rb') as f:
            subprocess.run(['umount', '-l', m.at], check=True)
            assert len(f.read()) == 1548890
        assert wait_for(lambda: not place.processes())


def test_killed(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        pid = m.pid()
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not place.processes())
        assert m.status()[0]['state'] == 'dead'
        with pytest.raises(OSError):
            os.listdir(m.at)
        place.unmap(m.at)
        assert not m.there()


def test_a_dead_one_makes_way(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        os.kill(m.pid(), signal.SIGKILL)
        assert wait_for(lambda: not place.processes())
        r = place.run('mount', *options(GOLDEN / 'store'), 'host/files/' + T1, 'root.pxar', m.at)
        assert r.returncode == DONE and 'what was left' in r.stderr
        assert (m.at / 'hello.txt').exists()
        assert place.mounts().count(str(m.at)) == 1


def test_already_mounted(place):
    with mount(place, GOLDEN / 'store', 'host/files/' + T1) as m:
        r = place.run('mount', *options(GOLDEN / 'store'), 'host/files/' + T1, 'root.pxar', m.at)
        assert r.returncode == BUSY and 'already' in r.stderr
        assert place.mounts().count(str(m.at)) == 1


# ---- what the fixtures lack ----

def rechunk(store, data, sizes, stored='root.pxar.didx', snapshot='host/x/' + T1):
    """The archive anew, in chunks of these sizes; their digests."""
    body, at, out = b'', 0, []
    for n in sizes:
        if at < len(data):
            part = data[at:at + n]
            at += len(part)
            out.append(digest(part))
            store.put_chunk(out[-1], blob(part))
            body += struct.pack('<Q', at) + out[-1]
    assert at == len(data)
    head = DYNAMIC + bytes(24) + hashlib.sha256(body).digest()
    store.put_index(snapshot, stored, head.ljust(4096, b'\0') + body, len(data))
    return out


def test_large_directory_and_seeking(place):
    a = Archive()
    a.dir('')
    names = [f'{i:06d}' for i in range(100_000)]
    for n in names:
        a.file(n, b'')
    st = place.store('host/x/' + T1, '--average', 262144, root_pxar=a.end())
    with mount(place, st.path, 'host/x', opts=['--cache', '8M']) as m:
        assert sorted(os.listdir(m.at)) == names
        fd = os.open(m.at, os.O_RDONLY)
        try:
            with os.scandir(fd) as it:
                assert sum(1 for _ in it) == len(names)
        finally:
            os.close(fd)
        assert (m.at / '054321').exists() and not (m.at / '154321').exists()
        out = subprocess.run(['find', str(m.at), '-type', 'f', '-size', '0'], capture_output=True, check=True).stdout
        assert out.count(b'\n') == len(names)


def test_version_1_and_names_of_any_bytes(place):
    a = Archive(v1=True)
    a.dir('')
    for name in (b'\xff\xfe', b'a\nb', b' ', b'\\', b'x' * 255, '\u00e4'.encode()):
        a.file(name, name, mtime=1_600_000_000_123_456_789)
    st = place.store('host/x/' + T1, root_pxar=a.end())
    with mount(place, st.path, 'host/x') as m:
        for name in os.listdir(os.fsencode(m.at)):
            path = os.path.join(os.fsencode(m.at), name)
            with open(path, 'rb') as f:
                assert f.read() == name
            assert os.stat(path).st_mtime_ns == 1_600_000_000_123_456_789
        assert len(os.listdir(m.at)) == 6


def test_colliding_names(place):
    """Rows with one hash: the name decides. (Names that really collide nobody has.)"""
    a = Archive()
    a.dir('')
    for i in range(100):
        a.file(f'f{i}', b'%d' % i, hash=name_hash('f77') if i % 2 else None)
    st = place.store('host/x/' + T1, root_pxar=a.end())
    with mount(place, st.path, 'host/x') as m:
        assert (m.at / 'f77').read_bytes() == b'77' and (m.at / 'f8').read_bytes() == b'8'
        assert not (m.at / 'f177').exists()
        assert len(os.listdir(m.at)) == 100
        assert len({os.stat(m.at / n).st_ino for n in os.listdir(m.at)}) == 100


def test_large_files_and_parallel_walks(place):
    data = random.Random(7).randbytes(24 << 20)
    a = Archive()
    a.dir('')
    for i in range(6):
        a.file(f'big{i}', data[i << 20:(i << 20) + (18 << 20)])
    st = place.store('host/x/' + T1, root_pxar=a.end())
    with mount(place, st.path, 'host/x', opts=['--cache', '32M']) as m:
        bad = []

        def reader(i):
            if file_digest(m.at / f'big{i % 6}') != hashlib.sha256(data[(i % 6) << 20:((i % 6) << 20) + (18 << 20)]).hexdigest():
                bad.append(i)
        threads = [threading.Thread(target=reader, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not bad


def test_tiny_chunks(place):
    """Chunks of a few bytes: a read is put together from many."""
    a = Archive()
    a.dir('')
    a.file('f', bytes(range(256)) * 1000)
    data = a.end()
    st = place.store('host/x/' + T1, root_pxar=data)
    rechunk(st, data, [1] * 300 + [7] * 1000 + [1000] * 1000)
    with mount(place, st.path, 'host/x') as m:
        assert (m.at / 'f').read_bytes() == bytes(range(256)) * 1000


# ---- a server ----

def test_a_server_that_breaks_while_tar_runs(place):
    a = Archive()
    a.dir('')
    for i in range(40):
        a.file(f'f{i:02}', random.Random(i).randbytes(1 << 20))
    st = place.store('host/x/' + T1, root_pxar=a.end())
    with Server(st.path) as s, mount(place, s.repo(), 'host/x', env=s.env()) as m:
        with subprocess.Popen(['tar', '-cf', '-', '-C', str(m.at), '.'], stdout=subprocess.PIPE) as p:
            got = p.stdout.read(4 << 20)
            s.command('restart 500')
            got += p.stdout.read()
        assert p.returncode == 0
        for i in (0, 20, 39):
            assert random.Random(i).randbytes(1 << 20) in got
