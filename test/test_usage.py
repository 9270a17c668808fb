"""The usage text, the manual and the program know the same commands and options."""
import os
import re
import subprocess

import pytest

PBSMAP = os.environ.get('PBSMAP', './pbsmap')
MANUAL = 'pbsmap.1'


def usage(*args):
    p = subprocess.run([PBSMAP, *args, '--help'], capture_output=True, text=True, timeout=10, check=False)
    assert p.returncode == 0 and p.stderr == ''
    return p.stdout


def usage_options(text):
    """{'--name', '-x', ...}, each with its argument, of lines like '  -x, --name ARG   what it does'."""
    found = set()
    for m in re.finditer(r'^ +(?:(-\w), +)?(--[\w-]+)(?:[ =]([A-Z]+))?(?: |$)', text, re.M):
        found |= {(o, m[3]) for o in (m[1], m[2]) if o}
    return found


def usage_commands(text):
    return re.findall(r'^  ([a-z]+) ', text.split('Commands:\n')[1].split('\n\n')[0], re.M)


def manual_options(text):
    """The same of '.It Fl x , Fl -name Ar ARG' in mdoc."""
    found = set()
    for line in re.findall(r'^\.It (Fl .*)$', text, re.M):
        arg = re.search(r' Ar (\w+)', line)
        for name in re.findall(r'Fl (\S+)', line):
            found.add(('-' + name, arg[1] if arg else None))
    return found


def manual_commands(text):
    return re.findall(r'^\.It Cm (\w+)', text, re.M)


def manual():
    with open(MANUAL, encoding='utf-8') as f:
        return f.read()


COMMANDS = usage_commands(usage()) if os.access(PBSMAP, os.X_OK) else ['(no program)']


def test_the_parsers_see_what_is_there():
    text = 'Options:\n  -f, --force        even so\n      --ns NS        x\n  --all              y\n'
    assert usage_options(text) == {('-f', None), ('--force', None), ('--ns', 'NS'), ('--all', None)}
    text = '.It Fl f , Fl -force\n.It Fl -ns Ar NS\nx --no\n.It Cm map\n'
    assert manual_options(text) == {('-f', None), ('--force', None), ('--ns', 'NS')}
    assert manual_commands(text) == ['map']


def test_commands_of_usage_and_manual():
    assert COMMANDS and sorted(COMMANDS) == sorted(manual_commands(manual()))
    synopsis = manual().split('.Sh SYNOPSIS')[1].split('.Sh ')[0]
    assert set(COMMANDS) == set(re.findall(r'^\.Nm\n\.Cm (\w+)', synopsis, re.M))


def test_options_of_usage_and_manual():
    told = set().union(*(usage_options(usage(c)) for c in COMMANDS))
    assert told == manual_options(manual())


@pytest.mark.parametrize('command', COMMANDS)
def test_a_told_option_exists_and_others_do_not(command):
    def unknown(option):
        p = subprocess.run([PBSMAP, command, option], capture_output=True, text=True, timeout=10,
                           stdin=subprocess.DEVNULL, check=False)
        return p.returncode == 2 and 'unknown option' in p.stderr
    told = usage_options(usage(command))
    # An option without its value, or --help in its company: nothing is done here.
    for name, arg in told:
        if arg or name in ('--help', '-h', '--version'):
            assert not unknown(name), name
    assert unknown('--no-such-option')
    assert unknown('-Z')


@pytest.mark.parametrize('command', [None, *COMMANDS])
def test_usage_fits_a_console(command):
    text = usage(*([command] if command else []))
    assert text.isascii() and max(map(len, text.splitlines())) <= 80


def test_manual_is_well_formed():
    p = subprocess.run(['mandoc', '-T', 'lint', '-W', 'error', MANUAL], capture_output=True, text=True,
                       timeout=10, check=False)
    assert p.returncode == 0, p.stdout


def test_version():
    with open('config.h', encoding='utf-8') as f:
        version = re.search(r'PBSMAP_VERSION "(.*)"', f.read())[1]
    p = subprocess.run([PBSMAP, '--version'], capture_output=True, text=True, timeout=10, check=False)
    assert (p.returncode, p.stdout) == (0, f'pbsmap {version}\n')
