"""rescue: the dialog at a terminal, on a datastore's directory and against the test server. What it prints as the command line
is run too, and does the same."""
import contextlib
import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time

import pytest

from lib import (DONE, FAIL, GOLDEN, KEYS, PBSMAP, SUMS, T1, USAGE, file_sum, place)
from server import SECRETS, Server

STORE = str(GOLDEN / 'store')
PROMPT = r'[:\]] $'


class Dialog:
    """pbsmap on a terminal of its own. ask(): what came until a prompt, then the answer is typed."""

    def __init__(self, place, *args, rows=24, env=None, term='unknown-thing'):
        self.place, self.text, self.status = place, '', None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', rows, 80 if rows else 0, 0, 0))
            os.execve(PBSMAP, [PBSMAP, *map(str, args)], place.env(**{'TERM': term, **(env or {})}))

    def read(self, pattern, seconds=20):
        """What was shown up to the pattern, which ends what there is."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f'nothing like {pattern!r}: {self.text!r}')
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b''
            if not data:
                raise AssertionError(f'it ended: {self.text!r}')
            self.text += data.decode().replace('\r', '')
        shown, self.text = self.text, ''
        return shown

    def type(self, *answers):
        """One after the other, each at its prompt; what the last one led to."""
        for a in answers:
            os.write(self.fd, f'{a}\n'.encode())
            shown = self.read(PROMPT)
        return shown

    def end(self, answer=None, seconds=30):
        """The rest, and the exit status."""
        if answer is not None:
            os.write(self.fd, f'{answer}\n'.encode())
        with contextlib.suppress(OSError):
            while select.select([self.fd], [], [], seconds)[0] and (data := os.read(self.fd, 65536)):
                self.text += data.decode().replace('\r', '')
            os.kill(self.pid, signal.SIGKILL)           # it still asks
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.text, self.status

    def close(self):
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def dialog(place):
    made = []

    def make(*args, **kw):
        made.append(Dialog(place, *args, **kw))
        return made[-1]
    yield make
    for d in made:
        d.close()


def command(shown):
    """The words of the command line that it printed."""
    return shlex.split(re.search(r'^  (pbsmap .*)$', shown, re.M)[1])


def first(d):
    """The first question."""
    shown = d.read(PROMPT)
    assert 'q leaves' in shown and 'Repository' in shown
    return shown


def to_archive(d, group='vm/100', time='', store=STORE):
    """Answers up to the question for the archive; what that shows."""
    first(d)
    return d.type(store, '', group, time)


def same(place, words, out, want, env=None):
    """The printed command line does the same."""
    assert words[0] == 'pbsmap' and words[-1] == str(out)
    out.unlink()
    assert place.run(*words[1:], env=env).returncode == DONE and file_sum(out)[0] == want


# ---- the way through ----

def test_restores_to_a_file(place, dialog):
    d, out = dialog(), place.dir / 'out put.img'
    shown = to_archive(d)
    assert re.search(r'^1  drive-scsi0.img +30.0 MiB +plain +map, restore\nArchive \[1\]: $', shown, re.M)
    shown = d.type('drive-scsi0')
    assert re.search(r'^1  map.*\n2  restore.*\n3  shell.*\nWhat shall be done \[map\]: $', shown, re.M)
    d.type('2')
    shown, status = d.end(out)
    assert status == DONE and 'restored' in shown and file_sum(out)[0] == SUMS['gpt2.img']
    words = command(shown)
    assert 'pbsmap: ' not in shown                     # nor what was missing before it was asked for
    assert words[1:4] == ['restore', '--repository', STORE] and f"'{out}'" in shown and 'PBS_PASSWORD' not in shown
    same(place, words, out, SUMS['gpt2.img'])


@pytest.mark.root
def test_maps(place, dialog):
    d = dialog('rescue', '--repository', place.golden().path, 'vm/100')
    assert 'Snapshot [2]' in d.read(PROMPT)
    shown = d.type('1')
    assert 'drive-efidisk0.img' in shown and 'qemu-server.conf' in shown and 'index.json' not in shown
    d.type('drive-scsi1.img')
    shown, status = d.end('')
    dev = re.search(r'^(/dev/loop\d+)$', shown, re.M)[1]
    assert status == DONE and command(shown)[1] == 'map' and file_sum(dev)[0] == SUMS['mbr.img']
    place.unmap(dev)


@pytest.mark.root
def test_mounts_where_there_is_no_directory_yet(place, dialog):
    d, at = dialog('rescue', '--repository', STORE, f'host/files/{T1}'), place.dir / "it's new"
    d.read(PROMPT)
    assert 'mount' in d.type('root.pxar')
    assert 'On which directory [/mnt]' in d.type('mount')
    shown, status = d.end(at)
    try:
        assert status == DONE and re.search(r"^  mkdir '.*it'\\''s new' && pbsmap mount ", shown, re.M) and any(at.iterdir())
    finally:
        place.unmap(at)
    at.rmdir()


def test_restores_files(place, dialog):
    d, into = dialog('rescue', '--repository', STORE, f'host/files/{T1}', 'root.pxar'), place.dir / 'into'
    into.mkdir()
    d.read(PROMPT)
    assert 'empty directory' in d.type('restore')
    shown, status = d.end(into)
    assert (into / 'etc').is_dir() or any(into.iterdir()), shown


def test_shows_a_blob(place, dialog):
    d = dialog('rescue', '--repository', STORE, f'vm/100/{T1}', 'qemu-server.conf')
    assert '1  restore' in d.read(PROMPT)
    assert 'file\'s name [-]: ' in d.type('restore')
    shown, status = d.end('')
    assert status == DONE and 'name: golden' in shown


def test_shell(place, dialog):
    sh = place.dir / 'sh'
    sh.write_text('#!/bin/sh\necho "in $PBS_REPOSITORY, $PBS_NAMESPACE"; exec "$PBSMAP" list host/nested')
    sh.chmod(0o755)
    d = dialog(env={'SHELL': sh, 'PBSMAP': PBSMAP})
    first(d)
    d.type(STORE, 'a/b', 'nested', '', '')
    shown, status = d.end('shell')
    assert status == DONE and f'in {STORE}, a/b' in shown and f'host/nested/{T1}' in shown
    assert command(shown)[1:] == ['list', '--repository', STORE, '--ns', 'a/b', f'host/nested/{T1}']


# ---- keys ----

@pytest.mark.parametrize('group, key, secret', [('vm/101', 'none', None), ('vm/102', 'scrypt', 'golden-pass')])
def test_key_is_tried_at_once(place, dialog, group, key, secret):
    d, out = dialog(), place.dir / 'out'
    to_archive(d, group)
    shown = d.type('drive-scsi1.img')
    assert 'Key file' in shown
    assert 'No such file' in d.type(place.dir / 'none')
    assert 'pbsmap: ' in d.type('/etc/passwd')
    if secret:
        assert 'passphrase' in d.type(KEYS / f'{key}.json')
        shown = d.type('guessed')
        assert 'guessed' not in shown and 'Key file' in shown
        d.type(KEYS / f'{key}.json', secret)
    else:
        shown = d.type(KEYS / 'scrypt.json', 'golden-pass')
        assert 'is another key' in shown
        d.type(KEYS / f'{key}.json')
    d.type('restore')
    shown, status = d.end(out)
    assert status == DONE and file_sum(out)[0] == SUMS['mbr.img'] and (secret or '?') not in shown
    assert (', with PBS_ENCRYPTION_PASSWORD set:' in shown) == bool(secret)
    same(place, command(shown), out, SUMS['mbr.img'], {'PBS_ENCRYPTION_PASSWORD': secret})


def test_the_usual_key_is_offered(place, dialog):
    at = place.home / '.config/proxmox-backup'
    at.mkdir(parents=True)
    (at / 'encryption-key.json').write_text((KEYS / 'none.json').read_text())
    d = dialog('rescue', '--repository', STORE, f'vm/101/{T1}', 'drive-scsi1.img')
    assert f'[{at}/encryption-key.json]: ' in d.read(PROMPT)
    assert 'What shall be done' in d.type('')


# ---- servers ----

def test_server_in_parts(place, dialog):
    out = place.dir / 'out'
    with Server(GOLDEN / 'store') as s:
        d = dialog()
        first(d)
        assert 'Server' in d.type('server')
        assert 'Port [8007]' in d.type('127.0.0.1')
        assert 'Datastore' in d.type(s.port)
        assert '[root@pam]' in d.type(s.name)
        assert 'Secret of test@pbs!tok' in d.type('test@pbs!tok')
        shown = d.type(SECRETS['test@pbs!tok'])
        assert s.fingerprint[:2] in shown and 'Trust it' in shown
        shown = d.type('y')
        assert 'Namespace' in shown and SECRETS['test@pbs!tok'] not in shown
        d.type('', 'vm/100', '', '', 'restore')
        shown, status = d.end(out)
        words = command(shown)
        assert status == DONE and file_sum(out)[0] == SUMS['gpt2.img']
        assert words[2:6] == ['--repository', s.repo(), '--fingerprint', s.fingerprint] and 'with PBS_PASSWORD set' in shown
        (place.home / '.config/proxmox-backup/fingerprints').unlink()
        same(place, words, out, SUMS['gpt2.img'], {'PBS_PASSWORD': SECRETS['test@pbs!tok']})


def test_wrong_password_and_refused_certificate(place, dialog):
    with Server(GOLDEN / 'store') as s:
        d = dialog('rescue', '--repository', s.repo('test@pbs'))
        assert 'Password of test@pbs' in d.read(PROMPT)
        assert 'Trust it' in d.type('nonsense')
        assert 'not trusted' in d.type('n')
        shown = d.type('nonsense', 'y')
        assert 'not let in' in shown and 'Password of' in shown
        assert 'Namespace' in d.type(SECRETS['test@pbs'])
        # The way back: the password, then nothing to go back to.
        assert 'Password' in d.type('b')
        os.write(d.fd, b'\x04')
        assert d.end()[1] == FAIL


def test_everything_from_the_environment(place, dialog):
    with Server(GOLDEN / 'store') as s:
        d = dialog('rescue', f'vm/100/{T1}', 'drive-scsi1.img', env={**s.env(), 'PBS_REPOSITORY': s.repo()})
        assert 'What shall be done' in d.read(PROMPT)


# ---- wrong input, back, the end ----

def test_wrong_input_is_asked_again(place, dialog):
    d = dialog()
    first(d)
    assert 'No such file' in d.type('/nowhere')
    for bad in ('::::', 'a b', 'user@host:8007'):
        assert 'Repository' in d.type(bad), bad
    d.type(STORE)
    assert "There is no '9'" in d.type('9')
    assert "There is no 'c'" in d.type('c')
    d.type('')
    assert re.search(r"^4 of them have 'vm/' in their names.\n(.*\n)+Group \[\d+\]", d.type('vm/'), re.M)
    assert "There is no 'vm/9'" in d.type('vm/9')
    assert 'Snapshot' in d.type('vm/100')
    assert "There is no '0'" in d.type('0')
    assert 'Archive' in d.type('2026-01')


def test_back_to_the_first_question_and_elsewhere(place, dialog):
    d = dialog()
    to_archive(d)
    for question in ('Snapshot', 'Group', 'Namespace', 'Repository', 'Repository'):
        assert question in d.type('b')
    shown = d.type(STORE, 'a/b')
    assert 'host/nested' in shown and 'vm/100' not in shown
    assert 'vm/100' in d.type('b', '')
    d.type('vm/100', '1', 'drive-scsi1.img', 'restore')
    out = place.dir / 'out'
    assert 'What shall be done' in d.type('b')
    d.type('restore')
    shown, status = d.end(out)
    assert status == DONE and file_sum(out)[0] == SUMS['mbr.img'] and '--ns' not in command(shown)


@pytest.mark.parametrize('how', ['q', '\x04', '\x03'])
@pytest.mark.parametrize('depth', range(6))
def test_leaves_at_every_question(place, dialog, how, depth):
    d = dialog()
    first(d)
    for a in (STORE, '', 'vm/100', '', '')[:depth]:
        d.type(a)
    shown, status = d.end(how) if how == 'q' else (os.write(d.fd, how.encode()), d.end())[1]
    assert status == (-signal.SIGINT if how == '\x03' else FAIL)
    assert 'pbsmap: ' not in shown


def test_line_goes_away(place, dialog):
    d = dialog()
    first(d)
    os.kill(d.pid, signal.SIGHUP)
    assert d.end()[1] == -signal.SIGHUP


def test_errors_without_a_question_before_end_it(place, dialog):
    for args, text, want in ((['--repository', '/nowhere'], 'No such file', FAIL), (['--repository', '::'], '', USAGE),
                             (['--repository', STORE, 'vm/9'], 'vm/9', FAIL), (['--repository', STORE, f'vm/100/{T1}', 'x.img'], 'x.img', FAIL),
                             (['--repository', STORE, 'nonsense'], 'nonsense', USAGE), (['--server', 'x'], 'datastore', USAGE)):
        d = dialog('rescue', *args)
        shown, status = d.end()
        assert text in shown and status == want, (args, shown, status)


@pytest.mark.parametrize('args', [[], ['rescue'], ['rescue', '--repository', STORE]])
def test_nobody_to_ask(place, args):
    r = place.run(*args)
    assert r.returncode == USAGE and '--help' in r.stderr and r.stdout == ''


# ---- terminals ----

@pytest.fixture(scope='module')
def thousands(tmp_path_factory):
    """A group of 2500 snapshots, all alike."""
    path = tmp_path_factory.mktemp('store')
    subprocess.run(['cp', '-r', f'{STORE}/.', path], check=True)
    group = path / 'host/signed'
    for n in range(2499):
        t = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(1600000000 + n * 3600))
        (group / t).mkdir()
        (group / t / 'index.json.blob').hardlink_to(group / T1 / 'index.json.blob')
    return path


def test_five_lines_and_thousands(place, dialog, thousands):
    d = dialog('rescue', '--repository', thousands, 'host/signed', rows=5)
    shown = d.read(PROMPT)
    assert [line.split()[0] for line in shown.splitlines()[-4:-1]] == ['2498', '2499', '2500'] and len(shown.splitlines()) == 6
    assert shown.endswith('Snapshot, 1-2500, p: earlier [2500]: ')
    shown = d.type('p')
    assert re.search(r'^2495 .*\n2496 .*\n2497 .*\nSnapshot, 1-2500, p: earlier, n: later \[2500\]: $', shown, re.M)
    assert '2500  ' in d.type('n') and '2500  ' in d.type('n')
    shown = d.type('2020-09-1')
    assert 'of them have' in shown and shown.count('\n2') == 0 and 'n: later' in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert d.type('2020-09-13T12').count('Archive') == 1


def test_serial_console_knows_no_size(place, dialog, thousands):
    d = dialog('rescue', '--repository', thousands, 'host/signed', rows=0, env={'TERM': None})
    shown = d.read(PROMPT)
    assert shown.count('\n') == 24         # two of introduction, and 22 of the list
    assert '\x1b' not in shown and shown.isascii()


@pytest.mark.root
def test_disks_are_offered_but_no_default(place, dialog):
    from test_restore import disk
    with disk(place, 40 << 20) as dev, disk(place, 1 << 20) as small, disk(place, 40 << 20, fill=b'\x77') as used:
        d = dialog('rescue', '--repository', STORE, f'vm/100/{T1}', 'drive-scsi1.img')
        d.read(PROMPT)
        shown = d.type('restore')
        assert re.search(rf'^\d+  {dev} \(40.0 MiB\): empty$', shown, re.M) and f'{small} ' not in shown
        assert re.search(rf'^\d+  {used} \(40.0 MiB\): unknown data$', shown, re.M)
        assert 'Target' in d.type('')
        number = re.search(rf'^(\d+)  {used} ', shown, re.M)[1]
        assert 'Type its name' in d.type(number)
        shown, status = d.end(used)
        assert status == DONE and file_sum(used, 8 << 20)[0] == SUMS['mbr.img']
        with open(dev, 'rb') as held:               # in use: not offered
            fcntl.flock(held, fcntl.LOCK_SH)
            d = dialog('rescue', '--repository', STORE, f'vm/100/{T1}', 'drive-scsi1.img')
            d.read(PROMPT)
            assert f'{dev} ' not in d.type('restore')
