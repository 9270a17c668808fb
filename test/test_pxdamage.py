"""File archives that lie: an error for what is damaged, one line in the log for each, the rest readable."""
import contextlib
import errno
import io
import os
import random
import signal
import subprocess
import tarfile

import pytest
from lib import DAMAGED, DONE, FAIL, PBSMAP, T1, place, wait_for  # noqa: F401
from mkpxar import ACL_USER, PAYLOAD, QUOTA, XATTR, Archive, item, name_hash, tree
from test_mount import mount, options, rechunk

pytestmark = pytest.mark.root


@contextlib.contextmanager
def watched(place, store, *opts):
    """A mount in the foreground: its directory, and what calling gives of its log."""
    at, log = place.dir / 'w', place.dir / 'log'
    at.mkdir()
    with open(log, 'w') as f, subprocess.Popen([PBSMAP, 'mount', '-v', *map(str, options(store, opts=opts)), 'host/x', 'root.pxar', at],
                                               env=place.env(), stderr=f) as p:
        try:
            assert wait_for(lambda: str(at) in place.mounts()), log.read_text()
            yield at, lambda: [line for line in log.read_text().splitlines() if 'damaged' in line]
        finally:
            p.send_signal(signal.SIGINT)


def test_a_missing_chunk_is_an_error_for_its_range_alone(place):
    a = Archive()
    a.dir('')
    for i in range(64):
        a.file(f'f{i:02}', random.Random(i).randbytes(100_000))
    data = a.end()
    st = place.store('host/x/' + T1, root_pxar=data)
    chunks = rechunk(st, data, [65536] * 200)
    st.chunk(chunks[40]).unlink()
    with mount(place, st.path, 'host/x') as m:
        good, errors = 0, []
        for i in range(64):
            try:
                assert (m.at / f'f{i:02}').read_bytes() == random.Random(i).randbytes(100_000)
                good += 1
            except OSError as e:
                errors.append(e.errno)
        assert good >= 62 and set(errors) == {errno.EIO}




class Case:
    """An archive that has a good file, and more: what is `seen`, and how its damage shows: `bad` have no attributes,
    `unreadable` no data, `no_xattrs` no extended ones; `lines` are logged."""

    def __init__(self):
        self.a = Archive()
        self.a.dir('')
        self.a.file('good', b'good')
        self.bad, self.seen, self.unreadable, self.no_xattrs, self.lines = [], [], [], [], None
        self.absent = None	# a name that is not there, but could not be looked for
        self.looked_up = False
        self.end = {}		# how the root's table lies

    def data(self):
        return self.a.end(**self.end)


CASES = {}


def case(f):
    CASES[f.__name__] = f
    return f


def bad_file(c, *items, mode=0o100644, good_end=True):
    """A file `bad` with these items after its ENTRY (and an empty payload)."""
    c.a.entry('bad', mode)
    c.a.out += b''.join(items) + (item(PAYLOAD) if good_end else b'')
    c.a.close()


# Names: they cannot be shown at all.

def odd_name(*names):
    def make(c):
        for n in names:
            c.a.file(n, b'')
        c.lines = 1
    return make


for title, names in {'slash': ['a/b'], 'dots': ['..', '.'], 'no_name': [''], 'NUL_in_a_name': [b'a\0b'], 'long_name': ['n' * 300]}.items():
    CASES[title] = odd_name(*names)


# Rows of the table.

@case
def wild_row(c):
    c.a.file('gone', b'x')
    c.end, c.lines = {'rows': {b'gone': (1 << 63, 1 << 62)}}, 1


@case
def wild_row_above_others(c):
    names = ['good', *(f'f{i}' for i in range(40))]
    for n in names[1:]:
        c.a.file(n, b'')
    top = tree(sorted(names, key=name_hash))[0]
    assert top != 'good'
    c.seen = [n for n in names[1:] if n != top]
    c.end, c.lines, c.looked_up = {'rows': {top.encode(): (1 << 63, 1 << 62)}}, 1, True


@case
def row_beyond_the_end(c):
    c.a.file('gone', b'x')
    c.end, c.lines = {'rows': {b'gone': (20, 1000)}}, 1


@case
def twice(c):
    c.a.file('once', b'x')
    c.end, c.seen, c.lines = {'extra': [b'once', b'once']}, ['once'], 1


@case
def itself(c):
    c.end, c.lines = {'own_row': True}, 1


@case
def no_tree(c):
    c.seen = [f'f{i}' for i in range(5)]
    for n in c.seen:
        c.a.file(n, b'')
    c.end = {'shuffle': True}


