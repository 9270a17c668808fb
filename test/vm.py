"""Virtual machines for tests: Debian's kernel with BusyBox and pbsmap, by emulation, driven over the serial line.

The kernel and BusyBox come from Debian's packages by `deps.sh kernel build/qemu`, which unpacks and installs nothing.
"""
import gzip
import hashlib
import os
import pathlib
import re
import select
import shutil
import stat
import struct
import subprocess
import time

import zstandard

from lib import PBSMAP, ROOT, gpt_image, mixed

KERNEL = ROOT / 'build' / 'qemu'
BUSYBOX = shutil.which('busybox') or '/bin/busybox'
BOOT_SECONDS = 180                      # it takes 5; the machine may be busy


def needs_interpreter(elf):
    """Does this 64-bit ELF file have a PT_INTERP?"""
    offset, = struct.unpack_from('<Q', elf, 32)
    size, count = struct.unpack_from('<HH', elf, 54)
    return any(struct.unpack_from('<I', elf, offset + i * size)[0] == 3 for i in range(count))


def lacking():
    """Why no machine can be started here; None when it can."""
    if not shutil.which('qemu-system-x86_64'):
        return 'no qemu-system-x86_64'
    if not pathlib.Path(BUSYBOX).exists() or needs_interpreter(pathlib.Path(BUSYBOX).read_bytes()):
        return 'no static busybox'
    if not vmlinuz():
        return f'no kernel in {KERNEL}: deps.sh kernel {KERNEL}'
    return None


def vmlinuz():
    return next(iter(KERNEL.glob('boot/vmlinuz-*')), None)


def modules(*names):
    """Paths of these modules and of what they need, in the order of loading."""
    files = {p.name.split('.ko')[0].replace('-', '_'): p for p in KERNEL.glob('lib/modules/*/kernel/**/*.ko*')}
    order = []

    def visit(name):
        if name not in files:
            return              # built in
        needs = re.search(rb'\0depends=([^\0]*)\0', b'\0' + files[name].read_bytes())
        for n in needs[1].decode().split(',') if needs and needs[1] else ():
            visit(n.replace('-', '_'))
        if files[name] not in order:
            order.append(files[name])
    for name in names:
        visit(name)
    return order


class Archive:
    """An initramfs: a cpio archive ("newc"), owners root."""

    def __init__(self):
        self.out, self.count, self.dirs = bytearray(), 0, set()

    def entry(self, name, mode, data=b'', rdev=(0, 0)):
        self.count += 1
        n = name.encode() + b'\0'
        self.out += b'070701' + b''.join(b'%08X' % v for v in (
            self.count, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(n), 0)) + n
        self.out += bytes(-len(self.out) % 4) + data
        self.out += bytes(-len(self.out) % 4)

    def parents(self, name):
        for d in reversed(pathlib.PurePosixPath(name).parents[:-1]):
            self.folder(str(d))

    def folder(self, name):
        if name not in self.dirs:
            self.dirs.add(name)
            self.parents(name)
            self.entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o755):
        self.parents(name)
        self.entry(name, stat.S_IFREG | mode, data.encode() if isinstance(data, str) else data)

    def node(self, name, kind, major, minor):
        self.parents(name)
        self.entry(name, kind | 0o600, rdev=(major, minor))

    def bytes(self):
        self.entry('TRAILER!!!', 0)
        return gzip.compress(bytes(self.out), 1)


# Of every initramfs here: BusyBox and pbsmap, modules, nodes for the disks, the network, and then what the test wants.
INIT = '''#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=
mount -t proc proc /proc
mount -t sysfs sys /sys
for m in $(cat /order); do insmod $m || echo "insmod $m failed"; done
for d in $(cat /disks); do mknod /dev/$d b $(tr : ' ' </sys/block/$d/dev); done
[ ! -e /sys/class/net/eth0 ] || { ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; }
%s
. /shell
'''
# Lines come in, are run, and end with a mark that holds the status. No terminal's editing in between.
SHELL = '''
stty -echo -onlcr </dev/ttyS0
echo '<<0:0>>'
while read -r line; do eval "$line"; done </dev/ttyS0
poweroff -f
'''
# What initramfs-tools has for its scripts, as far as ours want it.
FUNCTIONS = '''
configure_networking() { :; }
wait_for_udev() { :; }
panic() { echo "panic: $*"; }
'''
# An initramfs-tools in short: its scripts, its mounts, and what its run-init does by BusyBox.
BOOT = '''
mount -t devtmpfs dev /dev
mkdir -p /dev/disk/by-id
for d in $(cat /disks); do ln -s ../../$d /dev/disk/by-id/virtio-$(cat /sys/block/$d/serial); done
%s
ROOT=$(sed 's/.*root=\\([^ ]*\\).*/\\1/' /proc/cmdline)
/scripts/local-top/pbsmap
[ ! -e /conf/param.conf ] || . /conf/param.conf
if mount -o ro,noload "$ROOT" /root; then
	rootmnt=/root /scripts/local-bottom/pbsmap
	for d in dev proc sys; do mount --move /$d /root/$d; done
	! grep -q "^run " /root/proc/mounts || mount --move /run /root/run
	exec switch_root /root /sbin/init
fi
'''
MODULES = ('virtio_pci', 'virtio_blk', 'virtio_net', 'ext4', 'squashfs', 'crc32c_generic')
CONTRIB = ROOT / 'contrib'


