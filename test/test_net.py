"""Mapping from a running server, through the real FUSE and loop device: every fixture, and every fault of the test server under
a running dd and a mounted file system: no wrong byte, the promised outcome, the time it took."""
import contextlib
import errno
import hashlib
import os
import pathlib
import random
import shutil
import signal
import socket
import statistics
import subprocess
import threading
import time

import pytest

from lib import DAMAGED, FAIL, GOLDEN, IMAGES, SUMS, T1, TRUST, USAGE, escape, file_sum, mkstore, mounted, place, read_device, wait_for
from server import SECRETS, Server, certificate

pytestmark = pytest.mark.root
SNAP, DISK = f'vm/7/{T1}', 'disk.img'
CHUNK = 256 << 10
RATE = 60_000_000			# bytes/s: a fault has time to happen while the image is read


def map_from(place, server, snapshot=SNAP, archive=DISK, auth='test@pbs!tok', env=None, **kw):
    return place.map(server.repo(auth), snapshot, archive, env=server.env(auth, **(env or {})), **kw)


@pytest.fixture
def golden(place):
    with Server(GOLDEN / 'store', name=place.token) as s:
        yield s


# ---- what is read ----

@pytest.mark.parametrize('flavour', ('3.2', '4.2'))
@pytest.mark.parametrize('which', IMAGES)
def test_every_fixture(place, which, flavour):
    """The digest it has locally; each chunk is fetched once."""
    snapshot, archive, image, extra = IMAGES[which]
    with Server(GOLDEN / 'store', name=place.token, flavour=flavour) as server:
        m = map_from(place, server, snapshot, archive, **extra)
        size = {'gpt.img': 31458816, 'mbr.img': 8 << 20, 'efi.img': 528 << 10, 'zero.img': 9 << 20, 'gpt2.img': 31458816}[image]
        for path in m.dev, m.file:
            assert file_sum(path, size)[0] == SUMS[image]
        place.unmap(m.dev)
        stats = server.stats()
        assert all(n == 1 for n in stats['digests'].values())
        assert stats['upgrades'] == 1 and stats['client_rst'] == 0


@pytest.mark.parametrize('auth', ('test@pbs!tok', 'test@pbs', 'a@b@pbs'))
@pytest.mark.parametrize('cookie', (0, 1))
def test_who(place, golden, auth, cookie):
    golden.command(f'set host-cookie {cookie}')
    m = map_from(place, golden, f'vm/100/{T1}', 'drive-scsi1.img', auth)
    assert file_sum(m.dev)[0] == SUMS['mbr.img']
    assert golden.stats()['logins'] >= ('!' not in auth)
    place.unmap(m.dev)


def test_a_group_is_its_newest_finished_snapshot(place, golden):
    m = map_from(place, golden, 'vm/100', 'drive-scsi0.img')
    assert escape('2026-02-03T04:05:06Z') in m.name
    assert file_sum(m.dev)[0] == SUMS['gpt2.img']
    place.unmap(m.dev)


def test_ipv6(place):
    with Server(GOLDEN / 'store', name=place.token, listen='[::1]:0') as server:
        m = map_from(place, server, f'vm/100/{T1}', 'drive-scsi1.img')
        assert file_sum(m.dev)[0] == SUMS['mbr.img']
        place.unmap(m.dev)


@pytest.mark.parametrize('kind', ('rsa2048', 'rsa4096', 'p256', 'p384'))
def test_certificates(place, kind):
    with Server(GOLDEN / 'store', name=place.token, cert=kind) as server:
        m = map_from(place, server, f'vm/100/{T1}', 'drive-scsi1.img')
        assert file_sum(m.dev)[0] == SUMS['mbr.img']
        place.unmap(m.dev)


@pytest.mark.parametrize('kind', ('ca', 'chain'))
def test_certificates_of_a_ca(place, kind):
    with Server(GOLDEN / 'store', name=place.token, cert=kind) as server:
        env = {'PBS_FINGERPRINT': None, 'SSL_CERT_FILE': server.certificate.ca}
        m = map_from(place, server, f'vm/100/{T1}', 'drive-scsi1.img', env=env)
        place.unmap(m.dev)


