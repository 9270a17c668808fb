/* SHA-256: published vectors and BearSSL's as a second opinion, on every path of this machine. */
#include <stdlib.h>

#include <bearssl.h>

#include "t.h"
#include "../bytes.h"
#include "../sha256.h"

static const char *const names[] = { "sha-ni", "armv8", "plain" };

static void
hex_of(char out[65], const void *p, size_t n, size_t piece)
{
	struct sha256 c;
	uint8_t digest[32];
	size_t at, len;

	sha256_init(&c);
	for (at = 0; at < n; at += len) {
		len = piece < n - at ? piece : n - at;
		sha256_update(&c, (const uint8_t *)p + at, len);
	}
	sha256_final(&c, digest);
	hex_encode(out, digest, 32);
}

/* FIPS 180 and NIST's SHA256ShortMsg/LongMsg. */
static void
vectors(void)
{
	static const struct { const char *text, *digest; } v[] = {
	    { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
	    { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	    { "\xd3", "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1" },
	    { "\x74\xba\x25\x21", "b16aa56be3880d18cd41e68384cf1ec8c17680c45a02b1575dc1518923ae8b0e" },
	    { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	    { "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopq"
	      "klmnopqrlmnopqrsmnopqrstnopqrstu",
	      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
	};
	static char a[1000000];
	char got[65];
	size_t i, piece;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		for (piece = 1; piece < 130; piece++) {
			hex_of(got, v[i].text, strlen(v[i].text), piece);
			check_str(got, v[i].digest);
		}
	memset(a, 'a', sizeof(a));
	for (piece = 1; piece < sizeof(a); piece = piece * 11 + 1) {
		hex_of(got, a, sizeof(a), piece);
		check_str(got, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	}
}

static void
lengths(void)
{
	static uint8_t data[1100];
	br_sha256_context b;
	uint8_t want[32], got[32];
	size_t i, n;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * i + i / 7);
	for (n = 0; n <= 1024; n++) {
		br_sha256_init(&b);
		br_sha256_update(&b, data + n % 16, n);
		br_sha256_out(&b, want);
		sha256(got, data + n % 16, n);
		check(memcmp(want, got, 32) == 0);
	}
}

/* The length of more than 2^32 bits. */
static void
test_long(void)
{
	static uint8_t zero[1 << 20];
	uint8_t digest[32];
	char got[65];
	struct sha256 c;
	int i;

	sha256_use(NULL);
	sha256_init(&c);
	for (i = 0; i < 513; i++)
		sha256_update(&c, zero, sizeof(zero));
	sha256_final(&c, digest);
	hex_encode(got, digest, 32);
	check_str(got, "a3e2acbb469e4e59dde406f912e754c933c1ac0fb0092a3634d61d5073309c0c");
	check_int(c.state[0], 0);
}

static void
test_paths(void)
{
	size_t i, n = 0;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (sha256_use(names[i]) == NULL) {
			printf("# no %s here\n", names[i]);
			continue;
		}
		n++;
		vectors();
		lengths();
	}
	check(n > 0);
	check(sha256_use("none") == NULL);
	check(sha256_use(NULL) != NULL);
}

int
main(void)
{
	run(test_paths);
	run(test_long);
	return t_end();
}
