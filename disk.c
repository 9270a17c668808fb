/*
 * A block device that is to be overwritten. What /sys tells about stacks of devices (device-mapper, md, loop,
 * partitions), and signatures of what people keep on disks. Only to warn and to refuse: the last word has the
 * kernel, when the device is opened exclusively.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "hold.h"
#include "human.h"
#include "loop.h"
#include "part.h"
#include "proc.h"

#define DEPTH_MAX 16			/* devices upon devices */

int
disk_sys(dev_t no, const char *name, char *out, size_t cap)
{
	char path[96];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(no), minor(no), name);
	out[0] = 0;
	if ((f = fopen(path, "re")) == NULL)
		return -errno;
	if (fgets(out, (int)cap, f) == NULL)
		out[0] = 0;
	fclose(f);
	for (n = strlen(out); n && isspace((unsigned char)out[n - 1]); n--)
		out[n - 1] = 0;
	return 0;
}

/* The last part of where a link in /sys leads, or the one before it (a partition's disk). */
static int
link_name(dev_t no, int up, char *out, size_t cap)
{
	char path[64], to[PATH_MAX], *p;
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(no), minor(no));
	if ((n = readlink(path, to, sizeof(to) - 1)) < 0)
		return -errno;
	to[n] = 0;
	if (up && (p = strrchr(to, '/')) != NULL)
		*p = 0;
	p = strrchr(to, '/');
	snprintf(out, cap, "%s", p ? p + 1 : to);
	return 0;
}

void
disk_name(dev_t no, const char *path, char *out, size_t cap)
{
	const char *p = strrchr(path, '/');

	if (link_name(no, 0, out, cap) < 0)
		snprintf(out, cap, "%s", p ? p + 1 : path);
}

/* ---- the running root ---- */

static int stands_on(dev_t upper, dev_t lower, int depth);

static int
loop_stands_on(dev_t upper, dev_t lower, int depth)
{
	char file[PATH_MAX];
	struct stat st;

	return disk_sys(upper, "loop/backing_file", file, sizeof(file)) == 0 && file[0] == '/' &&
	    stat(file, &st) == 0 && stands_on(S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev, lower, depth);
}

/* Is upper made of lower: the same, a partition of it, a mapping or array over it, a file on it? */
static int
stands_on(dev_t upper, dev_t lower, int depth)
{
	char path[64], text[32], name[256];
	struct dirent *d;
	dev_t no;
	DIR *dir;
	int found = 0;

	if (upper == lower)
		return 1;
	if (depth == DEPTH_MAX)
		return 0;
	if (disk_sys(upper, "partition", text, sizeof(text)) == 0)
		return link_name(upper, 1, name, sizeof(name)) == 0 && loop_devno(name, &no) == 0 &&
		    stands_on(no, lower, depth + 1);
	if (loop_stands_on(upper, lower, depth + 1))
		return 1;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/slaves", major(upper), minor(upper));
	dir = opendir(path);
	while (dir && !found && (d = readdir(dir)) != NULL)
		found = d->d_name[0] != '.' && loop_devno(d->d_name, &no) == 0 && stands_on(no, lower, depth + 1);
	if (dir)
		closedir(dir);
	return found;
}

struct look {
	dev_t disk;
	char point[256];		/* of the mount that stands on it */
};

/* File systems with device numbers of their own (btrfs, overlay) name what they are on. */
static int
look_mount(void *ctx, const struct proc_mount *m)
{
	struct look *l = ctx;
	struct stat st;
	dev_t no = m->dev;

	if (major(no) == 0) {
		if (strncmp(m->source, "/dev/", 5) != 0 || stat(m->source, &st) < 0 || !S_ISBLK(st.st_mode))
			return 0;
		no = st.st_rdev;
	}
	if (!stands_on(no, l->disk, 0))
		return 0;
	snprintf(l->point, sizeof(l->point), "%s", m->point);
	return strcmp(m->point, "/") == 0;
}

/* udev and others look at a device for a moment, just because it has changed. */
static int
held(const char *name, char *list, size_t cap)
{
	const struct timespec nap = { 0, 200000000 };
	int i, n;

	for (i = 0; (n = hold_list_dev(name, getpid(), list, cap)) > 0 && i < 5; i++)
		nanosleep(&nap, NULL);
	return n;
}

