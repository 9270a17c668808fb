/* Error texts and bytes.c. */
#include <errno.h>
#include <unistd.h>

#include "t.h"
#include "../bytes.h"
#include "../err.h"
#include "../log.h"

static void
test_set(void)
{
	struct err e;

	check_int(err_set(&e, ST_BUSY, -EBUSY, "%s: %d", "loop0", 7), -EBUSY);
	check_str(e.text, "loop0: 7");
	check_int(e.status, ST_BUSY);
	check_int(err_set(NULL, ST_BUSY, -EIO, "x"), -EIO);
}

static void
test_printable(void)
{
	struct err e;

	err_set(&e, ST_FAIL, -EIO, "%s", "a\nb\x1b[1m\tc\x7f\xc3\xa9~ ");
	check_str(e.text, "a?b?[1m?c???~ ");
}

static void
test_alias(void)
{
	struct err e;

	err_set(&e, ST_FAIL, -EIO, "wrong CRC");
	err_set(&e, ST_DAMAGED, -EIO, "chunk %s: %s (%s)", "1f3a", e.text, e.text);
	check_str(e.text, "chunk 1f3a: wrong CRC (wrong CRC)");
}

static void
test_long(void)
{
	struct err e;
	char text[2000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_set(&e, ST_FAIL, -EIO, "%s", text);
	check_int(strlen(e.text), sizeof(e.text) - 1);
}

static void
test_hex(void)
{
	uint8_t b[3] = { 0x01, 0xaf, 0xff }, back[3];
	char out[10];

	hex_encode(out, b, 3);
	check_str(out, "01afff");
	hex_colons(out, b, 3);
	check_str(out, "01:af:ff");
	hex_colons(out, b, 1);
	check_str(out, "01");
	check_int(hex_decode(back, 3, "01aFFf", 6), 0);
	check(memcmp(b, back, 3) == 0);
	check_int(hex_decode(back, 3, "01afff0", 7), -1);
	check_int(hex_decode(back, 3, "01aff", 5), -1);
	check_int(hex_decode(back, 3, "01afff00", 8), -1);
	check_int(hex_decode(back, 3, "01affg", 6), -1);
	check_int(hex_decode(back, 3, "01af:f", 6), -1);
	check_int(hex_decode(back, 3, "01af\0f", 6), -1);
	check_int(hex_decode(back, 0, "", 0), 0);
}

static void
test_fingerprint(void)
{
	uint8_t b[32], back[32] = { 0 };
	char text[96], plain[65];
	size_t i;

	for (i = 0; i < 32; i++)
		b[i] = (uint8_t)(i * 37 + 9);
	hex_colons(text, b, 32);
	hex_encode(plain, b, 32);
	check_int(hex_fingerprint(back, text, 95), 0);
	check(memcmp(b, back, 32) == 0);
	memset(back, 0, 32);
	for (i = 0; i < 64; i++)
		if (plain[i] >= 'a')
			plain[i] = (char)(plain[i] - 32);
	check_int(hex_fingerprint(back, plain, 64), 0);
	check(memcmp(b, back, 32) == 0);
	for (i = 0; i < 95; i++) {
		char was = text[i];

		text[i] = was == ':' ? 'a' : ':';
		check_int(hex_fingerprint(back, text, 95), -1);
		text[i] = was;
		check_int(hex_fingerprint(back, text, i), -1);
	}
	check_int(hex_fingerprint(back, plain, 63), -1);
}

static void
test_equal_wipe(void)
{
	uint8_t a[32] = { 1 }, b[32] = { 1 };
	size_t i;

	check(equal_ct(a, b, 32));
	check(equal_ct(a, b, 0));
	for (i = 0; i < 256; i++) {
		b[i / 8] ^= (uint8_t)(1u << i % 8);
		check(!equal_ct(a, b, 32));
		b[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	wipe(a, 31);
	check_int(a[0], 0);
}

static void
test_integers(void)
{
	static const uint8_t p[8] = { 0x81, 2, 3, 0xf4, 5, 6, 7, 0x88 };
	uint8_t out[4];

	check_int(get16le(p), 0x0281);
	check(get32le(p) == 0xf4030281u);
	check(get64le(p) == 0x88070605f4030281ull);
	check_int(get16be(p), 0x8102);
	check(get32be(p) == 0x810203f4u);
	put32be(out, 0x810203f4u);
	check(memcmp(out, p, 4) == 0);
}

/* What say() and note() write to stderr. */
static void
said(char *out, size_t cap, int verbose, const char *text)
{
	int fds[2], was = dup(2);
	ssize_t n;

	check_int(pipe(fds), 0);
	dup2(fds[1], 2);
	log_verbose = verbose;
	say("%s", text);
	note("noted %d", 7);
	dup2(was, 2);
	close(was);
	close(fds[1]);
	n = read(fds[0], out, cap - 1);
	out[n > 0 ? n : 0] = '\0';
	close(fds[0]);
}

static void
test_log(void)
{
	char got[4096], text[3000];

	said(got, sizeof(got), 0, "a\nb\033[31m");
	check_str(got, "pbsmap: a?b?[31m\n");
	said(got, sizeof(got), 1, "x");
	check_str(got, "pbsmap: x\npbsmap: noted 7\n");
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	said(got, sizeof(got), 0, text);
	check(strlen(got) > 900 && strlen(got) <= 960 && strcmp(got + strlen(got) - 2, "y\n") == 0);
}

int
main(void)
{
	run(test_set);
	run(test_printable);
	run(test_alias);
	run(test_long);
	run(test_hex);
	run(test_fingerprint);
	run(test_equal_wipe);
	run(test_integers);
	run(test_log);
	return t_end();
}
