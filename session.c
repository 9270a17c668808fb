/*
 * A server as a source. The queue of chunks that are wanted, and the calls that block;
 * the connections' threads (link.c) take from the queue and answer.
 *
 * ask(), drop() and raise() never wait for the network: they move a request in the queue,
 * or leave a note and wake the thread that has it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "jail.h"
#include "session_parts.h"
#include "wait.h"

#define NEWEST 3			/* snapshots named when one is not there */

/* --- the queue --- */

/* Two queues, first in, first out. Which one a request is in follows from `demand` alone. */
static struct queue *
queue_of(struct session *s, const struct chunk_req *r)
{
	return r->demand ? &s->urgent : &s->later;
}

void
queue_put(struct session *s, struct chunk_req *r)
{
	struct queue *q = queue_of(s, r);

	r->next = NULL;
	*q->tail = r;
	q->tail = &r->next;
}

void
queue_put_back(struct session *s, struct chunk_req *r)
{
	struct queue *q = queue_of(s, r);

	r->stream &= ASK_AGAIN;
	r->next = q->head;
	if (q->head == NULL)
		q->tail = &r->next;
	q->head = r;
}

struct chunk_req *
queue_take(struct session *s, int demand)
{
	struct queue *q = demand ? &s->urgent : &s->later;
	struct chunk_req *r = q->head;

	if (r && (q->head = r->next) == NULL)
		q->tail = &q->head;
	return r;
}

static void
queue_remove(struct session *s, struct chunk_req *r)
{
	struct queue *q = queue_of(s, r);
	struct chunk_req **p;

	for (p = &q->head; *p && *p != r; p = &(*p)->next)
		;
	if (*p && (*p = r->next) == NULL)
		q->tail = p;
}

static void
wake(struct link *l)
{
	uint64_t one = 1;

	if (write(l->event, &one, sizeof(one)) < 0)
		return;			/* its counter is full: it is awake */
}

void
wake_links(struct session *s)
{
	int i, n = __atomic_load_n(&s->active, __ATOMIC_RELAXED);

	for (i = 0; i < n; i++)
		wake(&s->link[i]);
}

/* The link and the ask that have taken the request; NULL: it is in the queue. */
static struct link *
holder(struct session *s, const struct chunk_req *r, struct ask **a)
{
	int n = (r->stream & ~ASK_AGAIN) - 1;

	if (n < 0)
		return NULL;
	*a = &s->link[n / H2_STREAMS_MAX].ask[n % H2_STREAMS_MAX];
	return &s->link[n / H2_STREAMS_MAX];
}

static void
session_ask(struct source *src, struct chunk_req *r)
{
	struct session *s = (struct session *)src;

	pthread_mutex_lock(&s->lock);
	r->stream = 0;
	queue_put(s, r);
	pthread_mutex_unlock(&s->lock);
	wake_links(s);
}

/* Once the lock is ours nobody writes to the request's buffer; the thread finds out later that it was dropped. */
static int
session_drop(struct source *src, struct chunk_req *r)
{
	struct session *s = (struct session *)src;
	struct link *l;
	struct ask *a;
	int mine;

	pthread_mutex_lock(&s->lock);
	mine = r->stream != ASK_GONE;
	if (mine && (l = holder(s, r, &a)) == NULL) {
		queue_remove(s, r);
	} else if (mine) {
		a->req = NULL;
		wake(l);
	}
	pthread_mutex_unlock(&s->lock);
	return mine;
}

/* In the queue it changes places; on the wire it gets credit for all of it. */
static void
session_raise(struct source *src, struct chunk_req *r)
{
	struct session *s = (struct session *)src;
	struct link *l;
	struct ask *a;

	pthread_mutex_lock(&s->lock);
	if (r->stream != ASK_GONE && !r->demand) {
		l = holder(s, r, &a);
		if (l == NULL)
			queue_remove(s, r);
		r->demand = 1;
		if (l == NULL)
			queue_put(s, r);
	}
	pthread_mutex_unlock(&s->lock);
	wake_links(s);
}

int
session_get(struct source *src, const char *target, int (*body)(void *, const uint8_t *, size_t), void *ctx,
    struct err *e)
{
	struct session *s = (struct session *)src;

	return api_get(&s->api, s->stop_fd, target, body, ctx, e);
}

/* --- opening a snapshot --- */

