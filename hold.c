/*
 * Who uses a block device or its partitions, a file, or a mount.  Only looks: asks
 * /sys and /proc, opens nothing that a dead server could make hang (but for one probe, in a
 * process of its own).
 */
#include "hold.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "proc.h"

#define DEVS_MAX 257			/* the device and its partitions */
#define SPACES_MAX 64			/* other mount namespaces that are looked at */
#define PROBE_MS 300

struct dev {
	char name[40];			/* "loop0p1" */
	dev_t no;
};

struct hold {
	int nr;				/* of a loop device; -1: another one */
	pid_t self;
	const char *file;		/* its path, resolved, instead of devices; NULL */
	struct stat st;			/*   and what it is */
	struct dev dev[DEVS_MAX];	/* of a file one, without a name */
	int devs;
	char *out;
	size_t len, cap;
	int count;
	pid_t pid;			/* whose mounts are being read; 0: own */
	ino_t space[SPACES_MAX];	/* mount namespaces seen */
	int spaces;
};

/* One more holder; a line that does not fit is left out whole. Mount points
 * and names are strangers' text: nothing a terminal would obey gets through. */
__attribute__((format(printf, 2, 3)))
static void
add(struct hold *h, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	h->count++;
	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof line)
		n = (int)sizeof line - 1;
	for (int i = 0; i < n; i++)
		if (line[i] < ' ' || line[i] > '~')
			line[i] = '?';
	if (h->len + (size_t)n + 4 > h->cap)
		return;
	h->len += (size_t)snprintf(h->out + h->len, h->cap - h->len, "  %s\n", line);
}

/* The same: what a device is, or the file. */
__attribute__((format(printf, 3, 4)))
static void
add_dev(struct hold *h, const struct dev *dev, const char *fmt, ...)
{
	char what[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	add(h, "%s%s %s", h->file ? h->file : "/dev/", dev->name, what);
}

static const struct dev *
find_dev(const struct hold *h, dev_t no)
{
	for (int i = 0; i < h->devs; i++)
		if (h->dev[i].no == no)
			return &h->dev[i];
	return NULL;
}

/* Is it that file? Of all others only those of the same name are asked: a stat may hang on a dead server. */
static int
is_file(const struct hold *h, const char *path)
{
	const char *a = strrchr(h->file, '/'), *b = strrchr(path, '/');
	struct stat st;

	return b != NULL && strcmp(a, b) == 0 && stat(path, &st) == 0 && st.st_dev == h->st.st_dev &&
	    st.st_ino == h->st.st_ino;
}

/* The device of this path: by its name, or by what it points to (/dev/disk/by-uuid/…). */
static const struct dev *
find_path(const struct hold *h, const char *path)
{
	struct stat st;

	if (h->file != NULL)
		return is_file(h, path) ? h->dev : NULL;
	if (strncmp(path, "/dev/", 5) != 0)
		return NULL;
	for (int i = 0; i < h->devs; i++)
		if (strcmp(path + 5, h->dev[i].name) == 0)
			return &h->dev[i];
	return stat(path, &st) == 0 && S_ISBLK(st.st_mode) ? find_dev(h, st.st_rdev) : NULL;
}

/* "sda1" of "sda", "loop0p1" of "loop0"; "sda10" is nothing of "sda1"'s. */
static int
is_part_of(const char *name, const char *disk)
{
	size_t n = strlen(disk);

	if (strncmp(name, disk, n) != 0)
		return 0;
	if (disk[n - 1] >= '0' && disk[n - 1] <= '9' && name[n++] != 'p')
		return 0;
	return name[n] >= '0' && name[n] <= '9';
}

/* The device first, then its partitions: lists come in the order of finding. */
static void
collect(struct hold *h, const char *name)
{
	struct dirent *ent;
	char path[64];
	DIR *d;

	snprintf(h->dev[0].name, sizeof h->dev[0].name, "%s", name);
	h->devs = loop_devno(h->dev[0].name, &h->dev[0].no) == 0;
	snprintf(path, sizeof path, "/sys/block/%s", h->dev[0].name);
	d = opendir(path);
	if (d == NULL)
		d = opendir("/dev");
	while (d != NULL && h->devs < DEVS_MAX && (ent = readdir(d)) != NULL) {
		struct dev *dev = &h->dev[h->devs];

		if (!is_part_of(ent->d_name, h->dev[0].name) || strlen(ent->d_name) >= sizeof dev->name)
			continue;
		snprintf(dev->name, sizeof dev->name, "%.*s", (int)sizeof dev->name - 1,
		    ent->d_name);
		h->devs += loop_devno(dev->name, &dev->no) == 0;
	}
	if (d != NULL)
		closedir(d);
}

/* Some file systems (btrfs) have a device number of their own and name ours as their source. */
static int
look_mount(void *ctx, const struct proc_mount *m)
{
	struct hold *h = ctx;
	const struct dev *dev = find_dev(h, m->dev);
	char name[32];

	if (dev == NULL)
		dev = find_path(h, m->source);
	if (dev == NULL)
		return 0;
	if (h->pid == 0) {
		add_dev(h, dev, "is mounted on %s", m->point);
	} else {
		proc_name(h->pid, name, sizeof name);
		add_dev(h, dev, "is mounted on %s in the mount namespace of process %ld (%s)", m->point,
		    (long)h->pid, name);
	}
	return 0;
}

/* Namespaces are told apart by inode. */
static int
is_new_space(struct hold *h, const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0 || h->spaces == SPACES_MAX)
		return 0;
	for (int i = 0; i < h->spaces; i++)
		if (h->space[i] == st.st_ino)
			return 0;
	h->space[h->spaces++] = st.st_ino;
	return 1;
}

