"""File archives listed, restored into directories and written as tar: everything as it was; nothing outside."""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time

import pytest
from lib import BUSY, DAMAGED, DONE, FAIL, GOLDEN, PBSMAP, T1, USAGE, Place, place, wait_for  # noqa: F401
from mkpxar import Archive
from server import Server
from test_mount import ALL, TREE, compare, describe, mount, options, rechunk, walk

pytestmark = pytest.mark.root


@pytest.fixture
def disk():
    """A directory on a real file system."""
    path = pathlib.Path(tempfile.mkdtemp(prefix='pbt', dir='/var/tmp'))
    yield path
    shutil.rmtree(path)


def restore(place, store, snapshot, target, *paths, key=None, opts=(), status=DONE, env=None):
    r = place.run('restore', *options(store, key, opts), snapshot, 'root.pxar', target, *paths, env=env)
    assert r.returncode == status and r.stdout == '', (r.returncode, r.stderr)
    return r.stderr


# ---- into a directory ----

@pytest.mark.parametrize('which', ALL)
def test_everything_as_it_was(place, disk, which):
    snapshot, key = ALL[which]
    assert restore(place, GOLDEN / 'store', snapshot, disk / 'out', key=key) == ''
    compare(disk / 'out')


def test_from_a_server(place, disk):
    with Server(GOLDEN / 'store') as s:
        restore(place, s.repo(), 'host/split/' + T1, disk, env=s.env())
    compare(disk)


def test_given_paths(place, disk):
    restore(place, GOLDEN / 'store', 'host/files/' + T1, disk, 'dir/sub', '/hello.txt', 'hard1')
    assert walk(disk) == ['.', 'dir', 'dir/sub', 'dir/sub/deep.txt', 'hard1', 'hello.txt']
    for e in TREE:
        if e['path'] in ('dir/sub', 'dir/sub/deep.txt', 'hard1', 'hello.txt'):
            assert describe(disk, e['path']) == {k: v for k, v in e.items() if k != 'hardlinked'}


@pytest.mark.parametrize(('path', 'words'), [('nowhere', 'No such file'), ('hello.txt/x', 'Not a directory'), ('../x', 'Invalid')])
def test_paths_that_are_not_there(place, disk, path, words):
    assert words in restore(place, GOLDEN / 'store', 'host/files/' + T1, disk, path, status=FAIL)


def test_a_directory_that_is_not_empty(place, disk):
    (disk / 'hello.txt').write_text('mine')
    (disk / 'dir').symlink_to('/')
    (disk / 'other').write_text('stays')
    assert '--yes' in restore(place, GOLDEN / 'store', 'host/files/' + T1, disk, status=BUSY)
    assert (disk / 'hello.txt').read_text() == 'mine'
    restore(place, GOLDEN / 'store', 'host/files/' + T1, disk, opts=['--yes'])
    assert (disk / 'other').read_text() == 'stays'
    (disk / 'other').unlink()
    os.utime(disk, ns=(0, next(e for e in TREE if e['path'] == '.')['mtime_ns']))
    compare(disk)


def test_sparse(place, disk):
    data = bytes(8 << 20) + b'x' * 10 + bytes(4 << 20) + random.Random(1).randbytes(100_000) + bytes(3 << 20)
    a = Archive()
    a.dir('')
    a.file('f', data)
    a.file('holes', bytes(5 << 20))
    st = place.store('host/x/' + T1, root_pxar=a.end())
    restore(place, st.path, 'host/x', disk)
    assert (disk / 'f').read_bytes() == data and (disk / 'f').stat().st_blocks * 512 < 400_000
    assert (disk / 'holes').stat().st_size == 5 << 20 and (disk / 'holes').stat().st_blocks < 16


def test_what_a_target_lacks_is_counted(place, disk):
    """procfs has no xattrs, and who is not root cannot give files away: told once, and the rest is there."""
    a = Archive()
    a.dir('')
    for i in range(3):
        a.file(f'f{i}', b'x', xattrs={'nonsense.name': b'1'}, uid=7)
    st = place.store('host/x/' + T1, root_pxar=a.end())
    said = restore(place, st.path, 'host/x', disk)
    assert 'extended attribute, 3 times (first f0: ' in said and len(said.splitlines()) == 1
    assert sorted(os.listdir(disk)) == ['f0', 'f1', 'f2'] and (disk / 'f2').stat().st_uid == 7
    shutil.rmtree(disk / 'x', ignore_errors=True)
    restore(place, st.path, 'host/x', disk / 'strict', opts=['--strict'], status=FAIL)
    assert sorted(os.listdir(disk / 'strict')) == ['f0', 'f1', 'f2']


