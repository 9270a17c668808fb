/* Blobs: any bytes, with and without a CRC that fits; and the input as a payload that
 * was encrypted by the key's holder. */
#include <stdlib.h>
#include <string.h>

#include <bearssl.h>

#include "../blob.h"
#include "../crc32.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { CAP = 1 << 18 };

static struct blob_worker *worker;
static const struct key key = { .key = { 7 } };

static void
decode(const uint8_t *p, size_t n, size_t cap)
{
	uint8_t *raw = malloc(n), *out = malloc(cap);
	struct err e;
	size_t len = 0;
	int rc;

	if (n > 0)
		memcpy(raw, p, n);
	e.text[0] = '\0';
	rc = blob_decode(worker, &key, raw, n, out, cap, &len, NULL, &e);
	if ((rc == 0) != (e.text[0] == '\0') || len > cap)
		abort();
	free(raw);
	free(out);
}

static void
set_crc(uint8_t *raw, size_t head, size_t n)
{
	uint32_t crc = crc32_update(0, raw + head, n - head);
	int i;

	for (i = 0; i < 4; i++)
		raw[8 + i] = (uint8_t)(crc >> 8 * i);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const uint8_t magic[8] = { 0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b };
	br_aes_ct64_ctr_keys aes;
	br_gcm_context gcm;
	uint8_t *raw;

	if (worker == NULL)
		worker = blob_worker_new();
	decode(p, n, CAP);
	decode(p, n, n / 2);
	raw = calloc(1, n + 44);
	if (n >= 12) {
		memcpy(raw, p, n);
		set_crc(raw, 12, n);
		decode(raw, n, CAP);
	}
	memcpy(raw, magic, 8);
	memset(raw + 8, 0, 36);
	if (n > 0)
		memcpy(raw + 44, p, n);
	br_aes_ct64_ctr_init(&aes, key.key, 32);
	br_gcm_init(&gcm, &aes.vtable, br_ghash_ctmul64);
	br_gcm_reset(&gcm, raw + 12, 16);
	br_gcm_flip(&gcm);
	br_gcm_run(&gcm, 1, raw + 44, n);
	br_gcm_get_tag(&gcm, raw + 28);
	set_crc(raw, 44, n + 44);
	decode(raw, n + 44, CAP);
	free(raw);
	return 0;
}
