/* The commands `unmap` and `status`. */
#ifndef UNMAP_H
#define UNMAP_H

#include "err.h"

struct unmap_opts {
	const char *what;		/* name or its end, device, number; NULL: none */
	int all, force, json;		/* json: when it only lists */
};

/* Undoes mappings; without what and all it prints what status_run() does. Lists of holders or matches
 * go to stderr first, the reason to *e. 0 or a negative errno. */
int unmap_run(const struct unmap_opts *o, struct err *e);

/* Prints the mappings to stdout, after cleaning the leftovers of dead ones. */
int status_run(int json, struct err *e);

/* Is `what` the end of this name, by whole components? ".fidx" or ".didx" behind it does not matter. */
int unmap_is_end(const char *what, const char *full);

#endif
