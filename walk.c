/*
 * Every chunk of some archives once. The plan: places with the same chunk are chained, in rising order;
 * the first of each chain is walked. A number of readers, as many as the cache has slots, take one chunk
 * after the other from the fetcher, which has workers decode and use them.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bytes.h"
#include "clock.h"
#include "fetch.h"
#include "pace.h"
#include "start.h"
#include "walk.h"

struct step {
	struct fetch_wait wait;		/* first */
	struct walk *walk;
	int busy;
};

struct walk {
	struct walk_conf conf;
	struct fetch *fetch;
	uint32_t *base;			/* first place of each archive, and the number of all */
	uint32_t places, chunks;
	uint32_t *next;			/* of each place: the next with the same chunk */
	uint8_t *later;			/* bits: places that are not the first of their chain */
	struct step *step;
	int steps, busy;
	uint32_t at;			/* the next to be asked for */
	struct pace pace;
	int64_t moved;			/* ms, when a chunk came last */
	struct err why;			/* of the chunk whose ready() follows */
	int failed;			/* its errno */
	int rc;				/* what done() returned */
};

/* ---- the plan ---- */

const struct archive *
walk_archive(const struct walk *w, uint32_t place, uint64_t *chunk)
{
	unsigned a = 0;

	while (place >= w->base[a + 1])
		a++;
	*chunk = place - w->base[a];
	return &w->conf.archives[a];
}

static void
get_want(const struct walk *w, uint32_t place, struct chunk_want *want)
{
	uint64_t chunk;
	const struct archive *a = walk_archive(w, place, &chunk);

	index_chunk(&a->index, chunk, want);
}

static int
left_out(const struct walk *w, uint32_t place)
{
	uint64_t chunk;
	const struct archive *a;

	if (w->conf.skip && bit_get(w->conf.skip, place))
		return 1;
	if (!w->conf.skip_zero)
		return 0;
	a = walk_archive(w, place, &chunk);
	return index_is_zero(&a->index, chunk);
}

/* Keyed by chance: the digests of a hostile index cannot be made to collide. */
static uint32_t
hash(const struct chunk_want *want, const uint64_t key[4])
{
	uint64_t h = 0;
	int i;

	for (i = 0; i < 4; i++)
		h += (get64le(want->digest + 8 * i) ^ key[i]) * (key[3 - i] | 1);
	return (uint32_t)(h >> 32);
}

/* From the last place to the first, so that each chain rises; table has the first place of each chain. */
static void
chain(struct walk *w, uint32_t *table, uint32_t mask)
{
	struct chunk_want want, other;
	uint64_t key[4] = { 0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u, 0x94d049bb133111ebu, 0xd6e8feb86659fd93u };
	uint32_t p, h;

	(void)!getrandom(key, sizeof(key), GRND_NONBLOCK);
	memset(table, 0xff, ((size_t)mask + 1) * sizeof(*table));
	for (p = w->places; p-- > 0; ) {
		w->next[p] = WALK_NONE;
		if (left_out(w, p)) {
			bit_set(w->later, p);
			continue;
		}
		get_want(w, p, &want);
		for (h = hash(&want, key) & mask; table[h] != WALK_NONE; h = (h + 1) & mask) {
			get_want(w, table[h], &other);
			if (memcmp(&want, &other, sizeof(want)) == 0)
				break;
		}
		if (table[h] == WALK_NONE)
			w->chunks++;
		else
			bit_set(w->later, table[h]);
		w->next[p] = table[h];
		table[h] = p;
	}
}

static int
count_places(struct walk *w)
{
	uint64_t n = 0;
	unsigned a;

	w->base = calloc(w->conf.count + 1u, sizeof(*w->base));
	for (a = 0; w->base && a < w->conf.count; a++) {
		n += w->conf.archives[a].index.count;
		if (n >= WALK_NONE / 4)
			return -EFBIG;
		w->base[a + 1] = (uint32_t)n;
	}
	w->places = (uint32_t)n;
	return w->base ? 0 : -ENOMEM;
}

static int
plan(struct walk *w)
{
	uint32_t *table, mask = 1;
	int rc;

	if ((rc = count_places(w)) < 0)
		return rc;
	while (mask / 2 < w->places)
		mask = mask * 2 + 1;
	w->next = malloc(((size_t)w->places + 1) * sizeof(*w->next));
	w->later = calloc(w->places / 8 + 1, 1);
	table = malloc(((size_t)mask + 1) * sizeof(*table));
	if (w->next && w->later && table)
		chain(w, table, mask);
	else
		rc = -ENOMEM;
	free(table);
	return rc;
}

uint32_t
walk_first(const struct walk *w, uint32_t from)
{
	while (from < w->places && bit_get(w->later, from))
		from++;
	return from < w->places ? from : WALK_NONE;
}

uint32_t
walk_next(const struct walk *w, uint32_t place)
{
	return w->next[place];
}

uint32_t
walk_chunks(const struct walk *w)
{
	return w->chunks;
}

struct fetch *
walk_fetch(const struct walk *w)
{
	return w->fetch;
}

/* ---- the way ---- */

static int
use(void *ctx, const struct chunk_want *want, uint64_t place, const uint8_t *data, struct err *e)
{
	struct walk *w = ctx;

	(void)want;
	return w->conf.use(w->conf.ctx, (uint32_t)place, data, e);
}

