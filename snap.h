/*
 * A snapshot, ready to be read: source, manifest, key, checked against each other.
 * What map, restore, verify and mount begin with.
 */
#ifndef SNAP_H
#define SNAP_H

#include "index.h"
#include "key.h"
#include "manifest.h"
#include "opt.h"
#include "origin.h"
#include "repo.h"
#include "source.h"

struct snap {
	struct origin origin;		/* its source, */
	struct source *source;		/*   once more */
	struct snapshot name;
	struct manifest manifest;
	char *json;			/* the manifest's text */
	size_t json_len;
	struct key key;
	int has_key;
};

struct archive {
	const struct manifest_file *file;	/* the manifest's */
	uint8_t *bytes;			/* the index file */
	size_t mapped;			/* its bytes, when it lies on a disk; 0: in memory */
	struct index index;
};

/* Opens the repository, finds the snapshot, reads and parses the manifest. snap_close() in any case. */
int snap_open(struct snap *s, const struct opts *o, const char *snapshot, struct err *e);

/* The same in two steps where s->origin is open and s->name set: finds it and, on a server, connects; reads the manifest. */
int snap_enter(struct snap *s, struct err *e);
int snap_read(struct snap *s, struct err *e);

/* Gets the key when the file is encrypted, the manifest names one, or the user gave one; checks fingerprint and
 * signature. May ask at the terminal. f NULL: for all files, and goes on without a key when there is none. */
int snap_unlock(struct snap *s, const struct opts *o, const struct manifest_file *f, struct err *e);

/* The path of the official client's default key; 0 when there is none. */
int snap_default_key(char *out, size_t cap);
/* The same without a snapshot: reads the key that the user gave, or when it is needed the default one. *has_key is set when there is one. */
int snap_key_file(const struct opts *o, int needed, struct key *k, int *has_key, struct err *e);
/* A file without a name for an index of that length, on a disk: a descriptor, or -1. */
int snap_spill_file(size_t len);

/* The archive a user means, of that kind; otherwise says what there is, or which command is the right one. The client's log,
 * which no manifest has, is found with the size NOT_LISTED, whether it is there or not. */
int snap_find(const struct snap *s, const char *archive, enum archive_kind kind,
    const struct manifest_file **f, struct err *e);

/* Reads and checks the index of a file. archive_free() in any case. */
int snap_index(struct snap *s, const struct manifest_file *f, struct archive *a, struct err *e);

/* A .blob file's data, checked against the manifest; *out is malloc'ed. -ENOKEY: encrypted, the outside is right. */
int snap_blob(struct snap *s, const struct manifest_file *f, uint8_t **out, size_t *len, struct err *e);

const struct key *snap_key(const struct snap *s);	/* NULL: none */
void archive_free(struct archive *a);
void snap_close(struct snap *s);

#endif
