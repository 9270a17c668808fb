/*
 * Index files (.fidx, .didx): which chunks make up an archive.
 */
#ifndef INDEX_H
#define INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "blob.h"
#include "err.h"
#include "manifest.h"

struct index {
	const uint8_t *entries;		/* 32 (fixed) or 40 (dynamic) bytes each; borrowed */
	uint64_t count;
	uint64_t size;			/* bytes of the archive */
	uint32_t chunk_size;		/* bytes; 0: dynamic */
	uint32_t chunk_max;		/* bytes of the largest chunk */
	int encrypted;			/* by the manifest */
	uint8_t zero[2][32];		/* digests of all-zero chunks: full length, last one's length (fixed only) */
	int has_zero;
};

/* Parses a whole index file; `x` borrows p, which must outlive it. Everything is recomputed: magic, counts,
 * chunk size (power of two, in range), rising ends, checksum, and size and checksum as the manifest's entry has them.
 * Size 0 is parsed. -EBADMSG, ST_DAMAGED, reason alone as text. */
int index_parse(const uint8_t *p, size_t len, const struct manifest_file *mf,
    struct index *x, struct err *e);

/* Computes the zero digests (costs hashing a chunk of zeros). key: the snapshot's, when encrypted. */
void index_learn_zero(struct index *x, const struct key *key);

uint64_t index_find(const struct index *x, uint64_t offset);	/* chunk that holds offset < size */
uint64_t index_start(const struct index *x, uint64_t chunk);	/* its first byte's offset */
void index_chunk(const struct index *x, uint64_t chunk, struct chunk_want *want);
int index_is_zero(const struct index *x, uint64_t chunk);

#endif