def test_nothing_is_written_outside(place, disk):
    """An archive whose directory is named as a link before it, and links that point out."""
    (disk / 'outside').mkdir()
    (disk / 'outside' / 'victim').write_text('good')
    a = Archive()
    a.dir('')
    a.symlink('d', str(disk / 'outside'))
    a.dir('d')
    a.file('victim', b'bad')
    a.up()
    a.symlink('l', str(disk / 'outside' / 'victim'))
    a.file('l', b'bad')
    a.file('../victim2', b'bad')
    st = place.store('host/x/' + T1, root_pxar=a.end())
    r = place.run('restore', *options(st.path), 'host/x', 'root.pxar', disk / 'in')
    assert r.returncode in (FAIL, DAMAGED)
    r = place.run('restore', *options(st.path, opts=['--yes']), 'host/x', 'root.pxar', disk / 'in')
    assert os.listdir(disk / 'outside') == ['victim'] and (disk / 'outside' / 'victim').read_text() == 'good'
    assert not (disk / 'victim2').exists()


def test_a_hard_link_whose_path_lies(place, disk):
    """The path in it is another's: the data counts, not the path."""
    a = Archive()
    a.dir('')
    a.file('one', b'one')
    a.file('two', b'two')
    a.names[b'x'] = a.names[b'one']
    a.link('three', 'x')
    data = a.end().replace(b'x\0', b'x\0')
    st = place.store('host/x/' + T1, root_pxar=data)
    restore(place, st.path, 'host/x', disk)
    assert (disk / 'three').read_bytes() == b'one' and (disk / 'three').stat().st_ino != (disk / 'two').stat().st_ino


def test_damage_is_named_and_the_rest_is_there(place, disk):
    a = Archive()
    a.dir('')
    for i in range(64):
        a.file(f'f{i:02}', random.Random(i).randbytes(100_000))
    data = a.end()
    st = place.store('host/x/' + T1, root_pxar=data)
    chunks = rechunk(st, data, [65536] * 200)
    st.chunk(chunks[40]).unlink()
    said = restore(place, st.path, 'host/x', disk, status=DAMAGED)
    assert chunks[40].hex() in said and 'entries are damaged' in said
    there = sorted(os.listdir(disk))
    assert 62 <= len(there) < 64
    for n in there:
        assert (disk / n).read_bytes() == random.Random(int(n[1:])).randbytes(100_000)


def test_interrupted(place, disk):
    a = Archive()
    a.dir('')
    for i in range(40):
        a.file(f'f{i}', random.Random(i).randbytes(1 << 20))
    st = place.store('host/x/' + T1, root_pxar=a.end())
    with Server(st.path, do=['set delay 100']) as s:
        env = place.env(**s.env())
        with subprocess.Popen([PBSMAP, 'restore', '--repository', s.repo(), 'host/x', 'root.pxar', str(disk / 'o')],
                              env=env, stderr=subprocess.PIPE, text=True) as p:
            assert wait_for(lambda: (disk / 'o').exists() and os.listdir(disk / 'o'))
            p.send_signal(signal.SIGINT)
            said = p.communicate(timeout=20)[1]
        assert p.returncode == FAIL and 'interrupted' in said


@pytest.fixture(scope='module', name='three')
def _three():
    """3 MB in chunks of 64 KiB: a directory, a file before and one behind it."""
    p = Place()
    for split in (False, True):
        a = Archive(split=split)
        a.dir('')
        a.file('before', random.Random(1).randbytes(1 << 20))
        a.dir('d')
        for i in range(10):
            a.file(f'f{i}', random.Random(i).randbytes(100_000))
        a.up()
        a.file('behind', random.Random(2).randbytes(1 << 20))
        data = a.end()
        more = {'root_mpxar': data[0], 'root_ppxar': data[1]} if split else {'root_pxar': data}
        p.store('host/split/' + T1 if split else 'host/x/' + T1, '--average', 65536, **more)
    yield p.dir / 'st'
    p.sweep()


def steps(said):
    return [json.loads(line) for line in said.splitlines()]


@pytest.mark.parametrize('snapshot', ['host/x', 'host/split'])
def test_limit_and_progress(place, disk, three, snapshot):
    begin = time.monotonic()
    said = steps(restore(place, three, snapshot, disk / 'all', opts=['--limit', '2M', '--progress', 'json']))
    seconds = time.monotonic() - begin
    assert 1.2 < seconds < 3
    assert len(said) == int(seconds) + 1 and said[-1]['done'] == said[-1]['total']
    assert 3_090_000 < said[-1]['total'] < 3_110_000
    assert 1_500_000 < said[0]['done'] < 2_500_000 and said[0]['total'] == said[-1]['total']
    # Of what was asked for.
    said = steps(restore(place, three, snapshot, disk / 'part', 'd', 'behind', opts=['--progress', 'json']))
    assert 2_048_000 < said[-1]['total'] == said[-1]['done'] < 2_053_000
    assert restore(place, three, snapshot, disk / 'quiet', opts=['--quiet']) == ''


