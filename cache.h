/*
 * The cache of verified chunks: a fixed number of slots, allocated once. Where chunks vary in
 * size there are more slots than would fit when all were full, and bytes are counted.
 * One thread's (the main one); holds no lock.
 */
#ifndef CACHE_H
#define CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "blob.h"
#include "err.h"

enum slot_state { SLOT_EMPTY, SLOT_LOADING, SLOT_READY };

struct fetch_wait;

struct slot {
	struct chunk_want want;		/* what it holds or will hold */
	enum slot_state state;
	int ahead;			/* read ahead, and no reader has used it yet */
	uint32_t held;			/* bytes of data that have memory */
	uint8_t *data;			/* slot_size bytes, BLOB_HEAD_ENC bytes of room before them */
	struct fetch_wait *waits;	/* readers of a LOADING slot: the fetcher's */
	struct slot *chain;		/* same hash */
	struct slot *older, *newer;	/* by use */
};

struct cache {
	uint32_t slot_size;		/* bytes of data */
	unsigned count;			/* slots */
	int varied;			/* chunks of many sizes */
	uint64_t bytes, held;		/* of data: most that may have memory, those that have */
	uint64_t ahead;			/* bytes of chunks whose `ahead` is set, loading or ready */
	uint64_t ahead_max;		/* most that `ahead` grows to; half of all until the owner says more */
	struct slot *slots;
	struct slot **hash;		/* hash_mask + 1 of them */
	unsigned hash_mask;
	struct slot oldest;		/* ring: oldest.newer is evicted first */
	uint8_t *map;
	size_t map_len;
};

/* At least 2 slots, whatever `bytes` says. Memory is used as it is filled. varied: most chunks are smaller
 * than slot_size. */
int cache_init(struct cache *c, uint64_t bytes, uint32_t slot_size, int varied, struct err *e);
void cache_free(struct cache *c);

/* The slot that holds or is loading this chunk; NULL. Does not count as a use. */
struct slot *cache_find(struct cache *c, const struct chunk_want *want);

/* A slot for loading this chunk (which is not there yet), state LOADING: an empty one, else the one not used
 * for longest. For read-ahead, one that was read ahead and not used yet is left alone, and no more than
 * ahead_max is given. NULL: none to be had now. */
struct slot *cache_take(struct cache *c, const struct chunk_want *want, int ahead);

void cache_ready(struct cache *c, struct slot *s);	/* LOADING -> READY */
void cache_drop(struct cache *c, struct slot *s);	/* -> EMPTY */
void cache_used(struct cache *c, struct slot *s);	/* a reader has used it, or waits for it */

#endif
