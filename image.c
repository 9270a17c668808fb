/*
 * An archive's bytes. A read lies in one chunk or in several:
 *
 *   all there        answered at once, straight from the cache's slots
 *   one, not there   waits on the chunk, answered straight from its slot
 *   several          a buffer of the pool takes the pieces as they come; without a free buffer
 *                    the read stands in line for one
 *
 * So no slot is ever held by a read that waits, and a read that can be answered is never behind
 * one that cannot. Knows no FUSE and no source.
 *
 * Each read is answered exactly once, in answer(); it is recycled when no piece of it is
 * waited for any more, which may be later (a piece failed, the others are still to come).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ahead.h"
#include "clock.h"
#include "config.h"
#include "image.h"

struct piece {
	struct fetch_wait wait;		/* first: the fetcher hands it back */
	struct read *read;
	uint32_t from, len;		/* in the chunk, bytes */
	uint8_t *to;			/* in the read's buffer; NULL: answer from the chunk */
	int waits;
};

struct read {
	struct image *image;
	void *tag;
	uint64_t offset;
	uint32_t len;
	int answered, interrupted;
	int left;			/* pieces waited for */
	uint32_t asked;			/* bytes of it that were asked for, when it has a buffer */
	uint8_t *buf;			/* of the pool; NULL: none */
	int64_t deadline;		/* ms, monotonic */
	struct piece *piece;		/* image->pieces of them; used again when more chunks than that */
	struct read *next, *prev;	/* ring of those that wait, oldest first; or the idle list */
	int in_line;			/* for a buffer */
};

struct image {
	struct image_conf conf;
	struct ahead ahead;
	int pieces;			/* most pieces of one read that wait at once */
	struct read *reads;
	struct piece *all_pieces;
	struct read *idle;
	struct read ring;		/* those that wait */
	int in_line;			/* number of reads that wait for a buffer */
	uint8_t *zeros;			/* READ_MAX of them, never written */
	uint8_t *bufs;			/* READ_BUFS buffers of READ_MAX */
	uint8_t *free_buf[READ_BUFS];
	int free_bufs;
	int ended;
};

/* ---- one read's life ---- */

static void
recycle(struct read *r)
{
	struct image *m = r->image;

	if (r->buf)
		m->free_buf[m->free_bufs++] = r->buf;
	r->buf = NULL;
	m->in_line -= r->in_line;
	r->in_line = 0;
	r->next->prev = r->prev;
	r->prev->next = r->next;
	r->next = m->idle;
	m->idle = r;
}

static void
answer(struct read *r, const struct iovec *iov, int n, int rc)
{
	if (!r->answered) {
		r->answered = 1;
		r->image->conf.answer(r->tag, iov, n, rc);
	}
	if (r->left == 0)
		recycle(r);
}

/* Fails a read now; nothing waits for it any more. Not from a piece's ready(). */
static void
abandon(struct read *r, int rc)
{
	int i;

	for (i = 0; i < r->image->pieces; i++)
		if (r->piece[i].waits) {
			fetch_cancel(r->image->conf.fetch, &r->piece[i].wait);
			r->piece[i].waits = 0;
		}
	r->left = 0;
	answer(r, NULL, 0, rc);
}

static void collect(struct read *r);

static void
ready(struct fetch_wait *w, const uint8_t *data, int rc)
{
	struct piece *p = (struct piece *)w;
	struct read *r = p->read;
	struct iovec iov;

	p->waits = 0;
	r->left--;
	if (rc < 0 || r->answered) {
		answer(r, NULL, 0, rc);
	} else if (p->to == NULL) {
		iov.iov_base = (uint8_t *)(uintptr_t)(data + p->from);
		iov.iov_len = p->len;
		answer(r, &iov, 1, 0);
	} else {
		memcpy(p->to, data + p->from, p->len);
		if (r->left == 0)
			collect(r);
	}
}

/* ---- pieces ---- */

/* The piece of [offset, end) that lies in one chunk, or past the image's end (then it is zeros, as in a zero chunk).
 * Returns its length; *chunk is ~0 for zeros. */
static uint32_t
cut(const struct image *m, uint64_t offset, uint64_t end, uint64_t *chunk, uint32_t *from)
{
	const struct index *x = m->conf.index;
	uint64_t c, stop, start;

	*chunk = ~0ull;
	*from = 0;
	if (offset >= x->size)
		return (uint32_t)(end - offset);
	c = index_find(x, offset);
	start = index_start(x, c);
	stop = c + 1 < x->count ? index_start(x, c + 1) : x->size;
	if (!index_is_zero(x, c)) {
		*chunk = c;
		*from = (uint32_t)(offset - start);
	}
	return (uint32_t)((stop < end ? stop : end) - offset);
}

