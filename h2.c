/*
 * The client's side of an HTTP/2 connection: its streams and what is sent. What comes is
 * read in h2_in.c, header lists are judged in h2_list.c.
 *
 * Knows nothing of sockets, of what is asked for or why. The output is a queue of fixed
 * size that the owner empties; a reply that does not fit is the peer's doing and ends the
 * connection, since we never queue more than a few requests ahead.
 */
#include "h2.h"

#include <errno.h>
#include <string.h>

#include "bytes.h"
#include "h2_parts.h"

#define OUT_REPLIES 8192		/* bytes of the output kept for replies: no new request below it */
#define PATH_MAX_BYTES 4096

const char *
h2_code(uint32_t code)
{
	static const char *const name[] = {
		"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
		"STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
		"CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
	};

	return code < sizeof(name) / sizeof(name[0]) ? name[code] : "unknown code";
}

/* --- output --- */

/* Queues a frame. One that does not fit jams the connection: the peer makes us answer faster than it reads. */
void
h2_put_frame(struct h2 *h, uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n, size_t spare)
{
	uint8_t *o = h->out + h->out_len;

	if (h->dead || n + 9 + spare > sizeof(h->out) - h->out_len) {
		h->jammed = 1;
		return;
	}
	put32be(o, (uint32_t)n << 8 | type);
	o[4] = flags;
	put32be(o + 5, id);
	memcpy(o + 9, p, n);
	h->out_len += n + 9;
}

void
h2_put_number(struct h2 *h, uint8_t type, uint32_t id, uint32_t v)
{
	uint8_t p[4];

	put32be(p, v);
	h2_put_frame(h, type, 0, id, p, sizeof(p), OUT_SPARE);
}

/* The connection ends here: says why to the server, once. */
int
h2_end_connection(struct h2 *h, uint32_t code, int rc)
{
	uint8_t p[8];

	put32be(p, 0);			/* we took no streams of the server's */
	put32be(p + 4, code);
	if (!h->dead)
		h2_put_frame(h, GOAWAY, 0, 0, p, sizeof(p), 0);
	h->dead = 1;
	return rc;
}

size_t
h2_output(const struct h2 *h, const uint8_t **p)
{
	*p = h->out;
	return h->out_len;
}

void
h2_sent(struct h2 *h, size_t n)
{
	h->out_len -= n;
	memmove(h->out, h->out + n, h->out_len);
}

void
h2_init(struct h2 *h, const struct h2_conf *conf, const struct h2_events *ev, void *ctx)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	uint32_t set[][2] = {
		{ 1, 0 },		/* HEADER_TABLE_SIZE: none, no state to keep in step */
		{ 2, 0 },		/* ENABLE_PUSH */
		{ 4, 0 },		/* INITIAL_WINDOW_SIZE */
		{ 5, 0 },		/* MAX_FRAME_SIZE */
		{ 6, H2_LIST_MAX },	/* MAX_HEADER_LIST_SIZE */
	};
	uint8_t p[6 * sizeof(set) / sizeof(set[0])];
	size_t i;

	memset(h, 0, sizeof(*h));
	h->conf = *conf;
	if (!h->conf.frame_max)
		h->conf.frame_max = H2_FRAME_MAX;
	if (!h->conf.stream_window)
		h->conf.stream_window = H2_STREAM_WINDOW;
	h->ev = ev;
	h->ctx = ctx;
	h->max_active = H2_STREAMS_MAX;
	h->next_id = 1;
	h->goaway_last = UINT32_MAX;
	h->conn_window = h->conn_peer_window = h->peer_initial_window = 65535;
	hpack_init(&h->hpack, HPACK_TABLE_MAX);
	set[2][1] = h->conf.stream_window;
	set[3][1] = h->conf.frame_max;
	for (i = 0; i < sizeof(set) / sizeof(set[0]); i++) {
		p[6 * i] = 0;
		p[6 * i + 1] = (uint8_t)set[i][0];
		put32be(p + 6 * i + 2, set[i][1]);
	}
	memcpy(h->out, preface, sizeof(preface) - 1);
	h->out_len = sizeof(preface) - 1;
	h2_put_frame(h, SETTINGS, 0, 0, p, sizeof(p), OUT_SPARE);
	h2_put_number(h, WINDOW_UPDATE, 0, H2_CONN_WINDOW - 65535);
	h->conn_window = H2_CONN_WINDOW;
}

