/*
 * `check`, how fast: some chunks of an archive, spread over it, as they come from the source and through a decoder,
 * and the server's speed test. Each for about a second at most.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bytes.h"
#include "check_parts.h"
#include "clock.h"
#include "config.h"
#include "human.h"
#include "start.h"
#include "thread.h"

#define CHUNKS 16			/* at most; fewer when memory is short */
#define MEASURE 400			/* ms of decoding */
#define LINE_MEASURE 1500		/* ms of the speed test */
#define LINE_THREADS 4			/* requests of it at a time */

static sem_t arrived;

struct piece {
	struct chunk_req req;		/* first */
	struct chunk_want want;
};

struct sample {
	struct check *c;
	struct piece piece[CHUNKS];
	unsigned count;
	int pending;			/* answers may still come */
	size_t cap;			/* of each buffer */
	uint64_t data, raw;		/* bytes in all */
	uint64_t read, decode, line;	/* bytes of data a second; 0: unknown */
};

/* Bytes a second; a time of 0 counts as a millisecond. */
static uint64_t
rate(uint64_t bytes, int64_t since)
{
	int64_t ms = clock_ms() - since;

	return bytes * 1000 / (uint64_t)(ms > 0 ? ms : 1);
}

static void
done(struct chunk_req *r)
{
	(void)r;
	sem_post(&arrived);
}

/* Chunks that are no zeros, evenly spread. */
static void
choose(struct sample *s, const struct index *x)
{
	unsigned most = (unsigned)(start_cache(s->c->o) / 2 / x->chunk_max), i;
	uint64_t k, step;

	most = most > CHUNKS ? CHUNKS : most ? most : 1;
	step = x->count / most + 1;
	for (i = 0; i < most; i++)
		for (k = i * step; k < x->count && k < (i + 1) * step; k++)
			if (!index_is_zero(x, k)) {
				index_chunk(x, k, &s->piece[s->count++].want);
				break;
			}
}

static int
wait_all(const struct sample *s)
{
	struct timespec t;
	unsigned i;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += check_patience(s->c) / 1000;
	for (i = 0; i < s->count; i++)
		while (sem_timedwait(&arrived, &t) < 0)
			if (errno != EINTR)
				return -1;
	return 0;
}

/* All are asked for at once. On a time-out buffers stay, since answers may still come. */
static int
read_all(struct sample *s, struct err *e)
{
	struct source *src = s->c->snap.source;
	int64_t start = clock_ms();
	struct piece *p;
	char hex[65];

	for (p = s->piece; p < s->piece + s->count; p++) {
		p->req = (struct chunk_req){ .buf = p->req.buf };
		if (p->req.buf == NULL && (p->req.buf = malloc(s->cap)) == NULL)
			return -ENOMEM;
	}
	s->data = s->raw = 0;
	s->pending = 1;
	for (p = s->piece; p < s->piece + s->count; p++) {
		memcpy(p->req.digest, p->want.digest, 32);
		p->req.demand = 1;
		p->req.raw = p->req.buf;
		p->req.cap = s->cap;
		p->req.done = done;
		src->ops->ask(src, &p->req);
	}
	if (wait_all(s) < 0)
		return err_set(e, ST_FAIL, -ETIMEDOUT, "they do not come within %d s", check_patience(s->c) / 1000);
	s->pending = 0;
	for (p = s->piece; p < s->piece + s->count; p++) {
		if (p->req.rc == 0 && p->req.pull)
			p->req.rc = p->req.pull(&p->req);
		if (p->req.rc < 0) {
			hex_encode(hex, p->want.digest, 32);
			return err_set(e, p->req.err.status, p->req.rc, "chunk %s: %s", hex, p->req.err.text);
		}
		s->data += p->want.len;
		s->raw += p->req.len;
	}
	s->read = rate(s->data, start);
	return 0;
}

