/*
 * Blobs: from the raw container to verified bytes.  Pure work for a worker
 * thread: no I/O, no memory beyond the worker's, no name of what is decoded.
 *
 * A reason is found in this order: form, CRC (damage), tag (damage or another
 * key), zstd, length, digest.  Nothing the blob says of its own size is believed:
 * the output's capacity is the only bound.
 */
#include "blob.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>
#include <zstd_errors.h>

#include "bytes.h"
#include "crc32.h"
#include "gcm.h"
#include "sha256.h"

#define ZSTD_FRAME_MAGIC 0xfd2fb528u

/* The context alone is 160 KiB: made once a thread, never on the read path. */
struct blob_worker {
	ZSTD_DCtx *zstd;
};

struct kind {
	uint8_t magic[8];
	int encrypted, compressed;
};

static const struct kind kinds[] = {
	{ { 0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1 }, 0, 0 },
	{ { 0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f }, 0, 1 },
	{ { 0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0 }, 1, 0 },
	{ { 0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b }, 1, 1 },
};

static int
damaged(struct err *e, const char *why)
{
	return err_set(e, ST_DAMAGED, -EBADMSG, "%s", why);
}

/* NULL: none. */
static const struct kind *
find_kind(const uint8_t magic[8])
{
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (memcmp(kinds[i].magic, magic, sizeof(kinds[i].magic)) == 0)
			return &kinds[i];
	return NULL;
}

static size_t
head_of(const struct kind *k)
{
	return k->encrypted ? BLOB_HEAD_ENC : BLOB_HEAD;
}

size_t
blob_data_at(const uint8_t magic[8])
{
	const struct kind *k = find_kind(magic);

	return k == NULL || k->compressed ? 0 : head_of(k);
}

/* The kind, when header and CRC are as they should be; NULL with *e set else. */
static const struct kind *
check_head(const uint8_t *raw, size_t len, struct err *e)
{
	const struct kind *k;
	size_t head;

	if (len < BLOB_HEAD) {
		err_set(e, ST_DAMAGED, -EBADMSG, "too short (%zu bytes)", len);
		return NULL;
	}
	if ((k = find_kind(raw)) == NULL) {
		damaged(e, "no blob (wrong magic number)");
		return NULL;
	}
	head = head_of(k);
	/* Encrypted kinds have a longer header, known only now. */
	if (len < head) {
		err_set(e, ST_DAMAGED, -EBADMSG, "too short (%zu bytes)", len);
		return NULL;
	}
	if (crc32_update(0, raw + head, len - head) != get32le(raw + 8)) {
		damaged(e, "wrong CRC");
		return NULL;
	}
	return k;
}

static int
decrypt(const struct key *key, uint8_t *raw, size_t len, struct err *e)
{
	struct gcm_key aes;
	int rc;

	if (key == NULL)
		return err_set(e, ST_TRUST, -ENOKEY, "encrypted, and there is no key");
	/* Made anew for each blob: 0.1 us, and nothing secret stays behind. */
	gcm_key_init(&aes, key->key);
	rc = gcm_open(&aes, raw + 12, raw + 28, raw + BLOB_HEAD_ENC, len - BLOB_HEAD_ENC);
	wipe(&aes, sizeof(aes));
	return rc == 0 ? 0 : damaged(e, "wrong tag (changed, or encrypted with another key)");
}

static int
too_large(size_t cap, struct err *e)
{
	return err_set(e, ST_DAMAGED, -EBADMSG, "more than %zu bytes of data", cap);
}

