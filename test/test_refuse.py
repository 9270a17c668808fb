"""What map refuses before it has mapped: wrong usage, names, datastores, keys,
and machines that lack something. One clear line, the right exit status, nothing
left behind."""
import copy
import os
import pty
import re
import subprocess
import termios
import time

import pytest

from lib import DAMAGED, FAIL, GOLDEN, IMAGES, KEYS, PBSMAP, RUN_DIR, SUMS, T1, TRUST, USAGE, file_sum, mkstore, place, wait_for

pytestmark = pytest.mark.root
SNAP, DISK = f'vm/100/{T1}', 'drive-scsi0.img'


# ---- what is asked for ----

def test_wrong_usage(place):
    st = place.golden()
    for args in ([], ['map'], ['map', 'vm/100'], ['nonsense'], ['map', '--nonsense', 'vm/100', 'a.img'], ['map', '--keyfd', 'x', 'vm/100', 'a.img'],
                 ['unmap', 'a', 'b'], ['status', 'x'], ['map', '--cache', 'much', 'vm/100', 'a.img']):
        place.failed(place.run(*args, env={'PBS_REPOSITORY': st}), USAGE)
    place.failed(place.run('map', SNAP, DISK), USAGE, 'repository')


@pytest.mark.parametrize('snapshot, archive', [
    ('vm', DISK), ('vm/100/yesterday', DISK), ('disk/100', DISK), ('vm/../100', DISK), (f'vm/100/{T1}/x', DISK), ('vm/100/2026-13-02T03:04:05Z', DISK),
    (SNAP, 'root.pxar'), (SNAP, 'qemu-server.conf'), (SNAP, '../../passwd'), (SNAP, 'a/b.img')])
def test_names(place, snapshot, archive):
    place.fail(place.golden(), snapshot, archive, USAGE)


def test_pxar_is_for_mount(place):
    place.fail(place.golden(), f'host/files/{T1}', 'root.pxar', USAGE, "use 'mount'")


def test_unknown_archive_lists_what_there_is(place):
    place.fail(place.golden(), SNAP, 'drive-scsi7.img', FAIL, 'scsi7', 'drive-scsi0.img', 'drive-scsi1.img', 'drive-efidisk0.img')


@pytest.mark.parametrize('ns', ['a', 'a/b/c', 'x'])
def test_no_such_namespace(place, ns):
    place.fail(place.golden(), f'host/nested/{T1}', 'drive-scsi1.img', FAIL, 'nested', ns=ns)


@pytest.mark.parametrize('snapshot', ['vm/999', f'vm/999/{T1}', 'vm/100/2025-01-02T03:04:05Z', 'host/chunk64k'])
def test_no_such_snapshot(place, snapshot):
    place.fail(place.golden(), snapshot, DISK, FAIL, snapshot.split('/')[1])


def test_unfinished_snapshot(place):
    place.fail(place.golden(), 'vm/100/2026-03-04T05:06:07Z', DISK, DAMAGED, 'unfinished|manifest')


def test_group_without_finished_snapshot(place):
    st = place.golden()
    for p in (st.path / 'vm/100').glob('*/index.json.blob'):
        p.unlink()
    place.fail(st, 'vm/100', DISK, FAIL, 'vm/100', 'finished')


def test_size_zero(place):
    place.fail(place.store(f'vm/1/{T1}', a_img=b''), f'vm/1/{T1}', 'a.img', FAIL, 'a.img', 'empty|0 bytes')


# ---- the datastore ----

def test_missing_datastore(place):
    place.fail(place.dir / 'nowhere', SNAP, DISK, FAIL, 'nowhere', 'no such')


def test_directory_that_is_no_datastore(place):
    place.fail(place.home, SNAP, DISK, FAIL, 'home', 'datastore')


def test_file_that_is_no_datastore(place):
    (place.dir / 'file').write_text('x')
    place.fail(place.dir / 'file', SNAP, DISK, FAIL, 'file')


def test_not_root(place):
    r = place.run(*place.map_args(place.golden(), SNAP, DISK), wrap=['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'])
    place.failed(r, FAIL, 'root')


@pytest.mark.parametrize('what', ['.chunks', '.', f'vm/100/{T1}'])
def test_no_permission(place, what):
    """Root, but without the right to pass over permissions, as on a server's export."""
    st = place.golden()
    (st.path / what).chmod(0)
    os.chown(st.path / what, 12345, 12345)
    r = place.run(*place.map_args(st, SNAP, DISK), wrap=['setpriv', '--bounding-set=-dac_override,-dac_read_search',
                                                         '--inh-caps=-dac_override,-dac_read_search'])
    place.failed(r, TRUST, 'permission denied')


# ---- keys and signatures ----

def test_no_key(place):
    place.fail(place.golden(), *IMAGES['encrypted0'][:2], TRUST, 'key', '67:d0:f3:6d|encrypted')


def test_key_that_does_not_match(place):
    place.fail(place.golden(), *IMAGES['encrypted0'][:2], TRUST, '67:d0:f3:6d', '61:e6:d5:c1', key='pbkdf2',
               env={'PBS_ENCRYPTION_PASSWORD': 'golden-pass'})


