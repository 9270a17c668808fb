/*
 * A session without sockets and TLS: link.c's loop over a transport that is made up here. The input is a play: what the server
 * sends (answers to the login and the upgrade, frames for requests that are under way, rubbish), what readers want meanwhile, and
 * how time passes. Whatever happens, a request is answered once, with the bytes that were sent for it, or is still in the queue.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "../bytes.h"
#include "../clock.h"
#include "../h2_parts.h"
#include "../log.h"

static int64_t skew;			/* ms that have passed by the play's word */

static int64_t
play_clock(void)
{
	return clock_ms() + skew;
}

/* Nothing is said: it would be said a million times. */
__attribute__((format(printf, 1, 2)))
static void
unsaid(const char *fmt, ...)
{
	(void)fmt;
}

#define clock_ms play_clock
#define say unsaid
#define note unsaid
#include "../link.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHUNKS = 24, FILES = 3, CAP = 3000, CONNECTIONS = 4 };

struct net {
	int http;			/* before the upgrade's 101 is through */
	size_t at, len, piece, room;
	uint8_t in[20000];
};

static const uint8_t *prog;		/* the rest of the play */
static size_t left;
static struct net net;
static struct link *lnk;
static int connections, logins, cut, spoiled;	/* spoiled: bytes of bodies may be any */
static struct chunk_req chunk[CHUNKS];
static int asked[CHUNKS], done[CHUNKS];
static struct file_req file[FILES];
static int file_asked[FILES];

static void
must(int cond)
{
	if (!cond)
		abort();
}

static uint8_t
next(void)
{
	return (uint8_t)(left ? (left--, *prog++) : 0);
}

/* --- what is sent, and what must come out --- */

static uint8_t
pattern(const struct ask *a, size_t at)
{
	return (uint8_t)(a->kind == ASK_CHUNK && a->req ? a->req->digest[0] * 7 + at * 3 : at * 5);
}

static void
on_done(struct chunk_req *r)
{
	ptrdiff_t i = r - chunk;

	must(asked[i] && !done[i] && (r->rc == 0) == (r->err.text[0] == 0));
	done[i] = 1;
	if (r->rc < 0)
		return;
	must(r->len <= r->cap);
	for (size_t k = 0; k < r->len && !spoiled; k++)
		must(r->raw[k] == (uint8_t)(r->digest[0] * 7 + k * 3));
}

static void
send_bytes(const void *p, size_t n)
{
	if (n > sizeof(net.in) - net.len)
		n = sizeof(net.in) - net.len;
	memcpy(net.in + net.len, p, n);
	net.len += n;
}

static void
send_frame(uint8_t type, uint8_t flags, uint32_t id, const uint8_t *p, size_t n)
{
	uint8_t head[9];

	put32be(head, (uint32_t)n << 8 | type);
	head[4] = flags;
	put32be(head + 5, id);
	send_bytes(head, 9);
	send_bytes(p, n);
}

/* A request that is under way; NULL: none. */
static struct ask *
pick(void)
{
	unsigned n = next(), i, k;

	for (k = 0; k < H2_STREAMS_MAX; k++) {
		i = (n + k) % H2_STREAMS_MAX;
		if (lnk->ask[i].state == ASK_WIRE && lnk->ask[i].stream)
			return &lnk->ask[i];
	}
	return NULL;
}

static void
send_head(struct ask *a, uint8_t flags)
{
	static const char *const status[] = { "200", "200", "200", "401", "400", "404", "403", "500", "103", "999" };
	uint8_t b[32] = { 0x08, 3 }, k = next();
	char text[12];
	size_t n = 5;

	memcpy(b + 2, status[k % 10], 3);
	if (k >= 128) {			/* and a content-length */
		snprintf(text, sizeof(text), "%u", (k - 128u) * (k > 250 ? 100000u : 40u));
		b[n++] = 0x0f;
		b[n++] = 28 - 15;
		b[n++] = (uint8_t)strlen(text);
		memcpy(b + n, text, strlen(text));
		n += strlen(text);
	}
	send_frame(1, (uint8_t)((flags & END_STREAM) | END_HEADERS), a->stream->id, b, n);
}

static void
send_data(struct ask *a, uint8_t flags)
{
	static const char missing[] = "open chunk failed: No such file or directory (os error 2)";
	uint8_t b[4200] = { 0 };
	size_t n = next(), i;

	n = n < 40 ? n : (n - 39) * 18;
	for (i = 0; i < n; i++)
		b[i] = a->status == 200 ? pattern(a, a->got + i) : (uint8_t)missing[i % (sizeof(missing) - 1)];
	send_frame(0, flags & END_STREAM, a->stream->id, b, n);
}

