/*
 * The mounts of file archives. The kernel's list of mounts is their registry: the mount's source is
 * "NAME#PID", so there are no files that could be left behind.
 */
#ifndef MOUNTS_H
#define MOUNTS_H

#include <stddef.h>
#include <sys/types.h>

#include "err.h"

struct mounts_entry {
	const char *point;
	char name[4096];		/* as people write it */
	pid_t pid;
	unsigned connection;		/* minor number of its device */
	int alive;			/* does its process serve it? */
};

/* The source of a mount of this process. */
void mounts_source(const char *name, char *out, size_t cap);

/* Calls fn for each, until it returns other than 0, and returns that. */
int mounts_each(int (*fn)(void *ctx, const struct mounts_entry *m), void *ctx);

/* Ends the one at this directory, or of this name or a name's end. -ENOENT, and *e untouched: there is none. */
int mounts_undo(const char *what, int force, struct err *e);
/* Takes away what a dead one left on this directory. */
void mounts_tidy(const char *point);
/* Ends all; the first reason to *e (may be NULL), others are said. */
int mounts_undo_all(int force, struct err *e);

#endif
