/*
 * Recognises sequential readers. A reader is sequential when it goes from a chunk to
 * one of the next few (direct readers ask for several at once, out of order), or when it
 * has read a good part of one chunk. The window doubles from chunk to chunk, up to `max`;
 * a jump is another stream, which begins with none, so random readers cost nothing.
 */
#include <stddef.h>

#include "ahead.h"

/* A chunk this far before or after the furthest one is still the same reader's. */
static int
belongs(const struct ahead_stream *s, uint64_t chunk)
{
	uint64_t reach = s->window > 2 ? s->window : 2;

	return s->used && chunk + 2 >= s->chunk && chunk <= s->chunk + reach;
}

static struct ahead_stream *
pick(struct ahead *a, uint64_t chunk)
{
	struct ahead_stream *s, *best = NULL, *oldest = a->stream;
	int i;

	for (i = 0; i < AHEAD_STREAMS; i++) {
		s = &a->stream[i];
		if (belongs(s, chunk) && (best == NULL || s->used > best->used))
			best = s;
		if (s->used < oldest->used)
			oldest = s;
	}
	if (best == NULL) {
		best = oldest;
		best->chunk = chunk;
		best->upto = chunk + 1;
		best->window = 0;
		best->bytes = 0;
	}
	return best;
}

struct ahead_stream *
ahead_note(struct ahead *a, uint64_t chunk, uint64_t bytes, uint64_t chunk_size)
{
	struct ahead_stream *s = pick(a, chunk);

	s->used = ++a->clock;
	s->bytes += bytes;
	if (chunk > s->chunk) {
		s->window = s->window ? s->window * 2 : 1;
		s->chunk = chunk;
		s->bytes = bytes;
	} else if (s->window == 0 && s->bytes >= chunk_size / 4 && bytes < s->bytes) {
		s->window = 1;
	}
	if (s->window > a->max)
		s->window = a->max;
	if (s->upto <= s->chunk)
		s->upto = s->chunk + 1;
	return s;
}
