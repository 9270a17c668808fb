"""contrib/: the script for live systems, with BusyBox's shell and commands that only say that they were called; what ReaR
is told, run as ReaR does it; the service."""
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

from lib import DAMAGED, DONE, GOLDEN, KEYS, PBSMAP, ROOT, T1, USAGE, place

SCRIPT = ROOT / 'contrib' / 'rescue.sh'
SHELLS = [s for s in (['sh'], ['bash', '--posix'], ['mksh'], ['busybox', 'sh']) if shutil.which(s[0])]
FAKE = '#!/bin/sh\n[ "$1" = --version ] || echo "pbsmap $0 $*"\n'


class Stick:
    """A directory with the script, a program beside it, and commands that log; answers are typed into stdin."""

    def __init__(self, place, program=FAKE, shell=SHELLS[0], **commands):
        self.dir, self.bin, self.shell = place.dir / 'the stick', place.dir / 'bin', shell
        self.log, self.sys, self.resolv = place.dir / 'log', place.dir / 'sys', place.dir / 'resolv'    # never the machine's own
        for d in self.dir, self.bin, self.sys / 'class/net/lo':
            d.mkdir(parents=True)
        shutil.copy(SCRIPT, self.dir)
        if program:
            self.write(self.dir / 'pbsmap', program)
        self.stub('id', 'echo 0')
        self.stub('ip', 'case "$*" in *"addr show"*) cat "$ADDRESS" 2>/dev/null || true ;; *) echo "ip $*" >>"$LOG" ;; esac')
        for name, body in commands.items():
            self.stub(name, body)

    def write(self, path, text):
        path.write_text(text)
        path.chmod(0o755)

    def stub(self, name, body=None):
        self.write(self.bin / name, '#!/bin/sh\n' + (body or f'echo "{name} $*" >>"$LOG"') + '\n')

    def card(self, name):
        (self.sys / 'class/net' / name / 'device').mkdir(parents=True)

    def run(self, *args, type='', address='2: eth0 inet 192.0.2.1/24', **env):
        at = self.dir.parent / 'address'
        at.write_text(address)
        # BusyBox's shell may take its own commands first, whatever PATH says: they must find nothing to do
        if 'busybox' in self.shell:
            env['PBSMAP_NET'] = 'no'
        r = subprocess.run([*self.shell, str(self.dir / 'rescue.sh'), *map(str, args)], input=type, text=True, capture_output=True,
                           timeout=30, check=False, env={'PATH': f'{self.bin}:/usr/bin:/bin', 'LOG': str(self.log), 'ADDRESS': str(at),
                                                        'PBSMAP_SYS': str(self.sys), 'PBSMAP_RESOLV': str(self.resolv), **env})
        self.said = self.log.read_text() if self.log.exists() else ''
        return r


def left(pid_dirs=('/run', '/dev/shm', '/tmp', '/var/tmp', '/root', '/')):
    return {str(p) for d in pid_dirs for p in pathlib.Path(d).glob('pbsmap.[0-9]*')}


@pytest.mark.parametrize('shell', SHELLS, ids=lambda s: s[0])
def test_script_starts_what_lies_beside_it(place, shell):
    stick, before = Stick(place, shell=shell), left()
    r = stick.run('--ns', 'a b')
    assert (r.returncode, r.stdout) == (0, f'pbsmap {stick.dir}/pbsmap rescue --ns a b\n'), r.stderr
    for name in 'pbsmap.conf', 'key.json', 'ca.pem':
        (stick.dir / name).touch()
    assert stick.run().stdout == (f'pbsmap {stick.dir}/pbsmap rescue --ca {stick.dir}/ca.pem --keyfile {stick.dir}/key.json '
                                  f'--config {stick.dir}/pbsmap.conf\n')
    assert left() == before and stick.said == ''


def test_script_prefers_the_program_of_this_machine(place):
    stick = Stick(place, program='#!/bin/sh\nexit 126\n')
    stick.write(stick.dir / f'pbsmap-{os.uname().machine}', FAKE)
    assert f'pbsmap-{os.uname().machine} rescue' in stick.run().stdout


def test_script_keeps_the_status(place):
    stick = Stick(place, program='#!/bin/sh\n[ "$1" = --version ] || exit 5\n')
    assert stick.run().returncode == DAMAGED


def test_script_copies_what_must_not_be_executed_here(place):
    stick, before = Stick(place), left()
    (stick.dir / 'pbsmap').chmod(0o644)
    r = stick.run()
    path = re.fullmatch(r'pbsmap (\S+/pbsmap\.\d+)/pbsmap rescue\n', r.stdout)[1]
    try:
        assert r.returncode == 0 and f'pbsmap is now {path}/pbsmap' in r.stderr
        assert left() - before == {path} and os.stat(path).st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(path)