@case
def hash_of_many(c):
    """Nobody looks through names without end that all have one hash."""
    c.seen = [f'n{i}' for i in range(600)]
    for n in c.seen:
        c.a.file(n, b'', hash=name_hash('sought'))
    c.absent, c.lines = 'sought', 1


def bad_directory(**lie):
    def make(c):
        c.a.dir('bad')
        c.a.file('in', b'')
        c.a.up(**lie)
        c.bad = ['bad']
    return make


for title, lie in {'no_tail': {'tail': 0}, 'tail_elsewhere': {'back': 60}, 'tail_before_the_start': {'back': 1 << 40},
                   'table_of_any_size': {'size': 1 << 62}, 'table_of_no_rows': {'size': 16}}.items():
    CASES[title] = bad_directory(**lie)


# Links.

@case
def link_to_a_directory(c):
    c.a.dir('d')
    c.a.up()
    c.a.link('bad', 'd')
    c.bad, c.seen = ['bad'], ['d']


def bad_link(offset):
    def make(c):
        c.a.link('bad', None, offset=offset)
        c.bad = ['bad']
    return make


for title, offset in {'link_forward': (1 << 64) - 5, 'link_to_itself': 0, 'link_into_nothing': 3, 'link_before_the_start': 1 << 63}.items():
    CASES[title] = bad_link(offset)


@case
def target_with_a_NUL(c):
    c.a.symlink('bad', b'a\0b')
    c.unreadable = ['bad']


@case
def no_target(c):
    c.a.symlink('bad', '')
    c.bad = ['bad']


@case
def long_target(c):
    c.a.symlink('bad', 't' * 5000)
    c.bad = ['bad']


# Nodes.

@case
def huge_file(c):
    c.a.file('bad', b'x', claim=1 << 63)
    c.bad = ['bad']


@case
def modes_that_are_none(c):
    c.a.special('bad', 0o777)
    c.a.special('worse', 0o200100644)
    c.bad = ['bad', 'worse']


@case
def file_without_data(c):
    bad_file(c, good_end=False)
    c.bad = ['bad']


@case
def large_device(c):
    c.a.device('bad', 0o20666, 1 << 40, 0)
    c.bad = ['bad']


@case
def device_with_data(c):
    bad_file(c, mode=0o20666)
    c.bad = ['bad']


@case
def many_items(c):
    bad_file(c, *[item(QUOTA, bytes(8))] * 5000)
    c.bad = ['bad']


@case
def item_of_2_to_the_63(c):
    bad_file(c, item(XATTR, b'user.a\0b', size=1 << 63))
    c.bad = ['bad']


@case
def item_of_no_size(c):
    bad_file(c, item(XATTR, b'user.a\0b', size=8))
    c.bad = ['bad']


def bad_attribute(*items):
    def make(c):
        bad_file(c, *items)
        c.no_xattrs = ['bad']
    return make


for title, items in {
        'attribute_without_end': [item(XATTR, b'user.a')], 'attribute_without_name': [item(XATTR, b'\0x')],
        'long_attribute': [item(XATTR, b'user.a\0' + bytes(70000))], 'short_ACL': [item(ACL_USER, bytes(8))],
        'ACL_of_large_ids': [item(ACL_USER, b'\xff' * 16)], 'ACL_of_many': [item(ACL_USER, bytes(16))] * 501}.items():
    CASES[title] = bad_attribute(*items)


# The other half.

def bad_ref(offset, size, when):
    def make(c):
        c.a = Archive(split=True)
        c.a.dir('')
        c.a.file('good', b'good')
        c.a.file('bad', b'xyz', ref=(offset, size))
        setattr(c, when, ['bad'])
    return make


for title, ref in {'data_beyond_the_end': (1 << 20, 3, 'bad'), 'data_of_2_to_the_63': (16, 1 << 63, 'bad'),
                   'data_elsewhere': (17, 3, 'unreadable'), 'data_of_another_size': (36, 4, 'unreadable')}.items():
    CASES[title] = bad_ref(*ref)


def fails(act, *args):
    with pytest.raises(OSError, match='') as e:
        act(*args)
    assert e.value.errno == errno.EIO


def names_in(at):
    found = []
    with contextlib.suppress(OSError), os.scandir(at) as it:
        for e in it:
            found.append(e.name)
    return sorted(found)


