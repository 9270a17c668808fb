/*
 * The cache of verified chunks: slots in one mapping, a hash by digest, a ring
 * by use. It knows neither where chunks come from nor who reads them.
 *
 * Invariants: an EMPTY slot is in no hash chain and stands at the old end of the ring;
 * a LOADING slot is never given away; `ahead` counts the bytes of slots whose flag is set; `held`
 * is the sum of the slots' and, once more than one slot is used, at most `bytes`.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bytes.h"
#include "cache.h"

#define PREFIX 4096u			/* room before the data: keeps it page aligned */
#define VARIED_MEAN (64u << 10)		/* chunks of many sizes: slots for as many as if they had this one */

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
	if (on != s->ahead)
		c->ahead = on ? c->ahead + s->want.len : c->ahead - s->want.len;
	s->ahead = on;
}

/* Address space costs nothing, but a system that counts it all the same gets fewer slots. */
static void
map_slots(struct cache *c, size_t stride)
{
	for (;; c->count /= 2) {
		c->map_len = stride * c->count;
		c->map = mmap(NULL, c->map_len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (c->map != MAP_FAILED) {
			/* Fewer page faults and TLB misses; but parts of varied slots are given back. */
			if (!c->varied)
				madvise(c->map, c->map_len, MADV_HUGEPAGE);
			return;
		}
		c->map = NULL;
		if (!c->varied || c->count / 2 < c->bytes / c->slot_size)
			return;
	}
}

int
cache_init(struct cache *c, uint64_t bytes, uint32_t slot_size, int varied, struct err *e)
{
	size_t stride = PREFIX + ((size_t)slot_size + 4095) / 4096 * 4096;
	uint64_t n = bytes / (varied && slot_size > VARIED_MEAN ? VARIED_MEAN : slot_size);
	unsigned i;

	memset(c, 0, sizeof(*c));
	c->slot_size = slot_size;
	c->varied = varied;
	c->count = n < 2 ? 2 : n > 1u << 20 ? 1u << 20 : (unsigned)n;
	c->bytes = bytes < 2ull * slot_size ? 2ull * slot_size : bytes;
	c->ahead_max = c->bytes / 2;
	c->oldest.newer = c->oldest.older = &c->oldest;
	map_slots(c, stride);
	for (c->hash_mask = 1; c->hash_mask < c->count; c->hash_mask = c->hash_mask * 2 + 1)
		;
	c->slots = calloc(c->count, sizeof(*c->slots));
	c->hash = calloc(c->hash_mask + 1, sizeof(struct slot *));
	if (!c->map || !c->slots || !c->hash) {
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

/* The slot to give away: the first from the old end that may go; when memory is used up, one that has some. */
static struct slot *
victim(struct cache *c, int for_ahead, int full)
{
	struct slot *s;

	for (s = c->oldest.newer; s != &c->oldest; s = s->newer)
		if ((s->state == SLOT_EMPTY && (!full || s->held)) ||
		    (s->state == SLOT_READY && !(for_ahead && s->ahead)))
			return s;
	return NULL;
}

/* Gives memory back, but for the first bytes. */
static void
trim(struct cache *c, struct slot *s, uint32_t keep)
{
	if (s->held <= keep)
		return;
	madvise(s->data + keep, s->held - keep, MADV_DONTNEED);
	c->held -= s->held - keep;
	s->held = keep;
}

/* Makes room for `need` bytes in s, a slot that is nobody's; the least used chunks go. 0: there is none now. */
static int
make_room(struct cache *c, struct slot *s, uint32_t need, int ahead)
{
	struct slot *v;

	s->state = SLOT_LOADING;	/* so that it is no victim */
	while (c->held - s->held + need > c->bytes) {
		if ((v = victim(c, ahead, 1)) == NULL) {
			s->state = SLOT_EMPTY;
			return 0;
		}
		cache_drop(c, v);
		trim(c, v, 0);
	}
	trim(c, s, need);
	c->held += need - s->held;
	s->held = need;
	return 1;
}

struct slot *
cache_take(struct cache *c, const struct chunk_want *want, int ahead)
{
	uint32_t need = c->varied ? (want->len + 4095u) / 4096 * 4096 : c->slot_size;
	struct slot *s;
	unsigned h = hash(c, want);

	if (ahead && c->ahead + want->len > c->ahead_max)
		return NULL;
	if ((s = victim(c, ahead, c->held + need > c->bytes)) == NULL)
		return NULL;
	cache_drop(c, s);
	if (!make_room(c, s, need, ahead))
		return NULL;
	s->want = *want;
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
