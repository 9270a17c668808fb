/*
 * One connection to the reader protocol, and the thread that keeps it alive: connects,
 * moves bytes between socket and HTTP/2 engine, notices when the server has gone, and
 * begins anew, ever more slowly, until it is told to stop.
 *
 * Knows nothing of what is asked for (ask.c). What was under way when a connection is lost
 * goes back to the queue and is asked for again: nothing is lost, nothing is answered twice.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "session_parts.h"
#include "thread.h"
#include "wait.h"

#define PROTOCOL "proxmox-backup-reader-protocol-v1"
#define SAY_AGAIN 60000			/* ms between two lines about the same outage */
#define STEADY 10000			/* ms that a connection lives, or it was no end of the outage */

static int
has_quit(struct link *l)
{
	int quit;

	pthread_mutex_lock(&l->s->lock);
	quit = l->s->quit;
	pthread_mutex_unlock(&l->s->lock);
	return quit;
}

/* --- connecting --- */

int
link_connect(struct link *l, int cancel_fd, struct err *e)
{
	struct h2_conf conf = { .authority = l->s->api.host };
	int rc = api_upgrade(&l->s->api, cancel_fd, l->s->target, PROTOCOL, &l->net, e);

	if (rc < 0)
		return rc;
	h2_init(&l->h2, &conf, &ask_events, l);
	l->refill = 1;
	l->progress = l->refused = 0;
	l->since = l->ticked = clock_ms();
	l->received = l->rate = 0;
	l->slice = LINK_SLICE_MAX;
	return 0;
}

void
link_disconnect(struct link *l)
{
	net_close(l->net);
	l->net = NULL;
	ask_return(l);
}

/* --- the flow of bytes --- */

/* Hands what the engine wants to send to the stream, as far as there is room. */
static void
send_output(struct link *l)
{
	const uint8_t *p;
	size_t n = h2_output(&l->h2, &p);

	if (n)
		h2_sent(&l->h2, net_put(l->net, p, n));
}

/* The engine has given the connection up: lets its GOAWAY go out, if that does not block. */
static int
violated(struct link *l, const struct err *why, struct err *e)
{
	send_output(l);
	net_poll(l->net, 0, -1, clock_ms(), NULL);
	return err_set(e, ST_FAIL, -EPROTO, "%s: the server breaks the protocol: %s", l->s->api.host, why->text);
}

static int
receive(struct link *l, int got, struct err *e)
{
	const uint8_t *p;
	struct err why;
	size_t n;

	while ((p = net_in(l->net, &n)) != NULL) {
		if (h2_push(&l->h2, p, n, &why) < 0)
			return violated(l, &why, e);
		net_in_done(l->net, n);
	}
	if (got & NET_EOF)
		return err_set(e, ST_FAIL, -ECONNRESET, "%s: the server has ended the connection", l->s->api.host);
	return 0;
}

/* --- the watch --- */

/* Until when we wait in silence: for an answer, for a PING's, or until it is time for one. */
static int64_t
watch(struct link *l, int64_t now)
{
	int64_t heard = net_heard(l->net);

	if (l->on_wire || l->h2.pinging)
		return (heard > l->since ? heard : l->since) + l->s->stall;
	if (heard + LINK_PING > now)
		return heard + LINK_PING;
	h2_ping(&l->h2);
	l->since = now;
	return now + l->s->stall;
}

/* How much each read-ahead may have on the way: no more than the line brings in LINK_AHEAD. The rate falls slowly, since a
 * pause of the reader's says nothing about the line. */
static uint64_t
measure(struct link *l, int64_t now)
{
	uint64_t rate = (l->h2.received - l->received) * 1000 / (uint64_t)(now - l->ticked);
	uint64_t slice;

	l->received = l->h2.received;
	l->rate = rate > l->rate / 4 * 3 ? rate : l->rate / 4 * 3;
	slice = l->rate * LINK_AHEAD / 1000 / (uint64_t)l->s->inflight;
	l->slice = slice > LINK_SLICE_MAX ? LINK_SLICE_MAX : slice < H2_STREAM_WINDOW ? H2_STREAM_WINDOW : (uint32_t)slice;
	return rate;
}

/* One more connection where this one, the newest, holds up what was asked for: a flow brings its window in a round trip and no
 * more, a thread what a CPU decrypts. They share what one alone had on the wire. */
static void
grow(struct link *l, uint64_t rate, int64_t ms)
{
	struct session *s = l->s;
	int64_t cpu = l->cpu;
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	l->cpu = t.tv_sec * 1000 + t.tv_nsec / 1000000;
	if (s->full == 0 || l->chunks_on_wire < s->share / 2 || (rate * net_rtt(l->net) / 1000000 < s->full &&
	    (l->cpu - cpu) * 1000 < LINK_BUSY * ms))
		return;
	pthread_mutex_lock(&s->lock);
	if (!s->quit && l->nr == s->active - 1 && s->active < s->links && link_start(&s->link[s->active]) == 0) {
		__atomic_store_n(&s->active, s->active + 1, __ATOMIC_RELAXED);
		s->share = s->inflight / s->active;
		note("%s: %d connections", s->api.host, s->active);
	}
	pthread_mutex_unlock(&s->lock);
}

