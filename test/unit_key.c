/* Key files: the golden ones, all forms, paper, and what is wrong with them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "config.h"
#include "key.h"
#include "t.h"

#define NONE "F66M25EwlWNObVMhKvaIJo+seZ3qV2c2ZU2r7fK8e/g="
#define NONE_FP "67:d0:f3:6d:b7:56:19:4b:f8:ad:c1:bf:d1:91:ff:4e:65:4f:5d:c8:a9:9d:74:e7:91:c8:0b:49:05:95:8a:b9"
#define SCRYPT_FP "3c:e4:17:42:3c:40:8e:84:a1:f6:86:0b:1e:3f:dd:4c:bc:81:ab:f8:fb:ee:c7:47:16:e1:f9:72:1e:7a:b7:91"
#define PBKDF2_FP "61:e6:d5:c1:57:95:b8:bc:56:47:5c:95:b9:5f:20:b6:27:1b:f6:37:0a:14:bc:47:f5:69:7a:17:c4:71:de:d6"

static struct key k;
static struct err e;
static int asked;

static int
ask(void *ctx, char *buf, size_t cap, struct err *err)
{
	const char *pass = ctx;

	asked++;
	if (!pass)
		return err_set(err, ST_TRUST, -ENOTTY, "nobody to ask");
	check(strlen(pass) <= cap);
	memcpy(buf, pass, strlen(pass));
	return (int)strlen(pass);
}

static int
parse_n(const char *text, size_t n, const char *pass)
{
	static const struct key zero;
	char *copy = malloc(n + 1);	/* so that a sanitizer sees reads beyond the end */
	int rc;

	if (!copy)
		abort();
	memcpy(copy, text, n);
	asked = 0;
	e.text[0] = '\0';
	memset(&k, 0x5a, sizeof k);
	rc = key_parse(copy, n, "K", ask, (void *)(size_t)pass, &k, &e);
	free(copy);
	if (rc < 0) {
		check(memcmp(&k, &zero, sizeof k) == 0);
		check(e.text[0] != '\0');
		check_int(e.status, ST_TRUST);
	}
	return rc;
}

static int
parse(const char *text, const char *pass)
{
	return parse_n(text, strlen(text), pass);
}

static void
is_fingerprint(const char *want)
{
	char text[96];

	hex_colons(text, k.fingerprint, 32);
	check_str(text, want);
}

/* Replaces the first `from` in a static copy of text. */
static const char *
edit(const char *text, const char *from, const char *to)
{
	static char out[8192];
	const char *at = strstr(text, from);

	if (!check(at != NULL))
		return text;
	snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	return out;
}

static char *
slurp(const char *name)
{
	static char text[4][8192];
	static unsigned turn;
	char *to = text[turn++ % 4], path[128];
	FILE *f;
	size_t n = 0;

	snprintf(path, sizeof path, "test/golden/keys/%s", name);
	f = fopen(path, "re");
	if (check(f != NULL)) {
		n = fread(to, 1, sizeof text[0] - 1, f);
		fclose(f);
	}
	to[n] = '\0';
	return to;
}

static void
test_none(void)
{
	check_int(parse(slurp("none.json"), NULL), 0);
	is_fingerprint(NONE_FP);
	check_int(asked, 0);
	check_int(k.key[0] << 8 | k.key[31], 0x17f8);
	/* Fingerprint, dates and even kdf may be missing, others may be there. */
	check_int(parse("{\"data\":\"" NONE "\",\"x\":{\"data\":[1,null]}}", NULL), 0);
	is_fingerprint(NONE_FP);
}

