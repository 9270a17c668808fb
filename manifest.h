/*
 * The manifest (index.json.blob) of a snapshot: which archives there are, how
 * they are encrypted, their size and checksum.
 */
#ifndef MANIFEST_H
#define MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "key.h"

enum crypt_mode { CRYPT_NONE, CRYPT_SIGN, CRYPT_ENCRYPT };

#define NOT_LISTED UINT64_MAX

struct manifest_file {
	char name[256];			/* as stored, e.g. "drive-scsi0.img.fidx" */
	enum crypt_mode crypt;
	uint64_t size;			/* bytes of the image, or of the .blob file; NOT_LISTED: see snap_find() */
	uint8_t csum[32];
};

struct manifest {
	char type[8], id[256];		/* backup-type, backup-id */
	int64_t time;			/* backup-time, epoch seconds */
	struct manifest_file *files;	/* count of them; malloc'ed */
	size_t count;
	int has_fingerprint;		/* unprotected.key-fingerprint is set: */
	uint8_t fingerprint[32];
	int has_signature;
	uint8_t signature[32];
};

/* Parses the manifest's JSON (already out of its blob). Names that are no safe
 * file names, doubled names or keys, wrong types, missing members: -EINVAL, ST_DAMAGED.
 * The signature is not checked here. */
int manifest_parse(const char *json, size_t len, struct manifest *m, struct err *e);

/* Checks the signature over the canonical form of the same text and the key's fingerprint.
 * key NULL: fails (-ENOKEY, ST_TRUST) only if `need_key` is set (an archive that is encrypted is
 * wanted). With a key: a fingerprint that differs or a signature that is wrong
 * fails, ST_TRUST, both fingerprints shown in the message; so does a missing signature where the manifest
 * names a key or an archive that is not CRYPT_NONE. */
int manifest_verify(const struct manifest *m, const char *json, size_t len,
    const struct key *key, int need_key, struct err *e);

/* By stored name; NULL when not there. */
const struct manifest_file *manifest_find(const struct manifest *m, const char *stored_name);

void manifest_free(struct manifest *m);	/* also a half-built one */

#endif
