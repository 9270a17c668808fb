/*
 * Index files.  Pure; the entries stay where the caller has them (an index may
 * be a mapped file of gigabytes), so a lookup reads them as stored.
 *
 * Once index_parse() has returned 0, every chunk below count has a length of
 * 1 to chunk_max bytes, and the lengths' sum is size.
 */
#include "index.h"

#include <errno.h>
#include <string.h>

#include "bytes.h"
#include "config.h"
#include "sha256.h"

#define HEAD 4096u			/* bytes of header, of both kinds */
#define FIXED_ENTRY 32u
#define DYNAMIC_ENTRY 40u

static const uint8_t fixed_magic[8] = { 0x2f, 0x7f, 0x41, 0xed, 0x91, 0xfd, 0x0f, 0xcd };
static const uint8_t dynamic_magic[8] = { 0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd };

static int
damaged(struct err *e, const char *why)
{
	return err_set(e, ST_DAMAGED, -EBADMSG, "%s", why);
}

static uint64_t
chunk_end(const struct index *x, uint64_t chunk)
{
	return get64le(x->entries + chunk * DYNAMIC_ENTRY);
}

/* Not above chunk_max, so 32 bits do. */
static uint32_t
chunk_len(const struct index *x, uint64_t chunk)
{
	uint64_t start = index_start(x, chunk);

	if (x->chunk_size == 0)
		return (uint32_t)(chunk_end(x, chunk) - start);
	return x->size - start < x->chunk_size ? (uint32_t)(x->size - start) : x->chunk_size;
}

static const uint8_t *
chunk_id(const struct index *x, uint64_t chunk)
{
	return x->chunk_size == 0 ? x->entries + chunk * DYNAMIC_ENTRY + 8 :
	    x->entries + chunk * FIXED_ENTRY;
}

/* body: bytes after the header. */
static int
parse_fixed(const uint8_t *p, size_t body, struct index *x, struct err *e)
{
	uint64_t chunk_size = get64le(p + 72);

	/* File offsets are signed: nothing larger could be read. */
	x->size = get64le(p + 64);
	if (x->size > INT64_MAX)
		return damaged(e, "impossible size");
	if (chunk_size < FIXED_CHUNK_MIN || chunk_size > FIXED_CHUNK_MAX ||
	    (chunk_size & (chunk_size - 1)) != 0)
		return damaged(e, "impossible chunk size");
	x->chunk_size = (uint32_t)chunk_size;
	/* Not (size + chunk_size - 1): that could wrap. */
	x->count = x->size / chunk_size + (x->size % chunk_size != 0);
	x->chunk_max = x->size < chunk_size ? (uint32_t)x->size : x->chunk_size;
	if (body % FIXED_ENTRY != 0 || body / FIXED_ENTRY != x->count)
		return err_set(e, ST_DAMAGED, -EBADMSG, "%s (%llu bytes of entries, for %llu chunks)",
		    body / FIXED_ENTRY < x->count ? "cut off" : "too long",
		    (unsigned long long)body, (unsigned long long)x->count);
	return 0;
}

static int
parse_dynamic(size_t body, struct index *x, struct err *e)
{
	uint64_t i, end, last = 0;

	if (body % DYNAMIC_ENTRY != 0)
		return damaged(e, "cut off");
	x->count = body / DYNAMIC_ENTRY;
	for (i = 0; i < x->count; i++, last = end) {
		end = chunk_end(x, i);
		/* Rising, so end - last cannot wrap. */
		if (end <= last || end - last > CHUNK_MAX || end > INT64_MAX)
			return err_set(e, ST_DAMAGED, -EBADMSG, "impossible end of chunk %llu",
			    (unsigned long long)i);
		if (end - last > x->chunk_max)
			x->chunk_max = (uint32_t)(end - last);
	}
	x->size = last;
	return 0;
}

int
index_parse(const uint8_t *p, size_t len, const struct manifest_file *mf,
    struct index *x, struct err *e)
{
	uint8_t csum[32];
	int rc;

	memset(x, 0, sizeof(*x));
	if (len < HEAD)
		return damaged(e, "cut off");
	x->entries = p + HEAD;
	x->encrypted = mf->crypt == CRYPT_ENCRYPT;
	if (memcmp(p, fixed_magic, 8) == 0)
		rc = parse_fixed(p, len - HEAD, x, e);
	else if (memcmp(p, dynamic_magic, 8) == 0)
		rc = parse_dynamic(len - HEAD, x, e);
	else
		rc = damaged(e, "no index (wrong magic number)");
	if (rc != 0)
		return rc;
	/* Before the checksum, which takes longer; the manifest may be signed, the index is not. */
	if (x->size != mf->size)
		return err_set(e, ST_DAMAGED, -EBADMSG, "size %llu, but the manifest says %llu",
		    (unsigned long long)x->size, (unsigned long long)mf->size);
	sha256(csum, x->entries, len - HEAD);
	if (memcmp(csum, p + 32, 32) != 0)
		return damaged(e, "wrong checksum");
	if (memcmp(csum, mf->csum, 32) != 0)
		return damaged(e, "another checksum than the manifest says");
	return 0;
}

/* The digest of len zeros, without having them in memory at once. */
static void
zero_digest(uint8_t digest[32], uint32_t len, const struct key *key)
{
	static uint8_t zeros[4096];	/* not const: so it takes no room in the program */
	struct sha256 c;
	uint32_t part;

	sha256_init(&c);
	for (; len > 0; len -= part) {
		part = len < sizeof(zeros) ? len : (uint32_t)sizeof(zeros);
		sha256_update(&c, zeros, part);
	}
	if (key != NULL)
		sha256_update(&c, key->id_key, sizeof(key->id_key));
	sha256_final(&c, digest);
}

void
index_learn_zero(struct index *x, const struct key *key)
{
	const struct key *k = x->encrypted ? key : NULL;
	uint32_t last;

	if (x->chunk_size == 0 || x->count == 0 || (x->encrypted && key == NULL))
		return;
	/* Of a dynamic index every chunk has a length of its own: not worth it. */
	last = chunk_len(x, x->count - 1);
	zero_digest(x->zero[1], last, k);
	if (last == x->chunk_size)
		memcpy(x->zero[0], x->zero[1], 32);
	else
		zero_digest(x->zero[0], x->chunk_size, k);
	x->has_zero = 1;
}

uint64_t
index_find(const struct index *x, uint64_t offset)
{
	uint64_t lo = 0, hi, mid;

	if (x->chunk_size != 0)
		return offset / x->chunk_size;
	/* The first chunk whose end is beyond offset. */
	for (hi = x->count - 1; lo < hi; ) {
		mid = lo + (hi - lo) / 2;
		if (chunk_end(x, mid) > offset)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

uint64_t
index_start(const struct index *x, uint64_t chunk)
{
	if (x->chunk_size != 0)
		return chunk * x->chunk_size;
	return chunk == 0 ? 0 : chunk_end(x, chunk - 1);
}

void
index_chunk(const struct index *x, uint64_t chunk, struct chunk_want *want)
{
	memcpy(want->digest, chunk_id(x, chunk), sizeof(want->digest));
	want->len = chunk_len(x, chunk);
	want->encrypted = x->encrypted;
}

int
index_is_zero(const struct index *x, uint64_t chunk)
{
	return x->has_zero && memcmp(chunk_id(x, chunk), x->zero[chunk == x->count - 1], 32) == 0;
}
