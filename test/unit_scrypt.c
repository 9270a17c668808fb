/* Key derivation: published vectors, odd lengths, limits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bytes.h"
#include "config.h"
#include "scrypt.h"
#include "sha256.h"
#include "t.h"

static void
is_hex(const uint8_t *p, size_t n, const char *want)
{
	char text[2 * 128 + 1];

	hex_encode(text, p, n);
	check_str(text, want);
}

static void
pb(const char *pass, size_t passlen, const char *salt, size_t saltlen, uint32_t iter, size_t n, const char *want)
{
	uint8_t out[128];

	pbkdf2(pass, passlen, salt, saltlen, iter, out, n);
	is_hex(out, n, want);
}

/* RFC 7914, section 11, and RFC 6070's inputs with SHA-256. */
static void
test_pbkdf2(void)
{
	pb("passwd", 6, "salt", 4, 1, 64, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
	    "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
	pb("Password", 8, "NaCl", 4, 80000, 64, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
	    "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d");
	pb("password", 8, "salt", 4, 1, 32, "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b");
	pb("password", 8, "salt", 4, 2, 32, "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43");
	pb("password", 8, "salt", 4, 4096, 32, "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a");
	pb("passwordPASSWORDpassword", 24, "saltSALTsaltSALTsaltSALTsaltSALTsalt", 36, 4096, 40,
	    "348c89dbcbd32b2f32d814b8116e84cf2b17347ebc1800181c4e2a1fb8dd53e1c635518c7dac47e9");
	pb("pass\0word", 9, "sa\0lt", 5, 4096, 16, "89b69d0516f829893c696226650a8687");
}

/* Passwords around the block size: longer ones are hashed first. */
static void
test_pbkdf2_lengths(void)
{
	char pass[130];
	uint8_t a[32], b[32], sum[32];

	memset(pass, 'x', sizeof pass);
	for (size_t n = 60; n <= sizeof pass; n++) {
		pbkdf2(pass, n, "salt", 4, 3, a, 32);
		sha256(sum, pass, n);
		pbkdf2(sum, 32, "salt", 4, 3, b, 32);
		check_int(memcmp(a, b, 32) == 0, n > 64);
	}
	pbkdf2(NULL, 0, NULL, 0, 1, a, 32);
	pbkdf2("", 0, "", 0, 1, b, 32);
	check(memcmp(a, b, 32) == 0);
}

/* RFC 7914, section 12 (its last vector takes 1 GiB, which is refused). */
static void
test_vectors(void)
{
	uint8_t out[64];

	check_int(scrypt("", 0, "", 0, 16, 1, 1, out, 64), 0);
	is_hex(out, 64, "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
	    "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906");
	check_int(scrypt("password", 8, "NaCl", 4, 1024, 8, 16, out, 64), 0);
	is_hex(out, 64, "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
	    "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640");
	check_int(scrypt("pleaseletmein", 13, "SodiumChloride", 14, 16384, 8, 1, out, 64), 0);
	is_hex(out, 64, "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
	    "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887");
	check_int(scrypt("pleaseletmein", 13, "SodiumChloride", 14, 1048576, 8, 1, out, 64), -E2BIG);
}

static void
test_limits(void)
{
	static const struct { uint64_t n, r, p; int rc; } t[] = {
		{ 0, 8, 1, -EINVAL }, { 1, 8, 1, -EINVAL }, { 3, 8, 1, -EINVAL }, { 65535, 8, 1, -EINVAL },
		{ 1024, 0, 1, -EINVAL }, { 1024, 8, 0, -EINVAL }, { 2, 1, 1, 0 }, { 2, 3, 5, 0 },
		{ 32768, 1, 1, 0 }, { 65536, 1, 1, -EINVAL }, { 65536, 2, 1, 0 },
		{ 1ull << 32, 2, 1, -EINVAL }, { 1ull << 63, 3, 1, -EINVAL }, { 1ull << 63, 8, 1, -E2BIG },
		{ 1ull << 19, 8, 1, -E2BIG }, { 1ull << 18, 9, 1, -E2BIG },
		{ 2, UINT64_MAX, 1, -E2BIG }, { 2, 8, UINT64_MAX, -E2BIG }, { 2, 1ull << 57, 1ull << 57, -E2BIG },
		{ 65536, 8, 33, -E2BIG }, { 2, 1, SCRYPT_WORK_MAX / 2, -E2BIG }, { 2, 1 << 22, 1, -E2BIG },
	};
	uint8_t out[32];

	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
		if (!check(scrypt("x", 1, "y", 1, t[i].n, t[i].r, t[i].p, out, 32) == t[i].rc))
			printf("# %llu %llu %llu\n", (unsigned long long)t[i].n,
			    (unsigned long long)t[i].r, (unsigned long long)t[i].p);
	check_int(scrypt_memory(65536, 8, 1), (65536 + 3) * 1024);
	check(scrypt_memory(1ull << 63, 1ull << 63, 1) == UINT64_MAX);
	check(scrypt_memory(UINT64_MAX, 1, 1) == UINT64_MAX);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What a key file of today costs. The bound is generous; the figure is printed. */
static void
test_time(void)
{
	uint8_t out[32];
	double t = now(), t2;

	check_int(scrypt("x", 1, "y", 1, 65536, 8, 1, out, 32), 0);
	t2 = now();
	printf("# scrypt n=65536 r=8 p=1: %.0f ms\n", (t2 - t) * 1e3);
	check(t2 - t < 10);
	pbkdf2("x", 1, "y", 1, 65535, out, 32);
	printf("# PBKDF2 65535 iterations: %.0f ms\n", (now() - t2) * 1e3);
	check(now() - t2 < 10);
}

int
main(void)
{
	run(test_pbkdf2);
	run(test_pbkdf2_lengths);
	run(test_vectors);
	run(test_limits);
	run(test_time);
	return t_end();
}
