/*
 * Keys as mkstore needs them: reads key files without a passphrase, makes key
 * files of all kinds. A part of mkstore.c, kept apart for its length.
 */
#ifndef MKKEY_H
#define MKKEY_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

struct keys {
	uint8_t key[32], id_key[32];
	char fingerprint[96];		/* ab:cd:... */
};

struct genkey {
	const char *file, *from, *pbkdf2, *scrypt, *hint;
	uint64_t cost;			/* scrypt's n or PBKDF2's iterations; 0: usual */
};

__attribute__((noreturn, format(printf, 1, 2)))
static void
die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "mkstore: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(1);
}

static void
hex_encode(char *out, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
}

static void
print_json_string(FILE *f, const char *before, const char *s)
{
	fprintf(f, "%s\"", before);
	for (; *s != '\0'; s++)
		if (*s == '"' || *s == '\\')
			fprintf(f, "\\%c", *s);
		else if ((uint8_t)*s < 0x20)
			fprintf(f, "\\u%04x", *s);
		else
			fputc(*s, f);
	fprintf(f, "\"");
}

/* AES-256-GCM with an IV of 16 bytes, as the format has it. */
static void
gcm_seal(EVP_CIPHER_CTX *c, const uint8_t *key, const uint8_t *iv, uint8_t *tag,
    const uint8_t *in, size_t len, uint8_t *out)
{
	int n;

	if (EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, NULL, NULL) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_IVLEN, 16, NULL) != 1 ||
	    EVP_EncryptInit_ex(c, NULL, NULL, key, iv) != 1 ||
	    EVP_EncryptUpdate(c, out, &n, in, (int)len) != 1 ||
	    EVP_EncryptFinal_ex(c, out + n, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, 16, tag) != 1)
		die("AES-GCM failed");
}

static void
keys_derive(struct keys *k)
{
	static const char text[] = "Proxmox Backup Encryption Key Fingerprint";
	uint8_t input[64], print[32];

	if (PKCS5_PBKDF2_HMAC((char *)k->key, 32, (const uint8_t *)"_id_key", 7, 10,
	    EVP_sha256(), 32, k->id_key) != 1)
		die("PBKDF2 failed");
	SHA256((const uint8_t *)text, sizeof(text) - 1, input);
	memcpy(input + 32, k->id_key, 32);
	SHA256(input, 64, print);
	for (size_t i = 0; i < 32; i++)
		snprintf(k->fingerprint + 3 * i, 4, "%02x%s", print[i], i < 31 ? ":" : "");
}

/* The tests' own key files only: finds `data` as text. */
static void
keys_load(struct keys *k, const char *path)
{
	char text[4096] = "", b64[45];
	uint8_t raw[36];
	FILE *f = fopen(path, "r");
	char *p;

	if (f == NULL)
		die("%s: %s", path, strerror(errno));
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	p = strstr(text, "\"data\"");
	if (strstr(text, "null") == NULL || p == NULL || (p = strchr(p + 6, '"')) == NULL ||
	    strcspn(p + 1, "\"") != 44)
		die("%s: not a key file without passphrase", path);
	snprintf(b64, sizeof(b64), "%.44s", p + 1);
	if (EVP_DecodeBlock(raw, (uint8_t *)b64, 44) != 33)
		die("%s: bad base64", path);
	memcpy(k->key, raw, 32);
	keys_derive(k);
}

/* Writes `"kdf":{...},` and encrypts the key: out gets IV, tag and ciphertext. */
static void
wrap_key(FILE *f, const struct genkey *g, const uint8_t key[32], uint8_t out[64])
{
	const char *pass = g->scrypt ? g->scrypt : g->pbkdf2;
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint64_t cost = g->cost ? g->cost : g->scrypt ? 65536 : 65535;
	uint8_t salt[32], derived[32];
	char b64[48];
	int ok;

	if (c == NULL || RAND_bytes(salt, 32) != 1 || RAND_bytes(out, 16) != 1)
		die("no random bytes");
	EVP_EncodeBlock((uint8_t *)b64, salt, 32);
	if (g->scrypt) {
		ok = EVP_PBE_scrypt(pass, strlen(pass), salt, 32, cost, 8, 1, 1u << 30, derived, 32);
		fprintf(f, "{\"kdf\":{\"Scrypt\":{\"n\":%llu,\"r\":8,\"p\":1,\"salt\":\"%s\"}},",
		    (unsigned long long)cost, b64);
	} else {
		ok = PKCS5_PBKDF2_HMAC(pass, (int)strlen(pass), salt, 32, (int)cost, EVP_sha256(), 32, derived);
		fprintf(f, "{\"kdf\":{\"PBKDF2\":{\"iter\":%llu,\"salt\":\"%s\"}},",
		    (unsigned long long)cost, b64);
	}
	if (ok != 1)
		die("the key derivation failed");
	gcm_seal(c, derived, out, out + 16, key, 32, out + 32);
	EVP_CIPHER_CTX_free(c);
}

static void
genkey(const struct genkey *g)
{
	struct keys k;
	uint8_t data[64];
	char b64[96];
	size_t len = 32;
	FILE *f;

	if (g->from != NULL)
		keys_load(&k, g->from);
	else if (RAND_bytes(k.key, 32) != 1)
		die("no random bytes");
	keys_derive(&k);
	umask(077);
	f = fopen(g->file, "w");
	if (f == NULL)
		die("%s: %s", g->file, strerror(errno));
	if (g->scrypt || g->pbkdf2) {
		wrap_key(f, g, k.key, data);
		len = 64;
	} else {
		fprintf(f, "{\"kdf\":null,");
		memcpy(data, k.key, 32);
	}
	EVP_EncodeBlock((uint8_t *)b64, data, (int)len);
	fprintf(f, "\"created\":\"2026-01-01T00:00:00+00:00\",\"modified\":\"2026-01-01T00:00:00+00:00\","
	    "\"data\":\"%s\",\"fingerprint\":\"%s\"", b64, k.fingerprint);
	if (g->hint != NULL)
		print_json_string(f, ",\"hint\":", g->hint);
	fprintf(f, "}\n");
	if (fclose(f) != 0)
		die("%s: %s", g->file, strerror(errno));
}

#endif
