/*
 * Blobs: any bytes as they are, and as the payload of a right one of each kind: CRC, tag and encryption fit. What decodes is a
 * chunk by its own digest and length, and by no other.
 */
#include <stdlib.h>
#include <string.h>

#include <bearssl.h>

#include "../blob.h"
#include "../crc32.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { CAP = 1 << 18 };

static struct blob_worker *worker;
static const struct key key = { .key = { 7 }, .id_key = { 9 } };

/* Fills out; its length, or a negative errno. */
static long
decode(const uint8_t *p, size_t n, uint8_t *out, size_t cap, int *encrypted)
{
	uint8_t *raw = malloc(n ? n : 1);
	struct err e = { .text = "" };
	size_t len = 0;
	int rc;

	if (n > 0)
		memcpy(raw, p, n);
	rc = blob_decode(worker, &key, raw, n, out, cap, &len, encrypted, &e);
	if ((rc == 0) != (e.text[0] == '\0') || len > cap)
		abort();
	free(raw);
	return rc < 0 ? rc : (long)len;
}

static int
is_chunk(const uint8_t *p, size_t n, const struct chunk_want *want, const struct key *k)
{
	uint8_t *raw = malloc(n), *out = malloc(want->len ? want->len : 1);
	struct err e;
	int rc;

	memcpy(raw, p, n);
	rc = chunk_decode(worker, k, want, raw, n, out, &e);
	free(raw);
	free(out);
	return rc == 0;
}

static void
set_crc(uint8_t *raw, size_t head, size_t n)
{
	uint32_t crc = crc32_update(0, raw + head, n - head);
	int i;

	for (i = 0; i < 4; i++)
		raw[8 + i] = (uint8_t)(crc >> 8 * i);
}

static void
check_chunk(const uint8_t *raw, size_t n, const uint8_t *out, size_t len, int encrypted)
{
	struct chunk_want want = { .len = (uint32_t)len, .encrypted = encrypted };

	chunk_digest(want.digest, out, len, encrypted ? &key : NULL);
	if (!is_chunk(raw, n, &want, &key))
		abort();
	want.len++;
	if (is_chunk(raw, n, &want, &key))
		abort();
	if (encrypted && is_chunk(raw, n, &want, NULL))
		abort();
	want.len--;
	if (encrypted && is_chunk(raw, n, &want, NULL))
		abort();
	want.encrypted ^= 1;
	if (is_chunk(raw, n, &want, &key))
		abort();
	want.encrypted ^= 1;
	want.digest[31] ^= 1;
	if (is_chunk(raw, n, &want, &key))
		abort();
}

static void
try_kind(unsigned kind, const uint8_t *p, size_t n)
{
	static const uint8_t magic[4][8] = {
		{ 0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1 }, { 0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f },
		{ 0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0 }, { 0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b },
	};
	size_t head = kind & 2 ? BLOB_HEAD_ENC : BLOB_HEAD;
	uint8_t *raw = calloc(1, n + head), *out = malloc(CAP);
	br_aes_ct64_ctr_keys aes;
	br_gcm_context gcm;
	int encrypted = -1;
	long len;

	memcpy(raw, magic[kind], 8);
	if (n > 0)
		memcpy(raw + head, p, n);
	if (kind & 2) {
		br_aes_ct64_ctr_init(&aes, key.key, 32);
		br_gcm_init(&gcm, &aes.vtable, br_ghash_ctmul64);
		br_gcm_reset(&gcm, raw + 12, 16);
		br_gcm_flip(&gcm);
		br_gcm_run(&gcm, 1, raw + head, n);
		br_gcm_get_tag(&gcm, raw + 28);
	}
	set_crc(raw, head, n + head);
	len = decode(raw, n + head, out, CAP, &encrypted);
	if (encrypted != (int)(kind >> 1) || (!(kind & 1) && len != (n <= CAP ? (long)n : -1)))
		abort();
	if (len >= 0)
		check_chunk(raw, n + head, out, (size_t)len, encrypted);
	free(out);
	free(raw);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	uint8_t *out = malloc(CAP), *raw;
	unsigned kind;

	if (worker == NULL)
		worker = blob_worker_new();
	decode(p, n, out, CAP, NULL);
	decode(p, n, out, n / 2, NULL);
	if (n >= 12) {
		raw = malloc(n);
		memcpy(raw, p, n);
		set_crc(raw, 12, n);
		decode(raw, n, out, CAP, NULL);
		free(raw);
	}
	free(out);
	for (kind = 0; kind < 4; kind++)
		try_kind(kind, p, n);
	return 0;
}
