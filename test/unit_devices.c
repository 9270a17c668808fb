/*
 * Loop devices, partitions, holders and the registry on the real kernel, as
 * root, in mount namespaces of their own: /run is an empty tmpfs here.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "t.h"
#include "sparse.h"
#include "../config.h"
#include "../hold.h"
#include "../loop.h"
#include "../part.h"
#include "../run.h"

#define IMAGE "/run/image"
#define NAME "store\\x3avm-1-2026\\x2d01\\x2d02T03\\x3a04\\x3a05Z-drive.img"
#define FILE_PATH RUN_DIR "/" NAME
#define PID_PATH RUN_DIR "/store\\x3avm-1-2026\\x2d01\\x2d02T03\\x3a04\\x3a05Z-drive.pid"
#define OTHER "store\\x3avm-2-2026\\x2d01\\x2d02T03\\x3a04\\x3a05Z-drive.img"

static struct err why;

/* In CI nothing is skipped unseen. */
static int
lacks_root(void)
{
	if (geteuid() == 0 && access("/dev/loop-control", R_OK) == 0 && access("/dev/fuse", R_OK) == 0)
		return 0;
	printf("# SKIPPED: needs root, /dev/loop-control and /dev/fuse\n");
	t_bad += getenv("CI") != NULL;
	return 1;
}

/* Runs a test in a child: what it mounts, leaves open or is killed by ends with it. */
static void
apart(void (*fn)(void))
{
	int status = 0;
	pid_t pid;

	if (lacks_root())
		return;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		/* Private, so that nothing gets out. */
		if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount("none", "/run", "tmpfs", 0, "mode=0755") != 0) {
			printf("# no mount namespace: %s\n", strerror(errno));
			_exit(1);
		}
		fn();
		fflush(stdout);
		_exit(t_bad != 0);
	}
	alarm(60);
	check(waitpid(pid, &status, 0) == pid && status == 0);
	alarm(0);
}

