/* Slots: found by digest, evicted by age, read-ahead bounded. */
#include "../cache.h"
#include "t.h"

static struct chunk_want
want(unsigned n)
{
	struct chunk_want w = { .len = 65536 };

	w.digest[0] = (uint8_t)n;
	w.digest[9] = (uint8_t)(n >> 8);
	return w;
}

static struct slot *
fill(struct cache *c, unsigned n, int ahead)
{
	struct chunk_want w = want(n);
	struct slot *s = cache_take(c, &w, ahead);

	if (s)
		cache_ready(c, s);
	return s;
}

static struct slot *
find(struct cache *c, unsigned n)
{
	struct chunk_want w = want(n);

	return cache_find(c, &w);
}

static void
test_lru(void)
{
	struct cache c;
	unsigned i;

	check_int(cache_init(&c, 4 * 65536, 65536, 0, NULL), 0);
	check_int(c.count, 4);
	for (i = 0; i < 4; i++)
		check(fill(&c, i, 0) != NULL);
	cache_used(&c, find(&c, 0));
	check(fill(&c, 4, 0) != NULL);		/* 1 was the oldest */
	check(find(&c, 0) && !find(&c, 1) && find(&c, 2) && find(&c, 3) && find(&c, 4));
	cache_drop(&c, find(&c, 3));
	check(!find(&c, 3));
	check(fill(&c, 5, 0) != NULL);		/* an empty one goes first */
	check(find(&c, 0) && find(&c, 2) && find(&c, 4) && find(&c, 5));
	cache_free(&c);
}

static void
test_loading_stays(void)
{
	struct chunk_want a = want(1), b = want(2), d = want(3);
	struct cache c;

	check_int(cache_init(&c, 1, 65536, 0, NULL), 0);
	check_int(c.count, 2);			/* never fewer */
	check(cache_take(&c, &a, 0) != NULL);
	check(cache_take(&c, &b, 0) != NULL);
	check(cache_take(&c, &d, 0) == NULL);
	cache_ready(&c, cache_find(&c, &a));
	check(cache_take(&c, &d, 0) != NULL);
	check(cache_find(&c, &a) == NULL && cache_find(&c, &b) != NULL);
	cache_free(&c);
}

static void
test_ahead_bounded(void)
{
	struct cache c;
	unsigned i;

	check_int(cache_init(&c, 8 * 65536, 65536, 0, NULL), 0);
	for (i = 0; i < 4; i++)
		check(fill(&c, i, 1) != NULL);
	check(fill(&c, 9, 1) == NULL);		/* half of the slots */
	cache_used(&c, find(&c, 2));		/* one was read */
	check(fill(&c, 9, 1) != NULL);
	for (i = 20; i < 27; i++)		/* demand takes all but the newest */
		check(fill(&c, i, 0) != NULL);
	check_int(c.ahead, 65536);
	check(fill(&c, 30, 0) != NULL);
	check_int(c.ahead, 0);
	cache_free(&c);
}

static void
test_ahead_spares_ahead(void)
{
	struct cache c;

	check_int(cache_init(&c, 4 * 65536, 65536, 0, NULL), 0);
	check(fill(&c, 1, 1) && fill(&c, 2, 0) && fill(&c, 3, 0) && fill(&c, 4, 0));
	check(fill(&c, 5, 1) != NULL);
	check(find(&c, 1) && !find(&c, 2));
	cache_free(&c);
}

/* A digest with two lengths is two chunks (one of them cannot be had). */
static void
test_length_counts(void)
{
	struct chunk_want a = want(1), b = want(1);
	struct cache c;

	b.len = 100;
	check_int(cache_init(&c, 4 * 65536, 65536, 0, NULL), 0);
	check(cache_take(&c, &a, 0) != NULL);
	check(cache_find(&c, &b) == NULL);
	cache_free(&c);
}

/* Chunks of many sizes: bytes are counted, not slots. */
static void
test_varied(void)
{
	struct chunk_want w;
	struct cache c;
	struct slot *s;
	unsigned i, n, here;

	check_int(cache_init(&c, 8u << 20, 1u << 20, 1, NULL), 0);
	check(c.count > 8);
	for (i = 0; i < 1000; i++) {
		w = want(i);
		w.len = i % 3 ? 65536 : 1 + i * 997 % (1u << 20);
		if (!check((s = cache_take(&c, &w, 0)) != NULL))
			break;
		memset(s->data, (int)i, w.len);
		cache_ready(&c, s);
		for (n = here = 0; n < c.count; n++)
			here += c.slots[n].held;
		if (!check(here == c.held && here <= c.bytes))
			break;
	}
	/* What is small is there in great number, and whole. */
	for (n = here = 0; n < 1000; n++) {
		w = want(n);
		w.len = n % 3 ? 65536 : 1 + n * 997 % (1u << 20);
		if ((s = cache_find(&c, &w)) == NULL)
			continue;
		here++;
		check(s->data[0] == (uint8_t)n && s->data[w.len - 1] == (uint8_t)n);
	}
	check(here > 20);
	cache_free(&c);
}

/* While everything is loading there is room for nothing; read-ahead gets half of the bytes. */
static void
test_varied_full(void)
{
	struct chunk_want w;
	struct cache c;
	unsigned i;

	check_int(cache_init(&c, 4u << 20, 1u << 20, 1, NULL), 0);
	for (i = 0; i < 5; i++) {
		w = want(i);
		w.len = 1u << 20;
		check((cache_take(&c, &w, 0) != NULL) == (i < 4));
	}
	w = want(2);
	w.len = 1u << 20;
	cache_ready(&c, cache_find(&c, &w));
	w = want(9);
	w.len = 100;
	check(cache_take(&c, &w, 0) != NULL);
	cache_free(&c);
	check_int(cache_init(&c, 4u << 20, 1u << 20, 1, NULL), 0);
	for (i = 0; i < 40; i++) {
		w = want(i);
		check((cache_take(&c, &w, 1) != NULL) == (i < 32));
	}
	cache_free(&c);
}

int
main(void)
{
	run(test_varied);
	run(test_varied_full);
	run(test_lru);
	run(test_loading_stays);
	run(test_ahead_bounded);
	run(test_ahead_spares_ahead);
	run(test_length_counts);
	return t_end();
}
