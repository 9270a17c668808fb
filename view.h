/*
 * A file archive of a snapshot, opened and checked: what mount, list and restore begin with. Reads through it wait;
 * they are for when there is no main loop, or before.
 */
#ifndef VIEW_H
#define VIEW_H

#include "image.h"
#include "opt.h"
#include "pxar.h"
#include "snap.h"

struct view {
	struct snap snap;
	struct archive archive[2];	/* the archive; of a split one also the payload's */
	int split;
	char name[256];			/* as users name it: "root.pxar" */
	struct fetch *fetch;
	struct image *image[2];
	struct pxar px;			/* its read() waits, for the chunk or for `stop` */
	int stop;			/* descriptor; reading ends when it is readable */
	struct err err;			/* why the last read failed, */
	int failed;			/*   if one did; 2: it is the whole reason, and what was not the archive's fault */
};

/* Opens operands 0 and 1 (snapshot, archive), unified or split. answer: for image_read(), or NULL.
 * view_close() in any case. */
int view_open(struct view *v, const struct opts *o, int stop,
    void (*answer)(void *tag, const struct iovec *iov, int n, int rc), struct err *e);
void view_close(struct view *v);

/* What a user calls an archive, as he should: "root.pxar" also for one of a split one's halves. cap: 256. */
int view_name(const char *text, char *name, size_t cap, struct err *e);

/* The reason of a pxar function's rc < 0 with the name of what was looked at; returns rc. */
int view_error(struct view *v, int rc, const char *what, struct err *e);

#endif