/* Exactly one frame.  The decompressor would also take several, and skippable ones. */
static int
decompress(struct blob_worker *w, const uint8_t *p, size_t len,
    uint8_t *out, size_t cap, size_t *outlen, struct err *e)
{
	size_t n;

	if (len < 4 || get32le(p) != ZSTD_FRAME_MAGIC)
		return damaged(e, "no zstd frame");
	n = ZSTD_findFrameCompressedSize(p, len);
	if (ZSTD_isError(n))
		return damaged(e, "damaged zstd frame");
	if (n != len)
		return damaged(e, "more than one zstd frame");
	/* In one call, the output is the window: what the frame wants as one is no matter. */
	n = ZSTD_decompressDCtx(w->zstd, out, cap, p, len);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ?
		    too_large(cap, e) : damaged(e, "damaged zstd frame");
	*outlen = n;
	return 0;
}

static int
unpack(struct blob_worker *w, const struct kind *k, const struct key *key, uint8_t *raw,
    size_t len, uint8_t *out, size_t cap, size_t *outlen, struct err *e)
{
	size_t head = head_of(k);
	int rc = k->encrypted ? decrypt(key, raw, len, e) : 0;

	if (rc != 0)
		return rc;
	raw += head;
	len -= head;
	if (k->compressed)
		return decompress(w, raw, len, out, cap, outlen, e);
	if (len > cap)
		return too_large(cap, e);
	/* Room for nothing may be NULL. */
	if (len > 0)
		memcpy(out, raw, len);
	*outlen = len;
	return 0;
}

struct blob_worker *
blob_worker_new(void)
{
	struct blob_worker *w = malloc(sizeof(*w));

	if (w != NULL && (w->zstd = ZSTD_createDCtx()) == NULL) {
		free(w);
		w = NULL;
	}
	return w;
}

void
blob_worker_free(struct blob_worker *w)
{
	if (w == NULL)
		return;
	ZSTD_freeDCtx(w->zstd);
	free(w);
}

int
blob_decode(struct blob_worker *w, const struct key *key, uint8_t *raw, size_t len,
    uint8_t *out, size_t cap, size_t *outlen, int *encrypted, struct err *e)
{
	const struct kind *k = check_head(raw, len, e);

	if (k == NULL)
		return -EBADMSG;
	if (encrypted != NULL)
		*encrypted = k->encrypted;
	return unpack(w, k, key, raw, len, out, cap, outlen, e);
}

int
chunk_decode(struct blob_worker *w, const struct key *key, const struct chunk_want *want,
    uint8_t *raw, size_t len, uint8_t *out, struct err *e)
{
	const struct kind *k = check_head(raw, len, e);
	uint8_t digest[32];
	size_t n;
	int rc;

	if (k == NULL)
		return -EBADMSG;
	/* Else who can write to the store could pass off plain data as the key holder's. */
	if (k->encrypted != want->encrypted)
		return damaged(e, k->encrypted ? "encrypted, in an archive that is not" :
		    "not encrypted, in an archive that is");
	/* Who has no key checks what can be checked: the one length that is known before decryption. */
	if (key == NULL && k->encrypted && !k->compressed && len - BLOB_HEAD_ENC != want->len)
		return err_set(e, ST_DAMAGED, -EBADMSG, "wrong length (%zu bytes, not %lu)",
		    len - BLOB_HEAD_ENC, (unsigned long)want->len);
	rc = unpack(w, k, key, raw, len, out, want->len, &n, e);
	if (rc != 0)
		return rc;
	if (n != want->len)
		return err_set(e, ST_DAMAGED, -EBADMSG, "wrong length (%zu bytes, not %lu)",
		    n, (unsigned long)want->len);
	/* The only proof that it is this chunk: CRC and tag know of no other. */
	chunk_digest(digest, out, n, want->encrypted ? key : NULL);
	if (memcmp(digest, want->digest, sizeof(digest)) != 0)
		return damaged(e, "wrong digest");
	return 0;
}

void
chunk_digest(uint8_t digest[32], const void *data, size_t len, const struct key *key)
{
	struct sha256 c;

	/* With a key, equal plain and encrypted data have different names. */
	sha256_init(&c);
	sha256_update(&c, data, len);
	if (key != NULL)
		sha256_update(&c, key->id_key, sizeof(key->id_key));
	sha256_final(&c, digest);
}
