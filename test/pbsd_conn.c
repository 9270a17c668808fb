/*
 * Threads and connections: one each. Knows the order of a connection's life
 * (weather, TLS, HTTP, reader session), nothing of what is said in it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pbsd_conn.h"
#include "pbsd_h2.h"
#include "pbsd_http.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gone = PTHREAD_COND_INITIALIZER;
static struct conn *conns;
static int next_id, running;		/* running: threads that may still own something */

struct start {
	struct conn *c;
	SSL_CTX *ctx;
};

/* Does what breaks a connection, wherever its thread waits; the rest is left to the session. Under the lock. */
static void
do_breaks(struct conn *c)
{
	int kept = 0;

	for (int i = 0; i < c->kicks; i++) {
		struct kick k = c->kick[i];

		if (k.kind == KICK_BREAK)
			wire_break(c->wire, k.how);
		else if (k.kind == KICK_RESUME)
			wire_resume(c->wire);
		else
			c->kick[kept++] = k;
	}
	c->kicks = kept;
}

static void
woken(void *ctx)
{
	pthread_mutex_lock(&lock);
	do_breaks(ctx);
	pthread_mutex_unlock(&lock);
}

int
conn_take_kick(struct conn *c, struct kick *k)
{
	int yes;

	pthread_mutex_lock(&lock);
	do_breaks(c);
	yes = c->kicks > 0;
	if (yes) {
		*k = c->kick[0];
		memmove(c->kick, c->kick + 1, (size_t)--c->kicks * sizeof(*k));
	}
	pthread_mutex_unlock(&lock);
	return yes;
}

/* The eventfd belongs to the connection, which cannot go while we hold the lock. */
static void
wake(struct conn *c)
{
	uint64_t one = 1;

	if (write(c->wake, &one, sizeof(one)) < 0)
		abort();
}

void
conn_wake_all(void)
{
	pthread_mutex_lock(&lock);
	for (struct conn *c = conns; c; c = c->next)
		wake(c);
	pthread_mutex_unlock(&lock);
}

void
conn_kick_all(const struct kick *k)
{
	pthread_mutex_lock(&lock);
	for (struct conn *c = conns; c; c = c->next) {
		if (c->kicks < KICKS_MAX)
			c->kick[c->kicks++] = *k;
		wake(c);
	}
	pthread_mutex_unlock(&lock);
}

void
conn_end_all(void)
{
	struct kick k = { .kind = KICK_BREAK, .how = BREAK_CUT };

	conn_kick_all(&k);
	pthread_mutex_lock(&lock);
	while (running > 0)
		pthread_cond_wait(&gone, &lock);
	pthread_mutex_unlock(&lock);
}

/* Something else than a server of ours listens at this port. */
static void
pretend(struct conn *c, enum front f)
{
	static const char ssh[] = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n";
	static const char http[] = "HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nContent-Type: text/html\r\n"
	    "Content-Length: 106\r\nConnection: close\r\n\r\n<html>\r\n<head><title>400 Bad Request</title></head>\r\n"
	    "<body><h1>400 Bad Request</h1></body>\r\n</html>\r\n\r\n\r\n";
	char buf[4096];
	ssize_t r;

	if (f == FRONT_CLOSE)
		return;
	if (f == FRONT_SSH)
		wire_put(c->wire, ssh, sizeof(ssh) - 1);
	for (;;) {
		while ((r = wire_read(c->wire, buf, sizeof(buf))) > 0) {
			if (f == FRONT_HTTP) {
				wire_put(c->wire, http, sizeof(http) - 1);
				wire_finish(c->wire);
				return;
			}
			if (f == FRONT_SSH) {
				wire_finish(c->wire);
				return;
			}
		}
		if (r == -EPIPE || wire_step(c->wire, -1) < 0)
			return;
	}
}

/* From the first byte to the last: each step may end it. */
static void
serve(struct conn *c, SSL_CTX *ctx)
{
	const struct weather *w = wire_weather(c->wire);
	char snapshot[4096];

	if (w->handshake > 0 && wire_sleep(c->wire, now_ms() + w->handshake) < 0)
		return;
	if (w->front != FRONT_TLS) {
		pretend(c, (enum front)w->front);
		return;
	}
	if (wire_tls(c->wire, ctx) == 0 && http_serve(c, snapshot, sizeof(snapshot)) == 1)
		h2_serve(c, snapshot);
	wire_finish(c->wire);
}

/* Nothing may be owned any more when `running` falls: the process may exit then. */
static void *
thread(void *arg)
{
	struct start *s = arg;
	struct conn *c = s->c;

	serve(c, s->ctx);
	SSL_CTX_free(s->ctx);
	free(s);
	pthread_mutex_lock(&lock);
	*c->self = c->next;
	if (c->next)
		c->next->self = c->self;
	pthread_mutex_unlock(&lock);
	logline(c->id, "over");
	wire_free(c->wire);
	close(c->wake);
	free(c);
	count_open(-1);
	OPENSSL_thread_stop();
	pthread_mutex_lock(&lock);
	running--;
	pthread_cond_broadcast(&gone);
	pthread_mutex_unlock(&lock);
	return NULL;
}

void
conn_start(int fd, SSL_CTX *ctx)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct start *s = calloc(1, sizeof(*s));
	pthread_attr_t detached;
	pthread_t t;

	if (!c || !s)
		abort();
	c->id = ++next_id;
	c->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	c->wire = wire_new(fd, c->wake, c->id, woken, c);
	s->c = c;
	s->ctx = ctx;
	SSL_CTX_up_ref(ctx);
	count(N_CONNECTIONS, 1);
	count_open(1);
	pthread_mutex_lock(&lock);
	c->next = conns;
	c->self = &conns;
	if (conns)
		conns->self = &c->next;
	conns = c;
	running++;
	pthread_mutex_unlock(&lock);
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&t, &detached, thread, s) != 0)
		abort();
	pthread_attr_destroy(&detached);
}
