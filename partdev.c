/*
 * Partitions of a loop device, told to the kernel: for kernels without
 * parsers of their own (part.c has the parser).
 */
#include <errno.h>
#include <linux/blkpg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"
#include "part.h"

#define NR_MAX 255

static int
tell(int fd, int op, int nr, uint64_t start, uint64_t size)
{
	struct blkpg_partition p;
	struct blkpg_ioctl_arg a = { .op = op, .datalen = sizeof p, .data = &p };

	memset(&p, 0, sizeof p);
	p.pno = nr;
	p.start = (long long)start;
	p.length = (long long)size;
	return ioctl(fd, BLKPG, &a) != 0 ? -errno : 0;
}

/* One partition and its node. EBUSY has two reasons: the kernel has made it
 * already, or it overlaps another, which only one of them can have. */
static int
add(int fd, int loop_nr, const struct part *p)
{
	char name[40];
	dev_t dev;
	int rc;

	snprintf(name, sizeof name, "loop%dp%u", loop_nr, p->nr);
	rc = tell(fd, BLKPG_ADD_PARTITION, (int)p->nr, p->start, p->size);
	if (rc != 0 && rc != -EBUSY)
		return rc;
	if (loop_devno(name, &dev) != 0) {
		if (rc == -EBUSY)
			note("/dev/%s overlaps another partition and is left out", name);
		else
			note("/dev/%s: its number is unknown without /sys and /proc", name);
		return 0;
	}
	return loop_node(name, dev);
}

int
part_add(int fd, int loop_nr, const struct part_table *t, struct err *e)
{
	int rc, first = 0;

	/* One that fails does not keep the others away. */
	for (int i = 0; i < t->count; i++) {
		rc = add(fd, loop_nr, &t->part[i]);
		if (rc < 0 && first == 0)
			first = err_set(e, ST_FAIL, rc, "cannot make /dev/loop%dp%u: %s",
			    loop_nr, t->part[i].nr, strerror(-rc));
	}
	return first;
}

void
part_tell(int fd, const struct part_table *t)
{
	int i;

	for (i = 0; i < t->count; i++)
		tell(fd, BLKPG_ADD_PARTITION, (int)t->part[i].nr, t->part[i].start, t->part[i].size);
}

int
part_del(int fd, int loop_nr, struct err *e)
{
	char path[48];
	struct stat st;
	int first = 0;

	for (int nr = 1; nr <= NR_MAX; nr++) {
		int rc = tell(fd, BLKPG_DEL_PARTITION, nr, 0, 0);

		snprintf(path, sizeof path, "/dev/loop%dp%d", loop_nr, nr);
		if (rc == -EBUSY && first == 0)
			first = err_set(e, ST_BUSY, rc, "%s is held", path);
		/* Where nobody else cares for /dev, its node is still there. */
		if (rc == 0 && lstat(path, &st) == 0 && S_ISBLK(st.st_mode))
			unlink(path);
	}
	return first;
}
