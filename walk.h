/*
 * Every chunk of some archives once, however often it is used, many at a time and in any
 * order: for restore and verify. Knows nothing of targets or reports.
 *
 * Places are numbered through all archives: those of archive a begin at walk_base(a).
 */
#ifndef WALK_H
#define WALK_H

#include <stdint.h>

#include "err.h"
#include "index.h"
#include "opt.h"
#include "snap.h"

#define WALK_NONE UINT32_MAX

struct walk;

struct walk_conf {
	const struct opts *o;
	const struct snap *snap;
	const struct archive *archives;	/* outlive the walk */
	unsigned count;
	int more_workers;		/* threads beyond one a CPU: they wait for a disk that is written */
	int skip_zero;			/* chunks known to be zeros are left out */
	const uint8_t *skip;		/* NULL, or bits: places that are left out; not changed while it runs */
	void *ctx;
	/* On a worker: the verified bytes of the chunk whose first place this is; see walk_next(). NULL: no need.
	 * An error (not -EBADMSG) fails the chunk. */
	int (*use)(void *ctx, uint32_t place, const uint8_t *data, struct err *e);
	/* On the main thread: what became of it. Without an error e is NULL. Returns 0 to go on, else walk_run() ends with that. */
	int (*done)(void *ctx, uint32_t place, int rc, const struct err *e);
	/* On the main thread, between chunks; returns ms until it wants to be called again. */
	int (*tick)(void *ctx);
};

/* Plans the way. NULL: *e says why. */
struct walk *walk_new(const struct walk_conf *conf, struct err *e);
/* 0, what done() returned, -EINTR when stop is readable, -ETIMEDOUT when nothing came for the time the user gave; *e is set except
 * by done(). */
int walk_run(struct walk *w, int stop, struct err *e);
/* The source must have been closed before: then no use() runs any more after this. */
void walk_free(struct walk *w);

/* The first place from there on that is walked: that is the first of its chunk's; WALK_NONE. */
uint32_t walk_first(const struct walk *w, uint32_t from);
/* The next place with the same chunk that is not skipped; WALK_NONE: there is none. Callable from use() and done(). */
uint32_t walk_next(const struct walk *w, uint32_t place);
/* The archive that a place is in; *chunk is its number there. */
const struct archive *walk_archive(const struct walk *w, uint32_t place, uint64_t *chunk);
uint32_t walk_chunks(const struct walk *w);	/* distinct ones that are walked */
struct fetch *walk_fetch(const struct walk *w);	/* between walks */

static inline int
bit_get(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}

static inline void
bit_set(uint8_t *bits, uint32_t i)
{
	bits[i / 8] |= (uint8_t)(1 << i % 8);
}

#endif