def test_time_to_map(place, golden):
    times = []
    for _ in range(7):
        begin = time.monotonic()
        m = map_from(place, golden, f'vm/100/{T1}', 'drive-scsi1.img')
        times.append(time.monotonic() - begin)
        place.unmap(m.dev)
    print(f'map from a server: {statistics.median(times) * 1000:.0f} ms')
    assert statistics.median(times) < 0.4


# ---- faults while it is read ----

class Disk:
    """An ext4 file system of files that do not compress, and the store it is in."""

    def __init__(self, top):
        r = random.Random(7)
        files = top / 'files'
        files.mkdir()
        self.sums = {}
        for i in range(48):
            data = r.randbytes(r.randrange(100_000, 1_100_000))
            (files / f'f{i}').write_bytes(data)
            self.sums[f'f{i}'] = hashlib.sha256(data).hexdigest()
        image = top / DISK
        subprocess.run(['mkfs.ext4', '-q', '-F', '-d', files, '-L', 'net', image, '40M'], check=True, stdin=subprocess.DEVNULL)
        self.data = image.read_bytes()
        self.store = top / 'store'
        mkstore(self.store, SNAP, '--chunk-size', '256K', f'{DISK}={image}')
        with open(self.store / SNAP / f'{DISK}.fidx', 'rb') as f:
            raw = f.read()[4096:]
        self.digests = [raw[i:i + 32].hex() for i in range(0, len(raw), 32)]
        self.once = [d for d in self.digests if self.digests.count(d) == 1][40:]	# of chunks read late; {d[0]} in a command
        shutil.rmtree(files)
        image.unlink()


@pytest.fixture(scope='module')
def disk():
    top = pathlib.Path('/dev/shm') / f'pbsnet{os.getpid()}'
    top.mkdir()
    try:
        yield Disk(top)
    finally:
        shutil.rmtree(top)


@pytest.fixture
def server(place, disk):
    with Server(disk.store, name=place.token, do=(f'set rate-all {RATE}',)) as s:
        yield s


