"""list: the same from a directory and from a server; what is odd is shown as such; thousands cost little."""
import datetime
import json
import os
import re
import subprocess
import sys

import pytest

from formats import blob, raw_blob, write
from lib import DONE, FAIL, GOLDEN, KEYS, PBSMAP, T1, TRUST, USAGE, place	# noqa: F401
from server import Server

T2, T3 = '2026-02-03T04:05:06Z', '2026-03-04T05:06:07Z'
FORMS = ([], ['-r'], ['vm/100'], ['vm/101'], ['vm/102'], ['host/split'], [f'vm/100/{T1}'], [f'vm/100/{T3}'], [f'vm/101/{T1}'],
         [f'host/files/{T2}'], ['--ns', 'a/b', 'host/nested'], ['-r', 'host/nested'], ['-r', f'host/nested/{T1}'])


@pytest.mark.parametrize('args', (['list', 'vm/100'], ['list', '--json'], ['verify', '--quiet', 'vm/100'], ['check'], ['status', '--json'],
                                  ['completion', 'bash'], ['key', 'show', KEYS / 'none.json']))
def test_output_that_cannot_be_written(place, args):
    """Also when it is a single line, which is written before the end."""
    more = [] if args[0] in ('status', 'completion', 'key') else ['--repository', GOLDEN / 'store']
    with open('/dev/full', 'w') as full:
        r = subprocess.run([PBSMAP, *map(str, args + more)], env=place.env(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert r.returncode == FAIL and 'cannot write all of it to stdout' in r.stderr, r.stderr


@pytest.fixture
def odd(place):
    """golden/store with everything a list can show."""
    st = place.golden()
    m = st.manifest(f'vm/100/{T1}')
    m['unprotected'].update(notes='before the upgrade\nand more', verify_state={'upid': 'UPID:x', 'state': 'ok'})
    st.put_manifest(f'vm/100/{T1}', m)
    (st.snapshot(f'vm/100/{T1}') / '.protected').touch()
    (st.snapshot(f'vm/100/{T1}') / 'client.log.blob').write_bytes(blob(b'log'))
    (st.snapshot(f'vm/100/{T1}') / 'notes.txt').touch()
    m = st.manifest(f'vm/101/{T1}')
    m['unprotected'].update(notes='', verify_state={'upid': 'UPID:x', 'state': 'failed'})
    st.put_manifest(f'vm/101/{T1}', m)
    write(st.snapshot(f'vm/102/{T1}') / 'index.json.blob', raw_blob(b'{"files":[{"filena', False))
    (st.path / 'lost+found').mkdir()
    (st.path / 'vm' / '.hidden').mkdir()
    (st.path / 'vm' / '100' / 'no time').mkdir()
    (st.path / 'ct' / 'empty').mkdir(parents=True)
    (st.path / 'ct' / 'empty' / 'owner').write_text('root@pam\n')
    return st


def lists(place, repo, *args, status=DONE, **kw):
    r = place.run('list', '--repository', repo, *args, **kw)
    assert r.returncode == status, (r.returncode, r.stdout, r.stderr)
    return r


@pytest.mark.parametrize('flavour', ('3.2', '4.2'))
def test_directory_and_server_say_the_same(place, odd, flavour):
    with Server(odd, flavour=flavour) as s:
        for form in (*FORMS, ['ct/empty']):
            for more in ([], ['--json']):
                here = lists(place, odd, *form, *more)
                there = lists(place, s.repo(), *form, *more, env=s.env())
                assert here.stdout == there.stdout, form
                assert bool(here.stderr) == bool(there.stderr)


def test_groups(place):
    out = lists(place, place.golden()).stdout
    assert out == '''\
GROUP                     LAST BACKUP           COUNT  OWNER
host/chunk64k             none finished             0  test@pbs!tok
host/signed               2026-01-02T03:04:05Z      1  test@pbs!tok
vm/101                    2026-01-02T03:04:05Z      1  test@pbs!tok
vm/102                    2026-01-02T03:04:05Z      1  test@pbs!tok
vm/103                    2026-01-02T03:04:05Z      1  test@pbs!tok
host/files                2026-02-03T04:05:06Z      2  test@pbs!tok
host/split                2026-02-03T04:05:06Z      2  test@pbs!tok
vm/100                    2026-02-03T04:05:06Z      2  test@pbs!tok

namespaces below (-r lists them too):
  a
  a/b
'''


def test_snapshots(place, odd):
    assert lists(place, odd, 'vm/100').stdout == '''\
vm/100/2026-01-02T03:04:05Z            38.5 MiB  plain      verified  protected
    drive-scsi0.img drive-scsi1.img drive-efidisk0.img qemu-server.conf
    client.log
    # before the upgrade
vm/100/2026-02-03T04:05:06Z            30.0 MiB  plain
    drive-scsi0.img
vm/100/2026-03-04T05:06:07Z                      unfinished
    drive-scsi0.img
'''
    assert re.search(r' 38\.0 MiB  encrypted  FAILED\n', lists(place, odd, 'vm/101').stdout)
    assert re.search(r'05Z +DAMAGED manifest\n', lists(place, odd, 'vm/102').stdout)
    assert ' signed\n' in lists(place, odd, 'host/signed').stdout


def test_archives(place, odd):
    assert lists(place, odd, f'vm/100/{T1}').stdout == '''\
vm/100/2026-01-02T03:04:05Z            38.5 MiB  plain      verified  protected
  owner test@pbs!tok
  # before the upgrade
  drive-scsi0.img                      30.0 MiB  plain      map, restore
  drive-scsi1.img                       8.0 MiB  plain      map, restore
  drive-efidisk0.img                  528.0 KiB  plain      map, restore
  qemu-server.conf                         79 B  plain      restore
  client.log                                  ?  ?          restore (not in the manifest)
'''
    out = lists(place, odd, f'host/split/{T2}').stdout
    assert '\n  key 67:d0:f3:6d:b7:56:19:4b\n' in out
    assert re.search(r'root\.mpxar +44\.9 KiB  encrypted  mount, restore\n', out) and re.search(r'root\.ppxar.*\(the data of', out)
    assert re.search(r'root\.pxar +1\.8 MiB  plain      mount, restore\n', lists(place, odd, f'host/files/{T1}').stdout)


def test_all_namespaces(place):
    st = place.golden()
    out = lists(place, st, '-r').stdout
    assert out.startswith('namespace (root)\nGROUP') and '\n\nnamespace a/b\nGROUP' in out and 'namespaces below' not in out
    assert lists(place, st, '-r', 'host/nested').stdout.startswith('namespace a/b\nhost/nested/')
    assert lists(place, st, '-r', '--ns', 'a').stdout.startswith('namespace a/b\n')
    assert lists(place, st, '--ns', 'a/b').stdout.count('\n') == 2


def test_json_has_everything(place, odd):
    groups = json.loads(lists(place, odd, '--json').stdout)
    assert groups['namespaces'] == ['a', 'a/b']
    assert groups['groups'][-1] == {'group': 'vm/100', 'ns': '', 'backup-type': 'vm', 'backup-id': '100', 'owner': 'test@pbs!tok',
                                    'last-backup': 1770091506, 'backup-count': 2}
    first, _, last = json.loads(lists(place, odd, '--json', 'vm/100').stdout)['snapshots']
    names = [f['filename'] for f in first['files']]
    assert names == ['drive-scsi0.img.fidx', 'drive-scsi1.img.fidx', 'drive-efidisk0.img.fidx', 'qemu-server.conf.blob',
                     'index.json.blob', 'client.log.blob']
    assert first['files'][0] == {'filename': 'drive-scsi0.img.fidx', 'crypt-mode': 'none', 'size': 31458816}
    assert first['files'][-1] == {'filename': 'client.log.blob'}
    assert (first['comment'], first['verification'], first['protected'], first['finished']) == ('before the upgrade', 'ok', True, True)
    assert first['size'] == sum(f.get('size', 0) for f in first['files'])
    assert (last['finished'], 'size' in last) == (False, False)
    assert json.loads(lists(place, odd, '--json', f'vm/101/{T1}').stdout)['snapshots'][0]['fingerprint'].startswith('67:d0:f3')
    assert json.loads(lists(place, odd, '--json', 'ct/empty').stdout) == {'snapshots': [], 'namespaces': []}
    assert json.loads(lists(place, odd, '--json', '--ns', 'a').stdout) == {'groups': [], 'namespaces': ['a/b']}


def test_a_console_is_not_harmed(place):
    """80 columns of plain ASCII, whatever is written in notes and owners; names that are longer have a line of their own."""
    st = place.golden()
    m = st.manifest(f'vm/100/{T1}')
    m['unprotected'] = {'notes': 'b\u00f6se \x1b[2J\t' + 'x' * 300}
    name = 'disk-' + 'n' * 60 + '.img.fidx'
    m['files'] += [{**m['files'][0], 'filename': f'{c}{name}'} for c in 'abc']
    st.put_manifest(f'vm/100/{T1}', m)
    (st.path / 'vm/100/owner').write_text('\x1b[31m' + 'o' * 250 + '\n')
    long = 'host/' + 'h' * 50
    (st.path / 'vm' / '100').rename(st.path / long)
    for args in [], [long], [f'{long}/{T1}']:
        out = lists(place, st, *args).stdout
        assert out.isascii() and '\x1b' not in out
        assert max(map(len, out.splitlines())) <= 80, out
    assert f'{long}/{T1}\n' in lists(place, st, long).stdout
    row = json.loads(lists(place, st, '--json', long).stdout)['snapshots'][0]
    assert row['comment'].startswith('b\u00f6se \x1b[2J') and row['owner'].startswith('\x1b[31mooo')


def test_empty_or_missing(place):
    st = place.golden()
    for where, args, status, words in (
            ('', ['ct/1'], FAIL, 'no such group'), ('', [f'vm/100/{T1[:-3]}59Z'], FAIL, 'no such snapshot'),
            ('', ['--ns', 'nosuch'], FAIL, "there is no namespace 'nosuch'"), ('', ['vm'], USAGE, 'vm'),
            ('', ['--ns', 'a'], DONE, 'is empty: no groups in namespace a'),
            ('', ['host/chunk64k'], DONE, 'is empty: no snapshots')):
        r = lists(place, f'{st}{where}', *args, status=status)
        assert re.search(words, r.stderr), r.stderr
        with Server(st) as s:
            r = lists(place, s.repo(), *args, status=status, env=s.env())
            assert re.search(words, r.stderr), r.stderr
    (place.dir / 'new' / '.chunks').mkdir(parents=True)
    assert 'is empty: no groups' in lists(place, place.dir / 'new').stderr


def test_what_is_not_there_is_named(place):
    none = place.dir / 'none'
    assert f'datastore {none}: No such file' in lists(place, none, status=FAIL).stderr
    for command in (['map', '--repository', GOLDEN / 'store', 'vm/999', 'x.img'], ['verify', '--repository', GOLDEN / 'store', 'vm/999']):
        assert re.search('vm/999: .*no such group|only root|needs root', place.run(*command).stderr)
    r = place.run('verify', '--repository', GOLDEN / 'store', f'vm/100/{T3}')
    assert f'vm/100/{T3} is unfinished' in r.stderr


def test_parts_beat_a_directory_in_the_environment(place):
    """What is on the command line is meant."""
    with Server(GOLDEN / 'store') as s:
        env = s.env(PBS_REPOSITORY=str(place.dir / 'nowhere'))
        parts = ['--server', s.host, '--port', s.port, '--datastore', s.name, '--auth-id', 'test@pbs!tok']
        r = place.run('list', *parts, env=env)
        assert r.returncode == DONE and 'vm/100' in r.stdout, r.stderr
        assert '--datastore' in place.run('list', *parts[:4], env=env).stderr
    # In the environment both may stand: the whole one counts.
    r = place.run('list', env={'PBS_REPOSITORY': str(GOLDEN / 'store'), 'PBS_SERVER': '127.0.0.1'})
    assert r.returncode == DONE and 'vm/100' in r.stdout


def test_forbidden_by_the_server(place):
    with Server(GOLDEN / 'store') as s:
        for args in [], ['vm/100'], ['-r'], [f'vm/100/{T1}']:
            r = lists(place, s.repo('blind@pbs!tok'), *args, status=TRUST, env=s.env('blind@pbs!tok'))
            assert 'permission' in r.stderr and r.stdout == ''


@pytest.mark.root
def test_forbidden_by_the_disk(place):
    st = place.golden()
    os.chmod(place.dir, 0o755)
    for closed, args in (('vm', []), ('vm/100', []), ('vm/100', ['vm/100']), ('ns/a', ['--ns', 'a'])):
        (st.path / closed).chmod(0)
        r = lists(place, st, *args, status=TRUST, user=65534, group=65534, extra_groups=[])
        # The rest is there.
        assert closed in r.stderr and 'Permission denied' in r.stderr and bool(r.stdout) == (not args) and f'{closed}/' not in r.stdout
        (st.path / closed).chmod(0o755)
    # A manifest that may not be read is shown as one that cannot be.
    (st.path / f'vm/100/{T1}/index.json.blob').chmod(0)
    assert 'DAMAGED' in lists(place, st, 'vm/100', user=65534, group=65534, extra_groups=[]).stdout


def test_lists_that_break_off(place):
    """No half of a list, and never status 0."""
    st = GOLDEN / 'store'
    with Server(st) as s:
        whole = lists(place, s.repo(), 'vm/100', env=s.env()).stdout
        for after in 1500, 2200, 2600, 3000:
            s.command(f'break cut after={after}')
            r = place.run('list', '--repository', s.repo(), 'vm/100', env=s.env())
            assert (r.returncode, r.stdout) in ((DONE, whole), (FAIL, '')), after
            assert r.returncode == DONE or r.stderr.startswith('pbsmap: ')
            s.command('clear')
        s.command('set dribble 1')
        assert lists(place, s.repo(), 'vm/100', env=s.env()).stdout == whole
        s.command('restart 60000')
        lists(place, s.repo(), status=FAIL, env=s.env())


def many(st, count):
    """A store with one group of count snapshots."""
    raw = (GOLDEN / 'store' / 'vm' / '100' / T1 / 'index.json.blob').read_bytes()
    group = st / 'vm' / '100'
    (st / '.chunks').mkdir(parents=True)
    group.mkdir(parents=True)
    (group / 'owner').write_text('test@pbs!tok\n')
    begin = datetime.datetime(2020, 1, 1)
    for i in range(count):
        d = group / (begin + datetime.timedelta(hours=i)).strftime('%Y-%m-%dT%H:%M:%SZ')
        d.mkdir()
        (d / 'index.json.blob').write_bytes(raw)
        for name in 'drive-scsi0.img.fidx', 'drive-scsi1.img.fidx', 'drive-efidisk0.img.fidx', 'qemu-server.conf.blob':
            (d / name).touch()
    return st


def measured(place, *args, env=None):
    """Lines, seconds, seconds of CPU, bytes of memory of a run."""
    # A process begins with the largest size of the one that started it: a small one is put between.
    begin = ('import resource, subprocess, sys, time\n'
             't = time.monotonic()\n'
             'subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], "w"), check=True)\n'
             'u = resource.getrusage(resource.RUSAGE_CHILDREN)\n'
             'print(time.monotonic() - t, u.ru_utime + u.ru_stime, u.ru_maxrss)')
    out = place.dir / 'out'
    r = subprocess.run([sys.executable, '-S', '-c', begin, out, PBSMAP, *map(str, args)], env=place.env(**(env or {})),
                       stdout=subprocess.PIPE, text=True, check=True)
    seconds, cpu, size = map(float, r.stdout.split())
    return out.read_text().splitlines(), seconds, cpu, size * 1024


@pytest.mark.parametrize('form', ([], ['vm/100'], ['--json', 'vm/100']))
def test_ten_thousand(place, form):
    st = many(place.dir / 'many', 10000)
    much = 10 if '/' in os.environ.get('BUILD', '') else 1	# with sanitizers
    with Server(st) as s:
        here = measured(place, 'list', '--repository', st, *form)
        there = measured(place, 'list', '--repository', s.repo(), *form, env=s.env())
    assert here[0] == there[0] and len(here[0]) >= (20000 if form == ['vm/100'] else 10000 if form else 2)
    for lines, seconds, cpu, size in here, there:
        print(f'{len(lines)} lines: {seconds:.2f} s, {cpu:.2f} s of CPU, {size / 2**20:.0f} MiB')
        # The clock's time is also that of the test server and of what else the machine does.
        assert cpu < 1 * much and seconds < 8 * much and size < (32 << 20) * much


def test_times_are_sorted_not_names(place):
    st = many(place.dir / 'many', 3000)
    out = [x.split()[0] for x in lists(place, st, 'vm/100').stdout.splitlines() if x.startswith('vm/')]
    assert len(out) == 3000 and out == sorted(out)

