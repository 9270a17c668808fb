/* Base64: RFC 4648's vectors, every single character, lengths, layout. */
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "t.h"

static void
good(const char *text, const char *want)
{
	uint8_t out[64];
	size_t n = strlen(want);

	check_int(base64_decode(out, n, text, strlen(text)), n);
	check(memcmp(out, want, n) == 0);
	if (n > 0)
		check_int(base64_decode(out, n - 1, text, strlen(text)), -1);
}

static void
test_vectors(void)
{
	good("", "");
	good("Zg==", "f");
	good("Zm8=", "fo");
	good("Zm9v", "foo");
	good("Zm9vYg==", "foob");
	good("Zm9vYmE=", "fooba");
	good("Zm9vYmFy", "foobar");
	good("+/+/", "\xfb\xff\xbf");
	good(" Zm\r\n9vYm\tE\n= \n", "fooba");
	good("Z g = =", "f");
}

static void
test_bad(void)
{
	static const char *const bad[] = {
		"Z", "Zg", "Zg=", "Zg===", "=", "==", "====", "Zm9v=", "Zm9v====", "Zm9vZ===",
		"Zh==", "Zm9=", "Zg==Zg==", "Zg=g", "=Zg=", "Zm9*", "Zm9-", "Zm9_", "Zm9\x80", "Zm9\xff",
		"Z\xc3\xa9=",
	};
	uint8_t out[64];

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (!check(base64_decode(out, sizeof out, bad[i], strlen(bad[i])) == -1))
			printf("# %s\n", bad[i]);
	check_int(base64_decode(out, sizeof out, "Zm9\0", 4), -1);
	check_int(base64_decode(out, sizeof out, "\0m9v", 4), -1);
}

/* Each byte value as the third of four characters: the alphabet and no more. */
static void
test_alphabet(void)
{
	static const char abc[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	int seen = 0;

	for (int c = 0; c < 256; c++) {
		char text[4] = { 'A', 'A', (char)c, 'A' };
		const char *at = c ? strchr(abc, c) : NULL;
		uint8_t out[3];
		long n = base64_decode(out, 3, text, 4);

		check_int(n, at ? 3 : -1);
		if (at && n == 3) {
			check_int(out[1] << 8 | out[2], (at - abc) << 6);
			seen++;
		}
	}
	check_int(seen, 64);
}

/* A text cut anywhere is refused or has whole bytes less, never reads on. */
static void
test_cut(void)
{
	static const char text[] = "F66M25EwlWNObVMhKvaIJo+seZ3qV2c2ZU2r7fK8e/g=";
	uint8_t out[32];

	check_int(base64_decode(out, 32, text, 44), 32);
	check_int(out[31], 0xf8);
	for (size_t n = 0; n < 44; n++) {
		char *copy = malloc(n + 1);

		if (!check(copy != NULL))
			return;
		memcpy(copy, text, n);
		check_int(base64_decode(out, 32, copy, n), n % 4 == 0 ? (long)n / 4 * 3 : -1);
		free(copy);
	}
}

static void
test_encode(void)
{
	static const char *const want[] = { "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
	uint8_t bytes[256], back[256];
	char text[400];

	for (size_t n = 0; n < 7; n++) {
		check(base64_encode(text, "foobar", n) == text + strlen(want[n]));
		check_str(text, want[n]);
	}
	for (size_t n = 0; n < 256; n++)
		bytes[n] = (uint8_t)n;
	base64_encode(text, bytes, 256);
	check_int(base64_decode(back, 256, text, strlen(text)), 256);
	check(memcmp(back, bytes, 256) == 0);
}

int
main(void)
{
	run(test_encode);
	run(test_vectors);
	run(test_bad);
	run(test_alphabet);
	run(test_cut);
	return t_end();
}