/* --- what readers do --- */

static void
reader(void)
{
	struct source *src = &lnk->s->src;
	unsigned op = next(), i = next() % CHUNKS, k = i % FILES;
	struct file_req **p;

	if (op % 8 < 4 && !asked[i]) {
		chunk[i].demand = (int)(op >> 7);
		asked[i] = 1;
		src->ops->ask(src, &chunk[i]);
	} else if (op % 8 == 4 && asked[i] && !done[i]) {
		src->ops->raise(src, &chunk[i]);
	} else if (op % 8 == 5 && asked[i]) {
		must(src->ops->drop(src, &chunk[i]) == !done[i]);
		asked[i] = done[i] = 0;
		chunk[i].err.text[0] = 0;
	} else if (op % 8 == 6 && !file_asked[k]) {
		file[k].next = lnk->s->files;
		lnk->s->files = &file[k];
		file_asked[k] = 1;
	} else if (op % 8 == 7 && file_asked[k] && !file[k].done) {	/* as when its time is up */
		for (p = &lnk->s->files; *p && *p != &file[k]; p = &(*p)->next)
			;
		if (*p)
			*p = file[k].next;
		for (i = 0; i < H2_STREAMS_MAX; i++)
			if (lnk->ask[i].file == &file[k])
				lnk->ask[i].file = NULL;
		file[k].done = 1;
		file[k].rc = -ETIMEDOUT;
	}
}

/* --- the transport --- */

/* The answer to a request of HTTP/1.1: the right one, or what the play says. */
static void
answer_http(void)
{
	static const char in[] = "HTTP/1.1 200 OK\r\ncontent-length: 58\r\n\r\n"
	    "{\"data\":{\"ticket\":\"PBS:a::b\",\"CSRFPreventionToken\":\"c:d\"}}";
	static const char up[] = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n";
	static const uint8_t settings[9] = { 0, 0, 0, 4 };
	size_t n = next();
	int login = logins > 0;

	logins -= login;
	if (n % 8) {
		send_bytes(login ? in : up, (login ? sizeof(in) : sizeof(up)) - 1);
		if (!login)
			send_bytes(settings, sizeof(settings));
	} else {
		n = n * 8 + 8 < left ? n * 8 + 8 : left;
		spoiled = 1;
		send_bytes(prog, n);
		prog += n;
		left -= n;
	}
}

/* One step of the play: NET_ bits for net_poll(). */
static int
step(void)
{
	unsigned op = next();
	uint8_t b[64], n;
	struct ask *a;

	switch (op % 16) {
	case 0: case 1: case 2: case 3: case 4:
		if ((a = pick()) != NULL)
			(a->status ? send_data : send_head)(a, op & 0x80 ? END_STREAM : 0);
		break;
	case 5:
		if ((a = pick()) != NULL) {
			put32be(b, next() % 14);
			send_frame(3, 0, a->stream->id, b, 4);
		}
		break;
	case 6: case 7: case 8: case 9:
		reader();
		return NET_FD;
	case 10:
		skew += (int64_t)next() * 500;
		return 0;
	case 11:
		put32be(b, (uint32_t)next());
		put32be(b + 4, next() % 14);
		send_frame(7, 0, 0, b, 8);
		break;
	case 12:			/* how many at once */
		memset(b, 0, 6);
		b[1] = 3;
		b[5] = next();
		send_frame(4, 0, 0, b, 6);
		break;
	case 13:			/* settings and PING, acknowledged */
		send_frame(4, 1, 0, b, 0);
		memcpy(b, "pbsm", 4);
		put32be(b + 4, (uint32_t)lnk->h2.ping_no);
		send_frame(6, 1, 0, b, 8);
		break;
	case 14:			/* any frame */
		n = next() % sizeof(b);
		for (unsigned i = 0; i < n; i++)
			b[i] = next();
		op = next() % 12;
		spoiled |= op == DATA;
		send_frame((uint8_t)op, next(), next(), b, n);
		break;
	default:			/* the line's ways */
		net.piece = next();
		net.room = op & 0x80 ? next() : SIZE_MAX;
	}
	return 0;
}

const char *
net_proxy(void)
{
	return NULL;
}

int
net_open(const struct net_conf *c, int64_t deadline, struct net **out, struct cert_seen *seen, struct err *e)
{
	(void)c, (void)deadline, (void)seen;
	if (!left || ++connections > CONNECTIONS)
		return err_set(e, ST_FAIL, -ECONNREFUSED, "no more");
	net = (struct net){ .http = 1, .piece = 0, .room = SIZE_MAX };
	*out = &net;
	return 0;
}

