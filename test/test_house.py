"""The rules of the house that a machine can check: HACKING has them."""
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = sorted(p.relative_to(ROOT) for d in ('', 'test') for p in (ROOT / d).glob('*.[ch]'))
FUNCTION_LINES, FILE_LINES, HACKING_LINES = 60, 600, 60


def functions(text):
    """Name and length of each function: from the brace in the first column to the one that closes it."""
    lines = text.split('\n')
    for i, line in enumerate(lines):
        if line == '{':
            start, name = i, re.match(r'\w*', lines[i - 1])[0]
        elif line == '}':
            yield name, i - start + 1


@pytest.mark.parametrize('path', SOURCES, ids=str)
def test_source(path):
    text = (ROOT / path).read_text()
    wrong = [f'{name}() has {n} lines' for name, n in functions(text) if n > FUNCTION_LINES]
    if (n := text.count('\n')) > FILE_LINES:
        wrong.append(f'{n} lines')
    if path.suffix == '.c' and not text.startswith('/*'):
        wrong.append('it does not begin with what it is for')
    for nr, line in enumerate(text.split('\n'), 1):
        if re.search(r'[ \t]$', line):
            wrong.append(f'line {nr}: blanks at the end')
        if re.match(r'        ', line):
            wrong.append(f'line {nr}: blanks instead of a tab')
        if re.match(r'typedef (?!.*\(\*)', line):
            wrong.append(f'line {nr}: typedef')
        if re.search(r'(^|[\s;{}])//', line):
            wrong.append(f'line {nr}: //')
    assert not wrong, f'{path}: ' + '; '.join(wrong)


def test_functions_are_counted():
    assert list(functions('int\nf(void)\n{\n\treturn 0;\n}\n\nint\ng(void)\n{\n}\n')) == [('f', 3), ('g', 2)]


def test_fuzz_target_has_a_corpus():
    for p in ROOT.glob('test/fuzz_*.c'):
        corpus = ROOT / 'test/corpus' / p.stem[5:]
        assert any(corpus.glob('*')), f'{corpus} is empty'
    assert sum(p.stat().st_size for p in ROOT.glob('test/corpus/*/*')) < 2 << 20


def test_hacking_fits_a_screen():
    lines = (ROOT / 'HACKING').read_text().split('\n')
    assert len(lines) <= HACKING_LINES + 1 and max(map(len, lines)) <= 80


def test_hacking_names_what_is_there():
    """Files and make's targets."""
    text = (ROOT / 'HACKING').read_text()
    for name in re.findall(r'[\w/]+\.(?:[ch]|py|sh|1)\b', text):
        if not re.search(r'X|^x\.', name):
            assert (ROOT / name).exists() or (ROOT / 'test' / name).exists(), name
    targets = subprocess.run(['make', '-qp', '--no-print-directory'], cwd=ROOT, capture_output=True, text=True).stdout
    for name in set(re.findall(r'\bmake ([a-z][\w-]*)(?![\w-]*/)', text)):
        assert re.search(rf'^{name}:', targets, re.M), f'make {name}'
