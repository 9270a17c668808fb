/*
 * Recognises sequential readers, several at a time, and says how far to read ahead
 * of each. Pure bookkeeping by chunk number.
 */
#ifndef AHEAD_H
#define AHEAD_H

#include <stdint.h>

#define AHEAD_STREAMS 8			/* sequential readers followed at once */

struct ahead_stream {
	uint64_t chunk;			/* the furthest one read */
	uint64_t upto;			/* first one not read ahead yet */
	unsigned window;		/* chunks to be ahead; 0: not known to be sequential */
	uint64_t bytes;			/* read in `chunk` */
	uint64_t used;			/* clock of the last read; 0: no stream */
};

struct ahead {
	struct ahead_stream stream[AHEAD_STREAMS];
	uint64_t clock;
	unsigned max;			/* chunks, largest window; 0: never read ahead */
};

/* A read of `bytes` bytes that ends in `chunk` (of chunk_size bytes). Returns the stream it belongs to: its chunks from `upto` up to and
 * without chunk + window + 1 are to be read ahead now, and `upto` moved as far as that was done. */
struct ahead_stream *ahead_note(struct ahead *a, uint64_t chunk, uint64_t bytes, uint64_t chunk_size);

#endif
