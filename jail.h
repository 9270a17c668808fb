/*
 * Giving up rights, for good. What each part of a daemon keeps is said here and in the manual; system calls are in filter.c.
 */
#ifndef JAIL_H
#define JAIL_H

#include <stdint.h>

#include "err.h"

enum jail_role {
	JAIL_MONITOR,			/* detaches, unmounts, cleans up: root with three capabilities */
	JAIL_WORKER,			/* talks, decodes, serves: an id of its own, no capability, opens nothing */
	JAIL_FILES,			/* opens files of a datastore, for reading: root with CAP_DAC_READ_SEARCH */
	JAIL_NAMES,			/* looks up host names: an id of its own, no capability */
};

struct jail {
	enum jail_role role;
	int stay;			/* keeps root's id: what is to be read is root's alone */
	int network;			/* a worker's: it may connect to servers, */
	uint16_t port;			/*   at this port; 0: at any */
	const int *dir;			/* descriptors of directories beneath which it may read; */
	int dirs;			/*   their number, -1: everywhere */
};

/* For a process with one thread. What this kernel does not have (seccomp, Landlock) is noted and done without; -EPERM when what must be given
 * up is not. Who is not root keeps his id and has no capabilities. */
int jail_enter(const struct jail *j, struct err *e);

/* Secrets: not to a swap, not to a core. */
void jail_keep(void *secret, unsigned long n);

/* filter.c: the list of system calls. 0, or a negative errno: this kernel has no such filters. */
int filter_install(enum jail_role role, int network);

#endif