void
net_close(struct net *n)
{
	(void)n;
}

int
net_poll(struct net *n, int want, int fd, int64_t deadline, struct err *e)
{
	int got = 0;

	(void)want, (void)deadline;
	if (n->at < n->len)
		return NET_IN;
	n->at = n->len = 0;
	if (n->http == 1) {
		answer_http();
		n->http = 2;
		return NET_IN | (n->len ? 0 : NET_EOF);
	}
	if (fd < 0)			/* still an answer of HTTP */
		return NET_EOF;
	while (left && !got && !n->len)
		if ((got = step()) == 0)
			break;
	if (n->len)
		return got | NET_IN;
	if (!left)
		return cut ? err_set(e, ST_FAIL, -ECONNRESET, "cut") : NET_EOF;
	return got;
}

const uint8_t *
net_in(struct net *n, size_t *len)
{
	*len = n->len - n->at;
	if (n->piece && *len > n->piece)
		*len = n->piece;
	return *len ? n->in + n->at : NULL;
}

void
net_in_done(struct net *n, size_t len)
{
	must(len <= n->len - n->at);
	n->at += len;
}

size_t
net_put(struct net *n, const void *p, size_t len)
{
	(void)p;
	return len < n->room ? len : n->room;
}

int
net_read(struct net *n, void *buf, size_t len, int64_t deadline, struct err *e)
{
	(void)n, (void)buf, (void)len, (void)deadline, (void)e;
	abort();
}

int
net_write(struct net *n, const void *p, size_t len, int64_t deadline, struct err *e)
{
	(void)n, (void)deadline, (void)e;
	logins += len > 4 && memcmp(p, "POST", 4) == 0;
	return 0;
}

int64_t
net_heard(const struct net *n)
{
	(void)n;
	return clock_ms();
}

unsigned
net_rtt(const struct net *n)
{
	(void)n;
	return 20000;
}

const char *
net_cipher(const struct net *n)
{
	(void)n;
	return "";
}

const char *
net_peer(const struct net *n)
{
	(void)n;
	return "";
}

/* --- from beginning to end --- */

static void
ask_for(int event)
{
	static uint8_t buf[CHUNKS][CAP], slot[CHUNKS][64 + CAP];

	for (int i = 0; i < CHUNKS; i++) {
		chunk[i] = (struct chunk_req){ .digest = { (uint8_t)i }, .buf = buf[i], .raw = buf[i], .slot = slot[i] + 64,
			.cap = CAP, .done = on_done };
		asked[i] = done[i] = 0;
	}
	for (int i = 0; i < FILES; i++) {
		file[i] = (struct file_req){ .path = "/download?file-name=x", .name = i ? "x.img.fidx" : "index.json.blob",
			.max = CAP, .event = event };
		file_asked[i] = 0;
	}
}

static void
check_end(struct session *s)
{
	must(lnk->on_wire == 0 && lnk->chunks_on_wire == 0);
	for (int i = 0; i < H2_STREAMS_MAX; i++)
		must(lnk->ask[i].state == ASK_FREE);
	for (int i = 0; i < CHUNKS; i++)
		if (asked[i])
			must(s->src.ops->drop(&s->src, &chunk[i]) == !done[i]);
	must(s->urgent.head == NULL && s->later.head == NULL);
	for (int i = 0; i < FILES; i++) {
		must(file[i].len <= file[i].cap && file[i].len <= file[i].max);
		for (size_t k = 0; file[i].done && file[i].rc == 0 && !spoiled && k < file[i].len; k++)
			must(file[i].buf[k] == (uint8_t)(k * 5));
		free(file[i].buf);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int event = -1;
	struct repo repo = { .auth_id = "a@pbs!t", .host = "h", .port = 8007, .store = "store" };
	struct session_conf conf = { .repo = &repo, .secret = "secret", .stop_fd = -1, .connections = 1 };
	struct source *src;
	struct err e;

	if (size < 2)
		return 0;
	if (event < 0)
		event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	prog = data + 1;
	left = size - 1;
	skew = 0;
	connections = logins = spoiled = 0;
	cut = data[0] & 2;
	if (data[0] & 1)
		strcpy(repo.auth_id, "a@pbs");
	must(session_open(&conf, &src, &e) == 0);
	lnk = ((struct session *)src)->link;
	ask_for(event);
	while (left && connections < CONNECTIONS) {
		if (link_connect(lnk, -1, &e) == 0)
			must(serve(lnk, &e) < 0 && e.text[0]);
		link_disconnect(lnk);
	}
	check_end((struct session *)src);
	src->ops->close(src);
	return 0;
}
