"""What is common to all tests: the C programs as tests, and who may skip.

test/unit_X.c runs as BUILD/test/unit_X, each run(test_x) in it is a test here;
test/fuzz_X.c runs over the files of test/corpus/X, each file is a test.
The programs speak TAP and are run once, when their first test is.
"""
import os
import pathlib
import re
import shlex
import signal
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / os.environ.get('BUILD', 'build')
RUNNER = shlex.split(os.environ.get('RUNNER', ''))	# an emulator, when it is another machine's
PROGRAM_SECONDS = int(os.environ.get('PROGRAM_SECONDS', 100))	# below pytest.ini's timeout


def pytest_configure():
    os.chdir(ROOT)


def pytest_collect_file(file_path, parent):
    if re.fullmatch(r'(unit|fuzz)_\w+\.c', file_path.name):
        return Program.from_parent(parent, path=file_path)
    return None


class Program(pytest.File):
    """A C program; its output is read once."""
    output = None

    def collect(self):
        self.args, names = [], []
        if self.path.name.startswith('fuzz_'):
            corpus = self.path.parent / 'corpus' / self.path.stem[len('fuzz_'):]
            self.args = sorted(str(p.relative_to(ROOT)) for p in corpus.glob('*') if p.is_file())
            names = [os.path.basename(a) for a in self.args]
        else:
            names = re.findall(r'^\s*run\((\w+)\)', self.path.read_text(), re.M)
        for name in names:
            yield Line.from_parent(self, name=name)
        yield Whole.from_parent(self, name='whole')

    def run(self):
        if self.output is None:
            program = BUILD / 'test' / self.path.stem
            if program.exists():
                self.output, self.rc = run_program([*RUNNER, str(program), *self.args])
            else:
                self.output, self.rc = f'# {program} is not built: make tests', None
        return self.output


def run_program(argv):
    """Output and exit status; a process group of its own, so that nothing of it outlives a hang."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          text=True, errors='replace', start_new_session=True) as p:
        try:
            return p.communicate(timeout=PROGRAM_SECONDS)[0], p.returncode
        except BaseException as e:
            os.killpg(p.pid, signal.SIGKILL)
            if not isinstance(e, subprocess.TimeoutExpired):
                raise
            return p.communicate()[0] + f'# killed after {PROGRAM_SECONDS} s\n', 'hung'


class Failed(Exception):
    """Text for the report, which needs no traceback."""


class Item(pytest.Item):
    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, Failed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, f'{self.path.stem}::{self.name}'


class Line(Item):
    """One test of a program: its line says "ok"."""
    def runtest(self):
        seen, notes = [], []
        for line in self.parent.run().splitlines():
            if m := re.fullmatch(r'(ok|not ok) \d+ - (.*)', line):
                if m[2] == self.name:
                    seen.append(m[1])
                    if m[1] != 'ok':
                        raise Failed('\n'.join([*notes, line]))
                notes = []
            else:
                notes.append(line)
        if not seen:
            raise Failed('no such line in its output, which ends with\n' + self.parent.output[-3000:])


class Whole(Item):
    """The program as a whole: it ended well, with as many lines as it had planned, at least one."""
    def runtest(self):
        out = self.parent.run()
        plan = re.findall(r'^1\.\.(\d+)$', out, re.M)
        lines = re.findall(r'^(ok|not ok) ', out, re.M)
        if self.parent.rc != 0 or 'not ok' in lines or plan != [str(len(lines))] or not lines:
            raise Failed(f'exit status {self.parent.rc}, plan {plan}, {len(lines)} lines; its output ends with\n{out[-6000:]}')


def lacking():
    """Why the tests marked root cannot run here; None when they can."""
    if os.geteuid() != 0:
        return 'not root'
    for dev in '/dev/fuse', '/dev/loop-control':
        if not os.access(dev, os.R_OK | os.W_OK):
            return f'no {dev}'
    return None


def pytest_runtest_setup(item):
    if item.get_closest_marker('root') and (why := lacking()):
        (pytest.fail if os.environ.get('CI') else pytest.skip)(why)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """In CI no test is skipped unseen: what it wants has to be there."""
    report = (yield).get_result()
    if report.skipped and os.environ.get('CI') and not hasattr(report, 'wasxfail') and not item.get_closest_marker('qemu'):
        report.outcome = 'failed'
        report.longrepr = f'skipped, which CI does not do: {report.longrepr}'
