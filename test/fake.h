/*
 * A source for tests: an image of pseudo-random bytes in memory, whose chunks are handed
 * out when the test says so, in the order it says, right or wrong.
 */
#ifndef FAKE_H
#define FAKE_H

#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "crc32.h"
#include "index.h"
#include "source.h"

#define FAKE_MAX 256

struct fake {
	struct source src;		/* first */
	uint8_t *image;
	uint64_t size;
	uint32_t chunk_size;
	uint8_t *index_file;
	struct index index;
	struct chunk_req *asked[FAKE_MAX];	/* in the order of asking */
	int count;			/* of asked */
	int total, raised;		/* asks and raises ever */
	int at_once;			/* answer from within ask() */
};

static int fake_answer(struct fake *f, int i, int rc);

static void
fake_ask(struct source *src, struct chunk_req *r)
{
	struct fake *f = (struct fake *)src;

	f->asked[f->count++] = r;
	f->total++;
	if (f->at_once)
		fake_answer(f, f->count - 1, 0);
}

static void
fake_raise(struct source *src, struct chunk_req *r)
{
	struct fake *f = (struct fake *)src;

	r->demand = 1;
	f->raised++;
}

static int
fake_drop(struct source *src, struct chunk_req *r)
{
	(void)src, (void)r;
	return 0;
}

static const struct source_ops fake_ops = {
	.ask = fake_ask,
	.raise = fake_raise,
	.drop = fake_drop,
};

static uint32_t
fake_len(const struct fake *f, uint64_t c)
{
	uint64_t left = f->size - c * f->chunk_size;

	return left < f->chunk_size ? (uint32_t)left : f->chunk_size;
}

/* An index over an image of `size` bytes; every chunk is different, but for those made equal by the caller before. */
static void
fake_init(struct fake *f, uint64_t size, uint32_t chunk_size)
{
	uint64_t n = (size + chunk_size - 1) / chunk_size, i;

	memset(f, 0, sizeof(*f));
	f->src.ops = &fake_ops;
	f->size = size;
	f->chunk_size = chunk_size;
	f->image = malloc(size);
	f->index_file = malloc(n * 32);
	for (i = 0; i < size; i++)
		f->image[i] = (uint8_t)(i * 2654435761u >> 13);
	for (i = 0; i < n; i++) {
		memcpy(f->image + i * chunk_size, &i, fake_len(f, i) < 8 ? 1 : 8);
		chunk_digest(f->index_file + i * 32, f->image + i * chunk_size, fake_len(f, i), NULL);
	}
	f->index.entries = f->index_file;
	f->index.count = n;
	f->index.size = size;
	f->index.chunk_size = f->index.chunk_max = chunk_size;
}

static void
fake_free(struct fake *f)
{
	free(f->image);
	free(f->index_file);
}

/* Ends the i-th of the asked: rc 0 with the right chunk, 1 with a damaged one, < 0 with that error. */
static int
fake_answer(struct fake *f, int i, int rc)
{
	static const uint8_t magic[8] = { 0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1 };
	struct chunk_req *r = f->asked[i];
	uint64_t c;
	uint32_t len, crc;

	memmove(&f->asked[i], &f->asked[i + 1], sizeof(f->asked[0]) * (size_t)(--f->count - i));
	for (c = 0; c < f->index.count && memcmp(f->index_file + c * 32, r->digest, 32) != 0; c++)
		;
	if (c == f->index.count)
		return -1;
	len = fake_len(f, c);
	req_place(r, magic);
	memcpy(r->raw, magic, 8);
	memcpy(r->raw + 12, f->image + c * f->chunk_size, len);
	crc = crc32_update(0, r->raw + 12, len) ^ (rc > 0);
	r->raw[8] = (uint8_t)crc;
	r->raw[9] = (uint8_t)(crc >> 8);
	r->raw[10] = (uint8_t)(crc >> 16);
	r->raw[11] = (uint8_t)(crc >> 24);
	r->len = len + 12;
	r->rc = rc < 0 ? rc : 0;
	if (rc < 0)
		err_set(&r->err, ST_FAIL, rc, "made to fail");
	r->done(r);
	return 0;
}

#endif
