"""What map tells the kernel to be fast, and that each of it can be switched off."""
import os
import subprocess
import time

import pytest

from lib import T1, mixed, place, sysfs, wait_for		# noqa: F401
from test_slow import frozen

pytestmark = pytest.mark.root
CONNECTIONS = '/sys/fs/fuse/connections'


@pytest.fixture(name='store')
def _store(place):
    return place.store(f'vm/1/{T1}', a_img=mixed(24 << 20))


@pytest.fixture(name='connections')
def _connections(place):
    """The directory in which the kernel tells about FUSE's connections."""
    if os.path.ismount(CONNECTIONS):
        yield CONNECTIONS
        return
    path = place.dir / 'ctl'
    path.mkdir()
    subprocess.run(['mount', '-t', 'fusectl', 'none', path], check=True)
    yield path
    subprocess.run(['umount', path], check=True)


def of_connection(connections, m, name):
    with open(f'{connections}/{os.minor(os.stat(m.file).st_dev)}/{name}', encoding='ascii') as f:
        return int(f.read())


@pytest.mark.parametrize('opts, background, ahead', [([], 64, 8192), (['--no-background'], 12, 8192), (['--no-read-ahead'], 64, 128)])
def test_requests_in_flight_and_read_ahead(place, store, connections, opts, background, ahead):
    m = place.map(store, f'vm/1/{T1}', 'a.img', opts=opts)
    assert of_connection(connections, m, 'max_background') == background
    assert sysfs(m.nr, 'queue/read_ahead_kb') == str(ahead)
    place.unmap(m.dev)
    assert sysfs(m.nr, 'queue/read_ahead_kb') == '128', 'the next one to use this device gets what was ours'


@pytest.mark.parametrize('opts, requests', [([], 4), (['--no-large-reads'], 32), (['--no-async-io'], 1)])
def test_requests_of_one_read(place, store, connections, opts, requests):
    """4 MiB, past the caches, at a place whose chunk does not come: that many requests wait."""
    m = place.map(store, f'vm/1/{T1}', 'a.img', opts=['--no-read-ahead', *opts])
    with frozen(m):
        p = subprocess.Popen(['dd', f'if={m.file}', 'of=/dev/null', 'bs=4M', 'count=1', 'skip=2', 'iflag=direct'], stderr=subprocess.DEVNULL)
        assert wait_for(lambda: of_connection(connections, m, 'waiting') >= requests), of_connection(connections, m, 'waiting')
        time.sleep(0.1)
        assert of_connection(connections, m, 'waiting') == requests
    assert p.wait(20) == 0
    place.unmap(m.dev)