class Load:
    """dd of the whole device and sha256sum of the mounted files, at once."""

    def __init__(self, disk, dev, at):
        self.disk, self.got, self.wrong = disk, 0, None
        self.begin = time.monotonic()
        self.dd = subprocess.Popen(['dd', f'if={dev}', 'bs=1M', 'iflag=direct', 'status=none'], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        names = random.Random(1).sample(list(disk.sums), len(disk.sums))
        self.sums = subprocess.Popen(['sha256sum', *names], cwd=at, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self.compare, daemon=True)
        self.thread.start()

    def compare(self):
        while (piece := self.dd.stdout.read(65536)):
            if piece != self.disk.data[self.got:self.got + len(piece)]:
                self.wrong = self.wrong or self.got
            self.got += len(piece)

    def until(self, part):
        assert wait_for(lambda: self.got >= part * len(self.disk.data) or self.dd.poll() is not None, 60, 0.002)

    def whole(self, limit):
        """Both end well, within so many seconds."""
        try:
            out, err = self.sums.communicate(timeout=limit)
            self.thread.join(max(limit - (time.monotonic() - self.begin), 1))
            assert self.dd.wait(5) == 0, self.dd.stderr.read()
            assert self.sums.returncode == 0, err
        finally:
            for p in self.dd, self.sums:
                p.kill()
        took = time.monotonic() - self.begin
        assert self.wrong is None and self.got == len(self.disk.data)
        assert {n: s for s, n in (line.split() for line in out.splitlines())} == self.disk.sums
        assert took < limit
        return took


def survive(place, server, disk, commands, limit, part=0.1, opts=(), auth='test@pbs!tok'):
    """Everything is read right although this happens on the way. The cache is small, so that much is still to come."""
    m = map_from(place, server, opts=('--cache', '8M', *opts), auth=auth)
    with mounted(place, m.dev, 'ext4', 'ro,noload') as at:
        load = Load(disk, m.dev, at)
        load.until(part)
        for c in commands:
            if c.startswith('sleep'):
                time.sleep(float(c.split()[1]))
            else:
                server.command(c.format(d=disk.once))
        took = load.whole(limit)
    print(f'{"; ".join(commands)}: {took:.1f} s')
    place.unmap(m.dev)
    return server.stats()


# What happens on the way, how long all of it may take then (alone: 2 s), and what the server counts if it did happen.
SURVIVED = {
    'nothing': ([], 10, 'upgrades == 1'),
    'cut': (['kick cut'], 10, 'upgrades >= 2'),
    'reset': (['kick rst'], 10, 'upgrades >= 2'),
    'cut again and again': (['break cut after=6000000 times=5', 'kick cut'], 20, 'faults == 5'),
    'cut in the handshake': (['break cut after=400 scope=all times=3', 'kick cut'], 20, 'faults == 3'),
    'cut in the 101': (['break cut after=700 scope=all times=3', 'kick rst'], 20, 'faults == 3'),
    'cut at once': (['break cut after=1 scope=all times=4', 'kick cut'], 20, 'faults == 4'),
    'cut in a frame header': (['rule cut at=0 times=3'], 20, 'faults == 3'),
    'cut in a body': (['rule cut at=100000 times=3'], 20, 'faults == 3'),
    'restart': (['restart 1500'], 15, 'upgrades >= 2'),
    'refused for a while': (['set front close', 'kick cut', 'sleep 1', 'set front tls'], 15, 'upgrades >= 2'),
    'another service for a while': (['set front http', 'kick cut', 'sleep 1', 'set front tls'], 15, 'upgrades >= 2'),
    'upgrades refused for a while': (['set upgrade html', 'kick cut', 'sleep 1', 'set upgrade ok'], 15, 'upgrades >= 2'),
    'graceful goaway': (['kick goaway'], 10, 'upgrades >= 2'),
    'goaway with an error': (['kick goaway code=2 close=1'], 10, 'upgrades >= 2'),
    'goaway of all requests': (['kick goaway last=0 close=1'], 10, 'upgrades >= 2'),
    'notice of a shutdown': (['kick goaway last=-2', 'sleep 0.1', 'kick goaway'], 10, 'upgrades >= 2'),
    'streams reset': (['rule rst digest={d[0]}', 'rule rst at=1000 digest={d[5]}', 'rule rst digest={d[9]}'], 15, 'faults == 3'),
    'streams refused': (['rule rst code=7 times=6'], 15, 'faults == 6'),
    'wrong byte': (['rule corrupt times=1'], 15, 'faults == 1'),
    'garbage': (['rule garbage times=1'], 15, 'faults == 1'),
    'short': (['rule short by=10 times=1'], 15, 'faults == 1'),
    'long': (['rule long by=10 times=1'], 15, 'faults == 1'),
    'empty': (['rule empty times=1'], 15, 'faults == 1'),
    'not allowed': (['rule status code=401 text=no times=2'], 15, 'faults == 2'),
    'no content-length': (['rule nolength times=all'], 10, 'faults > 20'),
    'trailers': (['rule trailer times=all'], 10, 'faults > 20'),
    'small frames': (['set frame 1000'], 20, 'upgrades == 1'),
    'padding': (['set padding 255 frame 5000'], 20, 'upgrades == 1'),
    'continuation': (['set continuation 16'], 10, 'upgrades == 1'),
    'continuation of single bytes': (['set continuation 1'], 15, 'chunks > 50'),	# a flood, to some
    'small records': (['set record 500'], 20, 'upgrades == 1'),
    'small pieces': (['set dribble 300'], 40, 'upgrades == 1'),
    'slow answers': (['set delay 50'], 20, 'upgrades == 1'),
    'distance': (['set rtt 20'], 20, 'upgrades == 1'),
    'one stream at a time': (['kick settings id=3 value=1'], 20, 'upgrades == 1'),
    'no stream for a while': (['kick settings id=3 value=0', 'sleep 0.5', 'kick settings id=3 value=100'], 20, 'upgrades == 1'),
    'unknown setting': (['kick settings id=999 value=1', 'kick settings id=8 value=1'], 10, 'upgrades == 1'),
    'ping': (['kick ping'], 10, 'ping_acks == 1'),
    'late settings': (['set late 500', 'kick cut'], 15, 'upgrades >= 2'),
    'TLS 1.2 ticket': (['tls version=1.2', 'kick cut'], 10, 'upgrades >= 2'),
    'ping flood': (['kick flood name=ping count=20000'], 30, 'chunks > 50'),
    'settings flood': (['kick flood name=settings count=20000'], 30, 'chunks > 50'),
    'empty DATA flood': (['kick flood name=empty-data count=20000'], 30, 'chunks > 50'),
    'unknown flood': (['kick flood name=unknown count=20000'], 30, 'chunks > 50'),
    'window flood': (['kick flood name=window-stream count=20000'], 30, 'chunks > 50'),
    'continuation flood': (['kick flood name=continuation count=20000'], 30, 'chunks > 50'),
}




@pytest.mark.parametrize('name', SURVIVED)
def test_survives(place, disk, name):
    commands, limit, happened = SURVIVED[name]
    flood = name == 'settings flood'	# nghttp2 does not expect acknowledgements of SETTINGS it has not sent
    with Server(disk.store, name=place.token, do=(f'set rate-all {RATE}',), violations=flood) as server:
        stats = survive(place, server, disk, commands, limit)
        counter, operator, number = happened.split()
        assert {'==': stats[counter] == int(number), '>=': stats[counter] >= int(number), '>': stats[counter] > int(number)}[operator], stats


@pytest.mark.parametrize('part', range(5))
def test_survives_illegal_frames(place, disk, server, part):
    """Each ends the connection or the stream; the bytes come all the same."""
    names = server.frames(False)[part::5]
    stats = survive(place, server, disk, [f'rule inject text={n} nth={4 * i + 1}' for i, n in enumerate(names)], 60, 0.1)
    assert stats['faults'] == len(names)


def test_survives_rare_frames(place, disk, server):
    """What is allowed costs no connection."""
    names = server.frames(True)
    stats = survive(place, server, disk, [f'rule inject text={n} nth={3 * i + 1}' for i, n in enumerate(names)], 20, 0.1)
    assert stats['faults'] == len(names) and stats['upgrades'] == 1


@pytest.mark.parametrize('how', ('stall', 'freeze'))
def test_survives_silence(place, disk, server, how):
    """The peer is gone without a word: noticed after --stall."""
    survive(place, server, disk, [f'kick {how}'], 12, opts=('--stall', '2'))


@pytest.mark.parametrize('what', (['expire', 'kick cut'], ['expire', 'set host-cookie 1', 'kick rst']))
def test_survives_expired_tickets(place, disk, server, what):
    stats = survive(place, server, disk, what, 15, auth='test@pbs')
    assert stats['logins'] >= 2


def test_survives_short_tickets(place, disk):
    with Server(disk.store, name=place.token, do=(f'set rate-all {RATE}',), ticket_life=2) as server:
        survive(place, server, disk, ['sleep 2.5', 'kick cut'], 20, auth='test@pbs')


@pytest.mark.parametrize('seed', range(4))
def test_survives_bad_weather(place, disk, server, seed):
    """Anything, in any order, until all is read."""
    r = random.Random(seed)
    kinds = ['kick cut', 'kick rst', 'rule rst at={at} {once}', 'rule corrupt {once}', 'rule short {once}', 'rule cut at={at}', 'kick goaway',
             'rule inject text={frame} {once}', 'set frame {small}', 'set frame 4194304', 'kick goaway code=1 close=1', 'set delay 10',
             'set delay 0', 'break cut after={at}', 'rule garbage {once}', 'set padding 100', 'set padding 0', 'restart 100', 'kick ping']
    names = server.frames(False)
    commands = []
    for i in range(25):		# a chunk that is wrong twice is given up, so each is hit once
        commands += [r.choice(kinds).format(at=r.randrange(300_000), small=r.randrange(500, 20_000), frame=r.choice(names),
                                            once=f'digest={disk.once[2 * i]}'), f'sleep {r.random() / 10:.2f}']
    survive(place, server, disk, commands, 60, 0.05, opts=('--stall', '3'))


# ---- what cannot be read ----

def read_all(disk, dev, step=CHUNK):
    """Numbers of the pieces that gave an error, after checking that all the others are right; the longest wait."""
    bad, longest = [], 0
    for n, at in enumerate(range(0, len(disk.data), step)):
        begin = time.monotonic()
        try:
            assert read_device(dev, at, step, direct=True) == disk.data[at:at + step]
        except OSError as e:
            assert e.errno == errno.EIO
            bad.append(n)
        longest = max(longest, time.monotonic() - begin)
    return bad, longest


def readable(disk, dev):
    with contextlib.suppress(OSError):
        return read_device(dev, 20 << 20, CHUNK, direct=True) == disk.data[20 << 20:][:CHUNK]
    return False


@pytest.mark.parametrize('rule', ('status code=400 text=reading+file+failed', 'corrupt', 'garbage', 'short', 'long', 'empty'))
def test_one_chunk_is_lost(place, disk, server, rule):
    """EIO for its range, all else is right; readable again when the server has mended it."""
    digest = disk.once[0]
    n = disk.digests.index(digest)
    server.command('set rate-all 0')
    server.command(f'rule {rule} digest={digest} times=all')
    m = map_from(place, server)
    bad, longest = read_all(disk, m.dev)
    assert bad == [n]
    print(f'{rule}: EIO after {longest:.2f} s')
    assert longest < 25
    assert server.stats()['digests'][digest] <= 16
    server.command('clear')
    assert read_all(disk, m.dev)[0] == []
    place.unmap(m.dev)


def test_busy_server(place, disk, server):
    """One 5xx, as a proxy gives while the server restarts, is no reason for EIO."""
    for n, code in enumerate((500, 502, 503)):
        server.command(f'rule status code={code} text=busy digest={disk.once[9 * n]}')
    m = map_from(place, server)
    assert read_all(disk, m.dev)[0] == []
    assert server.stats()['faults'] == 3
    place.unmap(m.dev)


def test_outage_longer_than_timeout(place, disk, server):
    """EIO after --timeout; the mapping lives on and recovers by itself."""
    m = map_from(place, server, opts=('--timeout', '2'))
    server.command('restart 5000')
    begin = time.monotonic()
    with pytest.raises(OSError) as e:
        read_device(m.dev, 20 << 20, CHUNK, direct=True)
    took = time.monotonic() - begin
    assert e.value.errno == errno.EIO and 1.5 < took < 4
    time.sleep(max(5.2 - took, 0))
    begin = time.monotonic()
    assert wait_for(lambda: readable(disk, m.dev), 15)
    print(f'EIO after {took:.1f} s, back {time.monotonic() - begin:.1f} s after the server')
    assert read_all(disk, m.dev)[0] == []
    place.unmap(m.dev)


@pytest.mark.slow
def test_password_changed(place, disk, server):
    """EIO while it is wrong; it is tried once a minute, lest the account be locked; all is well once it is right again."""
    m = map_from(place, server, auth='a@b@pbs', opts=('--timeout', '3'))
    for c in 'account a@b@pbs:another', 'expire', 'kick cut':
        server.command(c)
    with pytest.raises(OSError):
        read_device(m.dev, 20 << 20, CHUNK, direct=True)
    assert server.stats()['login_failures'] <= 2
    server.command('account a@b@pbs:two')
    assert wait_for(lambda: readable(disk, m.dev), 70)
    place.unmap(m.dev)


def cpu(pid):
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


@pytest.mark.parametrize('how', (['restart 60000'], ['set front close', 'kick cut'], ['set front silent', 'kick cut'], ['kick freeze'],
                                 ['set upgrade html', 'kick cut'], ['break cut after=1 times=all scope=all', 'kick cut']))
def test_no_storm(place, disk, server, how):
    """An outage costs next to no CPU and few connections."""
    m = map_from(place, server)
    for c in how:
        server.command(c)
    before, at = cpu(m.worker), server.stats()['connections']
    with subprocess.Popen(['dd', f'if={m.dev}', 'bs=1M', 'iflag=direct'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as dd:
        time.sleep(4)
        assert dd.poll() is None
        used, tries = cpu(m.worker) - before, server.stats()['connections'] - at
        print(f'{how}: {used:.2f} s CPU, {tries} connections in 4 s')
        begin = time.monotonic()
        place.unmap('-f', m.dev)
        took = time.monotonic() - begin
        assert dd.wait(5) != 0
    assert used < 0.4 and tries <= 16
    assert took < 2


# ---- unmap is immediate, whatever the network does ----

OUTAGES = {
    'refused': ['restart 60000'],
    'cut and silent': ['set front silent', 'kick cut'],
    'stalled': ['kick stall'],
    'frozen': ['kick freeze'],
    'slow': ['set delay 20000'],
    'trickle': ['set rate-all 2000'],
    'waiting to log in': ['set auth-delay 20000', 'account test@pbs:x', 'expire', 'kick cut'],
    'waiting for the 101': ['set delay 20000', 'kick cut'],
    'waiting for SETTINGS': ['set late 20000', 'kick cut'],
}


@pytest.mark.parametrize('how', ('unmap', 'SIGTERM'))
@pytest.mark.parametrize('name', OUTAGES)
def test_the_end_is_immediate(place, disk, server, name, how):
    m = map_from(place, server, auth='test@pbs')
    for c in OUTAGES[name]:
        server.command(c)
    pid = m.pid
    with subprocess.Popen(['dd', f'if={m.dev}', 'bs=1M', 'iflag=direct', 'skip=20'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as dd:
        time.sleep(0.5)
        assert dd.poll() is None
        begin = time.monotonic()
        if how == 'unmap':
            place.unmap('-f', m.dev)
        else:
            os.kill(pid, signal.SIGTERM)
            assert wait_for(lambda: not place.processes(), 5)
        took = time.monotonic() - begin
        assert dd.wait(5) != 0
    print(f'{name}: {took:.2f} s')
    assert took < 2
    assert wait_for(lambda: place.leftovers() == [], 2)


# ---- a map that cannot be ----

def refused(place, server, *words, status=FAIL, snapshot=f'vm/100/{T1}', archive='drive-scsi1.img', auth='test@pbs!tok', env=None, repo=None, **kw):
    begin = time.monotonic()
    text = place.fail(repo or server.repo(auth), snapshot, archive, status, *words, env=server.env(auth, **(env or {})), **kw)
    print(f'{time.monotonic() - begin:.1f} s: {text.strip()}')
    return text


@pytest.mark.parametrize('commands, words, status', [
    (['set upgrade html'], ['proxy'], FAIL),
    (['set upgrade strip'], ['proxy', 'upgrade'], FAIL),
    (['set upgrade plain'], ['proxy|upgrade'], FAIL),
    (['set upgrade close'], ['closed|ended'], FAIL),
    (['set front http'], ['HTTP', 'TLS|port'], FAIL),
    (['set front ssh'], ['SSH'], FAIL),
    (['set front close'], ['closed|reset|ended'], FAIL),
    (['restart 60000'], ['refused'], FAIL),
    (['tls version=1.3'], ['TLS 1.3'], FAIL),
    (['tls ciphers=DHE-RSA-AES128-GCM-SHA256'], ['cipher|DHE'], FAIL),
], ids=lambda x: x[0] if isinstance(x, list) and x else None)
def test_told_about_the_network(place, golden, commands, words, status):
    for c in commands:
        golden.command(c)
    refused(place, golden, *words, status=(FAIL, TRUST))


@pytest.mark.slow
def test_told_about_silence(place, golden):
    golden.command('set front silent')
    begin = time.monotonic()
    refused(place, golden, 'answer|time|silent')
    assert time.monotonic() - begin < 45


@pytest.mark.parametrize('kind', ('ed25519', 'expired', 'future', 'wrongname', 'p256'))
def test_told_about_the_certificate(place, kind):
    with Server(GOLDEN / 'store', name=place.token, cert=kind) as server:
        words = {'ed25519': 'Ed25519', 'expired': 'expired', 'future': 'valid from', 'wrongname': 'backup.example.org',
                 'p256': server.fingerprint}[kind]
        ca = certificate('ca').ca if kind == 'p256' else server.certificate.ca
        env = {'PBS_FINGERPRINT': None, 'SSL_CERT_FILE': ca} if kind != 'ed25519' else {}
        refused(place, server, words, status=(TRUST, FAIL) if kind == 'ed25519' else TRUST, env=env)


def test_told_about_the_fingerprint(place, golden):
    other = certificate('p384').fingerprint
    refused(place, golden, other, golden.fingerprint, status=TRUST, env={'PBS_FINGERPRINT': other})


def test_told_about_rights(place, golden):
    refused(place, golden, 'permission', status=TRUST, auth='blind@pbs!tok')
    refused(place, golden, 'owner', status=TRUST, auth='other@pbs!tok')
    refused(place, golden, 'authentication failed|permission check failed', status=TRUST, env={'PBS_PASSWORD': 'wrong'})
    refused(place, golden, 'permission check failed', status=TRUST, auth='test@pbs', env={'PBS_PASSWORD': 'wrong'})
    refused(place, golden, 'second factor|TFA|two-factor', status=TRUST, auth='tfa@pbs')


def test_told_about_names(place, golden):
    refused(place, golden, "no such datastore 'nosuch'", repo=f'test@pbs!tok@127.0.0.1:{golden.port}:nosuch')
    refused(place, golden, '2026-02-03T04:05:06Z', snapshot='vm/100/2026-01-02T03:04:06Z', status=(FAIL, DAMAGED))
    refused(place, golden, 'no vm/999', snapshot='vm/999', status=(FAIL, DAMAGED))
    refused(place, golden, 'drive-scsi0.img', archive='nosuch.img')
    refused(place, golden, 'mount', snapshot=f'host/files/{T1}', archive='root.pxar', status=(USAGE, FAIL))
    refused(place, golden, 'namespace|no such|ENOENT|does not exist', ns='x/y', status=(FAIL, DAMAGED))
    refused(place, golden, 'name|resolve', repo=f'test@pbs!tok@no-such-host.invalid:{golden.port}:{place.token}')


def test_secrets_are_not_shown(place, golden):
    for auth in 'test@pbs!tok', 'test@pbs':
        golden.command('set upgrade html')
        assert SECRETS[auth] not in refused(place, golden, 'proxy', auth=auth)
        golden.command('set upgrade ok')
        m = map_from(place, golden, f'vm/100/{T1}', 'drive-scsi1.img', auth)
        assert SECRETS[auth].encode() not in pathlib.Path(f'/proc/{m.pid}/cmdline').read_bytes()
        assert SECRETS[auth] not in m.stderr
        place.unmap(m.dev)


# ---- a proxy ----

@contextlib.contextmanager
def connect_proxy():
    """An HTTP CONNECT proxy; its port, and the list of what it was asked for."""
    asked, listener = [], socket.create_server(('127.0.0.1', 0))

    def pump(a, b):
        with contextlib.suppress(OSError):
            while (data := a.recv(65536)):
                b.sendall(data)
        for s in a, b:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                c, _ = listener.accept()
                head = b''
                while not head.endswith(b'\r\n\r\n'):
                    head += c.recv(1)
                target = head.split()[1].decode()
                asked.append(target)
                host, port = target.rsplit(':', 1)
                s = socket.create_connection((host.strip('[]'), int(port)))
                c.sendall(b'HTTP/1.1 200 Connection established\r\n\r\n')
                for pair in (c, s), (s, c):
                    threading.Thread(target=pump, args=pair, daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        listener.close()


def test_through_a_proxy(place, disk, server):
    with connect_proxy() as (port, asked):
        m = map_from(place, server, env={'ALL_PROXY': f'http://127.0.0.1:{port}'})
        server.command('kick cut')
        assert read_all(disk, m.dev, 1 << 20)[0] == []
        assert len(asked) >= 2 and set(asked) == {f'127.0.0.1:{server.port}'}
        place.unmap(m.dev)


def test_a_proxy_that_is_not_there_is_named(place, server):
    r = place.run('list', '--repository', server.repo(), env=server.env(ALL_PROXY='127.0.0.1:1'))
    assert r.returncode == 1 and 'the proxy (ALL_PROXY): cannot connect to 127.0.0.1 port 1' in r.stderr
