/*
 * AES-256-GCM as blobs and key files use it: IV of 16 bytes, tag of 16, no
 * additional data.
 */
#ifndef GCM_H
#define GCM_H

#include <stddef.h>
#include <stdint.h>

#include <bearssl.h>

struct gcm_key {			/* a secret; any number of threads may use it */
	br_aes_gen_ctr_keys aes;
	br_ghash ghash;
	uint8_t h[16];
};

void gcm_key_init(struct gcm_key *k, const uint8_t key[32]);	/* wipe() it when done */

/* Decrypts in place if the tag is right (0), else (-1) leaves data as it was. */
int gcm_open(const struct gcm_key *k, const uint8_t iv[16], const uint8_t tag[16],
    uint8_t *data, size_t len);

/* As sha256_use(), for keys made from now on: "hardware", "plain". */
const char *gcm_use(const char *path);

#endif
