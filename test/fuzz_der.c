/*
 * DER whose lengths are right: the input is a tree (a tag, then a leaf's length and bytes, or what is inside up to an END),
 * so that mutations change what is meant and not only how long it is. As a certificate (its names are shown and compared), as
 * an authority, and as a private key in PEM under each of its labels. A leaf of kind 2 lies about its length.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../base64.h"
#include "../ca.h"
#include "../cert.h"
#include "../pem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { END = 0, LEAF = 0, INSIDE = 1, LIE = 2, DEPTH = 24, ROOM = 3000 };

static const uint8_t *in;
static size_t left;

static uint8_t
next(void)
{
	return (uint8_t)(left ? (left--, *in++) : 0);
}

static size_t
put_head(uint8_t *out, uint8_t tag, size_t n)
{
	out[0] = tag;
	if (n < 128) {
		out[1] = (uint8_t)n;
		return 2;
	}
	out[1] = 0x82;
	out[2] = (uint8_t)(n >> 8);
	out[3] = (uint8_t)n;
	return 4;
}

/* The elements up to END, into out[cap]; how many bytes. */
static size_t
put_tree(uint8_t *out, size_t cap, int depth)
{
	uint8_t body[ROOM], tag, kind;
	size_t at = 0, n, k, head;

	while (left && (tag = next()) != END) {
		kind = next();
		if (kind % 4 == INSIDE) {
			n = depth < DEPTH ? put_tree(body, sizeof(body), depth + 1) : 0;
		} else {
			n = next();
			n += kind >= 128 ? 256u * (next() % 8u) : 0;
			for (k = 0; k < n; k++)
				body[k] = next();
		}
		if (n + 4 > cap - at)
			break;
		head = put_head(out + at, tag, kind % 4 == LIE ? n + (size_t)next() - 100 : n);
		memcpy(out + at + head, body, n);
		at += head + n;
	}
	return at;
}

static void
as_certificate(const uint8_t *der, size_t n)
{
	static const char *const hosts[] = { "localhost", "192.0.2.7", "fe80::1%eth0", "a.b.example.", "*.b.example", "" };
	char names[256], key[24], few[8];
	struct cert c;

	if (cert_parse(der, n, &c) < 0)
		return;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
		cert_match(&c, hosts[i]);
	if (cert_match(&c, ""))
		abort();
	cert_self_signed(&c);
	cert_names(&c, names, sizeof(names));
	cert_names(&c, few, sizeof(few));
	cert_key(&c, key, sizeof(key));
	for (char *s = names; *s; s++)
		if (*s < ' ' || *s > '~')
			abort();
	if (strlen(few) >= sizeof(few))
		abort();
}

static int
ask(void *ctx, char *buf, size_t cap, struct err *e)
{
	(void)cap;
	if (ctx)
		return err_set(e, ST_TRUST, -ENOTTY, "nobody");
	memcpy(buf, "hello", 5);
	return 5;
}

/* The text of the bytes under a label; its length. */
static size_t
put_pem(char *out, const char *label, const uint8_t *p, size_t n)
{
	char *o = stpcpy(stpcpy(stpcpy(out, "-----BEGIN "), label), "-----\n");

	o = base64_encode(o, p, n);
	o = stpcpy(stpcpy(stpcpy(o, "\n-----END "), label), "-----\n");
	return (size_t)(o - out);
}

static void
as_pem(const uint8_t *der, size_t n)
{
	static const char *const labels[] = { "PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "CERTIFICATE" };
	static struct pem_key k;
	static char text[ROOM * 2];
	uint8_t secret[RSA_MAX], *out;
	struct ca ca = { 0 };
	struct err e;
	size_t len;

	for (int i = 0; i < 3; i++) {
		len = put_pem(text, labels[i], der, n);
		if (pem_parse(text, len, "M", ask, NULL, &k, &e) == 0) {
			memset(secret, 0x5a, sizeof(secret));
			secret[0] = 0;
			if (pem_decrypt(&k, secret, &out) > (long)k.size - 11)
				abort();
		}
	}
	if (pem_parse(text, len, "M", ask, &k, &k, &e) == 0)
		abort();
	len = put_pem(text, labels[3], der, n);
	if (ca_add(&ca, text, len))
		abort();
	ca_free(&ca);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t der[ROOM];
	uint8_t *copy;
	size_t n;

	in = data;
	left = size;
	n = put_tree(der, sizeof(der), 0);
	copy = malloc(n ? n : 1);
	memcpy(copy, der, n);
	as_certificate(copy, n);
	free(copy);
	as_pem(der, n);
	return 0;
}
