/*
 * Key files that are right, made by the input: kind, parameters, hint, form (JSON, paper), blanks. Each opens with its
 * passphrase to the key it was made of, and with no other; then a byte of it is changed, and it opens to this key or not at all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bearssl.h>

#include "../base64.h"
#include "../bytes.h"
#include "../key.h"
#include "../scrypt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *in;
static size_t left;
static const char *pass;

static uint8_t
next(void)
{
	return (uint8_t)(left ? (left--, *in++) : 0);
}

static int
ask(void *ctx, char *buf, size_t cap, struct err *e)
{
	size_t n = strlen(pass);

	(void)ctx, (void)e;
	if (n > cap)
		abort();
	memcpy(buf, pass, n);
	return (int)n;
}

/* IV, tag, key: as the format has it. */
static void
seal(uint8_t out[64], const uint8_t secret[32], const uint8_t key[32])
{
	br_aes_ct64_ctr_keys aes;
	br_gcm_context gcm;

	for (int i = 0; i < 16; i++)
		out[i] = next();
	memcpy(out + 32, key, 32);
	br_aes_ct64_ctr_init(&aes, secret, 32);
	br_gcm_init(&gcm, &aes.vtable, br_ghash_ctmul64);
	br_gcm_reset(&gcm, out, 16);
	br_gcm_flip(&gcm);
	br_gcm_run(&gcm, 1, out + 32, 32);
	br_gcm_get_tag(&gcm, out + 16);
}

/* Writes a file for the key; returns its length. Sets whether it wants a passphrase. */
static size_t
make(char *out, const struct key *k, int *wants)
{
	static const char *const gap[] = { "", " ", "\n", "\r\n\t", "  \n" };
	uint8_t data[64], secret[32], salt[256], kind = next();
	const char *g = gap[next() % 5];
	size_t n = 32, salt_len = 1u + next();
	char text[400], *p = out;

	if (kind & 0x40)
		p += sprintf(p, "Subject: {paper}\n-----BEGIN PROXMOX BACKUP KEY-----\n");
	p += sprintf(p, "{%s\"kdf\"%s:%s", g, g, g);
	for (size_t i = 0; i < salt_len; i++)
		salt[i] = next();
	base64_encode(text, salt, salt_len);
	*wants = kind % 3 != 0;
	if (kind % 3 == 1) {
		unsigned logn = 1 + next() % 5, r = 1 + next() % 8, par = 1 + next() % 3;

		p += sprintf(p, "{\"Scrypt\":{\"n\":%u,%s\"r\":%u,\"p\":%u,\"salt\":\"%s\"}}", 1u << logn, g, r, par, text);
		if (scrypt(pass, strlen(pass), salt, salt_len, 1u << logn, r, par, secret, 32) < 0)
			abort();
	} else if (kind % 3 == 2) {
		unsigned iter = 1 + next() % 32;

		p += sprintf(p, "{\"PBKDF2\":{\"iter\":%u,\"salt\":\"%s\"%s}}", iter, text, g);
		pbkdf2(pass, strlen(pass), salt, salt_len, iter, secret, 32);
	} else {
		p += sprintf(p, "null");
	}
	memcpy(data, k->key, 32);
	if (*wants) {
		seal(data, secret, k->key);
		n = 64;
	}
	p += sprintf(p, ",%s\"data\":\"", g);
	p = base64_encode(p, data, n);
	hex_colons(text, k->fingerprint, 32);
	p += sprintf(p, "\"%s,\"created\":\"2024\",\"modified\":\"2025\"", g);
	if (kind & 0x20)
		p += sprintf(p, ",\"fingerprint\":\"%s\"", text);
	if (kind & 0x10)
		p += sprintf(p, ",\"hint\":\"h\\u00e9 { } \\\" %u\"", next());
	p += sprintf(p, "}%s", g);
	if (kind & 0x40)
		p += sprintf(p, "-----END PROXMOX BACKUP KEY-----\n");
	return (size_t)(p - out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[2400], *copy;
	struct key made = { .key = { 0 } }, k;
	struct key_info info;
	struct err e = { .text = "" };
	size_t n, at;
	int wants;

	in = data;
	left = size;
	for (int i = 0; i < 32; i++)
		made.key[i] = next();
	key_derive(&made);
	pass = "hello world";
	n = make(text, &made, &wants);
	copy = malloc(n);		/* of its own: what is read beyond it shows */
	memcpy(copy, text, n);
	if (key_parse(copy, n, "F", ask, NULL, &k, &e) < 0 || memcmp(&k, &made, sizeof(k)) != 0 ||
	    key_info(copy, n, "F", &info, &e) < 0)
		abort();
	pass = "hello worle";
	if (wants && key_parse(copy, n, "F", ask, NULL, &k, &e) == 0)
		abort();
	pass = "hello world";
	at = (next() | (size_t)next() << 8) % n;
	copy[at] = (char)next();
	/* Without a fingerprint and a passphrase another key is a key too. */
	if (key_parse(copy, n, "F", ask, NULL, &k, &e) == 0 && wants && memcmp(&k, &made, sizeof(k)) != 0)
		abort();
	key_info(copy, n, "F", &info, &e);
	free(copy);
	return 0;
}
