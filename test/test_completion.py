"""Completion in real shells: what is typed, TAB, and the words that come of it."""
import os
import pty
import re
import select
import shutil
import signal
import socket
import time

import pytest

from lib import GOLDEN, PBSMAP, T1, place	# noqa: F401
from mkpxar import Archive
from server import Server

STORE = GOLDEN / 'store'
START = {'bash': ['bash', '--norc', '--noprofile', '-i'], 'zsh': ['zsh', '-f', '-i']}
SETUP = {'bash': "bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; bind 'set completion-query-items 0'; bind 'set page-completions off'",
         'zsh': 'autoload -U compinit; compinit -u -D; unset zle_bracketed_paste; setopt nobeep'}
SHELLS = [s for s in START if shutil.which(s)]


class Shell:
    """An interactive shell at a terminal of its own."""

    def __init__(self, place, kind, **env):
        (place.dir / 'bin').mkdir(exist_ok=True)
        (place.dir / 'bin' / 'pbsmap').symlink_to(os.path.abspath(PBSMAP))
        env = place.env(PATH=f'{place.dir}/bin:{os.environ["PATH"]}', TERM='dumb', PS1='', **env)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(place.dir)
            os.execvpe(START[kind][0], START[kind], env)
        self.line(SETUP[kind])
        self.line(f'eval "$(pbsmap completion {kind})"')

    def read(self, until, seconds=10):
        text, end = '', time.monotonic() + seconds
        while not re.search(until, text) and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                text += os.read(self.fd, 65536).decode(errors='replace')
        assert re.search(until, text), text
        return text

    def line(self, text):
        os.write(self.fd, text.encode() + b'; echo D""one\n')
        return self.read('Done')

    def complete(self, text):
        """The words after TAB, as the shell would hand them to the program."""
        os.write(self.fd, text.encode() + b'\t')
        time.sleep(0.3)		# zsh gives a completion up when more is typed
        os.write(self.fd, b"\x01printf 'X<%s>' \x05; echo D\"\"one\n")
        return re.findall('X<([^%<>]*)>', self.read('Done'))

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture(params=SHELLS)
def shell(request, place):
    sh = Shell(place, request.param)
    yield sh
    sh.end()


@pytest.mark.parametrize('typed, words', (
    ('pbsmap sta', ['status']),
    ('pbsmap map --no-read', ['--no-read-ahead']),
    ('pbsmap completion z', ['zsh']),
    ('pbsmap list --ns', ['--ns']),
    ('pbsmap list --repository {store} --ns a/', ['a/b']),
    ('pbsmap list --repository {store} --ns a/b h', ['host/nested']),
    ('pbsmap map --repository {store} vm/103/', [f'vm/103/{T1}']),
    ('pbsmap map --repository {store} vm/100/2026-01-02T03:', [f'vm/100/{T1}']),
    ("pbsmap map --repository '{store}' vm/10\\0 drive-", ['drive-scsi0.img']),
    ('pbsmap restore --repository {store} vm/100/2026-01-02T03:04:05Z q', ['qemu-server.conf']),
    ('pbsmap map --repository {store} vm/100/2026-01-02T03:04:05Z q', ['q']),
    ('pbsmap verify --repository {store} vm/102 drive-scsi1.img z', ['zero.img']),
    ('pbsmap map --config ./conf vm/103/', [f'vm/103/{T1}']),
    ('pbsmap map --keyfile ./the', ['./the-key']),
    ('pbsmap map --repository ./nosuch v', ['v']),
))
def test_words(shell, place, typed, words):
    (place.dir / 'conf').write_text(f'PBS_REPOSITORY={STORE}\n')
    (place.dir / 'the-key').touch()
    assert shell.complete(typed.format(store=STORE))[-len(words):] == words


def ask(place, line, breaks='', env=None):
    r = place.run('__complete', line, breaks, env=env)
    assert r.stderr == ''
    return sorted(r.stdout.split())


def test_all_that_fits(place):
    ds = f'--repository {STORE}'
    assert ask(place, 'pbsmap ma') == ['map'] and 'unmap' in ask(place, 'pbsmap ')
    assert ask(place, f'pbsmap list {ds} ') == sorted(['host/chunk64k', 'host/files', 'host/signed', 'host/split',
                                                       'vm/100', 'vm/101', 'vm/102', 'vm/103'])
    # Unfinished ones cannot be mapped.
    assert ask(place, f'pbsmap map {ds} vm/100/') == [f'vm/100/{T1}', 'vm/100/2026-02-03T04:05:06Z']
    assert ask(place, f'pbsmap map {ds} vm/100/2026-01-02T03:', ':=') == ['04:05Z']
    assert ask(place, f'pbsmap list {ds} --ns ') == ['a', 'a/b']
    assert ask(place, f'pbsmap map {ds} vm/100 ') == ['drive-scsi0.img']
    assert ask(place, f'pbsmap mount {ds} host/files ') == ['root.pxar'] and ask(place, f'pbsmap mount {ds} host/split ') == ['root.mpxar']
    for line in ('', 'pbsmap', 'pbsmap nosuch ', 'pbsmap status ', f"pbsmap list {ds} '", 'pbsmap \\', 'pbsmap ' + 'x ' * 5000,
                 f'pbsmap list {ds} --keyfile ', f'pbsmap map {ds} x/y '):
        assert ask(place, line) in ([], ask(place, 'pbsmap list ' + ds + ' ')), line
    assert place.run('completion', 'fish').returncode == 2