def put(place, data):
    if isinstance(data, tuple):
        return place.store('host/x/' + T1, root_mpxar=data[0], root_ppxar=data[1])
    return place.store('host/x/' + T1, root_pxar=data)


@pytest.mark.parametrize('name', CASES)
def test_hostile(place, name):
    c = Case()
    CASES[name](c)
    lines = len(c.bad + c.unreadable + c.no_xattrs) if c.lines is None else c.lines
    all_bad = c.bad + c.unreadable + c.no_xattrs
    with watched(place, put(place, c.data()).path) as (at, log):
        if c.looked_up:		# before anything is known by listing
            assert all((at / n).exists() for n in c.seen)
        for _ in range(2):
            assert names_in(at) == sorted({'good', *c.seen, *all_bad})
            for n in c.bad:
                fails(os.lstat, at / n)
            for n in c.unreadable:
                fails(os.readlink if (at / n).is_symlink() else (at / n).read_bytes, *([at / n] if (at / n).is_symlink() else []))
            for n in c.no_xattrs:
                assert (at / n).read_bytes() == b''
                fails(os.listxattr, at / n)
            if c.absent:
                fails(os.lstat, at / c.absent)
            assert (at / 'good').read_bytes() == b'good'
        assert wait_for(lambda: len(log()) == lines, 1), log()


WHOLE = ('no_tree', 'hash_of_many')		# damage that no walk of the whole archive meets
STARTED = ('data_elsewhere', 'data_of_another_size')		# a tar file's header is out before its data is looked at


@pytest.mark.parametrize('name', CASES)
def test_hostile_without_a_mount(place, name):
    """Listed, restored into a directory, written as tar: damage is told by the status, the rest is there."""
    c = Case()
    CASES[name](c)
    store, out = put(place, c.data()).path, place.dir / 'out'
    whole = sorted({'good', *c.seen})
    r = place.run('list', '--recursive', *options(store), 'host/x', 'root.pxar', timeout=20)
    assert sorted(r.stdout.splitlines()) == sorted({*whole, *c.unreadable, *c.no_xattrs})
    assert r.returncode == (DONE if name in WHOLE or c.unreadable or c.no_xattrs else DAMAGED), r.stderr
    status = DONE if name in WHOLE else DAMAGED
    r = place.run('restore', *options(store), 'host/x', 'root.pxar', out, timeout=20)
    assert r.returncode == status and names_in(out) == whole and (out / 'good').read_bytes() == b'good', r.stderr
    assert (status == DONE) == (r.stderr == '')
    p = subprocess.run([PBSMAP, 'restore', '--tar', *map(str, options(store)), 'host/x', 'root.pxar', '-'], env=place.env(),
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    assert p.returncode == status, p.stderr
    with tarfile.open(fileobj=io.BytesIO(p.stdout)) as t:
        assert sorted(t.getnames()) == sorted(['.', *whole, *(['bad'] if name in STARTED else [])])
        assert t.extractfile('good').read() == b'good'


def test_directories_in_each_other(place):
    """Each has all the others as its children, too: a walk would take 2^30 steps."""
    a = Archive()
    a.dir('')
    for i in range(30):
        a.dir(f'd{i}')
    a.file('good', b'good')
    for i in reversed(range(30)):
        a.up()
        row = a.open[-1]['rows'][-1]
        for other in a.open[:-1]:
            other['rows'].insert(0, list(row))	# the last one is of what is still open
    with watched(place, put(place, a.end()).path) as (at, log):
        for _ in range(2):
            r = subprocess.run(['find', at, '-type', 'd', '-name', 'd*'], capture_output=True, text=True, check=False, timeout=20)
            assert len(r.stdout.splitlines()) == 30
            assert (sum(1 for line in r.stderr.splitlines() if 'Input/output error' in line)) > 100
        assert len(log()) <= 256



@pytest.mark.parametrize('how', ['root', 'short', 'empty', 'newer'])
def test_an_archive_whose_root_is_damaged_is_not_mounted(place, how):
    a = Archive(split=how == 'newer')
    a.dir('')
    data = a.end(**({'tail': 1} if how == 'root' else {}))
    if how == 'newer':
        data = data[0][:16] + b'\3' + data[0][17:]
    data = data[:10] if how == 'short' else b'' if how == 'empty' else data
    st = place.store('host/x/' + T1, root_pxar=data)
    r = place.run('mount', *options(st.path), 'host/x', 'root.pxar', place.dir)
    place.failed(r, FAIL if how == 'newer' else DAMAGED, 'newer format' if how == 'newer' else 'root.pxar: the archive is damaged')