/* The path of the upgrade, the same for each connection of this snapshot. */
static int
reader_target(struct session *s)
{
	char number[24];
	int rc;

	snprintf(number, sizeof(number), "%lld", (long long)s->snap.time);
	strcpy(s->target, "/api2/json/reader");
	rc = http_query(s->target, sizeof(s->target), "backup-type", s->snap.type);
	rc = rc < 0 ? rc : http_query(s->target, sizeof(s->target), "backup-id", s->snap.id);
	rc = rc < 0 ? rc : http_query(s->target, sizeof(s->target), "backup-time", number);
	rc = rc < 0 ? rc : http_query(s->target, sizeof(s->target), "store", s->repo.store);
	if (rc == 0 && s->snap.ns[0])
		rc = http_query(s->target, sizeof(s->target), "ns", s->snap.ns);
	return rc;
}

static int
note_newest(void *ctx, const struct snapshot_info *info)
{
	int64_t *newest = ctx;
	int i, k;

	for (i = 0; i < NEWEST && newest[i] >= info->name.time; i++)
		;
	if (i == NEWEST || !info->finished)
		return 0;
	for (k = NEWEST - 1; k > i; k--)
		newest[k] = newest[k - 1];
	newest[i] = info->name.time;
	return 0;
}

/* The snapshot is not there: says which are. */
static void
name_newest(struct session *s, struct err *e)
{
	int64_t newest[NEWEST] = { 0 };
	struct err old = *e;
	char list[NEWEST * 24] = "", time[21];
	int i;

	if (session_snapshots(&s->src, &s->snap, note_newest, newest, NULL) < 0)
		return;
	for (i = 0; i < NEWEST && newest[i]; i++) {
		time_print(newest[i], time);
		strcat(list, i ? ", " : "");
		strcat(list, time);
	}
	if (i)
		err_set(e, old.status, -ENOENT, "%s (the newest of %s/%s: %s)", old.text, s->snap.type, s->snap.id, list);
}

/* Ends the threads. None of them waits for anything that `cancel` or its own event does not end. What was asked for
 * and not answered stays in the queue, which dies with the session. */
static void
stop_links(struct session *s)
{
	uint64_t n = 1;
	int i;

	pthread_mutex_lock(&s->lock);
	s->quit = 1;
	pthread_mutex_unlock(&s->lock);
	if (write(s->cancel, &n, sizeof(n)) < 0)
		abort();		/* never: an eventfd takes a 1 */
	wake_links(s);
	for (i = 0; i < s->links; i++)
		if (s->link[i].running) {
			pthread_join(s->link[i].thread, NULL);
			s->link[i].running = 0;
		}
	for (i = 0; i < s->links; i++)
		link_disconnect(&s->link[i]);
	if (read(s->cancel, &n, sizeof(n)) < 0)
		abort();
	s->quit = 0;
}

/* The first connection is made here, so that what is wrong is an error of this call; its thread, and the other connections', take over. */
static int
session_snapshot(struct source *src, const struct snapshot *snap, struct err *e)
{
	struct session *s = (struct session *)src;
	int i, rc;

	stop_links(s);
	s->snap = *snap;
	s->indexes = 0;
	if ((rc = reader_target(s)) < 0)
		return err_set(e, ST_USAGE, rc, "the name is too long");
	rc = link_connect(&s->link[0], s->stop_fd, e);
	if (rc == -ENOENT)
		name_newest(s, e);
	s->trust->ask = NULL;
	for (i = 0; rc == 0 && i < s->active; i++)
		if ((rc = link_start(&s->link[i])) < 0)
			err_set(e, ST_FAIL, rc, "cannot start threads: %s", strerror(-rc));
	return rc;
}

/* --- files --- */