static void
nap(int ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

/* A disk of the corpus as a file. */
static void
make_image(const char *disk)
{
	static struct sparse d;
	static uint8_t bytes[65536];
	char path[128];
	FILE *f;
	int fd = open(IMAGE, O_RDWR | O_CREAT | O_TRUNC, 0600);

	snprintf(path, sizeof path, "test/corpus/part/%s", disk);
	f = fopen(path, "rb");
	check(fd >= 0 && f != NULL);
	if (f == NULL)
		return;
	sparse_load(&d, bytes, fread(bytes, 1, sizeof bytes, f));
	fclose(f);
	check_int(ftruncate(fd, (off_t)d.size), 0);
	for (unsigned i = 0; i < d.count; i++)
		check_int(pwrite(fd, d.data[i], 512, (off_t)d.lba[i] * 512), 512);
	check_int(pwrite(fd, "first partition", 15, 1 << 20), 15);
	close(fd);
}

static int
read_fd(void *ctx, uint64_t offset, void *buf, size_t len)
{
	return pread(*(int *)ctx, buf, len, (off_t)offset) == (ssize_t)len ? 0 : -EIO;
}

static int
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static void
begins(const char *path, const char *text)
{
	char buf[16] = "";
	int fd = open(path, O_RDONLY);

	check(fd >= 0 && read(fd, buf, strlen(text)) == (ssize_t)strlen(text));
	check_str(buf, text);
	close(fd);
}

static void
attach(struct loop *l, unsigned sector)
{
	struct loop_conf c = { IMAGE, sector, 1, 1 << 20 };

	check_int(loop_attach(&c, l, &why), 0);
	if (l->nr < 0) {
		printf("# %s\n", why.text);
		_exit(1);
	}
}

/* A device's whole life. */
static void
cycle(const char *disk, unsigned sector)
{
	static struct part_table t;
	char part[48], backing[256];
	int ro = 0, size = 0, file;
	struct loop l;

	make_image(disk);
	file = open(IMAGE, O_RDONLY);
	check_int(part_scan(read_fd, &file, (uint64_t)lseek(file, 0, SEEK_END), &t, &why), 0);
	check_int(t.sector, sector);
	attach(&l, sector);
	check_int(loop_size(l.nr), lseek(file, 0, SEEK_END));
	check(ioctl(l.fd, BLKROGET, &ro) == 0 && ro == 1);
	check(ioctl(l.fd, BLKSSZGET, &size) == 0 && size == (int)sector);
	check_int(loop_backing(l.nr, backing, sizeof backing), 0);
	check_str(backing, IMAGE);
	check_int(loop_by_backing(IMAGE), l.nr);
	check(loop_has_backing(l.nr, IMAGE) && !loop_has_backing(l.nr, IMAGE "s"));
	check_int(part_add(l.fd, l.nr, &t, &why), 0);
	check_int(part_add(l.fd, l.nr, &t, &why), 0);	/* as where the kernel was faster */
	snprintf(part, sizeof part, "%sp1", l.path);
	begins(part, "first partition");
	check_int(part_del(l.fd, l.nr, &why), 0);
	check(!exists(part));
	check_int(loop_detach(&l, 2000, &why), 0);
	check_int(l.fd, -1);
	check_int(loop_by_backing(IMAGE), -1);
	close(file);
}

static void
cycles(void)
{
	for (int old = 0; old < 2; old++) {
		loop_no_configure = old;
		cycle("sgdisk-gpt", 512);
		cycle("gpt4k", 4096);
		cycle("parted-mbr", 512);
	}
}

static void
test_cycle(void)
{
	apart(cycles);
}

static void
without_sys(void)
{
	check_int(mount("none", "/sys", "tmpfs", 0, NULL), 0);
	cycles();
}

static void
test_without_sys(void)
{
	apart(without_sys);
}

/* An initramfs whose /dev nobody cares for. */
static void
bare_dev(void)
{
	struct loop_conf c = { IMAGE, 512, 0, 0 };
	char path[48];
	struct loop l;
	int nr;

	check_int(mount("none", "/dev", "tmpfs", 0, "mode=0755"), 0);
	cycles();
	make_image("sgdisk-gpt");
	attach(&l, 512);
	nr = l.nr;
	check_int(loop_detach(&l, 2000, &why), 0);
	snprintf(path, sizeof path, "/dev/loop%d", nr);
	unlink(path);
	check_int(mknod(path, S_IFBLK | 0600, makedev(7, 1000)), 0);	/* stale */
	check_int(loop_attach(&c, &l, &why), 0);
	check(l.nr != nr || minor(l.dev) == (unsigned)nr);
	check_int(loop_detach(&l, 2000, &why), 0);
	for (int i = 0; i < 64; i++) {
		snprintf(path, sizeof path, "/dev/loop%d", i);
		unlink(path);
		check(mknod(path, S_IFREG | 0600, 0) == 0);		/* dd's victim */
	}
	check(loop_attach(&c, &l, &why) < 0);
	check(strstr(why.text, "is no block device") != NULL);
	check_int(l.nr, -1);
	unlink("/dev/loop-control");
	check_int(mknod("/dev/loop-control", S_IFCHR | 0600, makedev(1, 250)), 0);
	check(loop_attach(&c, &l, &why) < 0);
	check(strstr(why.text, "/dev/loop-control") != NULL);
}

static void
test_bare_dev(void)
{
	apart(bare_dev);
}

static void
held(void)
{
	char list[256], small[20];
	struct loop l, again;
	struct timespec a, b;
	pid_t pid;
	int fd, nr;

	make_image("sgdisk-gpt");
	attach(&l, 512);
	nr = l.nr;
	check_int(hold_list(nr, getpid(), list, sizeof list), 0);
	check_str(list, "");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NAME, "a\nb\x1b[1m");
		pause();
	}
	nap(50);
	fd = l.fd;
	check_int(hold_list(nr, getpid(), list, sizeof list), 1);
	check(strstr(list, "is open by process") && strstr(list, "(a?b?[1m)\n") && strstr(list, l.path));
	check_int(hold_list(nr, getpid(), small, sizeof small), 1);
	check_str(small, "");
	clock_gettime(CLOCK_MONOTONIC, &a);
	check_int(loop_detach(&l, 300, &why), -EBUSY);	/* says 0 in the kernel, and is not true */
	clock_gettime(CLOCK_MONOTONIC, &b);
	check((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 600);
	check(strstr(why.text, "held") != NULL && fcntl(fd, F_GETFD) < 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	check_int(loop_by_backing(IMAGE), -1);
	check_int(loop_open(nr, &again, &why), 0);
	check_int(loop_detach(&again, 300, &why), 0);	/* nothing attached: nothing to do */
	attach(&l, 512);
	close(open(l.path, O_RDONLY));
	check_int(loop_detach(&l, 300, &why), 0);
}

static void
test_held(void)
{
	apart(held);
}

/* A loop device on a loop device; and one that the kernel holds for a process that cannot be seen. */
static void
stacked(void)
{
	struct loop_conf c = { .block_size = 512 };
	struct loop l, top;
	char list[256];
	int fd;

	make_image("sgdisk-gpt");
	attach(&l, 512);
	close(l.fd);
	c.backing = l.path;
	check_int(loop_attach(&c, &top, &why), 0);
	close(top.fd);
	check_int(hold_list(l.nr, 0, list, sizeof list), 1);
	check(strstr(list, "is attached to /dev/loop") != NULL);
	check_int(loop_open(top.nr, &top, &why), 0);
	check_int(loop_detach(&top, 1000, &why), 0);
	fd = open(l.path, O_RDONLY | O_EXCL);	/* hold_list() overlooks its own process */
	check(fd >= 0);
	check_int(hold_list(l.nr, 0, list, sizeof list), 1);
	check(strstr(list, "in use by the kernel") != NULL);
	close(fd);
	check_int(hold_list(l.nr, 0, list, sizeof list), 0);
	check_int(loop_open(l.nr, &l, &why), 0);
	check_int(loop_detach(&l, 1000, &why), 0);
}

static void
test_stacked(void)
{
	apart(stacked);
}

/* Many take devices at once: each gets one of its own. */
static void
crowd(void)
{
	int status, bad = 0;

	make_image("sgdisk-gpt");
	for (int i = 0; i < 6; i++)
		if (fork() == 0) {
			struct loop_conf c = { IMAGE, 512, i & 1, 0 };
			struct loop l;

			loop_no_configure = i % 3 == 0;
			for (int k = 0; k < 10; k++) {
				if (loop_attach(&c, &l, &why) != 0)
					_exit(printf("# %s\n", why.text) * 0 + 1);
				if (loop_detach(&l, 5000, &why) != 0)
					_exit(2);
			}
			_exit(0);
		}
	while (wait(&status) > 0)
		bad += status != 0;
	check_int(bad, 0);
	check_int(loop_by_backing(IMAGE), -1);
}

static void
test_crowd(void)
{
	apart(crowd);
}

#include "devices_run.h"

int
main(void)
{
	run(test_cycle);
	run(test_without_sys);
	run(test_bare_dev);
	run(test_held);
	run(test_stacked);
	run(test_crowd);
	run(test_directory);
	run(test_claim);
	run(test_states);
	run(test_reused_pid);
	run(test_no_pid_file);
	run(test_hostile);
	run(test_lone_pid_file);
	run(test_lost);
	run(test_rounds);
	return t_end();
}
