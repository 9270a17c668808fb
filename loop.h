/*
 * Loop devices. Every function here may block in the kernel until the backing file's
 * reads are answered: never call one from the thread that serves them.
 */
#ifndef LOOP_H
#define LOOP_H

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
	unsigned read_ahead;		/* bytes, BLKRASET; 0: leave the kernel's */
};

/* Takes a free device (races retried), attaches read-only with partition scan. LOOP_CONFIGURE, else SET_FD + SET_STATUS64. Makes the node
 * where /dev is not managed. Loads no module here. On success l->fd is open. Errors name what is missing (loop-control, module, free device). */
int loop_attach(const struct loop_conf *c, struct loop *l, struct err *e);

/* Detaches and waits (at most timeout_ms) until the device has no backing file any more. Closes l->fd. 0, -EBUSY when it
 * is still held after that (autoclear is then set), else a negative errno. */
int loop_detach(struct loop *l, int timeout_ms, struct err *e);

/* Opens /dev/loopN by number for loop_detach and partitions. */
int loop_open(int nr, struct loop *l, struct err *e);

/* Number of the device whose backing file (by sysfs loop/backing_file, " (deleted)" forgiven) is `backing`; -1: none. */
int loop_by_backing(const char *backing);
/* The backing file of loop nr; 0, -ENXIO when nothing is attached, -ENOENT when there is no such device. */
int loop_backing(int nr, char *out, size_t cap);

/* From what a user typed: "/dev/loop3", "loop3", "3", "/dev/loop3p1"(refused: names a partition): number or -1. */
int loop_number(const char *text);

#endif
