/* Blobs: golden images decoded to the byte; made ones damaged in every way. */
#include <errno.h>

#include "t.h"
#include "golden.h"
#include "../crc32.h"
#include "../index.h"
#include "../sha256.h"

static struct blob_worker *worker;
static struct key key;

enum { PLAIN, ZSTD, ENC, ENC_ZSTD };

/* ---- golden images ---- */

static void
whole_image(const char *snapshot, const char *name, const char *sum, const struct key *k)
{
	char path[300], *json, got[65];
	uint8_t *p, *raw, *out = malloc(4 << 20), digest[32];
	struct chunk_want want;
	struct manifest m;
	struct sha256 image;
	struct index x;
	struct err e;
	size_t len, n;
	uint64_t i;

	json = golden_manifest(snapshot, &n);
	check_int(manifest_parse(json, n, &m, &e), 0);
	snprintf(path, sizeof(path), STORE "%s/" WHEN "%s", snapshot, name);
	p = slurp(path, &len);
	check_int(index_parse(p, len, manifest_find(&m, name), &x, &e), 0);
	sha256_init(&image);
	for (i = 0; i < x.count; i++) {
		index_chunk(&x, i, &want);
		hex_encode(got, want.digest, 32);
		snprintf(path, sizeof(path), STORE ".chunks/%.4s/%s", got, got);
		raw = slurp(path, &n);
		e.text[0] = '\0';
		check_int(chunk_decode(worker, k, &want, raw, n, out, &e), 0);
		check_str(e.text, "");
		sha256_update(&image, out, want.len);
		free(raw);
	}
	sha256_final(&image, digest);
	hex_encode(got, digest, 32);
	check_str(got, sum);
	manifest_free(&m);
	free(json);
	free(out);
	free(p);
}

static void
test_golden(void)
{
	static const char gpt[] = "4e9bc5430ffa0f4ac0f0dd218ca473064b56adcb152c2624bf74524dbab92ff7";
	static const char mbr[] = "da22d8f6edf27ad264581703ca8a9c1dc0c641ace7ca637b8107c0e09b7ad405";

	whole_image("vm/100", "drive-scsi0.img.fidx", gpt, NULL);
	whole_image("vm/100", "drive-scsi1.img.fidx", mbr, &key);
	whole_image("vm/101", "drive-scsi0.img.fidx", gpt, &key);
	whole_image("host/signed", "drive-scsi1.img.fidx", mbr, NULL);
}

/* ---- made blobs ---- */

static void
put32le(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)(v >> 16);
	p[3] = (uint8_t)(v >> 24);
}

static size_t
head_of(int kind)
{
	return kind >= ENC ? 44 : 12;
}

static void
set_crc(uint8_t *raw, size_t len, int kind)
{
	put32le(raw + 8, crc32_update(0, raw + head_of(kind), len - head_of(kind)));
}

/* A frame of one stored block; content size given as `claim` (4 bytes). */
static size_t
frame(uint8_t *out, const uint8_t *data, size_t n, uint32_t claim)
{
	put32le(out, 0xfd2fb528u);
	out[4] = 0xa0;			/* single segment, content size of 4 bytes */
	put32le(out + 5, claim);
	put32le(out + 9, (uint32_t)n << 3 | 1);	/* last, raw */
	memcpy(out + 12, data, n);
	return 12 + n;
}

/* A blob around a payload, exactly as long as it must be. */
static uint8_t *
make(int kind, const uint8_t *payload, size_t n, size_t *len)
{
	static const char *const magic[] = { "42ab3807be8370a1", "31b958426fb6a37f",
	    "7b6785be222d4cf0", "e6591bbf0bbfd80b" };
	br_aes_ct64_ctr_keys aes;
	br_gcm_context gcm;
	uint8_t *raw;

	*len = head_of(kind) + n;
	raw = malloc(*len);
	hex_decode(raw, 8, magic[kind], 16);
	if (n > 0)
		memcpy(raw + head_of(kind), payload, n);
	if (kind >= ENC) {
		memset(raw + 12, 0x5a, 16);
		br_aes_ct64_ctr_init(&aes, key.key, 32);
		br_gcm_init(&gcm, &aes.vtable, br_ghash_ctmul64);
		br_gcm_reset(&gcm, raw + 12, 16);
		br_gcm_flip(&gcm);
		br_gcm_run(&gcm, 1, raw + 44, n);
		br_gcm_get_tag(&gcm, raw + 28);
	}
	set_crc(raw, *len, kind);
	return raw;
}