def test_signed_snapshot_without_its_key(place):
    place.fail(place.golden(), *IMAGES['signed'][:2], TRUST, 'key', '67:d0:f3:6d')


@pytest.mark.parametrize('key', ['scrypt', 'pbkdf2'])
def test_wrong_passphrase(place, key):
    text = place.fail(place.golden(), *IMAGES[key][:2], TRUST, 'passphrase|password', key=key, env={'PBS_ENCRYPTION_PASSWORD': 'not-it-at-all'})
    assert 'not-it-at-all' not in text


def test_wrong_passphrase_shows_the_hint(place):
    mkstore('--genkey', place.dir / 'k', '--from', KEYS / 'none.json', '--scrypt', 'rightone', '--n', 1024, '--hint', 'the usual')
    st = place.golden()
    place.fail(st, *IMAGES['encrypted0'][:2], TRUST, 'the usual', key=place.dir / 'k', env={'PBS_ENCRYPTION_PASSWORD': 'wrong-one'})
    m = place.map(st, *IMAGES['encrypted0'][:2], key=place.dir / 'k', env={'PBS_ENCRYPTION_PASSWORD': 'rightone'})
    place.unmap(m.dev)


def test_no_passphrase_and_no_terminal(place):
    place.fail(place.golden(), *IMAGES['scrypt'][:2], TRUST, 'PBS_ENCRYPTION_PASSWORD', key='scrypt', start_new_session=True)


def test_passphrase_source_that_fails(place):
    st = place.golden()
    for var, value, word in (('FILE', '/no/such/file', '/no/such/file'), ('CMD', 'exit 3', 'CMD|exit|command'), ('FD', '99', '99|FD'), ('FD', 'x', 'FD')):
        place.fail(st, *IMAGES['scrypt'][:2], (TRUST, FAIL, USAGE), word, key='scrypt', env={f'PBS_ENCRYPTION_PASSWORD_{var}': value})


@pytest.mark.parametrize('text', ['', 'x', '{}', '{"kdf":null}', '{"kdf":null,"data":"AAAA"}', '{"kdf":{"Foo":{}},"data":"AAAA"}', '\0' * 100, '{' * 60000])
def test_bad_key_file(place, text):
    (place.dir / 'k').write_text(text)
    place.fail(place.golden(), *IMAGES['encrypted0'][:2], TRUST, f'{place.token}/k', key=place.dir / 'k')


def test_key_file_that_is_not_there(place):
    place.fail(place.golden(), *IMAGES['encrypted0'][:2], TRUST, '/no/such/key', key='/no/such/key')


def test_key_file_that_wants_too_much_memory(place):
    text = (KEYS / 'scrypt.json').read_text().replace('"n":65536', '"n":1073741824')
    (place.dir / 'k').write_text(text)
    place.fail(place.golden(), *IMAGES['scrypt'][:2], TRUST, 'memory|scrypt', key=place.dir / 'k', env={'PBS_ENCRYPTION_PASSWORD': 'golden-pass'})


@pytest.mark.parametrize('which', ['encrypted0', 'signed'])
@pytest.mark.parametrize('how', ['signature', 'file', 'dropped file', 'added file'])
def test_signature(place, which, how):
    st = place.golden()
    snapshot, archive, *_ = IMAGES[which]
    m = st.manifest(snapshot)
    if how == 'signature':
        m['signature'] = '0' * 64
    elif how == 'file':
        m['files'][0]['size'] -= 512
    elif how == 'dropped file' and len(m['files']) > 1:
        m['files'].pop()
    else:
        m['files'].append({**copy.deepcopy(m['files'][0]), 'filename': 'x.img.fidx'})
    st.put_manifest(snapshot, m)
    place.fail(st, snapshot, archive, TRUST, 'signature', key='none')


def test_signature_in_another_key_order_is_good(place):
    st = place.golden()
    snapshot, archive, *_ = IMAGES['encrypted0']
    m = st.manifest(snapshot)
    st.put_manifest(snapshot, dict(reversed(m.items())))
    m = place.map(st, snapshot, archive, key='none')
    place.unmap(m.dev)


# ---- the machine ----

def isolated(place, script, args, timeout=30):
    """Runs pbsmap in a mount namespace that the script has changed."""
    return subprocess.run(['unshare', '-m', 'sh', '-c', f'{script} && exec "$@"', 'sh', PBSMAP, *map(str, args)], env=place.env(),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)


def dev_without(*names):
    keep = ' '.join(f'/dev/{n}' for n in ('null', 'zero', 'fuse', 'loop-control', 'loop0', 'loop1', 'loop2', 'loop3', 'loop4', 'loop5', 'loop6', 'loop7')
                    if n not in names)
    return (f'mount -t tmpfs none /run && mkdir /run/d && mount -t tmpfs -o mode=0755 none /run/d && cp -a {keep} /run/d '
            '&& mkdir /run/d/shm && mount --bind /dev/shm /run/d/shm && mount --move /run/d /dev')