/* What is done once a second. It may free places on the wire: comes before ask_fill(). */
static void
tick(struct link *l, int64_t now)
{
	struct err e;

	if (now - l->ticked < 1000)
		return;
	grow(l, measure(l, now), now - l->ticked);
	l->ticked = now;
	h2_tick(&l->h2);
	ask_expire(l, now);
	/* What it logs in for is the next connection; this one lives. */
	if (l->nr == 0 && api_renew(&l->s->api, l->s->cancel, &e) < 0)
		note("%s", e.text);
}

/* Is there a reason to give the connection up? Else *deadline tells when to look again. */
static int
check(struct link *l, int64_t now, int64_t *deadline, struct err *e)
{
	*deadline = watch(l, now);
	if (*deadline <= now)
		return err_set(e, ST_FAIL, -ETIMEDOUT, "%s: nothing heard from the server for %d s", l->s->api.host,
		    l->s->stall / 1000);
	if (l->h2.goaway && l->on_wire == 0)
		return err_set(e, ST_FAIL, -ECONNRESET, "%s: the server has ended the session (%s%s%s)", l->s->api.host,
		    h2_code(l->h2.goaway_code), l->h2.goaway_text[0] ? ": " : "", l->h2.goaway_text);
	return 0;
}

static void
drain(int event)
{
	uint64_t n;

	while (read(event, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

/* Serves the connection until it breaks: a negative errno. */
static int
serve(struct link *l, struct err *e)
{
	const uint8_t *p;
	int64_t now, deadline = 0;
	int rc = 0, want;

	while (rc >= 0) {
		now = clock_ms();
		tick(l, now);
		if (l->refill)
			ask_fill(l);
		if (l->hungry)
			ask_credit(l, now);
		rc = check(l, now, &deadline, e);
		send_output(l);
		if (rc < 0)
			break;
		want = NET_IN | (h2_output(&l->h2, &p) ? NET_OUT : 0);
		rc = net_poll(l->net, want, l->event, deadline, e);
		if (rc > 0 && rc & NET_FD) {
			drain(l->event);
			l->refill = 1;
			if (has_quit(l))
				return -ECANCELED;
		}
		if (rc > 0)
			rc = receive(l, rc, e);
		/* A server that takes nothing gets a pause, as one that is not there. */
		if (rc >= 0 && l->refused > LINK_REFUSED_MAX)
			rc = err_set(e, ST_FAIL, -EBUSY, "%s: the server refuses all it is asked for", l->s->api.host);
	}
	return rc;
}

/* --- the thread --- */

/* How long to wait before the next try: longer each time, and never in step with other clients. */
static int
back_off(struct link *l, int rc)
{
	struct timespec t;

	if (l->progress || l->delay == 0)
		l->delay = BACKOFF_MIN;
	else
		l->delay = 2 * l->delay < BACKOFF_MAX ? 2 * l->delay : BACKOFF_MAX;
	if (rc == -EACCES)
		l->delay = BACKOFF_REFUSED;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return l->delay / 2 + (int)(t.tv_nsec / 1000 % l->delay) / 2;
}

/* One line when the outage begins, one when it ends; in between only now and then, also when connections come and go. */
struct outage {
	int64_t began, said, back;	/* ms; began 0: there is none */
	int told;			/* that it began */
};

static void
tell_lost(struct outage *o, int rc, const struct err *e)
{
	int64_t now = clock_ms();

	if (rc == -ECANCELED)
		return;
	if (!o->began)
		o->began = now;
	if (o->said && now - o->said < SAY_AGAIN && (o->told || now - o->back < STEADY)) {
		note("%s", e->text);
		return;
	}
	say("%s; trying again", e->text);
	o->told = 1;
	o->said = now;
}

static void
tell_back(struct link *l, struct outage *o)
{
	int64_t now = clock_ms();

	if (o->told)
		say("%s: connected again after %lld s", l->s->api.host, (long long)(now - o->began + 500) / 1000);
	o->began = o->told = 0;
	o->back = now;
}

/* The thread. It ends only when it is told to: there is no error after which the server is given up for good. */
static void *
run(void *arg)
{
	struct outage outage = { 0 };
	struct link *l = arg;
	struct err e;
	int rc;

	while (!has_quit(l)) {
		rc = 0;
		if (l->net == NULL && (rc = link_connect(l, l->s->cancel, &e)) == 0)
			tell_back(l, &outage);
		if (rc == 0)
			rc = serve(l, &e);
		if (has_quit(l))
			break;
		tell_lost(&outage, rc, &e);
		link_disconnect(l);
		wait_fd(-1, 0, l->s->cancel, clock_ms() + back_off(l, rc));
		l->progress = 0;
	}
	return NULL;
}

int
link_start(struct link *l)
{
	int rc = thread_new(&l->thread, 256u << 10, run, l);	/* stack: certificates, errors' texts */

	l->running = rc == 0;
	return rc;
}
