/*
 * The cache of verified chunks: slots in one mapping, a hash by digest, a ring
 * by use. It knows neither where chunks come from nor who reads them.
 *
 * Invariants: an EMPTY slot is in no hash chain and stands at the old end of the ring;
 * a LOADING slot is never given away; `ahead` counts the slots whose flag is set.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bytes.h"
#include "cache.h"

#define PREFIX 4096u			/* room before the data: keeps it page aligned */

static unsigned
hash(const struct cache *c, const struct chunk_want *want)
{
	return get32le(want->digest) & c->hash_mask;	/* digests are random already */
}

static int
same(const struct chunk_want *a, const struct chunk_want *b)
{
	/* A hostile index may name one digest with two lengths: only one can be right. */
	return a->len == b->len && a->encrypted == b->encrypted &&
	    memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
}

static void
unlink_slot(struct slot *s)
{
	s->older->newer = s->newer;
	s->newer->older = s->older;
}

static void
link_after(struct slot *where, struct slot *s)
{
	s->older = where;
	s->newer = where->newer;
	where->newer->older = s;
	where->newer = s;
}

static void
set_ahead(struct cache *c, struct slot *s, int on)
{
	c->ahead += (unsigned)on - (unsigned)s->ahead;
	s->ahead = on;
}

int
cache_init(struct cache *c, uint64_t bytes, uint32_t slot_size, struct err *e)
{
	size_t stride = PREFIX + ((size_t)slot_size + 4095) / 4096 * 4096;
	uint64_t n = bytes / slot_size;
	unsigned i;

	memset(c, 0, sizeof(*c));
	c->slot_size = slot_size;
	c->count = n < 2 ? 2 : n > 1u << 20 ? 1u << 20 : (unsigned)n;
	c->oldest.newer = c->oldest.older = &c->oldest;
	for (c->hash_mask = 1; c->hash_mask < c->count; c->hash_mask = c->hash_mask * 2 + 1)
		;
	c->slots = calloc(c->count, sizeof(*c->slots));
	c->hash = calloc(c->hash_mask + 1, sizeof(struct slot *));
	c->map_len = stride * c->count;
	c->map = mmap(NULL, c->map_len, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->map == MAP_FAILED || !c->slots || !c->hash) {
		if (c->map == MAP_FAILED)
			c->map = NULL;
		cache_free(c);
		return err_set(e, ST_FAIL, -ENOMEM,
		    "not enough memory for a cache of %llu MiB; try a smaller --cache",
		    (unsigned long long)(bytes >> 20));
	}
	for (i = 0; i < c->count; i++) {
		c->slots[i].data = c->map + stride * i + PREFIX;
		link_after(&c->oldest, &c->slots[i]);
	}
	return 0;
}

void
cache_free(struct cache *c)
{
	if (c->map)
		munmap(c->map, c->map_len);
	free(c->slots);
	free(c->hash);
	c->map = NULL;
	c->slots = NULL;
	c->hash = NULL;
}

struct slot *
cache_find(struct cache *c, const struct chunk_want *want)
{
	struct slot *s;

	for (s = c->hash[hash(c, want)]; s && !same(&s->want, want); s = s->chain)
		;
	return s;
}

static void
unhash(struct cache *c, struct slot *s)
{
	struct slot **p = &c->hash[hash(c, &s->want)];

	while (*p != s)
		p = &(*p)->chain;
	*p = s->chain;
}

/* The slot to give away: the first from the old end that may go. */
static struct slot *
victim(struct cache *c, int for_ahead)
{
	struct slot *s;

	for (s = c->oldest.newer; s != &c->oldest; s = s->newer)
		if (s->state == SLOT_EMPTY || (s->state == SLOT_READY && !(for_ahead && s->ahead)))
			return s;
	return NULL;
}

struct slot *
cache_take(struct cache *c, const struct chunk_want *want, int ahead)
{
	struct slot *s;
	unsigned h = hash(c, want);

	if (ahead && c->ahead >= c->count / 2)
		return NULL;
	if ((s = victim(c, ahead)) == NULL)
		return NULL;
	cache_drop(c, s);
	s->want = *want;
	s->state = SLOT_LOADING;
	s->waits = NULL;
	s->chain = c->hash[h];
	c->hash[h] = s;
	set_ahead(c, s, ahead);
	unlink_slot(s);
	link_after(c->oldest.older, s);
	return s;
}

void
cache_ready(struct cache *c, struct slot *s)
{
	(void)c;
	s->state = SLOT_READY;
}

void
cache_drop(struct cache *c, struct slot *s)
{
	if (s->state == SLOT_EMPTY)
		return;
	unhash(c, s);
	set_ahead(c, s, 0);
	s->state = SLOT_EMPTY;
	unlink_slot(s);
	link_after(&c->oldest, s);
}

void
cache_used(struct cache *c, struct slot *s)
{
	set_ahead(c, s, 0);
	unlink_slot(s);
	link_after(c->oldest.older, s);
}