@pytest.mark.parametrize('missing', ['fuse', 'loop-control'])
def test_missing_device(place, missing):
    """And cannot be made either, which pbsmap does where it can."""
    r = isolated(place, dev_without(missing) + ' && mount -o remount,ro /dev', place.map_args(place.golden(), SNAP, DISK))
    place.failed(r, FAIL, f'/dev/{missing}', 'modprobe|module|mknod')


def test_run_not_writable(place):
    script = f'mount -t tmpfs none /run && mkdir -m 0755 {RUN_DIR} && mount -o remount,ro /run'
    place.failed(isolated(place, script, place.map_args(place.golden(), SNAP, DISK)), FAIL, '/run')


def test_run_full(place):
    script = f'mount -t tmpfs -o size=4k,nr_inodes=3 none /run && mkdir -m 0755 {RUN_DIR} && touch /run/x'
    place.failed(isolated(place, script, place.map_args(place.golden(), SNAP, DISK)), FAIL, '/run|space')


def test_no_sys(place):
    """Works or says why; leaves nothing."""
    r = isolated(place, 'mount -t tmpfs none /sys', place.map_args(place.golden(), SNAP, DISK))
    if r.returncode == 0:
        dev = r.stdout.strip()
        assert file_sum(dev)[0] == SUMS['gpt.img']
        place.unmap(dev)
        assert place.leftovers() == []
    else:
        place.failed(r, FAIL)


@pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason='strace and sanitizers disturb each other')
@pytest.mark.parametrize('fault, words', [
    ('ioctl:error=ENOSPC', 'loop'), ('ioctl:error=EBUSY', 'loop'), ('ioctl:error=EPERM', 'loop'), ('mount:error=EPERM', 'mount'),
    ('flock:error=ENOLCK', '/run'), ('setsid:error=EPERM', None), ('openat,open:error=EMFILE:when=15+', None),
    ('openat,open:error=EMFILE:when=25+', None), ('clone,clone3:error=EAGAIN:when=2+', 'thread'), ('clone,clone3,fork:error=EAGAIN', 'fork'),
    ('pipe2:error=EMFILE', 'pipe'), ('eventfd2:error=EMFILE', None), ('fchdir:error=EACCES', '/run'), ('mmap:error=ENOMEM:when=5+', 'memory|thread')])
def test_system_call_refused(place, fault, words):
    """One clear line, nothing left; or it works all the same (words None)."""
    r = place.strace([fault], place.map_args(place.golden(), SNAP, DISK))
    if words is None and r.returncode == 0:
        dev = r.stdout.strip()
        assert file_sum(dev)[0] == SUMS['gpt.img']
        place.unmap(dev)
        assert wait_for(lambda: place.leftovers() == []), place.leftovers()
    else:
        wait_for(lambda: place.leftovers() == [])
        r.stderr = re.sub('^fuse(rmount3)?: .*\n', '', r.stderr)    # libfuse tries that when mount(2) is not allowed
        place.failed(r, FAIL, words or '')


@pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason='strace and sanitizers disturb each other')
def test_killed_before_it_has_mapped(place):
    """SIGKILL to the process behind, at some calls on the way: the parent says so and fails; the next map works."""
    st = place.golden()
    for call in 'mount', 'ioctl', 'setsid':
        r = place.strace([f'{call}:signal=KILL'], place.map_args(st, *IMAGES['efi'][:2]))
        assert r.returncode != 0, call
        wait_for(lambda: not place.processes())
        m = place.map(st, *IMAGES['efi'][:2])
        assert file_sum(m.dev)[0] == SUMS['efi.img']
        place.unmap(m.dev)
        place.run('status')
        assert place.leftovers() == [], call


def test_little_memory(place):
    """An address space too small for the cache: said, not crashed."""
    r = place.run(*place.map_args(place.golden(), SNAP, DISK), wrap=['prlimit', '--as=20000000'])
    if 'ASAN_OPTIONS' not in os.environ:
        place.failed(r, FAIL, 'memory')


def test_interrupted_while_it_asks(place):
    """Ctrl-C at the passphrase prompt: nothing stays, echo is back."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(PBSMAP, [PBSMAP, *map(str, place.map_args(place.golden(), *IMAGES['scrypt'][:2], key='scrypt'))], place.env())
    shown = b''
    while b'ass' not in shown:
        shown += os.read(master, 1000)
    time.sleep(0.2)
    assert not termios.tcgetattr(master)[3] & termios.ECHO
    os.write(master, b'\x03')
    assert wait_for(lambda: os.waitpid(pid, os.WNOHANG)[0], 10)
    assert termios.tcgetattr(master)[3] & termios.ECHO
    os.close(master)
    assert wait_for(lambda: place.leftovers() == [])


def test_key_that_never_comes(place):
    """A pipe that nobody ends is ended by a signal."""
    r = subprocess.run(['sh', '-c', 'sleep 3 | timeout -k 5 -s INT 1 "$@"; :', 'sh', PBSMAP, 'map', '--repository', GOLDEN / 'store',
                        '--keyfd', '0', 'vm/101', DISK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=40)
    assert 'interrupted' in r.stderr
