/*
 * Which chunks of an archive a target has already. Threads take eight chunks at a time, which is one byte of
 * the answer: so no two write to one.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "scan.h"
#include "thread.h"
#include "walk.h"

struct scan {
	const struct scan_conf *conf;
	uint8_t *same;
	_Atomic uint64_t next;		/* bytes of `same` given out */
	_Atomic uint64_t bytes;		/* of chunks looked at */
	_Atomic int stop, running;
};

static void
look(struct scan *s, uint64_t chunk, uint8_t *buf)
{
	const struct scan_conf *c = s->conf;
	struct chunk_want want;
	uint8_t digest[32];

	index_chunk(c->index, chunk, &want);
	if (target_read(c->target, index_start(c->index, chunk), buf, want.len) == 0) {
		chunk_digest(digest, buf, want.len, want.encrypted ? c->key : NULL);
		if (memcmp(digest, want.digest, sizeof(digest)) == 0)
			bit_set(s->same, (uint32_t)chunk);
	}
	s->bytes += want.len;
}

static void *
scanner(void *arg)
{
	struct scan *s = arg;
	const struct scan_conf *c = s->conf;
	uint64_t chunk, end;
	void *buf = NULL;

	if (posix_memalign(&buf, 4096, (c->index->chunk_max + 4095u) / 4096 * 4096) == 0)
		while (!s->stop && (chunk = s->next++ * 8) < c->index->count)
			for (end = chunk + 8; chunk < end && chunk < c->index->count && !s->stop; chunk++)
				if (c->skip == NULL || !bit_get(c->skip, (uint32_t)chunk))
					look(s, chunk, buf);
	free(buf);
	s->running--;
	return NULL;
}

int
scan_run(const struct scan_conf *c, uint8_t *same, struct err *e)
{
	struct scan s = { .conf = c, .same = same };
	struct pollfd p = { .fd = c->stop, .events = POLLIN };
	pthread_t id[WORKERS_MAX];
	int n = 0, rc = 0;

	while (rc == 0 && n < c->workers && n < WORKERS_MAX) {
		s.running++;
		if ((rc = thread_new(&id[n], 0, scanner, &s)) == 0)
			n++;
		else
			s.running--;
	}
	if (n > 0)
		rc = 0;
	while (rc == 0 && s.running > 0) {
		if (poll(&p, 1, 20) > 0)
			rc = -EINTR;
		if (c->progress) {
			c->progress->done = s.bytes;
			progress_tick(c->progress);
		}
	}
	s.stop = 1;
	while (n > 0)
		pthread_join(id[--n], NULL);
	return rc == 0 ? 0 : err_set(e, ST_FAIL, rc, rc == -EINTR ? "interrupted" : "cannot start threads: %s", strerror(-rc));
}
