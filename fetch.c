/*
 * Which chunk is loaded next. A load takes a cache slot, asks the source for the
 * raw chunk, has a worker decode it into the slot, and comes back by the done list.
 *
 *	main: start() -> source: ask() ... done() -> worker: decode() -> main: finish()
 *
 * Readers wait on the slot that is loading; those for whom there is no slot or no free load
 * stand in `pending`, oldest first, and are looked at again whenever a load ends. Knows
 * neither images nor FUSE nor what kind the source is.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bytes.h"
#include "config.h"
#include "fetch.h"
#include "log.h"
#include "work.h"

struct load {
	struct chunk_req req;		/* first: the source hands it back */
	struct job job;
	struct fetch *fetch;
	struct slot *slot;
	uint64_t offset;		/* in the image, of who asked first */
	int tries;			/* times it failed */
	int fresh;			/* begun for a reader, not ahead of one */
	int here;			/* the source has answered (atomic) */
	struct load *next;		/* free or done list */
};

struct fetch {
	struct fetch_conf conf;
	struct cache cache;
	struct work *work;
	struct load *loads;
	struct load *idle;
	int idle_count;
	struct fetch_wait *pending, **pending_tail;
	int event;			/* eventfd: the done list is not empty */
	pthread_mutex_t lock;		/* of done and buf */
	struct load *done;
	uint8_t *raw;			/* buffers of raw blobs, in one mapping */
	size_t raw_len;
	uint8_t **buf;			/* those not in use; the last one is taken first, so that no more */
	int bufs;			/*   of them ever get memory than are in use at once; under `lock` */
	struct err last;		/* why the last load failed */
	int quiet;			/* the caller reports `last` itself */
	uint8_t said[16][32];		/* digests complained of, so that a retry is no second line */
	unsigned said_next;
	int late;			/* how often read-ahead came too late: see judge() */
	int fresh;			/* loads whose `fresh` is set */
	struct fetch_stats stats;
};

/* ---- the way of a load ---- */

