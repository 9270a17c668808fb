/*
 * What every command that reads chunks begins with. Knows the machine's size and the options, maps and
 * writes nothing.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "clock.h"
#include "config.h"
#include "log.h"
#include "start.h"

uint64_t
start_cache(const struct opts *o)
{
	struct sysinfo si;
	uint64_t bytes;

	if (o->cache)
		return o->cache;
	bytes = sysinfo(&si) < 0 ? CACHE_DEFAULT : (uint64_t)si.totalram * si.mem_unit / 8;
	return bytes > CACHE_DEFAULT ? CACHE_DEFAULT : bytes < CACHE_MIN ? CACHE_MIN : bytes;
}

unsigned
start_ahead(const struct opts *o, uint32_t chunk_max)
{
	/* What may be had at most: fetch.c gives it when the source is far. */
	uint64_t chunks = start_cache(o) / chunk_max * 3 / 4;

	return chunks < AHEAD_MAX ? (unsigned)chunks : AHEAD_MAX;
}

int
start_workers(const struct opts *o)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return o->workers ? o->workers : cpus < 1 ? 1 : cpus > WORKERS_MAX ? WORKERS_MAX : (int)cpus;
}

static struct fetch *
make_fetch(const struct opts *o, const struct snap *s, uint32_t chunk_max, int varied, struct err *e)
{
	struct sysinfo si;
	struct fetch_conf c = {
		.source = s->source,
		.key = snap_key(s),
		.cache = start_cache(o),
		.chunk_max = chunk_max,
		.varied = varied,
		.workers = start_workers(o),
		.loads = s->source->depth + start_workers(o),
	};

	if (sysinfo(&si) == 0 && c.cache > (uint64_t)si.totalram * si.mem_unit / 2) {
		err_set(e, ST_USAGE, -EINVAL, "--cache: more than half of this machine's memory");
		return NULL;
	}
	return fetch_new(&c, e);
}

struct fetch *
start_fetch(const struct opts *o, const struct snap *s, uint32_t chunk_max, struct err *e)
{
	return make_fetch(o, s, chunk_max, 0, e);
}

struct fetch *
start_fetch_varied(const struct opts *o, const struct snap *s, uint32_t chunk_max, struct err *e)
{
	return make_fetch(o, s, chunk_max, 1, e);
}

int
start_read(void *ctx, uint64_t offset, void *buf, size_t len)
{
	struct start_reader *r = ctx;
	const struct index *x = r->index;
	struct fetch_wait w;
	uint8_t *out = buf;
	uint64_t c, from;
	size_t n;

	for (; len; out += n, offset += n, len -= n) {
		if (offset >= x->size) {
			memset(out, 0, len);
			return 0;
		}
		c = index_find(x, offset);
		index_chunk(x, c, &w.want);
		w.offset = index_start(x, c);
		w.ready = NULL;
		from = offset - w.offset;
		n = w.want.len - from < len ? (size_t)(w.want.len - from) : len;
		if (index_is_zero(x, c)) {
			memset(out, 0, n);
			continue;
		}
		if (fetch_first(r->fetch, &w, r->stop, &r->err) < 0)
			return -EIO;
		memcpy(out, fetch_peek(r->fetch, &w.want) + from, n);
	}
	return 0;
}

/* A table that cannot be read is worth a warning: the image may be wanted for what else is in it. */
void
start_table(struct start_reader *r, struct part_table *t)
{
	struct err why;

	r->err.text[0] = 0;
	if (part_scan(start_read, r, r->index->size, t, &why) < 0) {
		say("no partitions: %s", r->err.text[0] ? r->err.text : why.text);
		t->count = 0;
		t->sector = 512;
	}
}

int
start_pace(const struct fetch *f, struct pace *pace, struct progress *p, int stop)
{
	struct pollfd fd = { .fd = stop, .events = POLLIN };
	struct fetch_stats st;
	int wait;

	do {
		fetch_stats(f, &st);
		wait = pace_wait(pace, st.raw, clock_ms());
		progress_tick(p);
		if (poll(&fd, 1, wait) > 0)
			return -EINTR;
	} while (wait > 0);
	return 0;
}