ODD = "it's $(touch pwned) `touch pwned` & *"


def odd_archive(place):
    a = Archive()
    a.dir('')
    a.file('file', b'x')
    a.dir('sub dir')
    for name in (ODD, 'a:b', 'new\nline', 'new\x1b[2J'):
        a.file(name, b'x')
    a.dir('deep')
    a.up()
    a.up()
    return place.store('host/x/' + T1, root_pxar=a.end()).path


def test_paths_in_an_archive(place):
    ds = f'--repository {odd_archive(place)}'

    def lines(text, *breaks):
        r = place.run('__complete', text, *breaks)
        assert r.stderr == ''
        return sorted(r.stdout.splitlines())

    for command in ('list', 'restore'):
        line = f'pbsmap {command} {ds} host/x root.pxar {"out " if command == "restore" else ""}'
        assert lines(line) == ['file', 'sub dir/']		# zsh quotes
        assert lines(line, ' :"') == ['file', 'sub\\ dir/']
        assert lines(line + '/f', '') == ['/file']
        assert lines(line + 'sub\\ dir/') == sorted(['sub dir/' + n for n in (ODD, 'a:b', 'deep/')])
        assert lines(line + 'sub\\ dir/i', ' :"\'') == ["sub\\ dir/it\\'s\\ \\$\\(touch\\ pwned\\)\\ \\`touch\\ pwned\\`\\ \\&\\ \\*"]
        assert lines(line + 'sub\\ dir/a:', ' :"\'') == ['b']
        for quote in '"\'':		# what would have to be quoted otherwise in there is left out
            assert lines(line + quote + 'sub dir/', ' :"\'') == ['sub dir/a:b', 'sub dir/deep/']
        for none in ('nosuch/', 'file/', '../', 'sub\\ dir/new', 'file '):
            assert lines(line + none) in ([], ['file', 'sub dir/']), none
    assert lines(f'pbsmap restore {ds} host/x root.pxar ') == []		# a directory of this machine
    assert lines(f'pbsmap mount {ds} host/x root.pxar --subdir ') == ['sub dir/']
    assert lines(f'pbsmap mount {ds} --subdir ') == []


def test_paths_are_quoted_safely(shell, place):
    store = odd_archive(place)
    line = f'pbsmap list --repository {store} host/x root.pxar '
    assert shell.complete(line + 'su')[-1] == 'sub dir/'
    assert shell.complete(line + 'sub\\ dir/it')[-1] == 'sub dir/' + ODD
    assert shell.complete(line + '"sub dir/a')[-1] == 'sub dir/a:b'
    assert not (place.dir / 'pwned').exists()


def test_a_server_is_asked(place):
    with Server(STORE) as s:
        assert ask(place, f'pbsmap map --repository {s.repo()} vm/101/', env=s.env()) == [f'vm/101/{T1}']
        assert ask(place, f'pbsmap restore --repository {s.repo()} vm/101 r', env=s.env()) == ['rsa-encrypted.key']


def test_nothing_waits_and_nobody_is_asked(place):
    """A silent server costs 2 s; where a password or trust is missing, no question comes."""
    with socket.create_server(('127.0.0.1', 0)) as s, Server(STORE) as real:
        for repo, env in ((f'a@pbs!t@127.0.0.1:{s.getsockname()[1]}:golden', {'PBS_PASSWORD': 'x'}), (real.repo(), {}),
                          (real.repo(), {'PBS_PASSWORD': 'x'})):
            begin = time.monotonic()
            pid, fd = pty.fork()
            if pid == 0:
                os.execve(PBSMAP, [PBSMAP, '__complete', f'pbsmap map --repository {repo} v'], place.env(**env))
            text = b''
            try:
                while data := os.read(fd, 4096):
                    text += data
            except OSError:
                pass
            os.waitpid(pid, 0)
            os.close(fd)
            assert text == b'' and time.monotonic() - begin < 6


@pytest.mark.root
def test_mappings(place):
    m = place.map_golden('efi')
    assert m.dev in ask(place, 'pbsmap unmap /dev/')
    name = f'{place.dir}/st:vm/100/{T1}/drive-efidisk0.img'
    assert ask(place, f'pbsmap unmap {place.dir}') == [name]
    place.unmap(m.dev)