static int
look_space(void *ctx, pid_t pid)
{
	struct hold *h = ctx;
	char path[64];

	snprintf(path, sizeof path, "/proc/%ld/ns/mnt", (long)pid);
	if (is_new_space(h, path)) {
		h->pid = pid;
		proc_mounts(pid, look_mount, h);
	}
	return 0;
}

static void
look_mounts(struct hold *h)
{
	h->pid = 0;
	is_new_space(h, "/proc/self/ns/mnt");
	proc_mounts(0, look_mount, h);
	/* Most other namespaces are copies of this one: ask them last. */
	if (h->count == 0)
		proc_each(look_space, h);
}

/* "FILENAME TYPE SIZE USED PRIORITY", the first line a heading that is no path. */
static void
look_swaps(struct hold *h)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[1024];

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		const struct dev *dev;

		line[strcspn(line, " \t")] = '\0';
		dev = find_path(h, line);
		if (dev != NULL)
			add_dev(h, dev, "is in use as swap");
	}
	if (f != NULL)
		fclose(f);
}

/* device-mapper (LVM, LUKS), md, bcache: the kernel links them here. */
static void
look_holders(struct hold *h, const struct dev *dev)
{
	char path[512], name[128];
	struct dirent *ent;
	DIR *d;

	snprintf(path, sizeof path, "/sys/class/block/%s/holders", dev->name);
	d = opendir(path);
	while (d != NULL && (ent = readdir(d)) != NULL) {
		FILE *f;

		if (ent->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/sys/class/block/%s/dm/name", ent->d_name);
		f = fopen(path, "re");
		if (f != NULL && fgets(name, sizeof name, f) != NULL) {
			name[strcspn(name, "\n")] = '\0';
			add_dev(h, dev, "is held by %s (%s)", ent->d_name, name);
		} else {
			add_dev(h, dev, "is held by %s", ent->d_name);
		}
		if (f != NULL)
			fclose(f);
	}
	if (d != NULL)
		closedir(d);
}

/* Such a device's descriptor is the kernel's, in no process's list. */
static int
look_loop(void *ctx, int nr, const char *backing)
{
	struct hold *h = ctx;
	const struct dev *dev = nr == h->nr ? NULL : find_path(h, backing);

	if (dev != NULL)
		add_dev(h, dev, "is attached to /dev/loop%d", nr);
	return 0;
}

static int
look_fd(void *ctx, pid_t pid, const char *fd, const char *link)
{
	struct hold *h = ctx;
	const struct dev *dev = NULL;
	char path[320], name[32];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%ld/fd/%s", (long)pid, fd);
	/* Files elsewhere are not touched: a stat may hang on a dead server. */
	if (h->file != NULL)
		dev = find_path(h, link);
	else if (strncmp(link, "/dev/", 5) == 0 && stat(path, &st) == 0 && S_ISBLK(st.st_mode))
		dev = find_dev(h, st.st_rdev);
	if (dev == NULL)
		return 0;
	proc_name(pid, name, sizeof name);
	add_dev(h, dev, "is open by process %ld (%s)", (long)pid, name);
	return 1;	/* one line a process */
}

static int
look_process(void *ctx, pid_t pid)
{
	struct hold *h = ctx;

	if (pid != h->self && pid != getpid())
		proc_fds(pid, look_fd, h);
	return 0;
}

/* An exclusive open fails while a file system, swap or another driver has the
 * device: so also when its mount was taken away lazily. It may block on the
 * device's mutex: a child does it, and is left behind when it does. */
static int
is_claimed(const struct hold *h)
{
	const struct timespec nap = { 0, 5000000 };
	char path[48];
	int status;
	pid_t pid;

	snprintf(path, sizeof path, "/dev/%s", h->dev[0].name);
	pid = fork();
	if (pid == 0) {
		/* Nobody shall wait for a pipe that only this child still holds. */
		for (int fd = 0; fd < 256; fd++)
			close(fd);
		_exit(open(path, O_RDONLY | O_EXCL) < 0 && errno == EBUSY);
	}
	for (int ms = 0; pid > 0 && ms < PROBE_MS; ms += 5) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) && WEXITSTATUS(status) == 1;
		nanosleep(&nap, NULL);
	}
	return 0;
}

