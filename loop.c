/*
 * Loop devices, attached and detached without losetup or udev.  Knows nothing of mappings: a backing file is a path.
 *
 * Numbers and states come from /sys, which can be asked without opening the
 * device (an open may block); only where /sys is missing is the device asked.
 */
#include "loop.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "modules.h"

#include "proc.h"

#define LOOP_MAJOR 7
#define CONTROL_MINOR 237
#define READ_AHEAD (128u << 10)		/* the kernel's own, bytes */
#define TRIES 100			/* for a free device; with naps about 4 s */
#define NR_MAX ((1 << 20) - 1)		/* minor numbers have 20 bits */

int loop_no_configure;

static void
nap(int ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

/* The first line of a small file. 0 or a negative errno. */
static int
read_line(const char *path, char *out, size_t cap)
{
	ssize_t n = proc_text(path, out, cap);

	if (n >= 0)
		out[strcspn(out, "\n")] = '\0';
	return n < 0 ? (int)n : 0;
}

static int
has_sys(void)
{
	return access("/sys/block", F_OK) == 0;
}

/* Partitions' numbers are the kernel's choice (major 259): they have to be looked
 * up. /proc/partitions leaves empty devices out, which have no partitions. */
int
loop_devno(const char *name, dev_t *dev)
{
	char path[320], line[64], *p;
	int rc = -ENOENT;
	FILE *f;

	snprintf(path, sizeof path, "/sys/class/block/%s/dev", name);
	if (read_line(path, line, sizeof line) == 0) {
		return proc_devno(line, dev) ? 0 : -ENOENT;
	}
	f = has_sys() ? NULL : fopen("/proc/partitions", "re");
	if (f == NULL)
		return -ENOENT;
	/* major, minor, blocks, name */
	while (rc != 0 && fgets(line, sizeof line, f) != NULL)
		if ((p = proc_devno(line, dev)) != NULL) {
			strtoul(p, &p, 10);
			p += strspn(p, " ");
			p[strcspn(p, "\n")] = '\0';
			rc = strcmp(p, name) == 0 ? 0 : -ENOENT;
		}
	fclose(f);
	return rc;
}

/* Never touches what is no block device: /dev/loop0 may be a file that somebody
 * wrote by mistake, and would like to keep. */
int
loop_node(const char *name, dev_t dev)
{
	char path[320];
	struct stat st;

	snprintf(path, sizeof path, "/dev/%s", name);
	if (lstat(path, &st) == 0) {
		if (!S_ISBLK(st.st_mode))
			return -EEXIST;
		if (st.st_rdev == dev)
			return 0;
		/* Left by a device that had this name before. */
		if (unlink(path) != 0)
			return -errno;
	}
	if (mknod(path, S_IFBLK | 0660, dev) != 0 && errno != EEXIST)
		return -errno;
	return 0;
}

int
loop_open(int nr, struct loop *l, struct err *e)
{
	char name[24];
	struct stat st;
	int rc;

	l->nr = nr;
	l->fd = -1;
	snprintf(name, sizeof name, "loop%d", nr);
	snprintf(l->path, sizeof l->path, "/dev/%s", name);
	/* Whole devices have this number unless the module was told otherwise. */
	if (loop_devno(name, &l->dev) != 0)
		l->dev = makedev(LOOP_MAJOR, (unsigned)nr);
	rc = loop_node(name, l->dev);
	if (rc == -EEXIST)
		return err_set(e, ST_FAIL, rc, "%s is no block device: remove it", l->path);
	if (rc < 0)
		return err_set(e, ST_FAIL, rc, "cannot make the node %s: %s", l->path,
		    strerror(-rc));
	l->fd = open(l->path, O_RDONLY | O_CLOEXEC);
	if (l->fd < 0 || fstat(l->fd, &st) != 0) {
		rc = -errno;
		if (l->fd >= 0)
			close(l->fd);
		l->fd = -1;
		return err_set(e, ST_FAIL, rc, "cannot open %s: %s", l->path, strerror(-rc));
	}
	l->dev = st.st_rdev;
	return 0;
}

/* A descriptor or a negative errno. */
static int
open_control(struct err *e)
{
	static const char path[] = "/dev/loop-control";
	int rc = modules_open("loop", "loop-control", CONTROL_MINOR);

	if (rc >= 0)
		return rc;
	if (rc == -EACCES || rc == -EPERM)
		return err_set(e, ST_FAIL, rc, "cannot open %s: %s: only root can map", path,
		    strerror(-rc));
	return err_set(e, ST_FAIL, rc, "cannot open %s: %s: the kernel's loop driver is missing "
	    "(try: modprobe loop)", path, strerror(-rc));
}

int
loop_check(struct err *e)
{
	int fd = open_control(e), rc = fd < 0 ? fd : 0;

	if (fd >= 0 && ioctl(fd, LOOP_CTL_GET_FREE) < 0)
		rc = err_set(e, ST_FAIL, -errno, "no free loop device: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}

static void
fill_info(struct loop_info64 *info, const struct loop_conf *c)
{
	memset(info, 0, sizeof *info);
	info->lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN;
	/* Cut as losetup and the official client do. */
	snprintf((char *)info->lo_file_name, LO_NAME_SIZE, "%.*s", LO_NAME_SIZE - 1, c->backing);
}

/* Kernels before 5.8. The sector size first: the scan for partitions, which
 * the status starts, has to see it. */
static int
configure_old(int fd, int file, const struct loop_conf *c)
{
	struct loop_info64 info;
	int rc = 0, i;

	if (ioctl(fd, LOOP_SET_FD, file) != 0)
		return -errno;
	if (c->direct)
		ioctl(fd, LOOP_SET_DIRECT_IO, 1UL);	/* since 4.10; only faster */
	if (c->block_size != 512 && ioctl(fd, LOOP_SET_BLOCK_SIZE, (unsigned long)c->block_size) != 0)
		rc = -errno;
	fill_info(&info, c);
	/* EAGAIN: somebody (udev) has just read it, and its pages are still there. */
	for (i = 0; rc == 0 && ioctl(fd, LOOP_SET_STATUS64, &info) != 0; i++) {
		rc = errno == EAGAIN && i < 20 ? 0 : -errno;
		nap(10);
	}
	if (rc != 0)
		ioctl(fd, LOOP_CLR_FD, 0);
	/* Not a reason to take another device. */
	return rc == -EBUSY ? -EIO : rc;
}

static int
configure(int fd, int file, const struct loop_conf *c)
{
	struct loop_config conf;

	memset(&conf, 0, sizeof conf);
	conf.fd = (unsigned)file;
	conf.block_size = c->block_size;
	fill_info(&conf.info, c);
	if (c->direct)
		conf.info.lo_flags |= LO_FLAGS_DIRECT_IO;
	if (!loop_no_configure) {
		if (ioctl(fd, LOOP_CONFIGURE, &conf) == 0)
			return 0;
		/* What an older kernel says to it. If the values are wrong, the
		 * old way says so too. */
		if (errno != ENOTTY && errno != EINVAL)
			return -errno;
	}
	return configure_old(fd, file, c);
}

/* One attempt: -EAGAIN when another device should be tried. */
static int
try_free(int control, int file, const struct loop_conf *c, struct loop *l, struct err *e)
{
	int rc, nr = ioctl(control, LOOP_CTL_GET_FREE);

	if (nr < 0) {
		rc = -errno;
		return err_set(e, ST_FAIL, rc, "no free loop device: %s", strerror(-rc));
	}
	rc = loop_open(nr, l, e);
	if (rc == -ENXIO || rc == -ENODEV || rc == -ENOENT)
		return -EAGAIN;		/* removed again by somebody */
	if (rc < 0)
		return rc;
	rc = configure(l->fd, file, c);
	if (rc == 0)
		return 0;
	close(l->fd);
	l->fd = -1;
	err_set(e, ST_FAIL, rc, "cannot attach %s to %s: %s", c->backing, l->path, strerror(-rc));
	return rc == -EBUSY ? -EAGAIN : rc;
}

/* A loop device keeps it beyond its file: neither the one before shall count nor ours for the next. */
static void
set_read_ahead(int fd, unsigned bytes)
{
	ioctl(fd, BLKRASET, (unsigned long)(bytes ? bytes : READ_AHEAD) / 512);
}

int
loop_attach(const struct loop_conf *c, struct loop *l, struct err *e)
{
	int control = -1, file, rc;

	l->nr = l->fd = -1;
	file = open(c->backing, O_RDONLY | O_CLOEXEC);
	if (file < 0) {
		rc = -errno;
		return err_set(e, ST_FAIL, rc, "cannot open %s: %s", c->backing, strerror(-rc));
	}
	rc = control = open_control(e);
	/* Between being told a number and taking it, another may take it. */
	for (int i = 0; control >= 0 && i < TRIES; i++) {
		rc = try_free(control, file, c, l, e);
		if (rc != -EAGAIN)
			break;
		nap(i < 50 ? i : 50);
	}
	/* Only speed: a failure is no reason to stop. */
	if (rc == 0)
		set_read_ahead(l->fd, c->read_ahead);
	if (rc < 0)
		l->nr = -1;
	if (control >= 0)
		close(control);
	close(file);
	return rc;
}

/* Takes off what the kernel puts behind the path of a file that was removed. */
static void
cut_deleted(char *s)
{
	size_t n = strlen(s);

	if (n > 10 && strcmp(s + n - 10, " (deleted)") == 0)
		s[n - 10] = '\0';
}

/* By asking the device: only the first 63 bytes, as they were when it was attached. */
static int
backing_of_device(int nr, char *out, size_t cap)
{
	struct loop_info64 info;
	struct loop l;
	int rc = loop_open(nr, &l, NULL);

	if (rc < 0)
		return rc == -EEXIST ? -ENOENT : rc;
	if (ioctl(l.fd, LOOP_GET_STATUS64, &info) != 0)
		rc = -errno;
	else
		snprintf(out, cap, "%.*s", LO_NAME_SIZE - 1, (char *)info.lo_file_name);
	close(l.fd);
	return rc;
}

int
loop_backing(int nr, char *out, size_t cap)
{
	char path[64];
	int rc;

	if (!has_sys())
		return backing_of_device(nr, out, cap);
	/* The directory loop/ is there while something is attached. */
	snprintf(path, sizeof path, "/sys/block/loop%d/loop/backing_file", nr);
	rc = read_line(path, out, cap);
	if (rc == 0 && out[0] == '/') {
		cut_deleted(out);
		/* The root of a mount that was taken away lazily. */
		if (out[1] == '\0')
			return backing_of_device(nr, out, cap);
		return 0;
	}
	snprintf(path, sizeof path, "/sys/block/loop%d", nr);
	return access(path, F_OK) == 0 ? -ENXIO : -ENOENT;
}

int
loop_has_backing(int nr, const char *path)
{
	char backing[4096];
	size_t n;

	if (loop_backing(nr, backing, sizeof backing) != 0)
		return 0;
	n = strlen(backing);
	return strncmp(path, backing, n) == 0 && (path[n] == '\0' || n == LO_NAME_SIZE - 1);
}

int
loop_backing_dev(int nr, dev_t *dev)
{
	struct loop_info64 info;
	struct loop l;
	int rc = loop_open(nr, &l, NULL);

	if (rc < 0)
		return rc;
	if (ioctl(l.fd, LOOP_GET_STATUS64, &info) != 0)
		rc = -errno;
	else	/* the kernel's own encoding */
		*dev = makedev((unsigned)(info.lo_device >> 8 & 0xfff),
		    (unsigned)((info.lo_device & 0xff) | (info.lo_device >> 12 & 0xfff00)));
	close(l.fd);
	return rc;
}

int
loop_find(int (*fn)(void *ctx, int nr, const char *backing), void *ctx)
{
	DIR *d = opendir(has_sys() ? "/sys/block" : "/dev");
	char backing[4096];
	struct dirent *ent;
	int found = -1;

	while (d != NULL && found < 0 && (ent = readdir(d)) != NULL) {
		int nr = strncmp(ent->d_name, "loop", 4) == 0 ? loop_number(ent->d_name) : -1;

		if (nr >= 0 && loop_backing(nr, backing, sizeof backing) == 0 &&
		    fn(ctx, nr, backing) != 0)
			found = nr;
	}
	if (d != NULL)
		closedir(d);
	return found;
}

static int
is_backing(void *ctx, int nr, const char *backing)
{
	const char *want = ctx;

	(void)nr;
	if (has_sys())
		return strcmp(backing, want) == 0;
	return strncmp(backing, want, LO_NAME_SIZE - 1) == 0;
}

int
loop_by_backing(const char *backing)
{
	char want[4096];

	snprintf(want, sizeof want, "%s", backing);
	return loop_find(is_backing, want);
}

uint64_t
loop_size(int nr)
{
	char path[64], line[32];
	struct loop l;
	off_t end;

	snprintf(path, sizeof path, "/sys/block/loop%d/size", nr);
	if (read_line(path, line, sizeof line) == 0)
		return strtoull(line, NULL, 10) * 512;
	if (has_sys() || loop_open(nr, &l, NULL) != 0)
		return 0;
	end = lseek(l.fd, 0, SEEK_END);
	close(l.fd);
	return end > 0 ? (uint64_t)end : 0;
}

int
loop_detach(struct loop *l, int timeout_ms, struct err *e)
{
	char old[4096], now[4096];
	int rc = loop_backing(l->nr, old, sizeof old), waited = 0;

	set_read_ahead(l->fd, 0);
	while (rc == 0 && ioctl(l->fd, LOOP_CLR_FD, 0) != 0) {
		rc = -errno;
		/* Kernels that know no autoclear here. */
		if (rc == -EBUSY && waited < timeout_ms)
			rc = 0;
		nap(20);
		waited += 20;
	}
	/* Ours may be the last one that keeps it. */
	close(l->fd);
	l->fd = -1;
	/* Success means little: while somebody has it open, the kernel has only
	 * made a note to detach it at the last close. */
	while (rc == 0 && loop_backing(l->nr, now, sizeof now) == 0 && strcmp(old, now) == 0) {
		if (waited >= timeout_ms)
			rc = -EBUSY;
		nap(10);
		waited += 10;
	}
	if (rc == -EBUSY)
		return err_set(e, ST_BUSY, rc, "%s is still held; it goes away when its last "
		    "user closes it", l->path);
	if (rc == 0 || rc == -ENXIO || rc == -ENOENT)
		return 0;
	return err_set(e, ST_FAIL, rc, "cannot detach %s: %s", l->path, strerror(-rc));
}

int
loop_number(const char *text)
{
	char *end;
	long nr;

	if (strncmp(text, "/dev/", 5) == 0 && strncmp(text + 5, "loop", 4) == 0)
		text += 5;
	if (strncmp(text, "loop", 4) == 0)
		text += 4;
	/* Strict: what is not certainly a device may be the name of a mapping. */
	if (!isdigit((unsigned char)*text) || (text[0] == '0' && text[1] != '\0'))
		return -1;
	errno = 0;
	nr = strtol(text, &end, 10);
	return *end != '\0' || errno != 0 || nr > NR_MAX ? -1 : (int)nr;
}
