/* Through a file archive in its own order: each entry once, directories before and after what is in them. */
#ifndef PXWALK_H
#define PXWALK_H

#include "view.h"

enum pxwalk_what {
	PXWALK_ENTRY,			/* of a directory: what is in it follows */
	PXWALK_LEAVE,			/* a directory: that was all */
	PXWALK_BAD,			/* what is damaged or could not be read; view_error() tells more */
};

struct pxwalk_entry {
	enum pxwalk_what what;
	const char *path;		/* from the archive's root, "a/b"; "": the root; of PXWALK_BAD without a name the directory */
	const char *name;		/* its last part */
	const struct pxar_stat *st;	/* not of PXWALK_BAD */
	const struct pxar_child *child;	/* NULL: the root, PXWALK_BAD */
	int above;			/* a directory on the way to what was asked for */
	int rc;				/* PXWALK_BAD: why */
};

/* Visits the directories on the way to path, what is there, and, with depth > 0, as many levels of what is in it.
 * fn returns 0 to go on. Returns 0, what fn returned, or a negative errno with *e set (nothing is at path; interrupted). */
int pxwalk(struct view *v, const char *path, int depth,
    int (*fn)(void *ctx, const struct pxwalk_entry *ent), void *ctx, struct err *e);

#define PXWALK_ALL 2000			/* levels; deeper ones are damage */

/* For a linked entry: where the first name of it is, as the archive tells and as it is true. 0 or a negative errno. */
int pxwalk_first(struct view *v, const struct pxwalk_entry *ent, char out[PXAR_TARGET]);

#endif