/* A blob of data, compressed kinds with a frame around it; *want is what it must be. */
static uint8_t *
make_chunk(int kind, const uint8_t *data, size_t n, size_t *len, struct chunk_want *want)
{
	uint8_t *packed = malloc(n + 16), *raw;
	size_t m;

	want->len = (uint32_t)n;
	want->encrypted = kind >= ENC;
	chunk_digest(want->digest, data, n, kind >= ENC ? &key : NULL);
	if (kind == ZSTD || kind == ENC_ZSTD) {
		m = frame(packed, data, n, (uint32_t)n);
		raw = make(kind, packed, m, len);
	} else {
		raw = make(kind, data, n, len);
	}
	free(packed);
	return raw;
}

/* Decodes a copy in memory of its exact size into room of its exact size. */
static int
decode(const uint8_t *raw, size_t len, const struct chunk_want *want, const struct key *k,
    uint8_t *out, struct err *e)
{
	uint8_t *copy = malloc(len), *exact = malloc(want->len);
	int rc;

	if (len > 0)
		memcpy(copy, raw, len);
	e->text[0] = '\0';
	rc = chunk_decode(worker, k, want, copy, len, exact, e);
	if (want->len > 0)
		memcpy(out, exact, want->len);
	if (rc == -EBADMSG && (e->text[0] == '\0' || e->status != ST_DAMAGED)) {
		t_bad++;
		printf("# no reason given\n");
	}
	free(copy);
	free(exact);
	return rc;
}

static uint8_t data[600], out[600];

static void
test_kinds(void)
{
	struct chunk_want want;
	struct err e;
	uint8_t *raw;
	size_t len, n;
	int kind;

	for (kind = PLAIN; kind <= ENC_ZSTD; kind++)
		for (n = 0; n <= sizeof(data); n += n < 20 ? 1 : 97) {
			raw = make_chunk(kind, data, n, &len, &want);
			check_int(decode(raw, len, &want, &key, out, &e), 0);
			check(memcmp(out, data, n) == 0);
			if (n > 0) {
				want.len--;
				check_int(decode(raw, len, &want, &key, out, &e), -EBADMSG);
				check(strstr(e.text, "more than") != NULL);
				want.len++;
			}
			want.len++;
			check_int(decode(raw, len, &want, &key, out, &e), -EBADMSG);
			check(strstr(e.text, "wrong length") != NULL);
			free(raw);
		}
}

static void
test_flips(void)
{
	struct chunk_want want;
	struct err e;
	uint8_t *raw;
	size_t len, i;
	int kind, rc;

	for (kind = PLAIN; kind <= ENC_ZSTD; kind++) {
		raw = make_chunk(kind, data, sizeof(data), &len, &want);
		for (i = 0; i < 8 * len; i++) {
			raw[i / 8] ^= (uint8_t)(1u << i % 8);
			check_int(decode(raw, len, &want, &key, out, &e), -EBADMSG);
			check_str(e.text, i / 8 < 8 ? "no blob (wrong magic number)" :
			    i / 8 < 12 || i / 8 >= head_of(kind) ? "wrong CRC" :
			    "wrong tag (changed, or encrypted with another key)");
			/* And with a CRC that fits: another guard must see it, unless zstd
			 * does not care and the data is as it was. */
			if (i / 8 >= head_of(kind)) {
				set_crc(raw, len, kind);
				rc = decode(raw, len, &want, &key, out, &e);
				check(rc == -EBADMSG || (kind == ZSTD && i / 8 < 12 + 12 &&
				    memcmp(out, data, sizeof(data)) == 0));
			}
			raw[i / 8] ^= (uint8_t)(1u << i % 8);
			set_crc(raw, len, kind);
		}
		check_int(decode(raw, len, &want, &key, out, &e), 0);
		for (i = 0; i < len; i++) {
			check_int(decode(raw, i, &want, &key, out, &e), -EBADMSG);
			check(strstr(e.text, i < head_of(kind) ? "too short" : "wrong CRC") != NULL);
		}
		for (i = head_of(kind); i < len; i++) {
			set_crc(raw, i, kind);
			check_int(decode(raw, i, &want, &key, out, &e), -EBADMSG);
		}
		free(raw);
	}
}

