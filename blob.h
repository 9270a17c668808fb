/*
 * Blobs: the container of every chunk and small file. CRC, decryption,
 * decompression; for chunks also digest and length.
 */
#ifndef BLOB_H
#define BLOB_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "key.h"

#define BLOB_HEAD 12u			/* header of plain kinds, bytes */
#define BLOB_HEAD_ENC 44u		/* of encrypted kinds */

struct blob_worker;			/* one thread's: zstd context */

struct blob_worker *blob_worker_new(void);	/* NULL: out of memory */
void blob_worker_free(struct blob_worker *w);

/* What a chunk must be. */
struct chunk_want {
	uint8_t digest[32];
	uint32_t len;			/* bytes of data */
	int encrypted;			/* crypt mode of its archive */
};

/* Decodes a raw blob of `len` bytes into out[cap]; *outlen bytes result. The raw buffer is
 * overwritten (decryption in place). key may be NULL: encrypted blobs then fail with -ENOKEY, ST_TRUST.
 * *encrypted (may be NULL) tells the kind. Damage (short, magic, CRC, tag, zstd, larger than cap): -EBADMSG, ST_DAMAGED; text is
 * the reason alone ("wrong CRC"), the caller knows the name. Content size of the zstd frame is never believed. */
int blob_decode(struct blob_worker *w, const struct key *key, uint8_t *raw, size_t len,
    uint8_t *out, size_t cap, size_t *outlen, int *encrypted, struct err *e);

/* The same for a chunk: exactly want->len bytes of data to out (which has room for them), digest and
 * crypt mode checked. */
int chunk_decode(struct blob_worker *w, const struct key *key, const struct chunk_want *want,
    uint8_t *raw, size_t len, uint8_t *out, struct err *e);

/* Where the data stands in a blob that begins with these bytes; 0: it is compressed, or no blob. */
size_t blob_data_at(const uint8_t magic[8]);

/* SHA256(data), or SHA256(data || id_key) when key is given. */
void chunk_digest(uint8_t digest[32], const void *data, size_t len, const struct key *key);

#endif
