/*
 * Which chunk is loaded next: merges equal wishes, demand before read-ahead, retries
 * what came damaged, hands verified bytes to whoever waits.
 *
 * All functions are the main thread's. The source's threads and the workers only ever
 * touch a load while it is theirs.
 */
#ifndef FETCH_H
#define FETCH_H

#include <stdint.h>

#include "blob.h"
#include "cache.h"
#include "err.h"
#include "key.h"
#include "source.h"

struct fetch;

struct fetch_conf {
	struct source *source;
	const struct key *key;		/* NULL: none; must outlive the fetcher */
	uint64_t cache;			/* bytes of verified chunks */
	uint32_t chunk_max;		/* bytes of the largest chunk */
	int varied;			/* chunks of many sizes: dynamic indexes */
	int loads;			/* chunks on their way at once, at most */
	int workers;			/* threads that decode */
	/* For who wants every chunk once; NULL: not used. offset is that of the wait. */
	void *ctx;
	/* On a worker, with bytes just verified. An error (not -EBADMSG, which would be tried again) fails the load. */
	int (*use)(void *ctx, const struct chunk_want *want, uint64_t offset, const uint8_t *data, struct err *e);
	/* On the main thread, instead of a log line: why a chunk could not be had, without its name. ready() follows. */
	void (*failed)(void *ctx, const struct chunk_want *want, uint64_t offset, int rc, const struct err *e);
};

/* One reader of one chunk; the caller's memory until ready() or fetch_cancel(). */
struct fetch_wait {
	struct chunk_want want;
	uint64_t offset;		/* where in the image, for the log */
	/* data: want.len bytes, valid during the call only; NULL when rc < 0. May call fetch_get(). */
	void (*ready)(struct fetch_wait *, const uint8_t *data, int rc);
	struct slot *slot;		/* the fetcher's: */
	struct first *first;
	struct fetch_wait *next, *prev;
};

struct fetch *fetch_new(const struct fetch_conf *conf, struct err *e);

/* The chunk's bytes when they are there (valid until the next call of any function here); else NULL, and w->ready()
 * will be called once, from fetch_turn(). want, offset and ready are set by the caller. */
const uint8_t *fetch_get(struct fetch *f, struct fetch_wait *w);
/* The chunk's bytes when they are there, without a wish for them (several may be peeked at one after the other). */
const uint8_t *fetch_peek(struct fetch *f, const struct chunk_want *want);
/* The reader no longer waits. */
void fetch_cancel(struct fetch *f, struct fetch_wait *w);

/* Reads ahead: 1 when the chunk is there or on its way, 0 when there is no room now. */
int fetch_ahead(struct fetch *f, const struct chunk_want *want, uint64_t offset);

/* Poll this descriptor for reading, then call fetch_turn(): serves what has come. */
int fetch_fd(const struct fetch *f);
void fetch_turn(struct fetch *f);

/* Loads one chunk and waits for it, before there is a main loop: 0, or the reason with *e set. stop_fd: gives up
 * when it is readable (-1: never). w is not used after the return. */
int fetch_first(struct fetch *f, struct fetch_wait *w, int stop_fd, struct err *e);

/* Is nothing on its way? */
int fetch_idle(const struct fetch *f);

struct fetch_stats {
	unsigned long long asked, ahead, hits, failed;	/* chunks, chunks, reads, chunks */
	unsigned long long raw;				/* bytes of raw blobs that came */
};
void fetch_stats(const struct fetch *f, struct fetch_stats *st);

/* Ends the workers. Waiting readers are not called. The source must have been closed before. */
void fetch_free(struct fetch *f);

#endif