def boot_files():
    """Our scripts for initramfs-tools, and what they need of it."""
    ours = CONTRIB / 'initramfs-tools'
    return [('scripts/functions', FUNCTIONS), ('lib/pbsmap/boot.sh', (CONTRIB / 'boot.sh').read_text()),
            *((f'scripts/{x}/pbsmap', (ours / x).read_text()) for x in ('local-top', 'local-bottom'))]


def initramfs(disks, more='', extra=(), load=MODULES, zstd=()):
    """BusyBox and pbsmap, and nothing made by udev or devtmpfs. The modules in load are loaded; fuse and loop are
    there only, for pbsmap to find; those in zstd are compressed. more: lines of the init script; extra: (name, data) of more files."""
    a = Archive()
    for d in 'proc', 'sys', 'dev', 'mnt', 'etc', 'store', 'root', 'conf':
        a.folder(d)
    a.node('dev/console', stat.S_IFCHR, 5, 1)
    a.node('dev/null', stat.S_IFCHR, 1, 3)
    a.node('dev/ttyS0', stat.S_IFCHR, 4, 64)
    a.file('bin/busybox', pathlib.Path(BUSYBOX).read_bytes())
    a.file('bin/pbsmap', pathlib.Path(PBSMAP).read_bytes())
    now = modules(*load)
    for p in dict.fromkeys([*now, *modules('fuse', 'loop')]):
        packed = p.name.split('.')[0] in zstd
        data = zstandard.compress(p.read_bytes()) if packed else p.read_bytes()
        a.file(str(p.relative_to(KERNEL)) + ('.zst' if packed else ''), data, 0o644)
    a.file('order', '\n'.join('/' + str(p.relative_to(KERNEL)) for p in now) + '\n')
    a.file('disks', '\n'.join(disks) + '\n')
    for name, data in extra:
        a.file(name, data, 0o600 if name.startswith('etc/') else 0o755)
    a.file('shell', SHELL)
    a.file('init', INIT % more)
    return a.bytes()