static void
check_why(uint8_t *raw, size_t len, const struct chunk_want *want, const struct key *k,
    int rc, const char *why)
{
	struct err e;

	check_int(decode(raw, len, want, k, out, &e), rc);
	check_str(e.text, why);
	free(raw);
}

static void
test_mismatch(void)
{
	static const char tag[] = "wrong tag (changed, or encrypted with another key)";
	struct chunk_want want, other;
	struct key wrong = key;
	struct err e;
	uint8_t *raw;
	size_t len;

	raw = make_chunk(PLAIN, data, 100, &len, &want);
	want.encrypted = 1;
	check_why(raw, len, &want, &key, -EBADMSG, "not encrypted, in an archive that is");
	raw = make_chunk(ENC_ZSTD, data, 100, &len, &want);
	other = want;
	other.encrypted = 0;
	check_why(raw, len, &other, &key, -EBADMSG, "encrypted, in an archive that is not");
	raw = make_chunk(ENC, data, 100, &len, &want);
	check_why(raw, len, &want, NULL, -ENOKEY, "encrypted, and there is no key");
	raw = make_chunk(ENC, data, 100, &len, &want);
	decode(raw, len, &want, NULL, out, &e);
	check_int(e.status, ST_TRUST);
	wrong.key[0] ^= 1;
	check_why(raw, len, &want, &wrong, -EBADMSG, tag);
	/* The right AES key, but digests of another: not this key's chunk. */
	wrong = key;
	wrong.id_key[31] ^= 1;
	raw = make_chunk(ENC, data, 100, &len, &want);
	check_why(raw, len, &want, &wrong, -EBADMSG, "wrong digest");
	/* A plain digest in an encrypted archive. */
	raw = make_chunk(ENC, data, 100, &len, &want);
	sha256(want.digest, data, 100);
	check_why(raw, len, &want, &key, -EBADMSG, "wrong digest");
	raw = make_chunk(ZSTD, data, 100, &len, &want);
	want.digest[0] ^= 0x80;
	check_why(raw, len, &want, NULL, -EBADMSG, "wrong digest");
}

static void
test_frames(void)
{
	static const char broken[] = "damaged zstd frame";
	struct chunk_want want;
	uint8_t f[2000] = { 0 }, *raw;
	size_t len, n;

	free(make_chunk(PLAIN, data, 100, &len, &want));
	raw = make(ZSTD, data, 0, &len);
	check_why(raw, len, &want, NULL, -EBADMSG, "no zstd frame");
	raw = make(ZSTD, data, 50, &len);
	check_why(raw, len, &want, NULL, -EBADMSG, "no zstd frame");
	/* One byte more, a second frame, a skippable frame before and after. */
	n = frame(f, data, 100, 100);
	raw = make(ZSTD, f, n + 1, &len);
	check_why(raw, len, &want, NULL, -EBADMSG, "more than one zstd frame");
	n = frame(f, data, 60, 60);
	n += frame(f + n, data + 60, 40, 40);
	raw = make(ZSTD, f, n, &len);
	check_why(raw, len, &want, NULL, -EBADMSG, "more than one zstd frame");
	n = frame(f, data, 100, 100);
	hex_decode(f + n, 12, "502a4d1804000000aaaaaaaa", 24);
	raw = make(ZSTD, f, n + 12, &len);
	check_why(raw, len, &want, NULL, -EBADMSG, "more than one zstd frame");
	memmove(f + 12, f, n);
	hex_decode(f, 12, "502a4d1804000000aaaaaaaa", 24);
	raw = make(ZSTD, f, n + 12, &len);
	check_why(raw, len, &want, NULL, -EBADMSG, "no zstd frame");
	/* Claims of its own size: too small, too large, enormous. */
	raw = make(ZSTD, f, frame(f, data, 100, 99), &len);
	check_why(raw, len, &want, NULL, -EBADMSG, broken);
	raw = make(ZSTD, f, frame(f, data, 100, 101), &len);
	check_why(raw, len, &want, NULL, -EBADMSG, broken);
	raw = make(ZSTD, f, frame(f, data, 100, 0xffffffffu), &len);
	check_why(raw, len, &want, NULL, -EBADMSG, broken);
	/* No last block. */
	n = frame(f, data, 100, 100);
	f[9] &= 0xfe;
	raw = make(ZSTD, f, n, &len);
	check_why(raw, len, &want, NULL, -EBADMSG, broken);
}

