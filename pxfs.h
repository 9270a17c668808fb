/*
 * A file archive as a read-only FUSE file system. Never blocks: an operation whose bytes are not there is
 * tried again when they have come; file data goes its own way, through image_read().
 */
#ifndef PXFS_H
#define PXFS_H

#include "fetch.h"
#include "fusedev.h"
#include "image.h"
#include "pxar.h"

struct pxfs;

struct pxfs_conf {
	struct fetch *fetch;
	struct image *image[2];		/* of the archive, of the payload archive (or NULL); their answer is fuse_answer() */
	struct pxar px;			/* opened; read and ctx are not used */
	uint64_t root;			/* id of the directory that is shown */
	int timeout;			/* s until an operation that waits fails */
	int background;
};

/* conf is copied. */
struct pxfs *pxfs_new(const struct pxfs_conf *conf, struct err *e);
extern const struct fuse_lowlevel_ops pxfs_ops;	/* their context is a struct pxfs */

/* Is there no room for another request? */
int pxfs_full(void *fs);
/* Fails what has waited too long; ms until the next, -1: nothing waits. */
int pxfs_expire(struct pxfs *fs);
/* Fails all that waits; the images must have been ended. */
void pxfs_end(struct pxfs *fs);
void pxfs_free(struct pxfs *fs);

#endif