class Guest:
    """A running machine. disks: paths of raw images, /dev/vda and so on, with their names for serial numbers. net: with a
    network card; the host's loopback is 10.0.2.2 there. ramdisk: another one than ours; then nothing is waited for."""

    def __init__(self, folder, disks=(), append='', args=(), memory=256, net=False, kernel=None, ramdisk=None, **kw):
        self.folder, self.count, self.seen, self.bytes = pathlib.Path(folder), 0, '', 0
        ram = ramdisk or self.folder / 'initramfs'
        names = [f'vd{chr(ord("a") + i)}' for i in range(len(disks))]
        if not ramdisk:
            ram.write_bytes(initramfs(names, **kw))
        argv = ['qemu-system-x86_64', '-accel', 'tcg', '-m', str(memory), '-nodefaults', '-no-user-config', '-display', 'none',
                '-no-reboot', '-serial', 'stdio', '-rtc', 'base=1970-01-01', '-kernel', kernel or vmlinuz(), '-initrd', ram,
                '-append', f'console=ttyS0 quiet panic=-1 {append}', *args]
        for i, d in enumerate(disks):
            argv += ['-drive', f'file={d},format=raw,if=none,id=d{i},cache=unsafe,discard=unmap',
                     '-device', f'virtio-blk-pci,drive=d{i},serial={pathlib.Path(d).name}']
        if net:
            argv += ['-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n,romfile=']
        self.proc = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, bufsize=0)
        try:
            if not ramdisk:
                self.boot_text = self.wait(0, BOOT_SECONDS)[1]
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def read_until(self, pattern, seconds):
        """What the console said until the pattern came; the match is in self.found."""
        end = time.monotonic() + seconds
        while not (m := re.search(pattern, self.seen)):
            ready = select.select([self.proc.stdout], [], [], max(0, end - time.monotonic()))[0]
            data = os.read(self.proc.stdout.fileno(), 65536) if ready else b''
            if not data:
                raise AssertionError(f'{"the machine ended" if ready else f"nothing like {pattern!r} for {seconds} s"}; '
                                     f'the console said\n{self.seen[-4000:]}')
            self.bytes += len(data)
            self.seen += data.decode(errors='replace').replace('\r', '')
        text, self.seen, self.found = self.seen[:m.start()], self.seen[m.end():], m
        return text

    def wait(self, number, seconds):
        text = self.read_until(rf'<<{number}:(\d+)>>\n', seconds)
        return int(self.found[1]), text

    def type(self, text, baud=0):
        """As if typed; baud: no faster than a line of that speed brings it."""
        for piece in text if baud else [text]:
            self.proc.stdin.write(piece.encode())
            time.sleep(10 / baud if baud else 0)

    def dialog(self, command, steps, seconds=60, baud=9600):
        """A program that asks at the terminal: steps are pairs of what it says (a pattern) and what is typed then. Its exit
        status and all that was shown."""
        self.count += 1
        self.type(f'{{ {command}; }} </dev/ttyS0 2>&1; echo "<<{self.count}:$?>>"\n')
        text = ''
        for pattern, answer in steps:
            text += self.read_until(pattern, seconds) + self.found[0]
            self.type(answer, baud)
        rc, rest = self.wait(self.count, seconds)
        return rc, text + rest

    def status(self, command, seconds=60):
        """Exit status and output (both streams) of a command."""
        self.count += 1
        self.type(f"{{ {command}; }} 2>&1 </dev/null; echo \"<<{self.count}:$?>>\"\n")
        return self.wait(self.count, seconds)

    def run(self, command, seconds=60, status=0):
        """Output of a command that must end with this status."""
        rc, text = self.status(command, seconds)
        assert rc == status, (command, rc, text)
        return text

    def close(self):
        self.proc.kill()
        self.proc.wait()
        self.proc.stdin.close()
        self.proc.stdout.close()


def store_disk(path, store, size='64M'):
    """A disk with a file system that holds a copy of this directory."""
    subprocess.run(['mkfs.ext4', '-q', '-d', str(store), str(path), size], check=True)


WORD = 'Leberkaese'
MIB = 1 << 20


def root_disk(folder):
    """A disk whose only partition is a root file system: its init says a word, then does what it is told. Its path, and the
    sums of two files in it."""
    folder = pathlib.Path(folder)
    tree = folder / 'tree'
    for d in 'bin', 'sbin', 'etc', 'data', 'dev', 'proc', 'sys', 'run', 'tmp', 'mnt', 'root', 'usr/lib':
        (tree / d).mkdir(parents=True)
    for name, data in (('bin/busybox', pathlib.Path(BUSYBOX).read_bytes()), ('bin/pbsmap', pathlib.Path(PBSMAP).read_bytes()),
                       ('sbin/init', '#!/bin/busybox sh\nexport PATH=/bin HOME=\necho "word: $(cat /etc/word)"\n. /shell\n'),
                       ('shell', SHELL), ('etc/word', WORD), ('etc/os-release', 'ID=pbsmap-test\n'),
                       ('data/a', mixed(8 * MIB, 3)), ('data/b', mixed(8 * MIB, 4))):
        (tree / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        (tree / name).chmod(0o755)
    for applet in subprocess.run([BUSYBOX, '--list'], capture_output=True, text=True, check=True).stdout.split():
        if applet != 'busybox':
            (tree / 'bin' / applet).symlink_to('busybox')
    store_disk(folder / 'part', tree, '40M')
    disk = gpt_image(512, 44 * MIB, [(MIB, 40 * MIB, 'root')])
    disk[MIB:41 * MIB] = (folder / 'part').read_bytes()
    (folder / 'disk').write_bytes(disk)
    (folder / 'part').unlink()
    return folder / 'disk', {x: hashlib.sha256((tree / 'data' / x).read_bytes()).hexdigest() for x in 'ab'}
