"""make bench still runs, and measures what it says: of a small image, once."""
import json
import os
import subprocess

import pytest

from lib import ROOT, tool

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(name='bench')
def _bench(tmp_path):
    for name in ('mkstore', 'pbsd', 'roof', 'sesget'):
        tool(name)

    def run(*args, program='bench'):
        env = {**os.environ, 'BENCH_SIZE': '64M', 'BENCH_ROUNDS': '1', 'BENCH_DIR': str(tmp_path)}
        return subprocess.run([ROOT / 'test' / program, *args], env=env, stdout=subprocess.PIPE, text=True, timeout=110,
                              check=True).stdout
    return run


def test_json_has_every_row(bench):
    got = json.loads(bench('--json'))
    rows = {r['name']: r for r in got['rows']}
    assert got['size'] == 64 << 20 and got['ratio'] > 1
    assert all(v > 0 for v in got['parts'].values())
    for name in ('sequential, local plain', 'sequential, server encrypted', 'zeros, server plain', 'map, server plain',
                 'random 16, server plain, 20 ms', 'memory, server plain', 'uncached beside dd, server plain'):
        assert rows[name]['median'] > 0, name
    # One round trip for each: at 20 ms nobody reads more than 50 chunks a second one by one.
    assert rows['random 1, server plain, 20 ms']['median'] < 50


def test_rows_by_name(bench):
    text = bench('map')
    assert 'map, local plain' in text and 'map, server plain' in text and 'random' not in text


def test_files(bench):
    got = json.loads(bench('--json', program='bench-files'))
    assert got['files'] == 3125 and got['decode'] > 0 and len(got['rows']) == 18
    assert all(r['median'] > 0 for r in got['rows'] if r['unit'] != 'MiB')