/* Waits for the answer. The request may be in the queue or on a connection when time is up: both forget it. */
static int
wait_file(struct session *s, struct file_req *f)
{
	int rc = wait_fd(f->event, POLLIN, s->stop_fd, clock_ms() + s->timeout), i, k;
	struct file_req **p;

	pthread_mutex_lock(&s->lock);
	if (f->done) {
		rc = f->rc;
	} else {
		for (p = &s->files; *p && *p != f; p = &(*p)->next)
			;
		if (*p)
			*p = f->next;
		for (i = 0; i < s->links; i++)
			for (k = 0; k < H2_STREAMS_MAX; k++)
				if (s->link[i].ask[k].file == f)
					s->link[i].ask[k].file = NULL;
		err_set(&f->err, ST_FAIL, rc, rc == -ETIMEDOUT ? "no answer within %d s" : "given up", s->timeout / 1000);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* The request is on this stack: it must be out of all lists before the return, see wait_file(). */
static int
session_file(struct source *src, const char *name, uint64_t max, uint8_t **out, size_t *len, struct err *e)
{
	struct session *s = (struct session *)src;
	struct file_req f = { .path = "/download", .name = name, .max = max };
	int rc;

	/* What begins with a slash is no file's name but a path of the protocol. */
	if (name[0] == '/')
		snprintf(f.path, sizeof(f.path), "%s", name);
	else if ((rc = http_query(f.path, sizeof(f.path), "file-name", name)) < 0)
		return err_set(e, ST_USAGE, rc, "the name is too long");
	if ((f.event = eventfd(0, EFD_CLOEXEC)) < 0)
		return err_set(e, ST_FAIL, -errno, "eventfd: %s", strerror(errno));
	pthread_mutex_lock(&s->lock);
	f.next = s->files;
	s->files = &f;
	pthread_mutex_unlock(&s->lock);
	wake_links(s);
	rc = wait_file(s, &f);
	close(f.event);
	if (rc == 0 && f.buf == NULL && (f.buf = malloc(1)) == NULL)
		rc = err_set(&f.err, ST_FAIL, -ENOMEM, "out of memory");
	if (rc < 0) {
		free(f.buf);
		return err_set(e, f.err.status, rc, "%s: %s: %s", s->api.host, name, f.err.text);
	}
	*out = f.buf;
	*len = f.len;
	return 0;
}

/* --- beginning and end --- */

static void
session_close(struct source *src)
{
	struct session *s = (struct session *)src;
	int i;

	if (s->cancel >= 0)
		stop_links(s);
	for (i = 0; i < s->links; i++)
		if (s->link[i].event >= 0)
			close(s->link[i].event);
	if (s->cancel >= 0)
		close(s->cancel);
	api_free(&s->api);
	pthread_mutex_destroy(&s->lock);
	free(s->link);
	free(s);
}

static const struct source_ops session_ops = {
	.snapshots = session_snapshots,
	.list = session_list,
	.open = session_snapshot,
	.file = session_file,
	.ask = session_ask,
	.drop = session_drop,
	.raise = session_raise,
	.close = session_close,
};

static int
make_links(struct session *s, int n, struct err *e)
{
	int i, rc = 0;

	s->links = n < 1 || n > LINKS_MAX ? LINKS_MAX : n;
	s->active = n < 1 ? 1 : s->links;
	s->share = s->inflight;
	if ((s->link = calloc((size_t)s->links, sizeof(*s->link))) == NULL) {
		s->links = 0;
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	}
	for (i = 0; i < s->links; i++) {
		s->link[i].s = s;
		s->link[i].nr = i;
		s->link[i].event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (s->link[i].event < 0)
			rc = -errno;
	}
	s->cancel = eventfd(0, EFD_CLOEXEC);
	if (s->cancel < 0)
		rc = -errno;
	return rc < 0 ? err_set(e, ST_FAIL, rc, "eventfd: %s", strerror(-rc)) : 0;
}

int
session_open(const struct session_conf *conf, struct source **out, struct err *e)
{
	struct session *s = calloc(1, sizeof(*s));
	struct net_conf net = { .proxy = conf->proxy, .trust = conf->trust, .cancel_fd = -1 };
	int rc;

	if (s == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	s->src.ops = &session_ops;
	s->repo = *conf->repo;
	s->trust = conf->trust;
	s->stop_fd = conf->stop_fd;
	s->stall = 1000 * (conf->stall > 0 ? conf->stall : STALL_DEFAULT);
	s->timeout = 1000 * (conf->timeout > 0 ? conf->timeout : READ_TIMEOUT);
	s->inflight = conf->inflight > 0 ? conf->inflight : INFLIGHT_DEFAULT;
	if (s->inflight > LOADS_MAX - LINK_SPARE)
		s->inflight = LOADS_MAX - LINK_SPARE;
	s->cancel = -1;
	s->urgent.tail = &s->urgent.head;
	s->later.tail = &s->later.head;
	pthread_mutex_init(&s->lock, NULL);
	net.host = s->repo.host;
	net.port = s->repo.port;
	net.dead_ms = s->stall;
	rc = api_init(&s->api, &net, s->repo.auth_id, conf->secret, s->stall, e);
	jail_keep(&s->api.auth, sizeof(s->api.auth));
	if (rc == 0)
		rc = make_links(s, conf->connections, e);
	if (conf->connections < 1)
		s->full = conf->full ? conf->full : LINK_FULL;
	s->src.depth = s->inflight * s->active;
	if (rc < 0) {
		session_close(&s->src);
		return rc;
	}
	*out = &s->src;
	return 0;
}
