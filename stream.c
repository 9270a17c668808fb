/*
 * An archive's bytes in their order. Read through an image, whose read-ahead keeps the workers busy while
 * a write waits for who reads the pipe.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "config.h"
#include "fetch.h"
#include "image.h"
#include "start.h"
#include "stream.h"

struct stream {
	struct stream_conf conf;
	struct fetch *fetch;
	struct image *image;
	int answered, rc;		/* the read that is under way */
	int put;			/* errno of a write that failed; 0 */
};

static void
answer(void *tag, const struct iovec *iov, int n, int rc)
{
	struct stream *s = tag;
	int i;

	for (i = 0; rc == 0 && i < n; i++)
		s->put = rc = target_put(s->conf.target, iov[i].iov_base, iov[i].iov_len);
	s->rc = rc;
	s->answered = 1;
}

/* Why the read that ended did so badly. */
static int
failed(struct stream *s, struct err *e)
{
	unsigned long long offset = s->conf.progress->done;
	struct fetch_stats st;

	if (s->put == -EINTR)
		return err_set(e, ST_FAIL, -EINTR, "interrupted");
	if (s->put < 0)
		return err_set(e, ST_FAIL, s->put, "%s: cannot write at offset %llu: %s", s->conf.target->path, offset,
		    s->put == -EPIPE ? "its reader has closed it" : strerror(-s->put));
	fetch_stats(s->fetch, &st);
	return err_set(e, st.failed ? ST_DAMAGED : ST_FAIL, s->rc, "stopped at offset %llu%s: what follows was not written",
	    offset, st.failed ? "" : ", no data came in time");
}

static int
wait_answer(struct stream *s, struct err *e)
{
	struct pollfd p[2] = { { .fd = fetch_fd(s->fetch), .events = POLLIN },
		{ .fd = s->conf.stop, .events = POLLIN } };
	int wait, next;

	while (!s->answered) {
		wait = image_expire(s->image);
		next = progress_tick(s->conf.progress);
		if (s->answered || poll(p, 2, wait < 0 || next < wait ? next : wait) < 0)
			continue;
		if (p[1].revents)
			return err_set(e, ST_FAIL, -EINTR, "interrupted");
		if (p[0].revents) {
			fetch_turn(s->fetch);
			image_ahead(s->image);
		}
	}
	return s->rc == 0 ? 0 : failed(s, e);
}

int
stream_run(struct stream *s, struct err *e)
{
	struct pace pace = { .rate = s->conf.o->limit };
	const struct index *x = s->conf.index;
	struct progress *p = s->conf.progress;
	uint64_t offset, end, c;
	int rc = 0;

	for (offset = 0; rc == 0 && offset < x->size; offset = end) {
		/* A read ends with its chunk, so that it waits for one thing only. */
		c = index_find(x, offset);
		end = c + 1 < x->count ? index_start(x, c + 1) : x->size;
		end = end - offset > READ_MAX ? offset + READ_MAX : end;
		if ((rc = start_pace(s->fetch, &pace, p, s->conf.stop)) < 0)
			return err_set(e, ST_FAIL, rc, "interrupted");
		s->answered = 0;
		image_read(s->image, offset, (uint32_t)(end - offset), s);
		if ((rc = wait_answer(s, e)) == 0) {
			p->done = end;
			p->zeros += index_is_zero(x, c) ? end - offset : 0;
		}
	}
	return rc;
}

struct stream *
stream_new(const struct stream_conf *conf, struct err *e)
{
	struct image_conf c = { .index = conf->index, .size = conf->index->size, .timeout = conf->o->timeout,
		.answer = answer, .ahead = conf->o->limit ? 1 : start_ahead(conf->o, conf->index->chunk_max) };
	struct stream *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(e, ST_FAIL, -ENOMEM, "out of memory");
		return NULL;
	}
	s->conf = *conf;
	if ((s->fetch = c.fetch = start_fetch(conf->o, conf->snap, conf->index->chunk_max, e)) == NULL ||
	    (s->image = image_new(&c, e)) == NULL) {
		stream_free(s);
		return NULL;
	}
	return s;
}

void
stream_free(struct stream *s)
{
	if (s->image)
		image_free(s->image);
	if (s->fetch)
		fetch_free(s->fetch);
	free(s);
}