static void
test_passphrase(void)
{
	char *text = slurp("scrypt.json");

	check_int(parse(text, "golden-pass"), 0);
	is_fingerprint(SCRYPT_FP);
	check_int(asked, 1);
	check_int(parse(text, "golden-pasS"), -EACCES);
	check(strstr(e.text, "wrong passphrase") != NULL && strchr(e.text, 'K') != NULL);
	check_int(parse(text, ""), -EACCES);
	check_int(parse(text, NULL), -ENOTTY);
	check_str(e.text, "nobody to ask");
	text = slurp("pbkdf2.json");
	check_int(parse(text, "golden-pass"), 0);
	is_fingerprint(PBKDF2_FP);
	check_int(parse(text, "golden-pass "), -EACCES);
	check_int(parse(edit(text, "\"fingerprint\"", "\"hint\":\"the\\ngolden one\",\"fingerprint\""), "x"), -EACCES);
	check(strstr(e.text, "(hint: the?golden one)") != NULL);
}

static void
test_paper(void)
{
	char *text = slurp("paper.txt"), cut[4096], *to = cut;

	check_int(parse(text, "golden-pass"), 0);
	is_fingerprint(SCRYPT_FP);
	check_int(parse(edit(text, "-----BEGIN", "Subject: {my} key\n\n-BEGIN"), "golden-pass"), 0);
	check_int(parse(edit(text, "KEY-----\n{", "{"), "golden-pass"), 0);
	check_int(parse(edit(text, "-----END PROXMOX BACKUP KEY-----", "\xe2\x96\x88 no more }"), "golden-pass"), -EINVAL);
	check_int(parse(edit(text, "-----END PROXMOX BACKUP KEY-----", ""), "golden-pass"), 0);
	check_int(parse(edit(text, "KEY-----\n", "KEY-----\r\n\r\n \t"), "golden-pass"), 0);
	check_int(parse(strchr(text, '{'), "golden-pass"), 0);
	/* A line break after every character, which leaves no marker either. */
	for (const char *p = text; *p; p++) {
		*to++ = *p;
		*to++ = '\n';
	}
	*to = '\0';
	check_int(parse(cut, "golden-pass"), 0);
	is_fingerprint(SCRYPT_FP);
	check_int(parse(edit(text, "\"fZ0j", "\" f Z0 j"), "golden-pass"), 0);
	check_int(parse(edit(text, "\"3c:e4", "\"3C: E4"), "golden-pass"), 0);
	check_int(parse(edit(text, "65536", "65 536"), "golden-pass"), 0);
}

/* Fingerprint and key must belong together; both are shown. */
static void
test_fingerprint(void)
{
	char *text = slurp("none.json");

	check_int(parse(edit(text, "67:d0", "67:d1"), NULL), -EACCES);
	check(strstr(e.text, "67:d1:f3") != NULL && strstr(e.text, NONE_FP) != NULL);
	check_int(parse(edit(text, "\"F66M", "\"F66N"), NULL), -EACCES);
	check_int(parse(edit(text, "67:d0", "67d0"), NULL), -EINVAL);
	check_int(parse(edit(text, "67:d0", "67:dx"), NULL), -EINVAL);
	check(strstr(e.text, "fingerprint") != NULL);
	check_int(parse(edit(text, "\"67:d0", "\"00:67:d0"), NULL), -EINVAL);
	check_int(parse(edit(text, "\"fingerprint\":\"", "\"fingerprint\":null,\"x\":\""), NULL), 0);
}

static void
bad(const char *text, const char *says)
{
	if (!check(parse(text, "golden-pass") == -EINVAL && strstr(e.text, says) != NULL))
		printf("# %s: %s\n", text, e.text);
	check_int(asked, 0);
}

