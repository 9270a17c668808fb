"""README: the way from a dead machine to a running one, as it stands there, walked by a shell."""
import re
import subprocess

import pytest

from formats import Store
from lib import GOLDEN, KEYS, PBSMAP, SUMS, T1, place, wait_for
from server import SECRETS, Server

TITLE = 'From a dead machine to a running one'


def commands():
    """The lines of that section that a user types."""
    text = open('README', encoding='utf-8').read()
    part = text[text.index(f'\n{TITLE}\n---'):].split('\n---', 2)[1].rsplit('\n', 1)[0]
    return re.findall(r'^    # (.*)$', part, re.M)


def losetup(*args):
    return subprocess.run(['losetup', *map(str, args)], check=True, capture_output=True, text=True).stdout.strip()


class Disks:
    """Disks and partitions under names of their own: /dev/sdb is a loop device here, its partition another one."""

    def __init__(self, place):
        self.place, self.used = place, []

    def attach(self, *args):
        self.used.append(losetup('-f', '--show', *args))
        return self.used[-1]

    def detach(self):
        for dev in self.used:
            wait_for(lambda: subprocess.run(['losetup', '-d', dev], check=False, stderr=subprocess.DEVNULL).returncode == 0, 3)


@pytest.mark.root
def test_from_a_dead_machine_to_a_running_one(place):
    lines = commands()
    assert len(lines) > 20 and lines[-1].startswith('pbsmap verify --keyfile')
    with open(place.dir / 'sdb', 'wb') as f:
        f.truncate(40 << 20)
    with open(place.dir / 'sdc', 'wb') as f:
        f.truncate(64 << 20)
    subprocess.run(['mkfs.ext4', '-q', place.dir / 'sdc'], check=True)
    (place.dir / 'secret').write_text(SECRETS['test@pbs!tok'] + '\n')
    (place.dir / 'bin').mkdir()
    (place.dir / 'bin' / 'pbsmap').symlink_to(PBSMAP)
    (place.dir / 'bin' / 'reboot').write_text('#!/bin/sh\necho rebooting\n')
    (place.dir / 'bin' / 'reboot').chmod(0o755)
    disks = Disks(place)
    with Server(GOLDEN / 'store') as s:
        try:
            disk, files = disks.attach(place.dir / 'sdb'), disks.attach(place.dir / 'sdc')
            part = disks.attach('-o', 2048 * 512, '--sizelimit', 24 << 20, place.dir / 'sdb')
            losetup('-d', part)		# it is attached again when there is something on it
            here = {'rescue@pbs!usb@pbs.example:store': s.repo(), '5c:0a:...:9e': s.fingerprint, '/root/secret': place.dir / 'secret',
                    '/mnt/': f'{place.dir}/mnt/', '/dev/sdb1': part, '/dev/sdb': disk, '/dev/sdc1': files, 'master.pem': KEYS / 'master-private.pem',
                    'host/files': f'host/files/{T1}'}
            script = '\n'.join(lines)
            for name, value in here.items():
                assert name in script, name
                script = script.replace(name, str(value))
            size = Store(GOLDEN / 'store').index('vm/100/2026-02-03T04:05:06Z', 'drive-scsi0.img.fidx').entries[-1][1]
            # As it was restored: a mount leaves its traces.
            script = script.replace(f'mount {part}', f'head -c {size} {disk} | sha256sum; '
                                    f'for i in 1 2 3 4 5; do losetup -o {2048 * 512} --sizelimit {24 << 20} {part} {place.dir}/sdb && break; sleep 1; done; '
                                    f'mount {part}')
            r = subprocess.run(['sh', '-euxc', script], cwd=place.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                               timeout=60, env=place.env(PATH=f'{place.dir}/bin:' + place.env()['PATH']))
            assert r.returncode == 0, r.stderr[-3000:]
        finally:
            disks.detach()
    # What each of them is for has been seen.
    for words in ('FAIL' not in r.stdout, 'vm/100/2026-02-03T04:05:06Z' in r.stdout, 'all good' in r.stdout, 'rebooting' in r.stdout,
                  'UUID' in r.stdout or 'LABEL' in r.stdout, '67:d0:f3:6d' in r.stdout,
                  SUMS['gpt2.img'] in r.stdout, 'golden' in r.stdout, (place.dir / 'mnt').exists()):
        assert words, r.stdout


def examples():
    """What stands in the manual to be typed, by command."""
    text = open('pbsmap.1', encoding='utf-8').read()
    text = text[text.index('.Ss Commands'):text.index('.Ss Options')]
    found = {}
    for name, part in re.findall(r'^\.It Cm (\w+)\n(.*?)(?=^\.It Cm |^\.El)', text, re.M | re.S):
        found[name] = [line for block in re.findall(r'^\.Bd -literal -compact\n(.*?)^\.Ed', part, re.M | re.S) for line in block.splitlines()]
    return found


@pytest.mark.root
def test_examples_of_the_manual(place):
    """Each command has one, and it works."""
    found = examples()
    assert len(found) >= 10 and all(found.values()), found
    with open(place.dir / 'sdb', 'wb') as f:
        f.truncate(40 << 20)
    for d in 'files', 'new', 'bin':
        (place.dir / d).mkdir()
    (place.dir / 'bin' / 'pbsmap').symlink_to(PBSMAP)
    disks = Disks(place)
    try:
        here = {'/dev/sdb': disks.attach(place.dir / 'sdb'), 'master.pem': KEYS / 'master-private.pem', '/mnt/': f'{place.dir}/'}
        # The key comes first, what is mapped goes last. rescue wants somebody to ask: test_rescue.py.
        del found['rescue']
        script = '\n'.join(line for name in sorted(found, key=lambda n: (n != 'key', n == 'unmap')) for line in found[name])
        for name, value in here.items():
            assert name in script, name
            script = script.replace(name, str(value))
        r = subprocess.run(['bash', '-euxc', script], cwd=place.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                           timeout=60, env=place.env(PATH=f'{place.dir}/bin:' + place.env()['PATH'], PBS_REPOSITORY=str(GOLDEN / 'store')))
        assert r.returncode == 0, r.stderr[-3000:]
        assert 'all good' in r.stdout and 'name: golden' in r.stdout and (place.dir / 'new' / 'hello.txt').exists(), r.stdout
    finally:
        disks.detach()