/* Answers if everything is there: 1, else 0. */
static int
answer_now(struct read *r)
{
	struct image *m = r->image;
	struct iovec iov[READ_PIECES];
	uint64_t at = r->offset, end = r->offset + r->len, chunk;
	const uint8_t *data;
	struct chunk_want want;
	uint32_t len, from;
	int n = 0;

	for (; at < end; at += len) {
		if (n == READ_PIECES)
			return 0;
		len = cut(m, at, end, &chunk, &from);
		data = m->zeros;
		if (chunk != ~0ull) {
			index_chunk(m->conf.index, chunk, &want);
			if ((data = fetch_peek(m->conf.fetch, &want)) == NULL)
				return 0;
		}
		iov[n].iov_base = (uint8_t *)(uintptr_t)(data + from);
		iov[n++].iov_len = len;
	}
	answer(r, iov, n, 0);
	return 1;
}

/* Asks for one piece; data that is there is copied. */
static void
ask(struct read *r, struct piece *p, uint64_t at, uint64_t chunk)
{
	struct image *m = r->image;
	const uint8_t *data;

	p->read = r;
	p->wait.ready = ready;
	p->wait.offset = at - p->from;
	index_chunk(m->conf.index, chunk, &p->wait.want);
	r->left++;
	p->waits = 1;
	if ((data = fetch_get(m->conf.fetch, &p->wait)) == NULL)
		return;
	r->left--;
	p->waits = 0;
	memcpy(p->to, data + p->from, p->len);
}

/* Asks for what is still to be asked for, as many pieces as there are at a time; answers when nothing is missing. */
static void
collect(struct read *r)
{
	struct image *m = r->image;
	uint64_t at, end = r->offset + r->len, chunk;
	struct piece *p = r->piece;
	struct iovec iov = { r->buf, r->len };

	r->left++;			/* ours, so that it is not answered half way */
	for (; r->asked < r->len; r->asked += p->len, p++) {
		if (p == r->piece + m->pieces) {
			if (r->left > 1)
				break;	/* the last of these comes back here */
			p = r->piece;
		}
		at = r->offset + r->asked;
		p->len = cut(m, at, end, &chunk, &p->from);
		p->to = r->buf + r->asked;
		if (chunk == ~0ull)
			memset(p->to, 0, p->len);
		else
			ask(r, p, at, chunk);
	}
	if (--r->left == 0)
		answer(r, &iov, 1, 0);
}

/* Not everything is there: asks for what is missing, or stands in line for a buffer. */
static void
gather(struct read *r)
{
	struct image *m = r->image;
	uint64_t chunk;
	struct piece *p = r->piece;

	p->len = cut(m, r->offset, r->offset + r->len, &chunk, &p->from);
	if (p->len == r->len) {
		p->to = NULL;
		ask(r, p, r->offset, chunk);
		return;
	}
	if (m->free_bufs == 0) {
		m->in_line += !r->in_line;
		r->in_line = 1;
		return;
	}
	m->in_line -= r->in_line;
	r->in_line = 0;
	r->buf = m->free_buf[--m->free_bufs];
	r->asked = 0;
	collect(r);
}

/* Buffers have come free: those in line try again, oldest first. */
static void
serve_line(struct image *m)
{
	struct read *r, *next;

	for (r = m->ring.next; m->in_line && m->free_bufs && r != &m->ring; r = next) {
		next = r->next;
		if (r->in_line && !answer_now(r))
			gather(r);
	}
}

/* ---- read-ahead ---- */

static void
follow(struct image *m, struct ahead_stream *s)
{
	const struct index *x = m->conf.index;
	uint64_t stop = s->chunk + s->window + 1;
	struct chunk_want want;

	for (; s->upto < stop && s->upto < x->count; s->upto++) {
		if (index_is_zero(x, s->upto))
			continue;
		index_chunk(x, s->upto, &want);
		if (!fetch_ahead(m->conf.fetch, &want, index_start(x, s->upto)))
			return;
	}
}

/* A read of the chunks first to last, of len bytes: which may be more chunks than read-ahead looks. */
static void
note(struct image *m, uint64_t first, uint64_t last, uint32_t len)
{
	struct ahead_stream *s = NULL;
	struct chunk_want want;

	if (m->ahead.max == 0)
		return;
	if (last - first > READ_PIECES)
		first = last - READ_PIECES;
	for (; first <= last; first++) {
		index_chunk(m->conf.index, first, &want);
		s = ahead_note(&m->ahead, first, len < want.len ? len : want.len, want.len);
	}
	follow(m, s);
}

void
image_ahead(struct image *m)
{
	int i;

	if (m->in_line)
		serve_line(m);
	for (i = 0; i < AHEAD_STREAMS && !m->ended; i++)
		if (m->ahead.stream[i].window)
			follow(m, &m->ahead.stream[i]);
}

/* ---- public ---- */