/* The same chunks over and over. */
static int
decode_all(struct sample *s, struct err *e)
{
	struct blob_worker *w = blob_worker_new();
	uint8_t *in = malloc(s->cap), *out = malloc(s->c->archive.index.chunk_max);
	int64_t start = clock_ms();
	uint64_t bytes = 0;
	struct err why;
	unsigned i;
	int rc = w && in && out ? 0 : -ENOMEM;
	char hex[65];

	for (i = 0; rc == 0 && (i < s->count || clock_ms() - start < MEASURE); i++) {
		struct piece *p = &s->piece[i % s->count];

		memcpy(in, p->req.raw, p->req.len);
		rc = chunk_decode(w, snap_key(&s->c->snap), &p->want, in, p->req.len, out, &why);
		bytes += p->want.len;
		hex_encode(hex, p->want.digest, 32);
	}
	if (rc == 0)
		s->decode = rate(bytes, start);
	if (rc < 0 && rc != -ENOMEM)
		err_set(e, why.status, rc, "chunk %s: %s", hex, why.text);
	if (w)
		blob_worker_free(w);
	free(in);
	free(out);
	return rc == -ENOKEY ? 0 : rc;
}

/* One MiB after the other, until time is up; its bytes are counted. */
static void *
line_thread(void *arg)
{
	struct source *src = arg;
	int64_t end = clock_ms() + LINE_MEASURE;
	uint64_t bytes = 0;
	uint8_t *p;
	size_t n;

	while (clock_ms() < end && src->ops->file(src, "/speedtest", 4 << 20, &p, &n, NULL) == 0) {
		bytes += n;
		free(p);
	}
	return (void *)(uintptr_t)bytes;
}

static void
measure_line(struct sample *s)
{
	pthread_t t[LINE_THREADS];
	int64_t start = clock_ms();
	uint64_t bytes = 0, speed;
	void *ret;
	char size[10];
	int n, i;

	for (n = 0; n < LINE_THREADS && thread_new(&t[n], 0, line_thread, s->c->snap.source) == 0; n++)
		;
	for (i = 0; i < n; i++) {
		pthread_join(t[i], &ret);
		bytes += (uintptr_t)ret;
	}
	if (bytes == 0) {
		check_say(s->c, CHECK_WARN, "line", "the server's speed test does not answer");
		return;
	}
	speed = rate(bytes, start);
	check_say(s->c, CHECK_OK, "line", "%s/s (the server's speed test)", human_size(speed, size));
	s->line = s->raw ? (uint64_t)((double)speed * (double)s->data / (double)s->raw) : speed;
}

static void
conclude(struct sample *s)
{
	uint64_t reading = s->line > s->read ? s->line : s->read;
	uint64_t decoding = s->decode * (uint64_t)start_workers(s->c->o);
	char size[10];

	if (s->decode)
		check_say(s->c, CHECK_OK, "decoding", "%s/s a core", human_size(s->decode, size));
	s->c->rate = decoding && decoding < reading ? decoding : reading;
	check_say(s->c, CHECK_OK, "expected", "%s/s in sequence, limited by %s", human_size(s->c->rate, size),
	    s->c->rate == decoding ? "decoding on this CPU" :
	    s->c->snap.origin.repo.is_dir ? "the disk" : "the server or the line to it");
}

void
check_speed(struct check *c)
{
	struct sample *s = calloc(1, sizeof(*s));
	char size[10];
	struct err e;
	unsigned i;
	int rc, tries = 2;

	if (s == NULL)
		return;
	s->c = c;
	s->cap = (size_t)c->archive.index.chunk_max + (64u << 10);
	sem_init(&arrived, 0, 0);
	if (c->archive.index.count)
		choose(s, &c->archive.index);
	/* As a map does: what is damaged may come whole the next time. */
	do
		if ((rc = read_all(s, &e)) == 0 && s->count)
			rc = decode_all(s, &e);
	while (rc < 0 && rc != -ENOMEM && rc != -ETIMEDOUT && --tries > 0);
	if (rc == 0)
		check_say(c, CHECK_OK, "chunks", "%u tried that are no zeros, %s/s (may come from a cache)", s->count,
		    human_size(s->read, size));
	else if (rc == -ENOMEM)
		check_say(c, CHECK_WARN, "chunks", "not enough memory to try them");
	else
		check_fail(c, "chunks", &e);
	if (rc == 0 && !c->snap.origin.repo.is_dir)
		measure_line(s);
	if (rc == 0 && s->count)
		conclude(s);
	/* What may still be written to stays; the process ends soon. */
	for (i = 0; !s->pending && i < s->count; i++)
		free(s->piece[i].req.buf);
	if (!s->pending)
		free(s);
}
