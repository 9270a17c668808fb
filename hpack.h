/*
 * HPACK (RFC 7541): header blocks of HTTP/2. The decoder is whole, with a dynamic table, since a peer may use one until
 * it has read that we offer none; the encoder writes the four fields of a GET and needs no table. No I/O, no allocation.
 */
#ifndef HPACK_H
#define HPACK_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "err.h"

/* A decoded field; both strings end with a NUL that does not count. Valid during the call. Returns 0 to go on or a negative errno. */
typedef int (*hpack_field)(void *ctx, const char *name, size_t name_len, const char *value, size_t value_len);

struct hpack {
	uint32_t limit;			/* bytes our settings allow, as far as the peer has acknowledged them */
	uint32_t max;			/* bytes the peer has chosen, at most limit */
	uint32_t size;			/* bytes in use, as the RFC counts: 32 more than the strings of each entry */
	int must_update;		/* the limit has sunk: the next block begins with an update */
	unsigned count;			/* entries, newest first, their strings in the same order in data */
	struct {
		uint16_t name, value;	/* lengths */
	} entry[HPACK_TABLE_MAX / 32];
	char data[HPACK_TABLE_MAX];
	char field[HPACK_FIELD_MAX + 2];
};

void hpack_init(struct hpack *h, uint32_t limit);	/* limit <= HPACK_TABLE_MAX */
/* The peer has acknowledged a new SETTINGS_HEADER_TABLE_SIZE. */
void hpack_limit(struct hpack *h, uint32_t limit);

/* Decodes a whole header block. -EPROTO, ST_FAIL with the reason: the connection cannot go on. A failure of fn is
 * returned as it is, and the table is then no longer that of the peer either. */
int hpack_decode(struct hpack *h, const uint8_t *p, size_t n, hpack_field fn, void *ctx, struct err *e);

/* Writes the block of `GET https://authority/path` to out[cap]: its length, or -ENOBUFS. */
int hpack_get(uint8_t *out, size_t cap, const char *authority, const char *path);

#endif