int
disk_free(dev_t no, const char *path, struct err *e)
{
	struct look l = { no, "" };
	char name[64], list[4096];

	disk_name(no, path, name, sizeof(name));
	proc_mounts(0, look_mount, &l);
	if (strcmp(l.point, "/") == 0)
		return err_set(e, ST_BUSY, -EBUSY, "%s: the running system's root is on it; boot something else "
		    "to overwrite it", path);
	if (held(name, list, sizeof(list)) > 0) {
		fputs(list, stderr);
		return err_set(e, ST_BUSY, -EBUSY, "%s: it is in use; unmount it, end who uses it, then try again", path);
	}
	if (l.point[0])
		return err_set(e, ST_BUSY, -EBUSY, "%s: what is mounted on %s is on it; unmount that first", path, l.point);
	return 0;
}

int
disk_idle(dev_t no, const char *path)
{
	struct look l = { no, "" };
	char name[64], list[256];

	disk_name(no, path, name, sizeof(name));
	proc_mounts(0, look_mount, &l);
	return l.point[0] == 0 && hold_list_dev(name, getpid(), list, sizeof(list)) == 0;
}

/* ---- what is on it ---- */

struct signature {
	uint32_t offset;
	uint8_t len;
	char bytes[9], name[15];
};

static const struct signature signatures[] = {
	{ 0, 6, "LUKS\xba\xbe", "LUKS" },
	{ 512, 8, "LABELONE", "LVM" },
	{ 4096, 4, "\xfc\x4e\x2b\xa9", "md RAID" },
	{ 0, 4, "\xfc\x4e\x2b\xa9", "md RAID" },
	{ 0x438, 2, "\x53\xef", "ext2/3/4" },
	{ 0, 4, "XFSB", "xfs" },
	{ 0x10040, 8, "_BHRfS_M", "btrfs" },
	{ 4086, 9, "SWAPSPACE", "swap" },
	{ 3, 8, "NTFS    ", "NTFS" },
	{ 3, 8, "EXFAT   ", "exFAT" },
	{ 0x52, 5, "FAT32", "FAT" },
	{ 0x36, 4, "FAT1", "FAT" },
	{ 0x400, 4, "\x10\x20\xf5\xf2", "f2fs" },
	{ 0, 4, "hsqs", "squashfs" },
	{ 0x8001, 5, "CD001", "ISO 9660" },
};

#define LOOK (128u << 10)		/* bytes at the beginning, and at the end: md 1.0 and GPT have theirs there */

static int
read_disk(void *ctx, uint64_t offset, void *buf, size_t len)
{
	ssize_t n = pread(*(int *)ctx, buf, len, (off_t)offset);

	if (n < 0)
		return -errno;
	memset((char *)buf + n, 0, len - (size_t)n);
	return 0;
}

static int
is_blank(const uint8_t *p, size_t n)
{
	size_t i;

	for (i = 0; i < n && p[i] == 0; i++)
		;
	return i == n;
}

static const char *
find_signature(const uint8_t *p)
{
	const struct signature *s, *end = signatures + sizeof(signatures) / sizeof(*signatures);

	for (s = signatures; s < end; s++)
		if (memcmp(p + s->offset, s->bytes, s->len) == 0)
			return s->name;
	return NULL;
}

void
disk_content(int fd, uint64_t size, char *out, size_t cap)
{
	struct part_table *t = malloc(sizeof(*t));
	uint8_t *p = malloc(LOOK);
	const char *name;

	snprintf(out, cap, "unknown data");
	if (t == NULL || p == NULL)
		goto end;
	if (read_disk(&fd, 0, p, LOOK) < 0) {
		snprintf(out, cap, "data that cannot be read");
	} else if ((name = find_signature(p)) != NULL) {
		snprintf(out, cap, "%s", name);
	} else if (part_scan(read_disk, &fd, size, t, NULL) == 0 && t->kind != PART_NONE) {
		snprintf(out, cap, "%s with %d partition%s", t->kind == PART_GPT ? "GPT" : "MBR", t->count,
		    t->count == 1 ? "" : "s");
	} else if (is_blank(p, LOOK) && (size <= LOOK ||
	    (read_disk(&fd, size - LOOK, p, LOOK) == 0 && is_blank(p, LOOK)))) {
		out[0] = 0;
	}
end:
	free(p);
	free(t);
}

void
disk_model(dev_t no, uint64_t size, char *out, size_t cap)
{
	char model[64], bytes[10];

	/* A partition's is that of its disk, one up. */
	if (disk_sys(no, "device/model", model, sizeof(model)) < 0)
		disk_sys(no, "../device/model", model, sizeof(model));
	snprintf(out, cap, "%s%s%s", model, model[0] ? ", " : "", human_size(size, bytes));
}
