/* AES-256-GCM: vectors, BearSSL's own GCM as a second opinion, every bit that matters flipped. */
#include <stdlib.h>

#include "t.h"
#include "../bytes.h"
#include "../gcm.h"

static const char *const names[] = { "hardware", "plain" };

static void
pattern(uint8_t *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (uint8_t)((i * i + 7 * i + 3) % 251);
}

/* Of Python's cryptography (OpenSSL): key 3i+1, IV 16…31. */
static void
vectors(const struct gcm_key *k)
{
	static const struct { size_t n; const char *data, *tag; } v[] = {
	    { 0, "", "b30df9df4d26e75fb588fc2997bbf0bc" },
	    { 1, "58", "ddc5fbd49ff03e37698b38c0d9b081d6" },
	    { 15, "58afc5c907dc57936cabd5bc497283", "edc267a6451649960423b980a188bc11" },
	    { 16, "58afc5c907dc57936cabd5bc49728342", "e0d5b1e74724fed58963e4a9e1f72176" },
	    { 17, "58afc5c907dc57936cabd5bc49728342bf", "7b836d19b8816ca22eb1d535e903cc32" },
	    { 64, "58afc5c907dc57936cabd5bc49728342bf2cf7a86b8fbb93147d595d3e865f4d"
	      "b1bcb83c4bff4ecc1c5be8f1197f8dbbd373ab89bd39cf8413c262cd002ff410",
	      "bc2abe0c71e4d1e7b3927be179288614" },
	};
	uint8_t iv[16], tag[16], data[64], want[64];
	size_t i;

	for (i = 0; i < 16; i++)
		iv[i] = (uint8_t)(16 + i);
	pattern(want, sizeof(want));
	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		check_int(hex_decode(data, v[i].n, v[i].data, 2 * v[i].n), 0);
		check_int(hex_decode(tag, 16, v[i].tag, 32), 0);
		check_int(gcm_open(k, iv, tag, data, v[i].n), 0);
		check(memcmp(data, want, v[i].n) == 0);
	}
}

static void
seal(const uint8_t key[32], const uint8_t iv[16], uint8_t *data, size_t n, uint8_t tag[16])
{
	br_aes_ct64_ctr_keys aes;
	br_gcm_context c;

	br_aes_ct64_ctr_init(&aes, key, 32);
	br_gcm_init(&c, &aes.vtable, br_ghash_ctmul64);
	br_gcm_reset(&c, iv, 16);
	br_gcm_flip(&c);
	br_gcm_run(&c, 1, data, n);
	br_gcm_get_tag(&c, tag);
}

/* Many lengths, and IVs whose first counter is anywhere, next to its wrap too. */
static void
lengths(const struct gcm_key *k, const uint8_t key[32])
{
	uint8_t iv[16] = { 0 }, tag[16], data[400], want[400];
	size_t n;

	pattern(want, sizeof(want));
	for (n = 0; n <= 300; n++) {
		memcpy(data, want, sizeof(data));
		iv[n % 16] = (uint8_t)(iv[n % 16] * 5 + n);
		seal(key, iv, data, n, tag);
		check_int(gcm_open(k, iv, tag, data, n), 0);
		check(memcmp(data, want, sizeof(data)) == 0);
	}
}

static void
flips(const struct gcm_key *k, const uint8_t key[32])
{
	uint8_t all[16 + 16 + 70], was[sizeof(all)];
	size_t i;

	pattern(all, sizeof(all));
	seal(key, all, all + 32, sizeof(all) - 32, all + 16);
	for (i = 0; i < 8 * sizeof(all); i++) {
		all[i / 8] ^= (uint8_t)(1u << i % 8);
		memcpy(was, all, sizeof(all));
		check_int(gcm_open(k, all, all + 16, all + 32, sizeof(all) - 32), -1);
		check(memcmp(was, all, sizeof(all)) == 0);
		all[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	for (i = 32; i < sizeof(all); i++)
		check_int(gcm_open(k, all, all + 16, all + 32, i - 32), -1);
	check_int(gcm_open(k, all, all + 16, all + 32, sizeof(all) - 32), 0);
}

static void
test_paths(void)
{
	struct gcm_key k;
	uint8_t key[32];
	size_t i;

	for (i = 0; i < 32; i++)
		key[i] = (uint8_t)(3 * i + 1);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (gcm_use(names[i]) == NULL) {
			printf("# no %s here\n", names[i]);
			continue;
		}
		gcm_key_init(&k, key);
		vectors(&k);
		lengths(&k, key);
		flips(&k, key);
	}
	check_str(gcm_use("plain"), "plain");
	check(gcm_use("none") == NULL);
}

/* The counter's 32 bits wrap without a carry into the IV: found by search, an IV whose counter starts at 0xffff….. */
static void
test_wrap(void)
{
	static uint8_t data[1 << 20], want[1 << 20];
	uint8_t key[32] = { 9 }, iv[16] = { 0 }, tag[16], h[16], y[16];
	static const uint8_t end[16] = { [15] = 128 };
	struct gcm_key k;
	uint32_t i = 0;

	pattern(want, sizeof(want));
	gcm_use(NULL);
	gcm_key_init(&k, key);
	memcpy(h, k.h, 16);
	do {
		put32be(iv, i++);
		memset(y, 0, 16);
		br_ghash_ctmul64(y, h, iv, 16);
		br_ghash_ctmul64(y, h, end, 16);
	} while (get16be(y + 12) != 0xffff);
	memcpy(data, want, sizeof(data));
	seal(key, iv, data, sizeof(data), tag);
	check_int(gcm_open(&k, iv, tag, data, sizeof(data)), 0);
	check(memcmp(data, want, sizeof(data)) == 0);
}

int
main(void)
{
	run(test_paths);
	run(test_wrap);
	return t_end();
}
