/* Index files: golden ones, every size's edge, every way to be wrong. */
#include <errno.h>

#include "t.h"
#include "golden.h"
#include "../index.h"
#include "../sha256.h"

#define MIB (1ull << 20)

static void
put64le(uint8_t *p, uint64_t v)
{
	int i;

	for (i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

/* Checksums of header and manifest entry as they must be for these bytes. */
static void
seal(uint8_t *p, size_t len, struct manifest_file *mf)
{
	sha256(mf->csum, p + 4096, len - 4096);
	memcpy(p + 32, mf->csum, 32);
}

static uint8_t *
fixed(uint64_t size, uint64_t chunk_size, size_t count, size_t *len, struct manifest_file *mf)
{
	uint8_t *p;
	size_t i;

	*len = 4096 + 32 * count;
	p = calloc(1, *len);
	hex_decode(p, 8, "2f7f41ed91fd0fcd", 16);
	put64le(p + 64, size);
	put64le(p + 72, chunk_size);
	for (i = 0; i < 32 * count; i++)
		p[4096 + i] = (uint8_t)(i / 32 * 7 + i);
	memset(mf, 0, sizeof(*mf));
	mf->size = size;
	seal(p, *len, mf);
	return p;
}

static uint8_t *
dynamic(const uint64_t *ends, size_t count, size_t *len, struct manifest_file *mf)
{
	uint8_t *p;
	size_t i;

	*len = 4096 + 40 * count;
	p = calloc(1, *len);
	hex_decode(p, 8, "1c914ea519bab3cd", 16);
	for (i = 0; i < count; i++) {
		put64le(p + 4096 + 40 * i, ends[i]);
		memset(p + 4096 + 40 * i + 8, (int)i + 1, 32);
	}
	memset(mf, 0, sizeof(*mf));
	mf->size = count > 0 ? ends[count - 1] : 0;
	seal(p, *len, mf);
	return p;
}

static int
fixed_rc(uint64_t size, uint64_t chunk_size, size_t count, struct index *x, struct err *e)
{
	struct manifest_file mf;
	size_t len;
	uint8_t *p = fixed(size, chunk_size, count, &len, &mf);
	int rc = index_parse(p, len, &mf, x, e);

	if (rc != 0) {
		check_int(rc, -EBADMSG);
		check_int(e->status, ST_DAMAGED);
	}
	free(p);
	return rc;
}

/* Every chunk is found by its first and last byte, and they make up the whole. */
static void
walk(const struct index *x)
{
	struct chunk_want want;
	uint64_t i, at = 0;

	for (i = 0; i < x->count; i++) {
		index_chunk(x, i, &want);
		check(want.len > 0 && want.len <= x->chunk_max);
		check_int(want.encrypted, x->encrypted);
		check_int(index_start(x, i), at);
		check_int(index_find(x, at), i);
		check_int(index_find(x, at + want.len - 1), i);
		at += want.len;
	}
	check_int(at, x->size);
}

static uint8_t *
golden(const char *snapshot, const char *name, size_t *len, struct manifest_file *mf)
{
	char path[200], *json;
	const struct manifest_file *f;
	struct manifest m;
	size_t n;

	memset(mf, 0, sizeof(*mf));
	json = golden_manifest(snapshot, &n);
	if (check(manifest_parse(json, n, &m, NULL) == 0) && check((f = manifest_find(&m, name)) != NULL))
		*mf = *f;
	manifest_free(&m);
	free(json);
	snprintf(path, sizeof(path), STORE "%s/" WHEN "%s", snapshot, name);
	return slurp(path, len);
}

static void
test_golden(void)
{
	struct manifest_file mf;
	struct chunk_want want;
	struct index x;
	struct err e;
	size_t len;
	uint8_t *p = golden("vm/100", "drive-scsi0.img.fidx", &len, &mf);

	check_int(index_parse(p, len, &mf, &x, &e), 0);
	check_int(x.size, 31458816);
	check_int(x.chunk_size, 4 * MIB);
	check_int(x.chunk_max, 4 * MIB);
	check_int(x.count, 8);
	check_int(x.encrypted, 0);
	walk(&x);
	index_chunk(&x, 7, &want);
	check_int(want.len, 31458816 - 7 * 4 * MIB);
	free(p);
	p = golden("vm/101", "drive-scsi0.img.fidx", &len, &mf);
	check_int(index_parse(p, len, &mf, &x, &e), 0);
	check_int(x.encrypted, 1);
	free(p);
	p = golden("host/files", "root.pxar.didx", &len, &mf);
	check_int(index_parse(p, len, &mf, &x, &e), 0);
	check_int(x.size, mf.size);
	check_int(x.chunk_size, 0);
	walk(&x);
	free(p);
}

/* Each bit of a header that means something, and each of the entries. */
static void
flips(uint8_t *p, size_t len, const struct manifest_file *mf, size_t meaning)
{
	struct index x;
	struct err e;
	size_t i, good = 0;
	int rc;

	for (i = 0; i < 8 * len; i++) {
		p[i / 8] ^= (uint8_t)(1u << i % 8);
		rc = index_parse(p, len, mf, &x, &e);
		p[i / 8] ^= (uint8_t)(1u << i % 8);
		if (rc == 0)
			good++;
		else
			check_int(rc, -EBADMSG);
		if (i / 8 < 8 || (i / 8 >= 32 && i / 8 < meaning) || i / 8 >= 4096)
			check_int(rc, -EBADMSG);
	}
	/* uuid, ctime, what is reserved. */
	check_int(good, 8 * (4096 - meaning + 24));
}

static void
test_damage(void)
{
	struct manifest_file mf;
	struct index x;
	struct err e;
	size_t len, i;
	uint8_t *p = golden("vm/100", "drive-scsi0.img.fidx", &len, &mf), *cut;

	flips(p, len, &mf, 80);
	for (i = 0; i < len; i++) {
		cut = malloc(i);
		memcpy(cut, p, i);
		check_int(index_parse(cut, i, &mf, &x, &e), -EBADMSG);
		free(cut);
	}
	free(p);
	p = golden("host/files", "root.pxar.didx", &len, &mf);
	flips(p, len, &mf, 64);
	for (i = 0; i < len; i += 8) {
		cut = malloc(i);
		memcpy(cut, p, i);
		check_int(index_parse(cut, i, &mf, &x, &e), -EBADMSG);
		free(cut);
	}
	free(p);
}

static void
test_messages(void)
{
	struct manifest_file mf;
	struct index x;
	struct err e;
	size_t len;
	uint8_t *p = fixed(3 * MIB, MIB, 3, &len, &mf);

	mf.size++;
	check_int(index_parse(p, len, &mf, &x, &e), -EBADMSG);
	check_str(e.text, "size 3145728, but the manifest says 3145729");
	mf.size--;
	mf.csum[31] ^= 1;
	check_int(index_parse(p, len, &mf, &x, &e), -EBADMSG);
	check_str(e.text, "another checksum than the manifest says");
	mf.csum[31] ^= 1;
	check_int(index_parse(p, len - 32, &mf, &x, &e), -EBADMSG);
	check_str(e.text, "cut off (64 bytes of entries, for 3 chunks)");
	check_int(index_parse(p, len, &mf, &x, &e), 0);
	p[4096] ^= 1;
	check_int(index_parse(p, len, &mf, &x, &e), -EBADMSG);
	check_str(e.text, "wrong checksum");
	free(p);
}

/* Bytes behind the last entry, with checksums over them too. */
static void
test_trailing(void)
{
	static const uint64_t ends[] = { 5, 9 };
	struct manifest_file mf;
	struct index x;
	struct err e;
	uint8_t *p;
	size_t len, i;
	int kind;

	for (kind = 0; kind < 2; kind++)
		for (i = 0; i < 40; i++) {
			p = kind == 0 ? fixed(3 * MIB, MIB, 3, &len, &mf) : dynamic(ends, 2, &len, &mf);
			p = realloc(p, len + i);
			memset(p + len, 0, i);
			seal(p, len + i, &mf);
			check_int(index_parse(p, len + i, &mf, &x, &e), i > 0 ? -EBADMSG : 0);
			free(p);
		}
}

static void
test_sizes(void)
{
	struct index x;
	struct err e;

	check_int(fixed_rc(0, MIB, 0, &x, &e), 0);
	check_int(x.count, 0);
	index_learn_zero(&x, NULL);
	check_int(x.has_zero, 0);
	check_int(fixed_rc(1, MIB, 1, &x, &e), 0);
	check_int(x.chunk_max, 1);
	check_int(fixed_rc(MIB, MIB, 1, &x, &e), 0);
	check_int(fixed_rc(MIB + 1, MIB, 2, &x, &e), 0);
	check_int(fixed_rc(MIB + 1, MIB, 1, &x, &e), -EBADMSG);
	check_int(fixed_rc(MIB + 1, MIB, 3, &x, &e), -EBADMSG);
	check_int(fixed_rc(0, MIB, 1, &x, &e), -EBADMSG);
	check_int(fixed_rc(4 * MIB, 4 * MIB, 1, &x, &e), 0);
	check_int(fixed_rc(65536, 65536, 1, &x, &e), 0);
	check_int(fixed_rc(8 * MIB, 8 * MIB, 1, &x, &e), -EBADMSG);
	check_int(fixed_rc(32768, 32768, 1, &x, &e), -EBADMSG);
	check_int(fixed_rc(3 * MIB, 3 * MIB, 1, &x, &e), -EBADMSG);
	check_int(fixed_rc(65536, 65537, 1, &x, &e), -EBADMSG);
	check_int(fixed_rc(0, 0, 0, &x, &e), -EBADMSG);
	check_int(fixed_rc(1, (1ull << 32) + 65536, 1, &x, &e), -EBADMSG);
	check_str(e.text, "impossible chunk size");
	check_int(fixed_rc(1ull << 63, 65536, 0, &x, &e), -EBADMSG);
	check_str(e.text, "impossible size");
	check_int(fixed_rc(UINT64_MAX, 65536, 0, &x, &e), -EBADMSG);
	/* Their count times 32 would wrap on 32 bits, or be 0. */
	check_int(fixed_rc(1ull << 62, 65536, 0, &x, &e), -EBADMSG);
	check_int(fixed_rc((1ull << 63) - 1, 4 * MIB, 0, &x, &e), -EBADMSG);
}

static void
test_dynamic(void)
{
	static const struct { uint64_t ends[3]; size_t count; int rc; } t[] = {
	    { { 0 }, 0, 0 },
	    { { 1 }, 1, 0 },
	    { { 16 * MIB, 16 * MIB + 1, 32 * MIB + 1 }, 3, 0 },
	    { { 16 * MIB + 1 }, 1, -EBADMSG },
	    { { 0 }, 1, -EBADMSG },
	    { { 5, 5 }, 2, -EBADMSG },
	    { { 5, 4 }, 2, -EBADMSG },
	    { { 5, 3, 9 }, 3, -EBADMSG },
	    { { UINT64_MAX }, 1, -EBADMSG },
	    { { 5, UINT64_MAX, 3 }, 3, -EBADMSG },
	};
	struct manifest_file mf;
	struct index x;
	struct err e;
	uint8_t *p;
	size_t i, len;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		p = dynamic(t[i].ends, t[i].count, &len, &mf);
		check_int(index_parse(p, len, &mf, &x, &e), t[i].rc);
		if (t[i].rc == 0) {
			walk(&x);
			index_learn_zero(&x, NULL);
			check_int(x.has_zero, 0);
		}
		check_int(index_parse(p, len - 1, &mf, &x, &e), -EBADMSG);
		free(p);
	}
}

static void
test_zero(void)
{
	static uint8_t zeros[4 * MIB];
	static const uint64_t sizes[] = { 8 * MIB, 8 * MIB + 4097, 4 * MIB, 5 };
	struct manifest_file mf;
	struct index x;
	struct key key;
	size_t i, len, count;
	uint8_t *p;
	int enc;

	golden_key(&key);
	for (i = 0; i < 8; i++) {
		enc = (int)i % 2;
		count = (size_t)((sizes[i / 2] + 4 * MIB - 1) / (4 * MIB));
		p = fixed(sizes[i / 2], 4 * MIB, count, &len, &mf);
		mf.crypt = enc ? CRYPT_ENCRYPT : CRYPT_SIGN;
		chunk_digest(p + len - 32, zeros, (sizes[i / 2] - 1) % (4 * MIB) + 1, enc ? &key : NULL);
		if (count > 1)
			chunk_digest(p + 4096, zeros, 4 * MIB, enc ? &key : NULL);
		seal(p, len, &mf);
		check_int(index_parse(p, len, &mf, &x, NULL), 0);
		check_int(index_is_zero(&x, 0), 0);
		index_learn_zero(&x, &key);
		check_int(x.has_zero, 1);
		check_int(index_is_zero(&x, 0), 1);
		check_int(index_is_zero(&x, count - 1), 1);
		if (count > 2)
			check_int(index_is_zero(&x, 1), 0);
		free(p);
	}
	/* Without a key nothing is known of an encrypted image. */
	p = fixed(MIB, MIB, 1, &len, &mf);
	mf.crypt = CRYPT_ENCRYPT;
	check_int(index_parse(p, len, &mf, &x, NULL), 0);
	index_learn_zero(&x, NULL);
	check_int(x.has_zero, 0);
	free(p);
}

int
main(void)
{
	run(test_golden);
	run(test_damage);
	run(test_messages);
	run(test_trailing);
	run(test_sizes);
	run(test_dynamic);
	run(test_zero);
	return t_end();
}