@pytest.mark.root
def test_script_on_a_stick_mounted_noexec(place):
    stick, before = Stick(place), left()
    shutil.copy(PBSMAP, stick.dir.parent / 'real')
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'noexec', 'none', stick.dir], check=True)
    try:
        shutil.copy(SCRIPT, stick.dir)
        shutil.copy(stick.dir.parent / 'real', stick.dir / 'pbsmap')
        r = stick.run('--repository', GOLDEN / 'store')
        assert r.returncode == USAGE and 'asks at a terminal' in r.stderr and 'pbsmap is now /' in r.stderr
    finally:
        subprocess.run(['umount', stick.dir], check=True)
        for p in left() - before:
            shutil.rmtree(p)


def test_script_says_what_is_missing(place):
    stick = Stick(place, program=None)
    r = stick.run(PATH=f'{stick.bin}:/bin')
    if not shutil.which('pbsmap'):
        assert r.returncode == 1 and 'there is no pbsmap for this machine' in r.stderr
    stick.stub('id', 'echo 1000')
    assert stick.run().returncode == 1 and 'root' in stick.run().stderr


def test_script_gets_an_address_by_dhcp(place):
    # The lease is there after udhcpc, whose script is ours where the system has none.
    stick = Stick(place, udhcpc='echo "udhcpc $*" >>"$LOG"; echo "2: eth1 inet 192.0.2.7/24" >"$ADDRESS"; '
                  'while [ "$1" != -s ]; do shift; done; interface=eth1 ip=192.0.2.7 mask=25 router="192.0.2.1 192.0.2.2" dns="192.0.2.3 192.0.2.4" "$2" bound')
    stick.card('eth0')
    stick.card('eth1')
    r = stick.run(type='\nn\nn\ny\n', address='')
    assert 'pbsmap ' in r.stdout and 'eth0 by DHCP?' in r.stderr and 'without an address' not in r.stderr
    assert 'ip link set eth1 up\nudhcpc -n -q -t 5 -i eth1 -s ' in stick.said and 'eth0' not in stick.said
    if not os.path.exists('/usr/share/udhcpc/default.script'):
        assert stick.said.endswith('ip addr flush dev eth1\nip addr add 192.0.2.7/25 dev eth1\n'
                                   'ip route replace default via 192.0.2.1 dev eth1\n')
        assert stick.resolv.read_text() == 'nameserver 192.0.2.3\nnameserver 192.0.2.4\n'


@pytest.mark.root
@pytest.mark.parametrize('dns', ['', '192.0.2.3'])
def test_script_with_busybox_alone(place, dns):
    """Its shell, ip, udhcpc, and a server for that on the other end of a cable, in namespaces of their own."""
    stick = Stick(place, program='#!/bin/sh\n[ "$1" = --version ] || { ip -4 addr show dev eth7; ip route; }\n')
    stick.card('eth7')
    stick.resolv.write_text('old\n')
    (place.dir / 'udhcpd.conf').write_text(f'''start 192.0.2.20
end 192.0.2.30
interface eth8
lease_file {place.dir}/leases
pidfile {place.dir}/pid
option subnet 255.255.255.0
option router 192.0.2.1
{"option dns " + dns if dns else ""}
''')
    (place.dir / 'leases').touch()
    inside = f'''mount -t tmpfs none /run && mount --bind {stick.resolv} /etc/resolv.conf &&
ip link add eth7 type veth peer name eth8 && ip addr add 192.0.2.1/24 scope link dev eth8 && ip link set eth8 up || exit 99
busybox udhcpd -f {place.dir}/udhcpd.conf & server=$!
sleep 0.2
printf 'y\\ny\\n' | busybox sh "{stick.dir}/rescue.sh"; rc=$?
kill $server; wait; exit $rc'''
    r = subprocess.run(['unshare', '-nm', '--propagation', 'private', 'sh', '-c', inside], text=True, capture_output=True, timeout=60,
                       check=False, env={'PATH': os.environ['PATH'], 'PBSMAP_SYS': str(stick.sys)})
    assert r.returncode == 0 and re.search(r'inet 192\.0\.2\.(2\d|30)/24', r.stdout) and 'default via 192.0.2.1 dev eth7' in r.stdout, r.stderr
    assert stick.resolv.read_text() == (f'nameserver {dns}\n' if dns else 'old\n')


