/* The state of a restore that may be interrupted: which chunks are safe on the target. A file of the user's. */
#ifndef RESUME_H
#define RESUME_H

#include <stdint.h>

#include "err.h"
#include "index.h"
#include "manifest.h"

struct resume {
	const char *path;
	int fd;				/* -1: none */
	uint64_t bytes;			/* of the bits */
};

/* Opens or makes it; bits of what was done are set in `done`. 1: it had been begun, 0: it is new. Of another archive: -EINVAL, ST_BUSY. */
int resume_open(struct resume *r, const char *path, const struct manifest_file *f, const struct index *x, uint8_t *done,
    struct err *e);
/* To be called after the target was synced. 0 or a negative errno. */
int resume_save(const struct resume *r, const uint8_t *done);
/* `finished`: nothing is left to be done, the file goes. */
void resume_close(struct resume *r, int finished);

#endif
