/*
 * The assignment thread: whatever may block on a loop device (the kernel reads through
 * FUSE while it attaches, an open for detaching waits for a dying reader) is done here, while the main loop goes
 * on answering.
 */
#ifndef ASSIGN_H
#define ASSIGN_H

#include <stdint.h>

#include "err.h"
#include "loop.h"
#include "part.h"

enum assign_task { ASSIGN_NONE, ASSIGN_ATTACH, ASSIGN_CHECK, ASSIGN_DETACH };

struct assign_conf {
	const char *path;		/* the file, absolute */
	const char *name;		/* the same, relative to the working directory */
	int direct;
	unsigned read_ahead;		/* bytes, of loop device and file; 0: the kernel's */
	const struct part_table *table;	/* partitions to add; its sector is the device's */
};

struct assign;

struct assign *assign_new(const struct assign_conf *conf, struct err *e);
/* Begins a task; one at a time: not before assign_done() has told the end of the one before. */
void assign_begin(struct assign *a, enum assign_task task);
/* Poll this for reading, then call assign_done(): the task that has ended and its result, or ASSIGN_NONE.
 * ATTACH: 0 with *l filled (no descriptor in it), or an error. CHECK: 0 while the device is ours, -ENXIO when it no longer is. DETACH: 0 or an error. */
int assign_fd(const struct assign *a);
enum assign_task assign_done(struct assign *a, struct loop *l, int *rc, struct err *e);
/* After the file was closed: a task still under way is waited for (2 s), a device that is still there detached. A thread that
 * hangs all the same is left to the process's end, with its memory. */
void assign_free(struct assign *a);

#endif