static void
failed(void *ctx, const struct chunk_want *want, uint64_t place, int rc, const struct err *e)
{
	struct walk *w = ctx;

	(void)want, (void)place;
	w->why = *e;
	w->failed = rc;
}

static void
end_step(struct step *s, int rc)
{
	struct walk *w = s->walk;

	s->busy = 0;
	w->busy--;
	w->moved = clock_ms();
	/* The fetcher says EIO; what failed() was told, just before, is the reason. */
	rc = w->conf.done(w->conf.ctx, (uint32_t)s->wait.offset, rc < 0 ? w->failed : 0, rc < 0 ? &w->why : NULL);
	if (w->rc == 0)
		w->rc = rc;
}

static void
ready(struct fetch_wait *wait, const uint8_t *data, int rc)
{
	(void)data;
	end_step((struct step *)wait, rc);
}

/* Asks for as many chunks as there are steps; returns the ms until more may be asked for. */
static int
ask(struct walk *w)
{
	struct fetch_stats st;
	int i, wait;

	fetch_stats(w->fetch, &st);
	if ((wait = pace_wait(&w->pace, st.raw, clock_ms())) > 0)
		return wait;
	for (i = 0; i < w->steps; i++) {
		struct step *s = &w->step[i];

		if (s->busy || w->at == WALK_NONE)
			continue;
		get_want(w, w->at, &s->wait.want);
		s->wait.offset = w->at;
		w->at = walk_first(w, w->at + 1);
		s->wait.ready = ready;
		s->busy = 1;
		w->busy++;
		if (fetch_get(w->fetch, &s->wait))	/* still there from before the walk, and not used then */
			end_step(s, 0);
	}
	return 1000;
}

static int
turn(struct walk *w, int stop, struct err *e)
{
	struct pollfd p[2] = { { .fd = fetch_fd(w->fetch), .events = POLLIN }, { .fd = stop, .events = POLLIN } };
	int wait = ask(w), timeout = w->conf.tick ? w->conf.tick(w->conf.ctx) : 1000;

	if (w->rc != 0 || (w->busy == 0 && w->at == WALK_NONE))
		return w->rc;
	if (poll(p, 2, timeout < wait ? timeout : wait) > 0) {
		if (p[1].revents)
			return err_set(e, ST_FAIL, -EINTR, "interrupted");
		fetch_turn(w->fetch);
	}
	if (w->busy == 0)
		w->moved = clock_ms();		/* waits for its pace, not for the source */
	if (clock_ms() - w->moved > w->conf.o->timeout * 1000ll)
		return err_set(e, ST_FAIL, -ETIMEDOUT, "no data came for %d s (--timeout)", w->conf.o->timeout);
	return w->rc;
}

int
walk_run(struct walk *w, int stop, struct err *e)
{
	int rc = 0;

	w->moved = clock_ms();
	w->at = walk_first(w, 0);
	while (rc == 0 && (w->busy > 0 || w->at != WALK_NONE))
		rc = turn(w, stop, e);
	return rc;
}

/* ---- beginning and end ---- */

static int
start(struct walk *w, struct err *e)
{
	struct fetch_conf c = { .source = w->conf.snap->source, .key = snap_key(w->conf.snap), .chunk_max = 1,
		.workers = start_workers(w->conf.o) + w->conf.more_workers,
		.ctx = w, .use = w->conf.use ? use : NULL, .failed = failed };
	unsigned a;
	uint64_t slots;

	for (a = 0; a < w->conf.count; a++)
		if (w->conf.archives[a].index.chunk_max > c.chunk_max)
			c.chunk_max = w->conf.archives[a].index.chunk_max;
	/* A slot for each chunk on its way: nothing is kept. */
	slots = start_cache(w->conf.o) / c.chunk_max;
	w->steps = c.source->depth + c.workers;
	w->steps = slots < 2 ? 2 : slots < (unsigned)w->steps ? (int)slots : w->steps;
	c.loads = w->steps;
	c.cache = (uint64_t)w->steps * c.chunk_max;
	if ((w->pace.rate = w->conf.o->limit) != 0)
		w->steps = 2;			/* what is on its way is not counted yet */
	w->step = calloc((size_t)w->steps, sizeof(*w->step));
	if (w->step == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	for (a = 0; a < (unsigned)w->steps; a++)
		w->step[a].walk = w;
	return (w->fetch = fetch_new(&c, e)) ? 0 : -ENOMEM;
}

struct walk *
walk_new(const struct walk_conf *conf, struct err *e)
{
	struct walk *w = calloc(1, sizeof(*w));
	int rc = w ? 0 : -ENOMEM;

	if (w) {
		w->conf = *conf;
		rc = plan(w);
	}
	if (rc < 0)
		err_set(e, ST_FAIL, rc, rc == -EFBIG ? "too many chunks" : "not enough memory for the list of chunks");
	else
		rc = start(w, e);
	if (rc < 0 && w) {
		walk_free(w);
		w = NULL;
	}
	return w;
}

void
walk_free(struct walk *w)
{
	if (w->fetch)
		fetch_free(w->fetch);
	free(w->base);
	free(w->next);
	free(w->later);
	free(w->step);
	free(w);
}
