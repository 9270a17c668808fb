/*
 * What every command that reads chunks begins with: how much memory and how many threads,
 * and reading a few bytes of an archive before there is a main loop.
 */
#ifndef START_H
#define START_H

#include <stddef.h>
#include <stdint.h>

#include "fetch.h"
#include "index.h"
#include "opt.h"
#include "pace.h"
#include "part.h"
#include "progress.h"
#include "snap.h"

/* Bytes for verified chunks: as the user said, else by this machine's memory. */
uint64_t start_cache(const struct opts *o);
/* Chunks of this size to be ahead of a sequential reader, at most. */
unsigned start_ahead(const struct opts *o, uint32_t chunk_max);
/* Threads that decode: as the user said, else one a CPU. */
int start_workers(const struct opts *o);
/* A fetcher for archives whose largest chunk has chunk_max bytes; NULL: *e says why. */
struct fetch *start_fetch(const struct opts *o, const struct snap *s, uint32_t chunk_max, struct err *e);
/* The same for dynamic indexes, whose chunks have many sizes. */
struct fetch *start_fetch_varied(const struct opts *o, const struct snap *s, uint32_t chunk_max, struct err *e);

struct start_reader {
	struct fetch *fetch;
	const struct index *index;
	int stop;			/* gives up when readable; -1: never */
	struct err err;			/* of the read that failed */
};
/* A part_read() whose ctx is a start_reader; zeros behind the end. */
int start_read(void *ctx, uint64_t offset, void *buf, size_t len);
/* The partitions of the image; when they cannot be read, none, and a warning. */
void start_table(struct start_reader *r, struct part_table *t);

/* Waits until the rate allows more, with p shown meanwhile; -EINTR when `stop` is readable. */
int start_pace(const struct fetch *f, struct pace *pace, struct progress *p, int stop);

#endif
