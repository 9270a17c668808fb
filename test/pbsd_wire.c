/*
 * The socket and TLS of one connection. OpenSSL never sees the socket: what
 * it reads comes out of a queue (so that distance can be emulated by holding
 * bytes back), what it writes goes into a buffer (so that a connection can be
 * cut, stalled or slowed down at any byte). Knows nothing of HTTP.
 *
 * Invariant: wire_write() is never given more than wire_room(), so OpenSSL's
 * writes into the buffer cannot fail.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <openssl/err.h>

#include "pbsd_wire.h"

#define IN_CAP (64u << 10)
#define OUT_CAP (128u << 10)		/* stays in the second-level cache: 256 KiB cost 8 % */
#define OUT_SLACK (32u << 10)		/* for alerts, tickets, certificates */
#define RECORD 16384u
#define RECORD_COST 64u			/* more than any cipher adds to a record */
#define HELD_MAX (4u << 20)

struct held {
	struct held *next;
	int64_t due;			/* ms */
	size_t len;
	uint8_t data[];
};

struct wire {
	int fd, wake, id;
	void (*woken)(void *);
	void *ctx;
	SSL *ssl;
	BIO_METHOD *method;
	uint8_t in[IN_CAP];
	size_t in_head, in_tail;
	struct held *held, **held_end;
	size_t held_bytes;
	uint8_t out[OUT_CAP + OUT_SLACK];
	size_t out_head, out_tail;
	int64_t sent, base;		/* raw bytes; base: where the breakpoint's count begins */
	int64_t tokens, refilled;	/* of the rate limit */
	int eof, dead, stalled, frozen, limited, rst;
	enum scope scope;
	struct weather weather;
	struct breakpoint bp;
	uint64_t gen;
};

int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* -1 when there is no room, which wire_room() rules out. */
static int
append(struct wire *w, const void *p, size_t n)
{
	if (n > sizeof(w->out) - w->out_tail)
		return -1;
	memcpy(w->out + w->out_tail, p, n);
	w->out_tail += n;
	return (int)n;
}

static int
bio_write(BIO *b, const char *p, int n)
{
	int r = append(BIO_get_data(b), p, (size_t)n);

	BIO_clear_retry_flags(b);
	if (r < 0)
		BIO_set_retry_write(b);
	return r;
}

/* OpenSSL's view: what has been released so far, and the end only after that. */
static int
bio_read(BIO *b, char *p, int n)
{
	struct wire *w = BIO_get_data(b);
	size_t have = w->in_tail - w->in_head;

	BIO_clear_retry_flags(b);
	if (have == 0) {
		if (!w->eof)
			BIO_set_retry_read(b);
		return w->eof ? 0 : -1;
	}
	if ((size_t)n > have)
		n = (int)have;
	memcpy(p, w->in + w->in_head, (size_t)n);
	w->in_head += (size_t)n;
	return n;
}

static long
bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)b;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

struct wire *
wire_new(int fd, int wake, int id, void (*woken)(void *), void *ctx)
{
	struct wire *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->fd = fd;
	w->wake = wake;
	w->id = id;
	w->woken = woken;
	w->ctx = ctx;
	w->held_end = &w->held;
	w->scope = SCOPE_API;
	weather_renew(&w->gen, &w->weather, &w->bp);
	return w;
}

void
wire_free(struct wire *w)
{
	struct linger now = { 1, 0 };

	while (w->held) {
		struct held *h = w->held;
		w->held = h->next;
		free(h);
	}
	SSL_free(w->ssl);
	BIO_meth_free(w->method);
	if (w->rst)
		setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(w->fd);
	free(w);
}

void
wire_break(struct wire *w, enum breakage how)
{
	logline(w->id, "broken (%d) after %lld bytes", how, (long long)w->sent);
	switch (how) {
	case BREAK_RST:
		w->rst = 1;
		/* fall through */
	case BREAK_CUT:
		w->dead = 1;
		break;
	case BREAK_FREEZE:
		w->frozen = 1;
		/* fall through */
	case BREAK_STALL:
		w->stalled = 1;
		break;
	case BREAK_NONE:
		break;
	}
}

void
wire_resume(struct wire *w)
{
	w->stalled = w->frozen = 0;
}

void
wire_scope(struct wire *w, enum scope s)
{
	/* A breakpoint that counted already goes on counting. */
	if (!(w->bp.scope & (int)w->scope))
		w->base = w->sent + (int64_t)(w->out_tail - w->out_head);
	w->scope = s;
}

const struct weather *
wire_weather(const struct wire *w)
{
	return &w->weather;
}

