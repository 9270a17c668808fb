/*
 * One look at a name of the registry: its files, mount, device and process,
 * and what they make together.  For run.c.
 */
#ifndef LOOK_H
#define LOOK_H

#include "config.h"
#include "run.h"

#define LOOK_YOUNG 60		/* s that a mapping may take from its pid file to its device */

struct look {
	int dirfd;
	int has_pid_file, has_file;	/* ours by their looks: root's, small, regular */
	int is_mounted;
	int is_young;
	pid_t pid;			/* by the pid file */
	unsigned connection;		/* FUSE: minor number of the mount; 0: unknown */
	char path[sizeof RUN_DIR + RUN_NAME];
};

/* Fills *ent for its name, and *k. 0: there is no such mapping, 1: there is. Changes nothing, and asks
 * no server of a mount. */
int look_at(int dirfd, struct run_entry *ent, struct look *k);

/* The pid file's number (k->dirfd set); 0: there is none. Anything but digits is somebody else's file. */
pid_t look_pid(struct look *k, const char *name);

#endif