/* Repeats zeros: 3 + 1 bytes for 128 KiB each, with a frame header that names no size. */
static void
test_bomb(void)
{
	enum { BLOCKS = 2000 };
	static uint8_t f[6 + 4 * BLOCKS];
	struct chunk_want want = { .len = 4 << 20 };
	static uint8_t zeros[4 << 20];
	struct err e;
	uint8_t *raw, *room = malloc(4 << 20);
	size_t len;
	int i, blocks;

	chunk_digest(want.digest, zeros, sizeof(zeros), NULL);
	for (blocks = 31; blocks <= BLOCKS; blocks = blocks < 33 ? blocks + 1 : blocks * 60) {
		put32le(f, 0xfd2fb528u);
		f[4] = 0;
		f[5] = 0x58;			/* a window of 2 MiB */
		for (i = 0; i < blocks; i++)
			put32le(f + 6 + 4 * i, (128u << 10) << 3 | 1u << 1 | (i == blocks - 1));
		raw = make(ZSTD, f, (size_t)(6 + 4 * blocks), &len);
		check_int(chunk_decode(worker, NULL, &want, raw, len, room, &e), blocks == 32 ? 0 : -EBADMSG);
		if (blocks > 32)
			check_str(e.text, "more than 4194304 bytes of data");
		if (blocks == 31)
			check_str(e.text, "wrong length (4063232 bytes, not 4194304)");
		free(raw);
	}
	free(room);
}

static void
test_blob_decode(void)
{
	struct chunk_want want;
	struct err e;
	uint8_t *raw;
	size_t len, n = 77;
	int kind, encrypted;

	for (kind = PLAIN; kind <= ENC_ZSTD; kind++) {
		raw = make_chunk(kind, data, 300, &len, &want);
		check_int(blob_decode(worker, &key, raw, len, out, sizeof(out), &n, &encrypted, &e), 0);
		check_int(n, 300);
		check_int(encrypted, kind >= ENC);
		check(memcmp(out, data, 300) == 0);
		free(raw);
		raw = make_chunk(kind, data, 300, &len, &want);
		check_int(blob_decode(worker, &key, raw, len, out, 299, &n, NULL, &e), -EBADMSG);
		check_str(e.text, "more than 299 bytes of data");
		free(raw);
	}
}

/* Where fetch.c puts raw bytes so that the data is in its place at once. */
static void
test_data_at(void)
{
	static const uint8_t magic[4][8] = {
		{ 0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1 }, { 0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f },
		{ 0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0 }, { 0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b },
	};

	check_int(blob_data_at(magic[0]), 12);
	check_int(blob_data_at(magic[1]), 0);
	check_int(blob_data_at(magic[2]), 44);
	check_int(blob_data_at(magic[3]), 0);
	check_int(blob_data_at((const uint8_t *)"notablob"), 0);
}

int
main(void)
{
	run(test_data_at);
	size_t i;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * i * 3 + i / 5 + 1);
	golden_key(&key);
	worker = blob_worker_new();
	run(test_golden);
	run(test_kinds);
	run(test_flips);
	run(test_mismatch);
	run(test_frames);
	run(test_bomb);
	run(test_blob_decode);
	blob_worker_free(worker);
	blob_worker_free(NULL);
	return t_end();
}
