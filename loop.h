/*
 * Loop devices. Every function here may block in the kernel until the backing file's
 * reads are answered: never call one from the thread that serves them.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

struct loop {
	int nr;				/* N of /dev/loopN; -1: none */
	int fd;				/* open on the device; -1: none */
	dev_t dev;
	char path[32];			/* "/dev/loopN" */
};

struct loop_conf {
	const char *backing;		/* path of the file, opened read-only */
	unsigned block_size;		/* logical sector size: 512 or 4096 */
	int direct;			/* LO_FLAGS_DIRECT_IO: the file is not cached a second time */
	unsigned read_ahead;		/* bytes, BLKRASET; 0: the kernel's own */
};

/* Takes a free device (races retried), attaches read-only with partition scan. LOOP_CONFIGURE, else SET_FD + SET_STATUS64. Makes the node
 * where /dev is not managed. Loads no module here. On success l->fd is open. Errors name what is missing (loop-control, module, free device). */
int loop_attach(const struct loop_conf *c, struct loop *l, struct err *e);

/* Could one be attached? Changes nothing, but may make the node of loop-control and a free device. */
int loop_check(struct err *e);

/* Detaches and waits (at most timeout_ms) until the device has no backing file any more. Closes l->fd. 0, -EBUSY when it
 * is still held after that (autoclear is then set), else a negative errno. */
int loop_detach(struct loop *l, int timeout_ms, struct err *e);

/* Opens /dev/loopN by number for loop_detach and partitions. */
int loop_open(int nr, struct loop *l, struct err *e);

/* Number of the device whose backing file (by sysfs loop/backing_file, " (deleted)" forgiven) is `backing`; -1: none. */
int loop_by_backing(const char *backing);
/* The backing file of loop nr, without " (deleted)"; only its first 63 bytes without /sys and when the file's mount was taken away lazily. 0, -ENXIO
 * when nothing is attached, -ENOENT when there is no such device. */
int loop_backing(int nr, char *out, size_t cap);

/* Is `path` its backing file, as far as that is known? */
int loop_has_backing(int nr, const char *path);
/* The file system (st_dev) that file is on, by asking the device, which may block. 0 or a negative errno. */
int loop_backing_dev(int nr, dev_t *dev);
/* Calls fn for each attached device until it returns other than 0; returns that device's number, -1: none. */
int loop_find(int (*fn)(void *ctx, int nr, const char *backing), void *ctx);
/* Bytes of the device; 0: unknown. */
uint64_t loop_size(int nr);

/* Number of a block device by its name ("loop0p1"), by /sys or /proc/partitions: 0 or -ENOENT. */
int loop_devno(const char *name, dev_t *dev);
/* Makes its node in /dev where there is none, or a stale one: 0 or a negative errno. */
int loop_node(const char *name, dev_t dev);

/* Tests: 1 does as if the kernel had no LOOP_CONFIGURE. */
extern int loop_no_configure;

/* From what a user typed: "/dev/loop3", "loop3", "3", "/dev/loop3p1"(refused: names a partition): number or -1. */
int loop_number(const char *text);

#endif
