/*
 * The requests on one connection: what an answer means, where its bytes go. Which goes
 * out next is decided in ask_send.c.
 *
 * Knows HTTP/2's streams but no socket. A request is answered exactly once, by answer(),
 * or goes back to the queue; each is asked for a second time at most once when the
 * server refuses it in a way that may pass.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "clock.h"
#include "session_parts.h"

#define PATIENCE 4			/* times the stall limit that one answer may rest while others move */

/* --- ends --- */

void
ask_release(struct link *l, struct ask *a)
{
	if (a->kind == ASK_CHUNK)
		l->chunks_on_wire--;
	l->on_wire--;
	l->refill = 1;
	a->state = ASK_FREE;
	a->stream = NULL;
}

/* Tells whoever asked, unless he has gone meanwhile. why: the reason alone, when rc < 0. */
static void
answer(struct link *l, struct ask *a, int rc, const struct err *why)
{
	struct session *s = l->s;
	struct chunk_req *r;
	uint64_t one = 1;

	pthread_mutex_lock(&s->lock);
	r = a->req;
	a->req = NULL;
	if (r)
		r->stream = ASK_GONE;
	if (a->file) {
		a->file->rc = rc;
		if (rc < 0)
			a->file->err = *why;
		a->file->done = 1;
		if (write(a->file->event, &one, sizeof(one)) < 0)
			abort();	/* never: an eventfd takes a 1 */
		a->file = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	ask_release(l, a);
	if (rc == 0) {
		l->progress = 1;
		l->refused = 0;
	}
	if (r == NULL)
		return;
	r->len = a->got;
	r->rc = rc;
	if (rc < 0)
		r->err = *why;
	r->done(r);
}

__attribute__((format(printf, 5, 6)))
static int
fail(struct link *l, struct ask *a, enum status status, int rc, const char *fmt, ...)
{
	char text[sizeof(((struct err *)0)->text)];
	struct err why;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set(&why, status, rc, "%s", text);
	answer(l, a, rc, &why);
	return rc;
}

/* Back into the queue, for this or another connection. 0: it had its second chance already. */
static int
ask_again(struct link *l, struct ask *a, int counts)
{
	struct session *s = l->s;
	int ok = 1;

	pthread_mutex_lock(&s->lock);
	if (a->req && counts && a->req->stream & ASK_AGAIN) {
		ok = 0;
	} else if (a->req) {
		if (counts)
			a->req->stream |= ASK_AGAIN;
		queue_put_back(s, a->req);
		a->req = NULL;
	} else if (a->file) {
		a->file->next = s->files;
		a->file->len = 0;
		s->files = a->file;
		a->file = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (ok)
		ask_release(l, a);
	return ok;
}

/* --- answers --- */

/* The server does not know that we may read this chunk: tells it by reading the indexes once more. 0: that was done before. */
static int
register_again(struct link *l, struct ask *a)
{
	struct session *s = l->s;
	int ok;

	pthread_mutex_lock(&s->lock);
	ok = a->req && s->indexes > 0 && !(a->req->stream & ASK_AGAIN);
	if (ok)
		a->req->stream |= ASK_AGAIN;
	pthread_mutex_unlock(&s->lock);
	if (!ok)
		return 0;
	a->state = ASK_WAIT;
	a->stream = NULL;
	l->refill = 1;
	if (a->generation == l->generation) {
		memset(l->index, INDEX_UNKNOWN, sizeof(l->index));
		l->generation++;
	}
	return 1;
}

/* The server answers 400 for a chunk file that is gone, with the system's words in its text. */
static int
says_missing(const struct ask *a)
{
	return a->status == 404 || strstr(a->text, "No such file") || strstr(a->text, "os error 2)");
}

/* A chunk is refused: only the first 401 is worth another try. Nothing of this harms the chunks beside it. */
static void
chunk_refused(struct link *l, struct ask *a)
{
	const char *text = a->text_len ? a->text : "no reason given";

	if (a->status == 401 && register_again(l, a))
		return;
	if (a->status == 401 || a->status == 403)
		fail(l, a, ST_DAMAGED, -EIO, "the server does not let us read it: %s", text);
	else if (says_missing(a))
		fail(l, a, ST_DAMAGED, -ENOENT, "is missing from the datastore: %s", text);
	else
		fail(l, a, a->status == 400 ? ST_DAMAGED : ST_FAIL, -EIO, "the server cannot read it (status %d): %s",
		    a->status, text);
}

static void
file_refused(struct link *l, struct ask *a)
{
	const char *text = a->text_len ? a->text : "no reason given";

	if (a->status == 401 || a->status == 403)
		fail(l, a, ST_TRUST, -EACCES, "not allowed: %s", text);
	else if (says_missing(a))
		fail(l, a, ST_DAMAGED, -ENOENT, "is not in the snapshot: %s", text);
	else
		fail(l, a, ST_FAIL, -EIO, "the server says (status %d): %s", a->status, text);
}

/* How the stream of a chunk ended. A wrong length is told as damage, so that whoever asked may ask once more, as for
 * a wrong digest. */
static void
chunk_end(struct link *l, struct ask *a, enum h2_end why, uint32_t code)
{
	if (why == H2_RETRY)
		ask_again(l, a, 0);
	else if (why == H2_RESET && !ask_again(l, a, 1))
		fail(l, a, ST_FAIL, -EIO, "the server breaks its answer off (%s)", h2_code(code));
	else if (why == H2_LENGTH)
		fail(l, a, ST_DAMAGED, -EBADMSG, "came with %zu bytes, not as many as the server had said", a->got);
	else if (why == H2_COMPLETE && a->status != 200)
		chunk_refused(l, a);
	else if (why == H2_COMPLETE && a->got < sizeof(a->magic))
		fail(l, a, ST_DAMAGED, -EBADMSG, "has the impossible length of %zu bytes", a->got);
	else if (why == H2_COMPLETE)
		answer(l, a, 0, NULL);
}

/* Reading one of these makes its chunks readable in this session. */
static int
is_index(const char *name)
{
	size_t n = strlen(name);

	return n > 5 && (strcmp(name + n - 5, ".fidx") == 0 || strcmp(name + n - 5, ".didx") == 0);
}

/* The server has seen us read this index: so it must be told on the next connection too. */
static int
remember_index(struct link *l, const char *name)
{
	struct session *s = l->s;
	int i;

	for (i = 0; i < s->indexes && strcmp(s->index[i], name) != 0; i++)
		;
	if (i == LINK_INDEXES)
		return -ENOSPC;
	if (i == s->indexes) {
		snprintf(s->index[i], sizeof(s->index[i]), "%s", name);
		s->indexes++;
	}
	l->index[i] = INDEX_READY;
	return 0;
}

/* A file is read before there is a mapping: somebody waits for it with a deadline, and is told of any failure. */
static void
file_end(struct link *l, struct ask *a, enum h2_end why, uint32_t code)
{
	int rc = 0;

	if (why == H2_RETRY) {
		ask_again(l, a, 0);
		return;
	}
	if (why != H2_COMPLETE) {
		fail(l, a, ST_FAIL, -EIO, "the server breaks its answer off (%s)",
		    why == H2_RESET ? h2_code(code) : "not as long as it had said");
		return;
	}
	if (a->status != 200) {
		file_refused(l, a);
		return;
	}
	pthread_mutex_lock(&l->s->lock);
	if (a->file && is_index(a->file->name))
		rc = remember_index(l, a->file->name);
	pthread_mutex_unlock(&l->s->lock);
	if (rc < 0)
		fail(l, a, ST_FAIL, rc, "more than %d index files", LINK_INDEXES);
	else
		answer(l, a, 0, NULL);
}

/* The stream is over; its slot in the engine is free, ours not before ask_release(). */
static void
on_end(void *ctx, void *user, enum h2_end why, uint32_t code)
{
	struct link *l = ctx;
	struct ask *a = user;

	a->stream = NULL;
	l->refused += why == H2_RETRY;
	switch (a->kind) {
	case ASK_CHUNK:
		chunk_end(l, a, why, code);
		break;
	case ASK_FILE:
		file_end(l, a, why, code);
		break;
	case ASK_INDEX:
		/* One that is gone is as good as read: its chunks are refused, one by one, with a reason. */
		l->index[a->index] = why == H2_RETRY ? INDEX_UNKNOWN : INDEX_READY;
		ask_release(l, a);
		break;
	}
}

/* --- bodies --- */

/* A length that cannot be is refused before its bytes come. Those who know none are stopped in chunk_bytes(). */
static void
on_head(void *ctx, void *user, int status, int64_t length)
{
	struct link *l = ctx;
	struct ask *a = user;
	int too_long;

	a->status = status;
	a->moved = clock_ms();
	if (status != 200 || length < 0)
		return;
	pthread_mutex_lock(&l->s->lock);
	too_long = (a->req && (uint64_t)length > a->req->cap) || (a->file && (uint64_t)length > a->file->max);
	pthread_mutex_unlock(&l->s->lock);
	if (!too_long)
		return;
	h2_cancel(&l->h2, a->stream);
	fail(l, a, ST_DAMAGED, -EBADMSG, "has the impossible length of %lld bytes", (long long)length);
}

/* With the lock held. -ECANCELED: nobody wants it; -EBADMSG: more than a chunk may have. */
static int
chunk_bytes(struct ask *a, const uint8_t *p, size_t n)
{
	struct chunk_req *r = a->req;
	size_t k;

	if (r == NULL)
		return -ECANCELED;
	if (n > r->cap - a->got)
		return -EBADMSG;
	if (a->got < sizeof(a->magic)) {
		k = sizeof(a->magic) - a->got < n ? sizeof(a->magic) - a->got : n;
		memcpy(a->magic + a->got, p, k);
		a->got += k;
		p += k;
		n -= k;
		if (a->got < sizeof(a->magic))
			return 0;
		memcpy(req_place(r, a->magic), a->magic, sizeof(a->magic));
	}
	memcpy(r->raw + a->got, p, n);
	a->got += n;
	return 0;
}

/* With the lock held. Grows the buffer: files come without a length. */
static int
file_bytes(struct ask *a, const uint8_t *p, size_t n)
{
	struct file_req *f = a->file;
	size_t cap;
	uint8_t *buf;

	if (f == NULL)
		return -ECANCELED;
	if (n > f->max - f->len)
		return -EFBIG;
	if (n > f->cap - f->len) {
		cap = 2 * f->cap + n + 4096;
		if (cap > f->max)
			cap = (size_t)f->max;
		if ((buf = realloc(f->buf, cap)) == NULL)
			return -ENOMEM;
		f->buf = buf;
		f->cap = cap;
	}
	memcpy(f->buf + f->len, p, n);
	f->len += n;
	a->got += n;
	return 0;
}

/* Bytes in the engine's hands: copied once, to where the decoder reads them. */
static int
on_data(void *ctx, void *user, const uint8_t *p, size_t n)
{
	struct link *l = ctx;
	struct ask *a = user;
	int rc = 0;

	a->moved = clock_ms();
	if (a->status != 200) {
		if (n > sizeof(a->text) - 1 - a->text_len)
			n = sizeof(a->text) - 1 - a->text_len;
		memcpy(a->text + a->text_len, p, n);
		a->text_len += n;
		a->text[a->text_len] = 0;
		return 0;
	}
	if (a->kind == ASK_INDEX)
		return 0;
	pthread_mutex_lock(&l->s->lock);
	rc = a->kind == ASK_CHUNK ? chunk_bytes(a, p, n) : file_bytes(a, p, n);
	pthread_mutex_unlock(&l->s->lock);
	if (!a->hurried && a->stream->window < (int64_t)l->slice / 2)
		l->hungry = 1;
	if (rc == -ENOMEM)
		fail(l, a, ST_FAIL, rc, "out of memory");
	else if (rc == -ECANCELED)
		ask_release(l, a);
	else if (rc < 0)
		fail(l, a, ST_DAMAGED, rc, "is longer than it may be");
	return rc;
}

const struct h2_events ask_events = { on_head, on_data, on_end, NULL };

/* --- giving up --- */

void
ask_expire(struct link *l, int64_t now)
{
	int i;

	for (i = 0; i < H2_STREAMS_MAX; i++) {
		struct ask *a = &l->ask[i];

		if (a->state != ASK_WIRE || now - a->moved < (int64_t)PATIENCE * l->s->stall)
			continue;
		h2_cancel(&l->h2, a->stream);
		a->stream = NULL;
		if (a->kind == ASK_INDEX) {
			l->index[a->index] = INDEX_UNKNOWN;
			ask_release(l, a);
		} else if (!ask_again(l, a, 1)) {
			fail(l, a, ST_FAIL, -ETIMEDOUT, "the server does not answer");
		}
	}
}

void
ask_return(struct link *l)
{
	int i;

	for (i = H2_STREAMS_MAX - 1; i >= 0; i--) {
		struct ask *a = &l->ask[i];

		if (a->state == ASK_FREE)
			continue;
		if (a->kind == ASK_INDEX)
			ask_release(l, a);
		else
			ask_again(l, a, 0);
	}
	memset(l->index, INDEX_UNKNOWN, sizeof(l->index));
}