static void
test_bad(void)
{
	char *text = slurp("none.json");
	static char big[KEY_FILE_MAX + 2];

	bad("", "no encryption key");
	bad("}{", "no encryption key");
	bad("-----BEGIN PROXMOX BACKUP KEY-----\n-----END PROXMOX BACKUP KEY-----\n", "no encryption key");
	bad("-----END PROXMOX BACKUP KEY-----{}", "no encryption key");
	bad(slurp("master-private.pem"), "no encryption key");
	bad("{}", "data is missing");
	bad("{\"data\":7}", "data");
	bad("{\"data\":\"\"}", "damaged");
	bad("{\"kdf\":null,\"data\":\"AAAA\"}", "damaged");
	bad("{\"kdf\":\"none\",\"data\":\"" NONE "\"}", "kdf");
	bad("{\"kdf\":{},\"data\":\"" NONE "\"}", "kdf");
	bad("{\"kdf\":{\"Argon2\":{}},\"data\":\"" NONE "\"}", "kdf");
	bad("{\"kdf\":{\"Scrypt\":{},\"PBKDF2\":{}},\"data\":\"" NONE "\"}", "kdf");
	bad(edit(text, "\"kdf\":null", "\"kdf\":null,\"kdf\":null"), "doubled");
	bad(edit(text, "e/g=", "e/h="), "damaged");
	bad(edit(text, "e/g=", "e/g"), "damaged");
	bad(edit(text, "e/g=", "e/gA"), "damaged");
	bad(edit(text, "\"created\"", "created"), "JSON");
	check_int(parse_n("{\"data\":\"\0\"}", 13, NULL), -EINVAL);
	memset(big, ' ', sizeof big - 1);
	memcpy(big, text, strlen(text));
	check_int(parse_n(big, KEY_FILE_MAX, NULL), 0);
	bad(big, "no encryption key");
}

static void
test_bad_kdf(void)
{
	char *text = slurp("scrypt.json"), *pb = slurp("pbkdf2.json");

	bad(edit(text, "65536", "65537"), "n=65537");
	bad(edit(text, "65536", "0"), "n=0");
	bad(edit(text, "65536", "-1"), "kdf.Scrypt.n");
	bad(edit(text, "65536", "65536.5"), "kdf.Scrypt.n");
	bad(edit(text, "65536", "\"65536\""), "kdf.Scrypt.n");
	bad(edit(text, "65536", "1099511627776"), "256 MiB");
	bad(edit(text, "65536", "524288"), "256 MiB");
	bad(edit(text, "\"r\":8", "\"r\":18446744073709551615"), "256 MiB");
	bad(edit(text, "\"r\":8", "\"r\":0"), "r=0");
	bad(edit(text, "\"p\":1", "\"p\":4294967296"), "more time");
	bad(edit(text, "\"p\":1,", ""), "p=0");
	bad(edit(pb, "65535", "0"), "0 iterations");
	bad(edit(pb, "65535", "10000001"), "10000001 iterations");
	bad(edit(pb, "65535", "4294967297"), "4294967297 iterations");
	bad(edit(pb, "\"vGE", "\"*GE"), "salt");
	bad(edit(pb, "\"salt\"", "\"pepper\""), "salt");
	bad(edit(pb, "KTP/4g==", ""), "damaged");
}

/* A cut file is never a key, whatever is left of it, and reads nothing beyond. */
static void
test_cut(void)
{
	char *text = slurp("none.json");

	for (size_t n = 0; n < strlen(text); n++)
		check_int(parse_n(text, n, NULL), -EINVAL);
}

/* Each bit of data flipped: another key, and the fingerprint tells. */
static void
test_flips(void)
{
	char *text = slurp("none.json"), *data = strstr(text, NONE);
	int other = 0;

	for (size_t i = 0; data && i < sizeof NONE - 1; i++) {
		for (int bit = 0; bit < 8; bit++) {
			data[i] = (char)(data[i] ^ 1 << bit);
			/* A line break made of a character is no other key. */
			other += parse(text, NULL) < 0;
			data[i] = (char)(data[i] ^ 1 << bit);
		}
	}
	check_int(other, 8 * (sizeof NONE - 1));
}

int
main(void)
{
	run(test_none);
	run(test_passphrase);
	run(test_paper);
	run(test_fingerprint);
	run(test_bad);
	run(test_bad_kdf);
	run(test_cut);
	run(test_flips);
	return t_end();
}
