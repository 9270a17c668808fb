/*
 * Blobs as mkstore writes them: compressed when that is smaller, encrypted when
 * there is a key. A part of mkstore.c, kept apart for its length.
 */
#ifndef MKBLOB_H
#define MKBLOB_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <zlib.h>
#include <zstd.h>

#include "mkkey.h"

/* What a thread needs to make blobs. */
struct maker {
	ZSTD_CCtx *zstd;		/* NULL: nothing is compressed */
	EVP_CIPHER_CTX *gcm;
	const uint8_t *key;		/* AES-256 */
	int no_size, flush;		/* how frames are written */
	uint8_t *packed, *blob;
	size_t blob_len;
};

static void
put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static void
put64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static void *
alloc(size_t n)
{
	void *p = calloc(1, n ? n : 1);

	if (p == NULL)
		die("out of memory");
	return p;
}

/* For data of up to room bytes. level < 0: nothing is compressed. */
static void
maker_init(struct maker *m, size_t room, int level, int no_size, int flush, const uint8_t *key)
{
	memset(m, 0, sizeof(*m));
	m->key = key;
	m->no_size = no_size;
	m->flush = flush;
	m->gcm = EVP_CIPHER_CTX_new();
	m->packed = alloc(room);
	m->blob = alloc(room + 44);
	if (level >= 0)
		m->zstd = ZSTD_createCCtx();
	if (m->gcm == NULL || (level >= 0 && m->zstd == NULL))
		die("out of memory");
	if (level >= 0) {
		ZSTD_CCtx_setParameter(m->zstd, ZSTD_c_compressionLevel, level);
		ZSTD_CCtx_setParameter(m->zstd, ZSTD_c_contentSizeFlag, !no_size);
	}
}

static void
maker_free(struct maker *m)
{
	ZSTD_freeCCtx(m->zstd);
	EVP_CIPHER_CTX_free(m->gcm);
	free(m->packed);
	free(m->blob);
}

/* One frame, or 0 when it would not be smaller than the data. With flush a
 * block every 100,000 bytes, as writers that stream may do it. */
static size_t
pack(struct maker *m, const uint8_t *data, size_t len)
{
	ZSTD_outBuffer out = { m->packed, len ? len - 1 : 0, 0 };
	size_t piece = m->flush ? 100000 : len, rc, pos = 0;

	if (m->zstd == NULL || len == 0)
		return 0;
	ZSTD_CCtx_reset(m->zstd, ZSTD_reset_session_only);
	if (!m->no_size)
		ZSTD_CCtx_setPledgedSrcSize(m->zstd, len);
	while (pos < len) {
		size_t n = len - pos < piece ? len - pos : piece;
		ZSTD_inBuffer in = { data + pos, n, 0 };
		int last = pos + n == len;

		do {
			rc = ZSTD_compressStream2(m->zstd, &out, &in,
			    last ? ZSTD_e_end : ZSTD_e_flush);
			if (ZSTD_isError(rc))
				die("zstd: %s", ZSTD_getErrorName(rc));
			if (rc != 0 && out.pos == out.size)
				return 0;
		} while (rc != 0);
		pos += n;
	}
	return out.pos;
}

/* Makes m->blob of the data. */
static void
maker_blob(struct maker *m, const uint8_t *data, size_t len, int encrypt)
{
	static const uint8_t magic[2][2][8] = {
		{ { 0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1 },
		  { 0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f } },
		{ { 0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0 },
		  { 0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b } },
	};
	size_t packed = pack(m, data, len), head = encrypt ? 44 : 12;
	const uint8_t *payload = packed ? m->packed : data;
	size_t n = packed ? packed : len;

	memcpy(m->blob, magic[encrypt][packed != 0], 8);
	if (encrypt) {
		if (RAND_bytes(m->blob + 12, 16) != 1)
			die("no random bytes");
		gcm_seal(m->gcm, m->key, m->blob + 12, m->blob + 28, payload, n, m->blob + 44);
	} else
		memcpy(m->blob + 12, payload, n);
	put32(m->blob + 8, (uint32_t)crc32(0, m->blob + head, (uInt)n));
	m->blob_len = head + n;
}

#endif