def test_script_takes_an_address_by_hand(place):
    stick = Stick(place)
    stick.card('eth0')
    r = stick.run(type='y\nn\ny\n192.0.2.9/24\n192.0.2.1\n', address='')
    assert stick.said == ('ip link set eth0 up\nip addr add 192.0.2.9/24 dev eth0\n'
                          'ip route replace default via 192.0.2.1 dev eth0\n') and 'rescue' in r.stdout


def test_script_goes_on_without_a_network(place):
    stick = Stick(place)
    assert 'no network card' in stick.run(address='').stderr
    stick.card('eth0')
    for r in stick.run(type='n\n', address=''), stick.run(type='', address=''), stick.run(address='', PBSMAP_NET='no'):
        assert r.returncode == 0 and 'rescue' in r.stdout and stick.said == ''
    assert 'Configure' not in r.stderr


# ---- ReaR ----

def rear(place, command, **env):
    """As /usr/share/rear/restore/EXTERNAL does it: local.conf was sourced, then this is evaluated."""
    (place.dir / 'bin').mkdir(exist_ok=True)
    link = place.dir / 'bin/pbsmap'
    link.unlink(missing_ok=True)
    link.symlink_to(PBSMAP)
    conf = place.dir / 'rear.conf'
    conf.write_text(f'PBS_REPOSITORY={GOLDEN / "store"}\n')
    shutil.copy(KEYS / 'none.json', place.dir / 'key.json')
    more = ''.join(f'{k}={v}\n' for k, v in env.items() if k.startswith('PBSMAP_'))
    script = f'''PROGS=() MODULES=() COPY_AS_IS=() HOSTNAME=files
. {ROOT}/contrib/rear/local.conf
{more}PBSMAP_DIR={place.dir} TARGET_FS_ROOT={place.dir}/target
eval "${{{command}[@]}}"
status=$?
[ "$BACKUP:${{PROGS[*]}}:${{MODULES[*]}}:${{COPY_AS_IS[*]}}" = "EXTERNAL:pbsmap:fuse loop:/etc/pbsmap" ] || exit 99
exit $status'''
    return subprocess.run(['bash', '-c', script], text=True, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
                          env=place.env(PATH=f'{place.dir}/bin:{os.environ["PATH"]}'))


@pytest.mark.root
def test_rear_restores(place):
    (place.dir / 'target/lost+found').mkdir(parents=True)
    r = rear(place, 'EXTERNAL_RESTORE')
    assert r.returncode == DONE, r.stderr
    names = {p.name for p in (place.dir / 'target').iterdir()}
    assert 'lost+found' in names and len(names) > 3
    r = rear(place, 'EXTERNAL_RESTORE', PBSMAP_SNAPSHOT=f'host/files/{T1}', PBSMAP_ARCHIVES='(root.pxar:/a none.pxar:/b)')
    assert r.returncode == 1 and 'none.pxar' in r.stderr and (place.dir / 'target/a').is_dir()
    assert rear(place, 'EXTERNAL_BACKUP').returncode == 0


@pytest.mark.root
def test_rear_checks(place):
    assert rear(place, 'EXTERNAL_CHECK', PBSMAP_SNAPSHOT='host/files').returncode == DONE
    assert rear(place, 'EXTERNAL_CHECK', PBSMAP_SNAPSHOT='host/nobody').returncode != DONE


# ---- systemd ----

UNIT = ROOT / 'contrib/systemd/pbsmap@.service'


def test_unit_is_well_formed(place):
    if not shutil.which('systemd-analyze'):
        pytest.skip('no systemd-analyze')
    text = UNIT.read_text().replace('/usr/local/bin/pbsmap', PBSMAP).replace('man:pbsmap(1)', 'file:/dev/null')
    path = place.dir / 'pbsmap@.service'
    path.write_text(text)
    r = subprocess.run(['systemd-analyze', 'verify', '--man=no', str(path)], text=True, capture_output=True, timeout=60, check=False)
    assert r.returncode == 0 and 'pbsmap@' not in r.stderr, r.stderr


def test_unit_does_not_hide_what_it_mounts():
    """Each of these gives a service a mount namespace of its own."""
    keys = set(re.findall(r'^(\w+)=', UNIT.read_text(), re.M))
    assert not {k for k in keys if k.startswith(('Private', 'Protect', 'ReadOnly', 'ReadWrite', 'Inaccessible', 'TemporaryFile', 'Bind', 'Mount'))}
    assert not keys & {'DynamicUser', 'RootDirectory', 'RootImage', 'ExecPaths', 'NoExecPaths', 'StateDirectoryMode'}