/* How many of n bytes the limits let through now. */
static size_t
allowed(struct wire *w, size_t n)
{
	const struct weather *c = &w->weather;
	int64_t now = now_ms(), want = (int64_t)n, burst;

	w->limited = 0;
	if (w->bp.kind != BREAK_NONE && (w->bp.scope & (int)w->scope)) {
		int64_t left = w->base + w->bp.after - w->sent;
		if (left <= 0) {
			enum breakage how = w->bp.kind;
			w->bp.kind = BREAK_NONE;
			if (breakpoint_take())
				wire_break(w, how);
		} else if (want > left)
			want = left;
	}
	if (w->dead || w->stalled)
		return 0;
	if (c->rate > 0) {
		burst = c->rate / 50 + 1500;
		w->tokens += c->rate * (now - w->refilled) / 1000;
		w->refilled = now;
		if (w->tokens > burst)
			w->tokens = burst;
		if (want > w->tokens)
			want = w->tokens > 0 ? w->tokens : 0;
	}
	if (c->rate_all > 0 && want > 0)
		want = rate_take(c->rate_all, want, now);
	w->limited = want == 0 && n > 0;
	return (size_t)want;
}

/* Sends until the kernel, a limit or the breakpoint says stop. */
static void
flush(struct wire *w)
{
	for (;;) {
		size_t have = w->out_tail - w->out_head, n = allowed(w, have), piece = n;
		ssize_t r;

		if (n == 0)
			return;
		if (w->weather.dribble > 0 && piece > (size_t)w->weather.dribble)
			piece = (size_t)w->weather.dribble;
		r = send(w->fd, w->out + w->out_head, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (w->weather.rate_all > 0)
			rate_return((int64_t)n - (r > 0 ? r : 0));
		if (r < 0) {
			if (errno != EAGAIN && errno != EINTR)
				w->dead = 1;
			return;
		}
		w->out_head += (size_t)r;
		w->sent += r;
		w->tokens -= r;
		count(N_BYTES_SENT, r);
		if (w->out_head == w->out_tail)
			w->out_head = w->out_tail = 0;
	}
}

/* What was held back long enough becomes readable: 1 if something did. */
static int
release(struct wire *w)
{
	struct held *h = w->held;

	if (!h || w->in_head < w->in_tail || h->due > now_ms())
		return 0;
	memcpy(w->in, h->data, h->len);
	w->in_head = 0;
	w->in_tail = h->len;
	w->held_bytes -= h->len;
	w->held = h->next;
	if (!w->held)
		w->held_end = &w->held;
	free(h);
	return 1;
}

/* With distance to emulate, bytes go to the end of the queue, even if it has just been set to zero: order stays. */
static void
receive(struct wire *w)
{
	uint8_t *to = w->in;
	struct held *h = NULL;
	ssize_t r;

	if (w->weather.rtt > 0 || w->held) {
		h = malloc(sizeof(*h) + IN_CAP);
		if (!h)
			abort();
		to = h->data;
	}
	r = recv(w->fd, to, IN_CAP, MSG_DONTWAIT);
	if (r == 0)
		w->eof = 1;
	if (r < 0 && errno != EAGAIN && errno != EINTR)
		w->dead = 1;
	if (r > 0)
		count(N_BYTES_RECEIVED, r);
	if (r <= 0)
		free(h);
	else if (!h) {
		w->in_head = 0;
		w->in_tail = (size_t)r;
	} else {
		h->len = (size_t)r;
		h->due = now_ms() + w->weather.rtt;
		h->next = NULL;
		*w->held_end = h;
		w->held_end = &h->next;
		w->held_bytes += h->len;
	}
}

/* A breakpoint that is new counts from here. */
static void
woke(struct wire *w)
{
	uint64_t n;

	if (read(w->wake, &n, sizeof(n)) != sizeof(n))
		return;
	if (weather_renew(&w->gen, &w->weather, &w->bp))
		w->base = w->sent;
	w->woken(w->ctx);
}

/* For poll(): the earliest of the deadline, the next release, and new tokens of the limit. */
static int
wait_time(const struct wire *w, int64_t deadline)
{
	int64_t now = now_ms(), until = deadline;

	if (w->held && w->in_head == w->in_tail && (until < 0 || w->held->due < until))
		until = w->held->due;
	if (w->limited && !w->stalled && (until < 0 || now + 2 < until))
		until = now + 2;
	if (until < 0)
		return -1;
	return until <= now ? 0 : (int)(until - now);
}

int
wire_step(struct wire *w, int64_t deadline)
{
	struct pollfd p[2];
	int empty;
	size_t unsent = wire_pending(w);

	flush(w);
	if (w->dead)
		return -1;
	if (release(w) || (unsent > 0 && wire_pending(w) == 0))
		return 0;		/* who waits for one of these (there is room only now) goes on */
	empty = w->weather.rtt > 0 || w->held ? w->held_bytes < HELD_MAX : w->in_head == w->in_tail;
	p[0].fd = w->fd;
	p[0].events = (short)((empty && !w->frozen && !w->eof ? POLLIN : 0) |
	    (w->out_tail > w->out_head && !w->stalled && !w->limited ? POLLOUT : 0));
	p[1].fd = w->wake;
	p[1].events = POLLIN;
	if (p[0].events == 0)
		p[0].fd = -1;		/* else a hang-up would make this a busy loop */
	if (poll(p, 2, wait_time(w, deadline)) < 0)
		return errno == EINTR ? 0 : -1;
	if (p[1].revents)
		woke(w);
	if (p[0].fd >= 0 && (p[0].revents & (POLLIN | POLLHUP | POLLERR)) && empty && !w->frozen)
		receive(w);
	release(w);
	return w->dead ? -1 : 0;
}

int
wire_tls(struct wire *w, SSL_CTX *ctx)
{
	BIO *b;
	int r;

	w->ssl = SSL_new(ctx);
	w->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "wire");
	if (!w->ssl || !w->method || !(b = BIO_new(w->method)))
		return -1;
	BIO_meth_set_write(w->method, bio_write);
	BIO_meth_set_read(w->method, bio_read);
	BIO_meth_set_ctrl(w->method, bio_ctrl);
	BIO_set_data(b, w);
	BIO_set_init(b, 1);
	SSL_set_bio(w->ssl, b, b);
	while ((r = SSL_accept(w->ssl)) != 1) {
		int why = SSL_get_error(w->ssl, r);

		if (why != SSL_ERROR_WANT_READ || (w->eof && !w->held)) {
			logline(w->id, "handshake: %s", ERR_reason_error_string(ERR_peek_error()));
			ERR_clear_error();
			SSL_free(w->ssl);
			w->ssl = NULL;	/* no close_notify then: the alert was said */
			return -1;
		}
		if (wire_step(w, -1) < 0)
			return -1;
	}
	count(N_HANDSHAKES, 1);
	return 0;
}

