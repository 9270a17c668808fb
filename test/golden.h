/*
 * Golden data for unit tests, which run from the repository's top: files, the
 * key of keys/none.json, manifests out of their blobs.
 */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bearssl.h>

#include "../blob.h"
#include "../bytes.h"
#include "../config.h"

#define STORE "test/golden/store/"
#define WHEN "2026-01-02T03:04:05Z/"

/* The whole file, exactly as long as it is (so that ASan sees a byte too far), or the end of the test. */
static uint8_t *
slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	uint8_t *p;
	long n;

	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (n = ftell(f)) < 0) {
		printf("Bail out! %s cannot be read\n", path);
		exit(1);
	}
	rewind(f);
	p = malloc((size_t)n);
	*len = fread(p, 1, (size_t)n, f);
	fclose(f);
	return p;
}

/* keys/none.json, derived here a second time. */
__attribute__((unused))
static void
golden_key(struct key *k)
{
	br_hmac_key_context kc;
	br_hmac_context h;
	uint8_t u[32];
	int i, j;

	memset(k, 0, sizeof(*k));
	hex_decode(k->key, 32, "17ae8cdb913095634e6d53212af688268fac799dea576736654dabedf2bc7bf8", 64);
	hex_decode(k->fingerprint, 32,
	    "67d0f36db756194bf8adc1bfd191ff4e654f5dc8a99d74e791c80b4905958ab9", 64);
	br_hmac_key_init(&kc, &br_sha256_vtable, k->key, 32);
	for (i = 0; i < 10; i++) {
		br_hmac_init(&h, &kc, 0);
		if (i == 0)
			br_hmac_update(&h, "_id_key\0\0\0\1", 11);
		else
			br_hmac_update(&h, u, 32);
		br_hmac_out(&h, u);
		for (j = 0; j < 32; j++)
			k->id_key[j] ^= u[j];
	}
}

/* A manifest's text (malloc'ed), by its snapshot: "vm/101". */
__attribute__((unused))
static char *
golden_manifest(const char *snapshot, size_t *len)
{
	struct blob_worker *w = blob_worker_new();
	char path[200], *json = malloc(65536);
	uint8_t *raw;
	size_t n;

	snprintf(path, sizeof(path), STORE "%s/" WHEN "index.json.blob", snapshot);
	raw = slurp(path, &n);
	if (blob_decode(w, NULL, raw, n, (uint8_t *)json, 65536, len, NULL, NULL) != 0)
		*len = 0;
	free(raw);
	blob_worker_free(w);
	return json;
}

#endif