void
image_read(struct image *m, uint64_t offset, uint32_t len, void *tag)
{
	struct read *r = m->idle;
	const struct index *x = m->conf.index;

	if (offset >= m->conf.size || len == 0 || m->ended) {
		m->conf.answer(tag, NULL, 0, m->ended ? -EIO : 0);
		return;
	}
	if (len > m->conf.size - offset)
		len = (uint32_t)(m->conf.size - offset);
	m->idle = r->next;
	r->tag = tag;
	r->offset = offset;
	r->len = len;
	r->answered = r->interrupted = 0;
	r->left = 0;
	r->deadline = clock_ms() + m->conf.timeout * 1000ll;
	r->next = &m->ring;
	r->prev = m->ring.prev;
	r->prev->next = m->ring.prev = r;
	if (!answer_now(r))
		gather(r);
	if (offset + len <= x->size)
		note(m, index_find(x, offset), index_find(x, offset + len - 1), len);
}

void
image_soon(struct image *m, uint64_t offset)
{
	const struct index *x = m->conf.index;
	struct chunk_want want;
	uint64_t c;

	if (m->ahead.max == 0 || offset >= x->size)
		return;
	c = index_find(x, offset);
	index_chunk(x, c, &want);
	fetch_ahead(m->conf.fetch, &want, index_start(x, c));
}

int
image_peek(struct image *m, uint64_t offset, void *buf, uint32_t len, struct fetch_wait *w)
{
	const uint8_t *data;
	uint64_t chunk;
	uint32_t from, n;

	if (m->ended)
		return -EIO;
	n = cut(m, offset, offset + len, &chunk, &from);
	if (chunk == ~0ull) {
		memset(buf, 0, n);
		return (int)n;
	}
	index_chunk(m->conf.index, chunk, &w->want);
	w->offset = offset - from;
	if ((data = fetch_get(m->conf.fetch, w)) != NULL)
		memcpy(buf, data + from, n);
	note(m, chunk, chunk, n);
	return data ? (int)n : 0;
}

int
image_full(const struct image *m)
{
	return m->idle == NULL;
}

/* To the front: it is to fail before those that merely wait. */
static void
hasten(struct image *m, struct read *r, int64_t deadline)
{
	r->interrupted = 1;
	r->deadline = deadline;
	r->next->prev = r->prev;
	r->prev->next = r->next;
	r->prev = &m->ring;
	r->next = m->ring.next;
	r->next->prev = m->ring.next = r;
}

void
image_interrupt(struct image *m, void *tag, int ms)
{
	struct read *r;

	for (r = m->ring.next; r != &m->ring; r = r->next)
		if (r->tag == tag && !r->answered) {
			if (ms)
				hasten(m, r, clock_ms() + ms);
			else
				abandon(r, -EINTR);
			return;
		}
}

int
image_expire(struct image *m)
{
	int64_t now;

	if (m->ring.next == &m->ring || m->conf.timeout == 0)
		return -1;
	now = clock_ms();
	while (m->ring.next != &m->ring && m->ring.next->deadline <= now)
		abandon(m->ring.next, m->ring.next->interrupted ? -EINTR : -EIO);
	if (m->in_line)
		serve_line(m);
	return m->ring.next == &m->ring ? -1 : (int)(m->ring.next->deadline - now);
}

void
image_end(struct image *m)
{
	m->ended = 1;
	while (m->ring.next != &m->ring)
		abandon(m->ring.next, -EIO);
}

struct image *
image_new(const struct image_conf *conf, struct err *e)
{
	struct image *m = calloc(1, sizeof(*m));
	uint64_t smallest = conf->index->chunk_size ? conf->index->chunk_size : FIXED_CHUNK_MIN;
	int i;

	if (m == NULL)
		goto no_memory;
	m->conf = *conf;
	m->ahead.max = conf->ahead;
	m->ring.next = m->ring.prev = &m->ring;
	/* Two cut ones, and the zeros behind the end. */
	m->pieces = (int)(READ_MAX / smallest) + 3;
	m->reads = calloc(READS_MAX, sizeof(*m->reads));
	m->all_pieces = calloc((size_t)READS_MAX * (size_t)m->pieces, sizeof(*m->all_pieces));
	m->zeros = mmap(NULL, READ_MAX, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m->bufs = mmap(NULL, (size_t)READ_BUFS * READ_MAX, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!m->reads || !m->all_pieces || m->zeros == MAP_FAILED || m->bufs == MAP_FAILED)
		goto no_memory;
	for (i = READS_MAX - 1; i >= 0; i--) {
		m->reads[i].image = m;
		m->reads[i].piece = m->all_pieces + (size_t)i * (size_t)m->pieces;
		m->reads[i].next = m->idle;
		m->idle = &m->reads[i];
	}
	for (i = READ_BUFS - 1; i >= 0; i--)
		m->free_buf[m->free_bufs++] = m->bufs + (size_t)i * READ_MAX;
	return m;
no_memory:
	err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	if (m)
		image_free(m);
	return NULL;
}

void
image_free(struct image *m)
{
	if (m->zeros && m->zeros != MAP_FAILED)
		munmap(m->zeros, READ_MAX);
	if (m->bufs && m->bufs != MAP_FAILED)
		munmap(m->bufs, (size_t)READ_BUFS * READ_MAX);
	free(m->reads);
	free(m->all_pieces);
	free(m);
}