/* Any thread: the load has ended. */
static void
announce(struct load *l)
{
	struct fetch *f = l->fetch;
	uint64_t one = 1;
	ssize_t n;

	pthread_mutex_lock(&f->lock);
	l->next = f->done;
	f->done = l;
	pthread_mutex_unlock(&f->lock);
	do
		n = write(f->event, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

/* There is one buffer a load. */
static void
take_buf(struct load *l)
{
	struct fetch *f = l->fetch;

	pthread_mutex_lock(&f->lock);
	l->req.buf = l->req.raw = f->buf[--f->bufs];
	pthread_mutex_unlock(&f->lock);
}

static void
give_buf(struct load *l)
{
	struct fetch *f = l->fetch;

	if (l->req.buf == NULL)
		return;
	/* Not every buffer shall grow to the largest blob it ever had. */
	if (l->req.len > RAW_KEPT)
		madvise(l->req.buf + RAW_KEPT, l->req.cap - RAW_KEPT, MADV_DONTNEED);
	pthread_mutex_lock(&f->lock);
	f->buf[f->bufs++] = l->req.buf;
	pthread_mutex_unlock(&f->lock);
	l->req.buf = NULL;
}

/* A worker: raw chunk -> verified bytes in the slot. */
static void
decode(struct job *j, struct blob_worker *w)
{
	struct load *l = (struct load *)((char *)j - offsetof(struct load, job));
	struct chunk_req *r = &l->req;

	if (r->pull) {
		take_buf(l);
		r->rc = r->pull(r);
	}
	if (r->rc == 0)
		r->rc = chunk_decode(w, l->fetch->conf.key, &l->slot->want, r->raw, r->len,
		    l->slot->data, &r->err);
	if (r->rc == 0 && l->fetch->conf.use)
		r->rc = l->fetch->conf.use(l->fetch->conf.ctx, &l->slot->want, l->offset, l->slot->data, &r->err);
	give_buf(l);
	announce(l);
}

/* A thread of the source, or the main one: the raw chunk is there, or not. */
static void
arrived(struct chunk_req *req)
{
	struct load *l = (struct load *)req;

	__atomic_store_n(&l->here, 1, __ATOMIC_RELAXED);
	if (req->rc < 0) {
		give_buf(l);
		announce(l);
		return;
	}
	l->job.run = decode;
	l->job.level = l->fresh ? WORK_NOW : req->demand ? WORK_SOON : WORK_LATER;
	work_push(l->fetch->work, &l->job);
}

static void
ask(struct load *l)
{
	struct chunk_req *r = &l->req;

	memcpy(r->digest, l->slot->want.digest, sizeof(r->digest));
	r->demand = !l->slot->ahead;
	r->slot = l->slot->data;
	r->raw = r->buf = NULL;
	r->pull = NULL;
	if (!l->fetch->conf.source->pulls)
		take_buf(l);
	r->len = 0;
	r->rc = 0;
	l->here = 0;
	r->err.text[0] = 0;
	r->done = arrived;
	l->fetch->conf.source->ops->ask(l->fetch->conf.source, r);
}

uint8_t *
req_place(struct chunk_req *r, const uint8_t magic[8])
{
	size_t head = blob_data_at(magic);

	return r->raw = r->slot && head ? r->slot - head : r->buf;
}

/* Takes a slot and a load for the chunk; NULL when one of them is not to be had. */
static struct slot *
start(struct fetch *f, const struct chunk_want *want, uint64_t offset, int ahead)
{
	struct load *l = f->idle;
	struct slot *s;

	if (l == NULL || (s = cache_take(&f->cache, want, ahead)) == NULL)
		return NULL;
	f->idle = l->next;
	f->idle_count--;
	l->slot = s;
	l->offset = offset;
	l->tries = 0;
	l->fresh = !ahead;
	f->fresh += l->fresh;
	f->stats.asked++;
	f->stats.ahead += ahead != 0;
	ask(l);
	return s;
}

/* ---- readers ---- */

static void
wait_on(struct slot *s, struct fetch_wait *w)
{
	w->slot = s;
	w->prev = NULL;
	if ((w->next = s->waits) != NULL)
		w->next->prev = w;
	s->waits = w;
}

static void
wait_pending(struct fetch *f, struct fetch_wait *w)
{
	w->slot = NULL;
	w->next = NULL;
	*f->pending_tail = w;
	f->pending_tail = &w->next;
}

/* A reader has come to what was read ahead. Where he often finds it still on its way to us the source is far, and more
 * must be on the way at once: read-ahead gets more of the cache, until long after it was late for the last time. Not while
 * others want what was not read ahead: they go first, which makes it late, and need the room. */
static void
judge(struct fetch *f, int late)
{
	if (f->fresh)
		f->late -= f->late < LATE_COUNTS ? f->late : LATE_COUNTS;
	else if (!late)
		f->late -= f->late > 0;
	else if ((f->late += LATE_COUNTS) > LATE_MANY)
		f->late = LATE_LONG;
	f->cache.ahead_max = f->cache.bytes / 4 * (f->late > LATE_MANY ? 3 : 2);
}

/* A reader waits for what was read ahead: it is a demand now. */
static void
hurry(struct fetch *f, struct slot *s)
{
	int i;

	for (i = 0; i < f->conf.loads; i++)
		if (f->loads[i].slot == s) {
			judge(f, !__atomic_load_n(&f->loads[i].here, __ATOMIC_RELAXED));
			f->conf.source->ops->raise(f->conf.source, &f->loads[i].req);
			work_hurry(f->work, &f->loads[i].job);
		}
}

static void
use(struct fetch *f, struct slot *s)
{
	int was_ahead = s->ahead;

	cache_used(&f->cache, s);
	if (was_ahead && s->state == SLOT_READY)
		judge(f, 0);
	else if (was_ahead)
		hurry(f, s);
}

static const uint8_t *
get(struct fetch *f, struct fetch_wait *w)
{
	struct slot *s = cache_find(&f->cache, &w->want);

	if (s == NULL) {
		if ((s = start(f, &w->want, w->offset, 0)) != NULL)
			wait_on(s, w);
		else
			wait_pending(f, w);
		return NULL;
	}
	use(f, s);
	if (s->state == SLOT_READY)
		return s->data;
	wait_on(s, w);
	return NULL;
}

const uint8_t *
fetch_get(struct fetch *f, struct fetch_wait *w)
{
	const uint8_t *data = get(f, w);

	f->stats.hits += data != NULL;
	return data;
}

const uint8_t *
fetch_peek(struct fetch *f, const struct chunk_want *want)
{
	struct slot *s = cache_find(&f->cache, want);

	if (s == NULL || s->state != SLOT_READY)
		return NULL;
	use(f, s);
	return s->data;
}

void
fetch_cancel(struct fetch *f, struct fetch_wait *w)
{
	struct fetch_wait **p;

	if (w->slot) {
		if (w->next)
			w->next->prev = w->prev;
		if (w->prev)
			w->prev->next = w->next;
		else
			w->slot->waits = w->next;
		return;
	}
	for (p = &f->pending; *p && *p != w; p = &(*p)->next)
		;
	if (*p && (*p = w->next) == NULL)
		f->pending_tail = p;
}

int
fetch_ahead(struct fetch *f, const struct chunk_want *want, uint64_t offset)
{
	if (cache_find(&f->cache, want))
		return 1;
	/* A quarter of the loads is kept for readers that want something else. */
	return f->pending == NULL && f->idle_count > f->conf.loads / 4 &&
	    start(f, want, offset, 1) != NULL;
}

/* ---- ends of loads ---- */

/* One line for one chunk, not one for every try of a reader that does not give up. */
static void
complain(struct fetch *f, const struct load *l)
{
	char hex[65];
	int i;

	if (f->conf.failed && !f->quiet) {
		f->conf.failed(f->conf.ctx, &l->slot->want, l->offset, l->req.rc, &l->req.err);
		return;
	}
	hex_encode(hex, l->slot->want.digest, 32);
	err_set(&f->last, l->req.err.status, l->req.rc, "chunk %s: %s (offset %llu)", hex,
	    l->req.err.text, (unsigned long long)l->offset);
	if (f->quiet)
		return;
	for (i = 0; i < 16; i++)
		if (memcmp(f->said[i], l->slot->want.digest, 32) == 0)
			return;
	memcpy(f->said[f->said_next++ % 16], l->slot->want.digest, 32);
	say("%s", f->last.text);
}

static void
forgive(struct fetch *f, const struct load *l)
{
	int i;

	for (i = 0; i < 16; i++)
		if (memcmp(f->said[i], l->slot->want.digest, 32) == 0)
			memset(f->said[i], 0, 32);
}

/* The slot's readers leave it before any of them is called: ready() may ask for the next chunk. */
static void
serve(struct fetch_wait *w, const uint8_t *data, int rc)
{
	struct fetch_wait *next;

	for (; w; w = next) {
		next = w->next;
		w->ready(w, data, rc);
	}
}

static void
finish(struct fetch *f, struct load *l)
{
	struct slot *s = l->slot;
	struct fetch_wait *waits;
	int rc = l->req.rc;

	f->stats.raw += l->req.len;
	/* Once more: a disk, a wire or a server may have erred. What is not there is not. */
	if ((rc == -EBADMSG || rc == -EIO) && l->tries++ == 0) {
		ask(l);
		return;
	}
	waits = s->waits;
	s->waits = NULL;
	if (rc == 0) {
		forgive(f, l);
		cache_ready(&f->cache, s);
	} else {
		f->stats.failed++;
		complain(f, l);
		cache_drop(&f->cache, s);
	}
	f->fresh -= l->fresh;
	l->slot = NULL;
	l->next = f->idle;
	f->idle = l;
	f->idle_count++;
	serve(waits, rc == 0 ? s->data : NULL, rc == 0 ? 0 : -EIO);
}

/* Those who found no room: try again, in their order, as far as it goes. */
static void
pump(struct fetch *f)
{
	struct fetch_wait *w = f->pending, *next;
	const uint8_t *data;

	f->pending = NULL;
	f->pending_tail = &f->pending;
	for (; w; w = next) {
		next = w->next;
		if ((data = get(f, w)) != NULL)
			w->ready(w, data, 0);
	}
}

void
fetch_turn(struct fetch *f)
{
	struct load *l, *next, *order = NULL;
	uint64_t count;
	ssize_t n;

	do
		n = read(f->event, &count, sizeof(count));
	while (n < 0 && errno == EINTR);
	pthread_mutex_lock(&f->lock);
	l = f->done;
	f->done = NULL;
	pthread_mutex_unlock(&f->lock);
	for (; l; l = next) {		/* first come, first served */
		next = l->next;
		l->next = order;
		order = l;
	}
	for (l = order; l; l = next) {
		next = l->next;
		finish(f, l);
		pump(f);
	}
}

int
fetch_fd(const struct fetch *f)
{
	return f->event;
}

/* fetch_first() in wait: others' chunks may fail meanwhile, that were read ahead. */
struct first {
	struct fetch *fetch;
	struct err *e;
	int rc;				/* 1: not yet */
};

static void
first_ready(struct fetch_wait *w, const uint8_t *data, int rc)
{
	(void)data;
	w->first->rc = rc;
	if (rc < 0)
		*w->first->e = w->first->fetch->last;
}

int
fetch_first(struct fetch *f, struct fetch_wait *w, int stop_fd, struct err *e)
{
	struct pollfd p[2] = {
		{ .fd = f->event, .events = POLLIN },
		{ .fd = stop_fd, .events = POLLIN },
	};
	struct first x = { f, e, 1 };

	w->ready = first_ready;
	w->first = &x;
	if (fetch_get(f, w))
		return 0;
	f->quiet = 1;
	while (x.rc > 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			x.rc = err_set(e, ST_FAIL, -errno, "poll: %s", strerror(errno));
		else if (p[1].revents)
			x.rc = err_set(e, ST_FAIL, -EINTR, "interrupted");
		else {
			fetch_turn(f);
			continue;
		}
		fetch_cancel(f, w);
	}
	f->quiet = 0;
	return x.rc;
}

int
fetch_idle(const struct fetch *f)
{
	return f->idle_count == f->conf.loads;
}

void
fetch_stats(const struct fetch *f, struct fetch_stats *st)
{
	*st = f->stats;
}

/* ---- beginning and end ---- */

static int
make_loads(struct fetch *f)
{
	/* A raw blob is never longer than its data and the longer header, give or take what a zstd frame
	 * of incompressible data adds. */
	size_t cap = BLOB_HEAD_ENC + f->conf.chunk_max + f->conf.chunk_max / 128 + 1024;
	int i;

	cap = (cap + 4095) / 4096 * 4096;
	f->raw_len = cap * (size_t)f->conf.loads;
	f->raw = mmap(NULL, f->raw_len, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	f->loads = calloc((size_t)f->conf.loads, sizeof(*f->loads));
	f->buf = calloc((size_t)f->conf.loads, sizeof(*f->buf));
	if (f->raw == MAP_FAILED || f->loads == NULL || f->buf == NULL)
		return -ENOMEM;
	for (i = f->conf.loads - 1; i >= 0; i--) {
		f->loads[i].fetch = f;
		f->buf[f->bufs++] = f->raw + cap * (size_t)i;
		f->loads[i].req.cap = cap;
		f->loads[i].next = f->idle;
		f->idle = &f->loads[i];
		f->idle_count++;
	}
	return 0;
}

struct fetch *
fetch_new(const struct fetch_conf *conf, struct err *e)
{
	struct fetch *f = calloc(1, sizeof(*f));
	int rc = f ? 0 : -ENOMEM;

	if (f == NULL) {
		err_set(e, ST_FAIL, rc, "out of memory");
		return NULL;
	}
	f->conf = *conf;
	f->pending_tail = &f->pending;
	f->raw = MAP_FAILED;
	pthread_mutex_init(&f->lock, NULL);
	if ((f->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
		rc = err_set(e, ST_FAIL, -errno, "eventfd: %s", strerror(errno));
	else if ((rc = make_loads(f)) < 0)
		err_set(e, ST_FAIL, rc, "not enough memory for %d chunks in flight", conf->loads);
	else if ((rc = cache_init(&f->cache, conf->cache, conf->chunk_max, conf->varied, e)) == 0)
		rc = (f->work = work_new(conf->workers, e)) ? 0 : -ENOMEM;
	if (rc < 0) {
		fetch_free(f);
		return NULL;
	}
	return f;
}

void
fetch_free(struct fetch *f)
{
	if (f->work)
		work_free(f->work);
	cache_free(&f->cache);
	if (f->raw != MAP_FAILED)
		munmap(f->raw, f->raw_len);
	if (f->event >= 0)
		close(f->event);
	pthread_mutex_destroy(&f->lock);
	free(f->loads);
	free(f->buf);
	free(f);
}
