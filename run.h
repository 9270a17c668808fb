/*
 * The registry of mappings in /run/pbs-loopdev, shared with the official client: NAME is the FUSE mount
 * point (a regular file), NAME's pid file holds the decimal pid. See reference "mapping on disk".
 */
#ifndef RUN_H
#define RUN_H

#include <stddef.h>
#include <sys/types.h>

#include "err.h"
#include "repo.h"

#define RUN_NAME 256			/* a file name, with its NUL */

enum run_state {
	RUN_ALIVE,			/* process lives, device attached */
	RUN_STARTING,			/* process lives, no device yet (young pid file) */
	RUN_LOST,			/* process lives, has lost its loop device or FUSE connection */
	RUN_DEAD,			/* process is gone: leftovers */
	RUN_UNKNOWN,			/* /proc cannot be read: nothing is done to it */
};

struct run_entry {
	char name[RUN_NAME];		/* as in the directory */
	pid_t pid;			/* 0: no pid file */
	int loop_nr;			/* -1: none */
	enum run_state state;
	unsigned long long size;	/* bytes of the device; 0 when none */
};

/* REPOSITORY:[ns/NAME/]*SNAPSHOT/ARCHIVE, systemd-escaped; more than 255 bytes (pid file included): digest in front, tail kept. */
void run_name(const struct repo *r, const struct snapshot *s, const char *archive, char out[RUN_NAME]);
/* The same unescaped, for people: control characters as '?'; a shortened name is "DIGEST.../vm/100/…". */
void run_unescape(const char *name, char *out, size_t cap);
/* The pid file's name: suffix after the last '.' replaced by "pid", as the official client does. */
void run_pid_name(const char *name, char out[RUN_NAME + 4]);

/* Opens RUN_DIR (0755 root; made when `make`); refused when it is not root's or a link. Returns a directory descriptor or a negative
 * errno (-ENOENT: nothing was ever mapped). Not to be inherited while it is locked. */
int run_dir(int make, struct err *e);

/* Takes the name for this process: lock the directory, clean leftovers of a dead process (saying so), refuse a living one
 * ("already mapped on /dev/loopN", -EEXIST, ST_BUSY), write the pid file, create the mount point O_EXCL. */
int run_claim(int dirfd, const char *name, struct err *e);
/* Removes the name's two files if they are this process's. */
void run_release(int dirfd, const char *name);

/* Fills at most max entries; returns their number or a negative errno. Cleans nothing. */
int run_list(int dirfd, struct run_entry *out, int max, struct err *e);
/* Looks at an entry again, as it is now. 0: nothing is left of it. */
int run_again(int dirfd, struct run_entry *ent);

/* Sends sig to the entry's process, if it still is that, and waits until it is gone. 0 (also when it was
 * gone), -ETIMEDOUT, another negative errno. */
int run_stop(int dirfd, const struct run_entry *ent, int sig, int timeout_ms, struct err *e);
/* Cleans the leftovers of a dead mapping: partitions, loop, FUSE mount, files, without other programs. Nothing when somebody
 * has taken the name since. -EBUSY, ST_BUSY: the loop device is held; the rest is gone. */
int run_clean(int dirfd, const struct run_entry *ent, struct err *e);

#endif