ssize_t
wire_read(struct wire *w, void *buf, size_t n)
{
	int r, why;

	if (!w->ssl) {
		r = (int)(w->in_tail - w->in_head < n ? w->in_tail - w->in_head : n);
		memcpy(buf, w->in + w->in_head, (size_t)r);
		w->in_head += (size_t)r;
		return r > 0 ? r : w->eof && !w->held ? -EPIPE : -EAGAIN;
	}
	r = SSL_read(w->ssl, buf, n > INT32_MAX ? INT32_MAX : (int)n);
	if (r > 0)
		return r;
	why = SSL_get_error(w->ssl, r);
	ERR_clear_error();
	if (why == SSL_ERROR_ZERO_RETURN)
		return 0;
	if (why == SSL_ERROR_WANT_READ && (!w->eof || w->held))
		return -EAGAIN;
	return -EPIPE;
}

static size_t
record_size(const struct wire *w)
{
	int64_t r = w->weather.record;

	return r > 0 && r < (int64_t)RECORD ? (size_t)r : RECORD;
}

size_t
wire_room(const struct wire *w)
{
	size_t rec = record_size(w);

	return w->out_tail >= OUT_CAP ? 0 : (OUT_CAP - w->out_tail) / (rec + RECORD_COST) * rec;
}

size_t
wire_pending(const struct wire *w)
{
	return w->out_tail - w->out_head;
}

void
wire_write(struct wire *w, const void *p, size_t n)
{
	const uint8_t *b = p;
	size_t rec = record_size(w), k;

	for (; n > 0; b += k, n -= k) {
		k = n < rec ? n : rec;
		if ((w->ssl ? SSL_write(w->ssl, b, (int)k) : append(w, b, k)) != (int)k) {
			w->dead = 1;	/* cannot be: see the invariant */
			return;
		}
	}
}

int
wire_put(struct wire *w, const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n > 0) {
		size_t room = wire_room(w), k = n < room ? n : room;

		wire_write(w, b, k);
		b += k;
		n -= k;
		if (n > 0 && wire_step(w, now_ms() + 1000) < 0)
			return -1;
	}
	return w->dead ? -1 : 0;
}

int
wire_sleep(struct wire *w, int64_t until)
{
	struct pollfd p = { w->wake, POLLIN, 0 };

	flush(w);
	while (!w->dead && now_ms() < until) {
		if (poll(&p, 1, (int)(until - now_ms())) > 0)
			woke(w);
	}
	return w->dead ? -1 : 0;
}

void
wire_finish(struct wire *w)
{
	int64_t end = now_ms() + 2000;
	char sink[4096];

	if (w->dead)
		return;
	if (w->ssl)
		SSL_shutdown(w->ssl);
	while (w->out_tail > w->out_head && (now_ms() < end || w->stalled))
		if (wire_step(w, now_ms() + 100) < 0)
			return;
	/* What the client still sends is read, or the kernel's reset would
	 * take away what it has not read yet. */
	shutdown(w->fd, SHUT_WR);
	end = now_ms() + 500;
	while (!w->eof && now_ms() < end) {
		if (wire_step(w, end) < 0)
			return;
		while (wire_read(w, sink, sizeof(sink)) > 0)
			;
		w->in_head = w->in_tail;
	}
}