/* --- streams --- */

/* A search through all: there are few, and it is done once a frame. */
struct h2_stream *
h2_find(struct h2 *h, uint32_t id)
{
	int i;

	for (i = 0; id && i < H2_STREAMS_MAX; i++)
		if (h->stream[i].id == id)
			return &h->stream[i];
	return NULL;
}

/* Frees the slot; whatever still refers to the stream forgets it. */
static void
release(struct h2 *h, struct h2_stream *s)
{
	s->id = 0;
	h->active--;
	if (h->body == s)
		h->body = NULL;
	if (h->list.stream == s)
		h->list.stream = NULL;
}

void
h2_finish(struct h2 *h, struct h2_stream *s, enum h2_end why, uint32_t code)
{
	void *user = s->user;

	release(h, s);
	h->ev->end(h->ctx, user, why, code);
}

/* Frames of a stream we have reset may be on their way for a while: these are no offence. */
int
h2_was_reset(const struct h2 *h, uint32_t id)
{
	int i;

	for (i = 0; i < H2_RESETS_KEPT; i++)
		if (h->reset[i] == id)
			return 1;
	return id <= h->reset_lost;
}

void
h2_reset_stream(struct h2 *h, uint32_t id, uint32_t code)
{
	uint32_t *r = &h->reset[h->reset_next++ % H2_RESETS_KEPT];

	if (*r > h->reset_lost)
		h->reset_lost = *r;
	*r = id;
	h2_put_number(h, RST_STREAM, id, code);
}

void
h2_cancel(struct h2 *h, struct h2_stream *s)
{
	uint32_t id = s->id;

	release(h, s);
	h2_reset_stream(h, id, CANCEL);
}

int
h2_can_get(struct h2 *h)
{
	return !h->dead && !h->goaway && h->active < h->max_active &&
	    h->out_len < sizeof(h->out) - OUT_REPLIES;
}

struct h2_stream *
h2_get(struct h2 *h, const char *path, void *user)
{
	uint8_t block[PATH_MAX_BYTES + 512];
	struct h2_stream *s = h->stream;
	int n;

	if (!h2_can_get(h) || strlen(path) > PATH_MAX_BYTES ||
	    (n = hpack_get(block, sizeof(block), h->conf.authority, path)) < 0)
		return NULL;
	while (s->id)			/* there is one: active < H2_STREAMS_MAX */
		s++;
	*s = (struct h2_stream){ .id = h->next_id, .user = user, .length = -1,
	    .window = h->conf.stream_window, .peer_window = h->peer_initial_window };
	h2_put_frame(h, HEADERS, END_STREAM | END_HEADERS, s->id, block, (size_t)n, OUT_SPARE);
	h->active++;
	h->next_id += 2;
	if (h->next_id > INT32_MAX)
		h->goaway = 1;
	return s;
}

void
h2_credit(struct h2 *h, struct h2_stream *s, uint32_t n)
{
	if (n > WINDOW_MAX - s->window)
		n = (uint32_t)(WINDOW_MAX - s->window);
	if (n == 0)
		return;
	s->window += n;
	h2_put_number(h, WINDOW_UPDATE, s->id, n);
}

void
h2_ping(struct h2 *h)
{
	uint8_t p[8] = { 'p', 'b', 's', 'm' };

	if (h->pinging)
		return;
	put32be(p + 4, (uint32_t)++h->ping_no);
	h2_put_frame(h, PING, 0, 0, p, sizeof(p), OUT_SPARE);
	h->pinging = 1;
}

void
h2_tick(struct h2 *h)
{
	h->control = 0;
}
