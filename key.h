/*
 * Encryption keys: key files (JSON or paper), what is derived from them.
 * Format: reference "Keys": kdf none, scrypt, PBKDF2.
 */
#ifndef KEY_H
#define KEY_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct key {
	uint8_t key[32];		/* AES-256 key of blobs */
	uint8_t id_key[32];		/* keys digests and signatures */
	uint8_t fingerprint[32];	/* public */
};

/* Writes the passphrase's bytes (no NUL needed) to buf, at most cap, and returns
 * their number, or a negative errno with *e set. Called only when the file needs one. */
typedef int (*key_passphrase)(void *ctx, char *buf, size_t cap, struct err *e);

/* Parses a key file's bytes. `name` is for messages. Wrong passphrase, wrong
 * fingerprint: -EACCES, ST_TRUST, with the file's hint. Malformed: -EINVAL,
 * ST_TRUST. On failure *k is wiped. */
int key_parse(const void *text, size_t len, const char *name,
    key_passphrase ask, void *ctx, struct key *k, struct err *e);

/* What a key file tells without a passphrase; texts for people may hold any UTF-8. */
struct key_info {
	char kdf[96];			/* "scrypt, n=…", "PBKDF2, …", "none: …" */
	char fingerprint[96];		/* the key's, or where that is encrypted what the file says; empty: nothing */
	char hint[256], created[40], modified[40];	/* empty: not there */
};
/* As key_parse(), but asks nobody. */
int key_info(const void *text, size_t len, const char *name, struct key_info *i, struct err *e);

/* Derives id_key and fingerprint from k->key. */
void key_derive(struct key *k);

#endif