static int
list(struct hold *h, pid_t self, char *out, size_t cap)
{
	int count;

	h->self = self;
	h->out = out;
	h->cap = cap;
	look_mounts(h);
	look_swaps(h);
	for (int i = 0; h->file == NULL && i < h->devs; i++)
		look_holders(h, &h->dev[i]);
	loop_find(look_loop, h);
	proc_each(look_process, h);
	/* Last, and only when nobody is known: it is the one look that shows. */
	if (h->count == 0 && h->file == NULL && h->devs > 0 && is_claimed(h))
		add_dev(h, h->dev, "is in use by the kernel (a mount taken away with umount -l, perhaps)");
	count = h->count;
	free(h);
	return count;
}

static int
list_dev(int loop_nr, const char *name, pid_t self, char *out, size_t cap)
{
	struct hold *h = calloc(1, sizeof *h);

	if (cap > 0)
		out[0] = '\0';
	if (h == NULL)
		return 0;
	h->nr = loop_nr;
	collect(h, name);
	return list(h, self, out, cap);
}

int
hold_list(int loop_nr, pid_t self, char *out, size_t cap)
{
	char name[40];

	snprintf(name, sizeof name, "loop%d", loop_nr);
	return list_dev(loop_nr, name, self, out, cap);
}

int
hold_list_dev(const char *name, pid_t self, char *out, size_t cap)
{
	return list_dev(loop_number(name), name, self, out, cap);
}

int
hold_list_file(const char *path, char *out, size_t cap)
{
	struct hold *h = calloc(1, sizeof *h);
	char *file = realpath(path, NULL);
	int count = 0;

	if (cap > 0)
		out[0] = '\0';
	if (h != NULL && file != NULL && stat(file, &h->st) == 0) {
		h->nr = -1;
		h->file = file;
		count = list(h, getpid(), out, cap);
	} else {
		free(h);
	}
	free(file);
	return count;
}

/* ---- a mount's ---- */

struct below {
	struct hold hold;
	const char *point;
	size_t len;
};

static int
is_below(const struct below *b, const char *path)
{
	return strncmp(path, b->point, b->len) == 0 && (path[b->len] == '/' || path[b->len] == '\0');
}

static int
below_mount(void *ctx, const struct proc_mount *m)
{
	struct below *b = ctx;

	if (is_below(b, m->point) && m->point[b->len])
		add(&b->hold, "%s is mounted on %s", m->source, m->point);
	return 0;
}

static int
below_loop(void *ctx, int nr, const char *backing)
{
	struct below *b = ctx;

	if (is_below(b, backing))
		add(&b->hold, "%s is attached to /dev/loop%d", backing, nr);
	return 0;
}

static int
below_fd(void *ctx, pid_t pid, const char *fd, const char *link)
{
	struct below *b = ctx;
	char name[32];

	if (!is_below(b, link))
		return 0;
	proc_name(pid, name, sizeof name);
	add(&b->hold, "%s is %s process %ld (%s)", link, fd ? "open by" : "in use by", (long)pid, name);
	return 1;	/* one line a process */
}

/* Only what links say: a file there may be a dead server's. */
static int
below_process(void *ctx, pid_t pid)
{
	static const char *const links[] = { "cwd", "root", "exe" };
	struct below *b = ctx;
	char path[64], link[4096];
	ssize_t n;

	if (pid == b->hold.self || pid == getpid())
		return 0;
	for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
		snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, links[i]);
		n = readlink(path, link, sizeof link - 1);
		link[n < 0 ? 0 : n] = '\0';
		if (below_fd(b, pid, NULL, link))
			return 0;
	}
	proc_fds(pid, below_fd, b);
	return 0;
}

int
hold_list_mount(const char *point, pid_t self, char *out, size_t cap)
{
	struct below *b = calloc(1, sizeof *b);
	int count;

	out[0] = '\0';
	if (b == NULL)
		return 0;
	b->hold.self = self;
	b->hold.out = out;
	b->hold.cap = cap;
	b->point = point;
	b->len = strlen(point);
	proc_mounts(0, below_mount, b);
	loop_find(below_loop, b);
	proc_each(below_process, b);
	count = b->hold.count;
	free(b);
	return count;
}