def test_progress_in_a_log(place, disk, three):
    said = restore(place, three, 'host/x', disk / 'x', opts=['--limit', '1M'])
    lines = said.splitlines()
    assert len(lines) >= 2 and all(re.fullmatch(r' ?[0-9]+% [0-9.]+ [KM]iB of 3.0 MiB restored, .*/s, .* left', n) for n in lines)


def test_interrupted_while_it_keeps_to_a_limit(place, disk, three):
    with subprocess.Popen([PBSMAP, 'restore', '--limit', '50k', '--tar', '--repository', three, 'host/x', 'root.pxar', '-'],
                          env=place.env(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as p:
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert 'interrupted' in p.communicate(timeout=20)[1]
        assert p.returncode == FAIL and time.monotonic() - begin < 0.5


@pytest.mark.parametrize('args', [['-'], ['--tar', '/tmp'], ['--sparse', '/tmp/x'], ['--delta', '/tmp/x']])
def test_wrong_usage(place, args):
    r = place.run('restore', *options(GOLDEN / 'store'), 'host/files/' + T1, 'root.pxar', *args)
    assert r.returncode == USAGE and r.stdout == ''


def test_images_take_none_of_it(place):
    for args in (['x', 'path'], ['--tar', '-'], ['--strict', 'x']):
        r = place.run('restore', *options(GOLDEN / 'store'), 'vm/100/' + T1, 'drive-efidisk0.img', *args)
        assert r.returncode == USAGE and r.stdout == '' and not os.path.exists('x')


# ---- tar ----

def tar(place, store, snapshot, *paths, key=None, status=DONE):
    p = subprocess.run([PBSMAP, 'restore', *map(str, options(store, key, ['--tar'])), snapshot, 'root.pxar', '-',
                        *paths], env=place.env(), capture_output=True, check=False, timeout=60)
    assert p.returncode == status, p.stderr
    return p.stdout, p.stderr.decode()


def untar(data, at):
    at.mkdir(exist_ok=True)
    subprocess.run(['tar', '-xpf', '-', '--numeric-owner', '--same-owner', '--xattrs', '--xattrs-include=*', '--acls', '-C', at],
                   input=data, check=True)


@pytest.mark.parametrize('which', ALL)
def test_through_tar(place, disk, which):
    snapshot, key = ALL[which]
    data, said = tar(place, GOLDEN / 'store', snapshot, key=key)
    assert 'socket, 1 times (first sock)' in said
    untar(data, disk / 'out')
    tree = [e for e in TREE if not stat.S_ISSOCK(int(e['mode'], 8))]
    compare(disk / 'out', tree)


def acl_text(xattrs):
    """What getfacl prints, from the attributes' bytes."""
    lines = []
    for name, prefix in (('system.posix_acl_access', ''), ('system.posix_acl_default', 'default:')):
        for tag, perm, number in struct.iter_unpack('<HHI', bytes.fromhex(xattrs.get(name, ''))[4:]):
            kind = {1: 'user:', 2: f'user:{number}', 4: 'group:', 8: f'group:{number}', 16: 'mask:', 32: 'other:'}[tag]
            lines.append(prefix + kind + ':' + ''.join(c if perm & b else '-' for c, b in zip('rwx', (4, 2, 1))))
    return lines


@pytest.mark.parametrize('which', ALL)
def test_getfacl(place, disk, which):
    """As people see them: mounted, restored, and through tar."""
    snapshot, key = ALL[which]
    want = {e['path']: acl_text(e['xattrs']) for e in TREE if any('posix_acl' in n for n in e.get('xattrs', ()))}
    assert len(want) == 2
    restore(place, GOLDEN / 'store', snapshot, disk / 'out', key=key)
    untar(tar(place, GOLDEN / 'store', snapshot, key=key)[0], disk / 'tar')
    with mount(place, GOLDEN / 'store', snapshot, key=key) as m:
        for base in (m.at, disk / 'out', disk / 'tar'):
            for path, lines in want.items():
                got = subprocess.run(['getfacl', '-cnpE', base / path], capture_output=True, text=True, check=True).stdout.split()
                # Without a default ACL of its own getfacl shows no access entries that are the mode's.
                assert [n for n in got if n.startswith('default:')] == [n for n in lines if n.startswith('default:')]
                if not lines[0].startswith('default:'):
                    assert [n for n in got if not n.startswith('default:')] == [n for n in lines if not n.startswith('default:')]


def test_tar_of_what_the_old_header_has_no_room_for(place, disk):
    a = Archive()
    a.dir('')
    long = 'd' * 200
    a.dir(long)
    a.file('n' * 200, b'x', uid=3_000_000, gid=4_000_000_000, mtime=-1_500_000_001)
    a.symlink('l', 't' * 3000)
    a.link('h', f'{long}/' + 'n' * 200)
    a.up()
    st = place.store('host/x/' + T1, root_pxar=a.end())
    data, _ = tar(place, st.path, 'host/x')
    untar(data, disk / 'out')
    s = os.lstat(disk / 'out' / long / ('n' * 200))
    assert (s.st_uid, s.st_gid, s.st_mtime_ns, s.st_nlink) == (3_000_000, 4_000_000_000, -1_500_000_001, 2)
    assert os.readlink(disk / 'out' / long / 'l') == 't' * 3000


def test_tar_of_paths(place, disk):
    data, _ = tar(place, GOLDEN / 'store', 'host/files/' + T1, 'dir', 'hard1')
    names = subprocess.run(['tar', '-tf', '-'], input=data, capture_output=True, check=True).stdout.decode().split()
    assert names == ['dir/', 'dir/hard2', 'dir/random.bin', 'dir/sub/', 'dir/sub/deep.txt', 'dir/text.txt', 'hard1']
    untar(data, disk / 'out')
    assert (disk / 'out' / 'hard1').stat().st_size == 1548890


def test_tar_of_damage(place, disk):
    a = Archive()
    a.dir('')
    for i in range(3):
        a.file(f'f{i}', random.Random(i).randbytes(100_000))
    data = a.end()
    st = place.store('host/x/' + T1, root_pxar=data)
    chunks = rechunk(st, data, [65536] * 200)
    st.chunk(chunks[2]).unlink()
    out, said = tar(place, st.path, 'host/x', status=DAMAGED)
    assert 'f1' in said
    untar(out, disk / 'out')
    assert [(disk / 'out' / f'f{i}').stat().st_size for i in range(3)] == [100_000] * 3
    assert (disk / 'out' / 'f2').read_bytes() == random.Random(2).randbytes(100_000)


# ---- list ----

def listing(place, *args, status=DONE):
    r = place.run('list', *options(GOLDEN / 'store'), *args)
    assert r.returncode == status, r.stderr
    return r.stdout


def test_list(place):
    top = sorted(e['path'] for e in TREE if '/' not in e['path'] and e['path'] != '.')
    assert sorted(listing(place, 'host/files/' + T1, 'root.pxar').splitlines()) == top
    everything = sorted(e['path'] for e in TREE if e['path'] != '.')
    assert sorted(listing(place, '-r', 'host/split/' + T1, 'root.pxar').splitlines()) == everything
    assert listing(place, 'host/files/' + T1, 'root.pxar', 'dir/sub') == 'dir/sub/deep.txt\n'
    assert listing(place, 'host/files/' + T1, 'root.pxar', 'hello.txt') == 'hello.txt\n'
    assert listing(place, 'host/files/' + T1, 'root.pxar', 'empty-dir') == ''
    listing(place, 'host/files/' + T1, 'root.pxar', 'none', status=FAIL)


def test_list_long(place):
    lines = listing(place, '-l', 'host/files/' + T1, 'root.pxar').splitlines()
    by_name = {line.split(' -> ')[0].split(maxsplit=5)[-1]: line for line in lines}
    assert by_name['link'].startswith('lrwxrwxrwx') and by_name['link'].endswith('link -> hello.txt')
    assert by_name['suid'].startswith('-rwsr-xr-x') and '2001-02-03T04:05:06Z' in by_name['hello.txt']


def test_list_json(place):
    got = {e['path']: e for e in json.loads(listing(place, '-r', '--json', 'host/files/' + T1, 'root.pxar'))}
    for e in TREE[1:]:
        g = got[e['path']]
        assert (g['mode'], g['uid'], g['gid']) == ('%04o' % (int(e['mode'], 8) & 0o7777), e['uid'], e['gid'])
        assert g['mtime'] * 10**9 + g['nsec'] == e['mtime_ns']
        assert g.get('target') == e.get('target') and g.get('device') == e.get('rdev')
        assert 'size' not in e or g['size'] == e['size']
    assert json.loads(listing(place, '--json', 'host/files/' + T1, 'root.pxar', 'empty-dir')) == []
