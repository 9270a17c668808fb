/*
 * A master key: an RSA private key in PEM, as openssl and the official client write it, plain or with a
 * passphrase; and what it decrypts. No I/O.
 */
#ifndef PEM_H
#define PEM_H

#include <bearssl.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "key.h"

#define PEM_DER_MAX 4096		/* bytes; a key of 4096 bits has 2.4 KB */
#define RSA_MAX 512u			/* bytes of a modulus: what BearSSL can do */

struct pem_key {			/* a secret: wipe() it when done */
	uint8_t der[PEM_DER_MAX];
	br_rsa_private_key rsa;		/* points into der */
	size_t size;			/* bytes of the modulus */
};

/* Takes the first private key of the text: PKCS#1, PKCS#8, and PKCS#8 encrypted by PBES2 with PBKDF2-HMAC-SHA256 and
 * AES-CBC; of other encrypted ones it says how to decrypt them. ST_TRUST: -EINVAL, -EACCES (wrong passphrase). On failure
 * *k is wiped. */
int pem_parse(const char *text, size_t len, const char *name, key_passphrase ask, void *ctx, struct pem_key *k,
    struct err *e);

/* Decrypts data[k->size] in place, PKCS#1 v1.5: the number of bytes, which then stand at *out; -1: not made for this key. */
long pem_decrypt(const struct pem_key *k, uint8_t *data, uint8_t **out);

#endif
