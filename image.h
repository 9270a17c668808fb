/*
 * An archive's bytes: reads of any offset and length, put together from chunks, answered
 * in any order. One thread's.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>
#include <sys/uio.h>

#include "err.h"
#include "fetch.h"
#include "index.h"

struct image;

struct image_conf {
	struct fetch *fetch;
	const struct index *index;
	uint64_t size;			/* bytes; past the index's size come zeros */
	int timeout;			/* s until a waiting read fails with EIO; 0: never */
	unsigned ahead;			/* chunks to read ahead at most; 0: none */
	/* The answer to one read: rc 0 and the bytes (valid during the call only), or rc < 0. */
	void (*answer)(void *tag, const struct iovec *iov, int n, int rc);
};

struct image *image_new(const struct image_conf *conf, struct err *e);
void image_free(struct image *m);

/* Reads len (at most READ_MAX) bytes; cut at the end. answer(tag) is called exactly once, perhaps
 * before this returns. Not while image_full(). */
void image_read(struct image *m, uint64_t offset, uint32_t len, void *tag);
int image_full(const struct image *m);
/* This byte is about to be read: its chunk is read ahead, when there is room. */
void image_soon(struct image *m, uint64_t offset);

/* The first bytes at offset (len, below 2^31, is not 0), as far as they lie in one chunk that is there: their number. 0: w->ready(),
 * set by the caller, will be called once (or fetch_cancel() it). -EIO after image_end(). */
int image_peek(struct image *m, uint64_t offset, void *buf, uint32_t len, struct fetch_wait *w);

/* Answers the read with -EINTR if it still waits then, in so many ms (0: now). With a timeout only. */
void image_interrupt(struct image *m, void *tag, int ms);
/* Answers the reads whose time is up with -EIO; returns the ms until the next one's, -1: none waits. */
int image_expire(struct image *m);
/* From now on all reads fail with -EIO, those that wait at once. */
void image_end(struct image *m);
/* Goes on reading ahead where there was no room before; after each fetch_turn(). */
void image_ahead(struct image *m);

#endif
