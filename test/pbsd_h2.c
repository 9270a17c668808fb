/*
 * A reader session on libnghttp2: requests in, delayed answers, frames out.
 * nghttp2 makes and checks the frames; payloads go from the chunk's file to
 * the wire without passing through it. What a rule or a kick wants is put in
 * between whole frames.
 *
 * Invariant: nghttp2 is asked for more only when all of what it gave has left,
 * so nothing here grows with the client's appetite.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <nghttp2/nghttp2.h>

#include "pbsd_api.h"
#include "pbsd_body.h"
#include "pbsd_frames.h"
#include "pbsd_h2.h"
#include "pbsd_http.h"
#include "pbsd_out.h"

#define FEW 8				/* frames queued before anything unusual is added */
#define BURST 16			/* frames of a flood between two real ones */
#define LATE_MS 5000			/* a PING or SETTINGS not answered by then is a violation */

struct stream {
	int32_t id;
	struct stream *next, **self;
	char method[16], scheme[16], authority[300], path[1200];
	int complete, answered;
	int64_t due;			/* ms; when the answer is given */
	struct reply reply;
	struct body *body;
};

struct h2 {
	struct conn *c;
	struct wire *w;
	nghttp2_session *ng;
	struct reader *reader;
	struct stream *streams;
	int64_t open;
	struct out *out;
	int32_t current;		/* the stream whose body is being sent; 0: none */
	char flood[32];
	int64_t flood_left;
	int said_goaway;		/* because it was told to */
	int settings_due;
	int64_t settings_sent, ping_sent;	/* ms; 0: all answered */
};

/* A wrong name is the test's fault, but must not pass for a fault that was survived. */
static void
push_named(struct h2 *h, const char *name, int32_t stream)
{
	uint32_t max = nghttp2_session_get_remote_settings(h->ng, NGHTTP2_SETTINGS_MAX_FRAME_SIZE);
	uint8_t out[FRAMES_MAX];
	size_t n = frames_make(name, stream, max, out);

	if (n == 0)
		violation(h->c->id, "no frame is called %s", name);
	else
		out_bytes(h->out, out, n);
}

/* The frames of nghttp2 that need a second look before they leave. */
static void
push_frame(struct h2 *h, const uint8_t *p, size_t n)
{
	int64_t piece = wire_weather(h->w)->continuation;
	uint8_t *split;

	if (piece > 0 && n > 9 && p[3] == NGHTTP2_HEADERS && (p[4] & NGHTTP2_FLAG_END_HEADERS) && !(p[4] & NGHTTP2_FLAG_PADDED)) {
		split = frames_split(p, n, (size_t)piece, &n);
		out_bytes(h->out, split, n);
		free(split);
	} else
		out_bytes(h->out, p, n);
}

/* nghttp2 believes the payload sent; it leaves as there is room. */
static int
on_send_data(nghttp2_session *s, nghttp2_frame *frame, const uint8_t *head, size_t length, nghttp2_data_source *source, void *ctx)
{
	struct h2 *h = ctx;
	struct stream *st = source->ptr;

	(void)s;
	if (out_has_data(h->out))
		return NGHTTP2_ERR_WOULDBLOCK;	/* or PINGs would wait behind many of them */
	out_data(h->out, head, frame->data.padlen, st->body, length);
	h->current = frame->hd.flags & NGHTTP2_FLAG_END_STREAM ? 0 : frame->hd.stream_id;
	return 0;
}

/* The rule of a body strikes at this byte. What read() shall return, 0: go on. */
static ssize_t
strike(struct h2 *h, struct stream *st)
{
	struct body *b = st->body;

	b->faulty = 0;
	switch (b->rule.kind) {
	case RULE_RST:
		nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, st->id, (uint32_t)b->rule.code);
		return NGHTTP2_ERR_DEFERRED;
	case RULE_HANG:
		return NGHTTP2_ERR_DEFERRED;
	case RULE_CUT:
		out_break(h->out, BREAK_CUT);
		return NGHTTP2_ERR_DEFERRED;
	case RULE_STALL:
		out_break(h->out, BREAK_STALL);
		return NGHTTP2_ERR_DEFERRED;
	default:
		push_named(h, b->rule.text, st->id);
		return 0;
	}
}

/* Reads nothing: says how much of the body comes next, and does what the rule wants at this byte. */
static ssize_t
on_read(nghttp2_session *s, int32_t id, uint8_t *buf, size_t length, uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
	struct stream *st = source->ptr;
	struct body *b = st->body;
	nghttp2_nv trailer = { (uint8_t *)(uintptr_t)"x-trailer", (uint8_t *)(uintptr_t)"end", 9, 3, NGHTTP2_NV_FLAG_NONE };
	ssize_t r;

	(void)buf;
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (b->faulty && b->packed >= b->rule.at && (r = strike(ctx, st)) < 0)
		return r;
	length = body_limit(b, length);
	b->packed += (int64_t)length;
	if (b->packed == b->len && !b->faulty && !(b->late_end && length > 0)) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (b->trailer) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			nghttp2_submit_trailer(s, id, &trailer, 1);
		}
	}
	return (ssize_t)length;
}

/* As large as the client's frames and windows allow, like the real server; never across the byte where a rule strikes. */
static ssize_t
on_read_length(nghttp2_session *s, uint8_t type, int32_t id, int32_t session_window, int32_t stream_window, uint32_t max, void *ctx)
{
	struct h2 *h = ctx;
	struct stream *st = nghttp2_session_get_stream_user_data(s, id);
	int64_t n = max, want = wire_weather(h->w)->frame;
	size_t left;

	(void)type;
	n = want > 0 && want < n ? want : n;
	n = session_window < n ? session_window : n;
	n = stream_window < n ? stream_window : n;
	left = st && st->body ? body_limit(st->body, (size_t)n) : 0;
	return left > 0 ? (ssize_t)left : 1;
}

/* Any length up to what was set, so that no frame is like the last one. */
static ssize_t
on_padding(nghttp2_session *s, const nghttp2_frame *frame, size_t max, void *ctx)
{
	struct h2 *h = ctx;
	size_t len = frame->hd.length, want = (size_t)wire_weather(h->w)->padding;

	(void)s;
	if (want == 0)
		return (ssize_t)len;
	want = len + 1 + (size_t)rand() % (want < 255 ? want : 255);
	return (ssize_t)(want < max ? want : max);
}

/* Fields in the recorded order; files have no content-length. */
static void
submit_head(struct h2 *h, struct stream *st)
{
	char status[8], date[64], length[24];
	const char *type = st->reply.typed == 2 ? "application/octet-stream" : TYPE_JSON;
	nghttp2_nv nv[4];
	nghttp2_data_provider body = { { .ptr = st }, on_read };
	size_t n = 0;

#define FIELD(k, v) do { nv[n].name = (uint8_t *)(uintptr_t)(k); nv[n].namelen = strlen(k); nv[n].value = (uint8_t *)(uintptr_t)(v); \
	nv[n].valuelen = strlen(v); nv[n++].flags = NGHTTP2_NV_FLAG_NONE; } while (0)
	snprintf(status, sizeof(status), "%d", st->reply.status);
	FIELD(":status", status);
	if (st->reply.typed)
		FIELD("content-type", type);
	http_date(date);
	FIELD("date", date);
	if (st->body->announced >= 0) {
		snprintf(length, sizeof(length), "%lld", (long long)st->body->announced);
		FIELD("content-length", length);
	}
#undef FIELD
	nghttp2_submit_response(h->ng, st->id, nv, n, &body);
}

/* Gives the answer of a stream whose time has come. */
static void
answer(struct h2 *h, struct stream *st)
{
	struct body *b = st->body;
	enum rule_kind k = b->rule.kind;

	st->answered = 1;
	if (b->faulty && b->rule.at < 0) {
		b->faulty = 0;
		if (k == RULE_INJECT)
			push_named(h, b->rule.text, st->id);
		else if (k == RULE_CUT || k == RULE_STALL)
			out_break(h->out, k == RULE_CUT ? BREAK_CUT : BREAK_STALL);
		else if (k == RULE_RST)
			nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, st->id, (uint32_t)b->rule.code);
		if (k == RULE_RST || k == RULE_HANG)
			return;
	}
	submit_head(h, st);
}

/* A whole request has come. */
static void
request(struct h2 *h, struct stream *st)
{
	const struct weather *w = wire_weather(h->w);
	struct rule rule;
	int64_t more = 0;
	int hit = 0;

	if (strcmp(st->method, "GET") != 0 || strcmp(st->scheme, "https") != 0 || !st->authority[0])
		violation(h->c->id, "request %s %s %s", st->method, st->scheme, st->authority);
	reader_answer(h->reader, st->path, w->auth_delay, &st->reply);
	if (st->reply.kind)
		hit = rule_take(st->reply.kind, st->reply.name, &rule, &more);
	if (hit && rule.kind == RULE_STATUS)
		reply_text(&st->reply, (int)rule.code, rule.text);
	logline(h->c->id, "stream %d %s: %d%s", st->id, st->path, st->reply.status, hit ? ", with a fault" : "");
	st->body = body_new(&st->reply, hit ? &rule : NULL);
	st->due = now_ms() + w->delay + more + st->reply.wait;
	st->complete = 1;
}

/* A stream is counted as open until nghttp2 closes it: what MAX_CONCURRENT_STREAMS is about. */
static int
on_begin_headers(nghttp2_session *s, const nghttp2_frame *frame, void *ctx)
{
	struct h2 *h = ctx;
	struct stream *st;

	if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
		violation(h->c->id, "HEADERS that are no request");
		return 0;
	}
	st = calloc(1, sizeof(*st));
	if (!st)
		abort();
	st->id = frame->hd.stream_id;
	st->reply.fd = -1;
	st->next = h->streams;
	st->self = &h->streams;
	if (st->next)
		st->next->self = &st->next;
	h->streams = st;
	nghttp2_session_set_stream_user_data(s, st->id, st);
	count_streams(++h->open);
	return 0;
}

static int
on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t nlen, const uint8_t *value, size_t vlen,
    uint8_t flags, void *ctx)
{
	struct h2 *h = ctx;
	struct stream *st = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);

	(void)flags;
	(void)nlen;
	if (!st)
		return 0;
	if (strcmp((const char *)name, ":method") == 0)
		snprintf(st->method, sizeof(st->method), "%s", value);
	else if (strcmp((const char *)name, ":scheme") == 0)
		snprintf(st->scheme, sizeof(st->scheme), "%s", value);
	else if (strcmp((const char *)name, ":authority") == 0)
		snprintf(st->authority, sizeof(st->authority), "%s", value);
	else if (strcmp((const char *)name, ":path") == 0)
		snprintf(st->path, sizeof(st->path), "%s", value);
	if (vlen >= sizeof(st->path))
		violation(h->c->id, "a field of %zu bytes", vlen);
	return 0;
}

static int
on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *ctx)
{
	struct h2 *h = ctx;
	struct stream *st;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		st = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
		if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
			violation(h->c->id, "request with a body");
		else if (st && !st->complete)
			request(h, st);
		break;
	case NGHTTP2_SETTINGS:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
			logline(h->c->id, "SETTINGS of %zu values", frame->settings.niv);
		else if (--h->settings_due == 0)
			h->settings_sent = 0;
		break;
	case NGHTTP2_PING:
		count(frame->hd.flags & NGHTTP2_FLAG_ACK ? N_PING_ACKS : N_PINGS, 1);
		if (frame->hd.flags & NGHTTP2_FLAG_ACK)
			h->ping_sent = 0;
		break;
	case NGHTTP2_RST_STREAM:
		count(N_CLIENT_RST, 1);
		break;
	case NGHTTP2_GOAWAY:
		count(N_CLIENT_GOAWAY, 1);
		logline(h->c->id, "GOAWAY %u %.*s", frame->goaway.error_code, (int)frame->goaway.opaque_data_len,
		    (const char *)frame->goaway.opaque_data);
		break;
	default:
		break;
	}
	return 0;
}

/* The library's judgement is the check: its rules are RFC 9113's. */
static int
on_invalid(nghttp2_session *s, const nghttp2_frame *frame, int why, void *ctx)
{
	struct h2 *h = ctx;

	(void)s;
	if (why != NGHTTP2_ERR_REFUSED_STREAM || h->settings_due == 0)	/* else it cannot know the new limit yet */
		violation(h->c->id, "frame type %d on stream %d: %s", frame->hd.type, frame->hd.stream_id, nghttp2_strerror(why));
	return 0;
}

/* What nghttp2 sends of its own accord is its answer to a broken rule. */
static int
on_sent(nghttp2_session *s, const nghttp2_frame *frame, void *ctx)
{
	struct h2 *h = ctx;
	struct stream *st = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);

	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != 0 && !h->said_goaway)
		violation(h->c->id, "%s: %.*s", nghttp2_http2_strerror(frame->goaway.error_code), (int)frame->goaway.opaque_data_len,
		    (const char *)frame->goaway.opaque_data);
	if (frame->hd.type == NGHTTP2_RST_STREAM && !(st && st->body && st->body->rule.kind == RULE_RST) &&
	    frame->rst_stream.error_code != NGHTTP2_REFUSED_STREAM)	/* on_invalid() has judged that */
		violation(h->c->id, "stream %d reset: %s", frame->hd.stream_id, nghttp2_http2_strerror(frame->rst_stream.error_code));
	return 0;
}

static void
stream_free(struct h2 *h, struct stream *st)
{
	if (h->current == st->id)
		h->current = 0;
	*st->self = st->next;
	if (st->next)
		st->next->self = st->self;
	h->open--;
	body_unref(st->body);
	free(st);
}

static int
on_close(nghttp2_session *s, int32_t id, uint32_t code, void *ctx)
{
	struct stream *st = nghttp2_session_get_stream_user_data(s, id);

	(void)code;
	if (st)
		stream_free(ctx, st);
	return 0;
}

/* All that is sent must be acknowledged: see reckon(). */
static void
settings(struct h2 *h, const nghttp2_settings_entry *v, size_t n)
{
	nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, v, n);
	h->settings_due++;
	h->settings_sent = now_ms();
}

/* Settings and window as recorded. */
static int
session_new(struct h2 *h)
{
	static const nghttp2_settings_entry v4[] = { { 3, 200 }, { 4, 32 << 20 }, { 5, 4 << 20 }, { 6, 16384 } };
	static const nghttp2_settings_entry v3[] = { { 4, 32 << 20 }, { 5, 4 << 20 }, { 6, 16 << 20 } };
	nghttp2_session_callbacks *cb;
	nghttp2_option *opt;
	int r;

	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
	nghttp2_session_callbacks_set_data_source_read_length_callback(cb, on_read_length);
	nghttp2_session_callbacks_set_select_padding_callback(cb, on_padding);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	nghttp2_option_new(&opt);
	if (wire_weather(h->w)->no_ping)
		nghttp2_option_set_no_auto_ping_ack(opt, 1);
	r = nghttp2_session_server_new2(&h->ng, cb, h, opt);
	nghttp2_option_del(opt);
	nghttp2_session_callbacks_del(cb);
	if (r != 0)
		return -1;
	settings(h, site.v4 ? v4 : v3, site.v4 ? 4 : 3);
	nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, 32 << 20);
	return 0;
}

/* Raw frames, in a row, as long as there is room; the real ones come in between. */
static void
flood(struct h2 *h)
{
	static const uint8_t settings_frame[] = { 0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 0x99, 0, 0, 0, 1 };
	uint8_t empty[9] = { 0 }, cont[9 + 16] = { 0, 0, 0, NGHTTP2_HEADERS };
	int32_t id = h->current ? h->current : h->streams ? h->streams->id : 1;

	for (int i = 0; i < BURST && h->flood_left > 0; i++, h->flood_left--) {
		empty[7] = cont[7] = (uint8_t)(id >> 8);
		empty[8] = cont[8] = (uint8_t)id;
		if (strcmp(h->flood, "settings") == 0)
			out_bytes(h->out, settings_frame, sizeof(settings_frame));
		else if (strcmp(h->flood, "continuation") == 0) {
			out_bytes(h->out, cont, 9);
			cont[3] = NGHTTP2_CONTINUATION;
		} else if (strcmp(h->flood, "empty-data") != 0)
			push_named(h, h->flood, id);
		else if (h->current)
			out_bytes(h->out, empty, 9);
	}
}

static void
kicked(struct h2 *h, const struct kick *k)
{
	nghttp2_settings_entry v = { (int32_t)k->id, (uint32_t)k->value };
	int32_t last = k->last == -1 ? nghttp2_session_get_last_proc_stream_id(h->ng) : (int32_t)k->last;

	switch (k->kind) {
	case KICK_GOAWAY:
		h->said_goaway = 1;
		if (k->last == -2)
			nghttp2_submit_shutdown_notice(h->ng);
		else if (k->close)
			nghttp2_session_terminate_session2(h->ng, last, (uint32_t)k->code);
		else
			nghttp2_submit_goaway(h->ng, NGHTTP2_FLAG_NONE, last, (uint32_t)k->code, NULL, 0);
		break;
	case KICK_SETTINGS:
		settings(h, &v, 1);
		break;
	case KICK_PING:
		nghttp2_submit_ping(h->ng, NGHTTP2_FLAG_NONE, NULL);
		h->ping_sent = now_ms();
		break;
	case KICK_INJECT:
		if (out_count(h->out) < FEW)
			push_named(h, k->name, h->current ? h->current : h->streams ? h->streams->id : 1);
		break;
	case KICK_FLOOD:
		snprintf(h->flood, sizeof(h->flood), "%s", k->name);
		h->flood_left = k->value;
		break;
	default:
		break;
	}
}

/* Sends what there is to send and room for. Returns when the next answer is due, -1: none. */
static int64_t
pump(struct h2 *h)
{
	int64_t now, next;
	const uint8_t *p;

	for (;;) {
		ssize_t n;

		if (!out_drain(h->out))
			break;
		now = now_ms();
		for (struct stream *st = h->streams; st && out_count(h->out) < FEW; st = st->next)
			if (st->complete && !st->answered && st->due <= now)
				answer(h, st);
		if (h->flood_left > 0 && out_count(h->out) < FEW)
			flood(h);
		n = nghttp2_session_mem_send(h->ng, &p);
		if (n > 0)
			push_frame(h, p, (size_t)n);
		if (n < 0 || (n == 0 && out_count(h->out) == 0))
			break;
	}
	out_flush(h->out);
	next = -1;
	for (struct stream *st = h->streams; st; st = st->next)
		if (st->complete && !st->answered && (next < 0 || st->due < next))
			next = st->due;
	return next;
}

/* Takes in what has come: 0, or -1 at the end. */
static int
feed(struct h2 *h)
{
	uint8_t buf[16384];
	ssize_t n, r;

	while ((n = wire_read(h->w, buf, sizeof(buf))) > 0) {
		r = nghttp2_session_mem_recv(h->ng, buf, (size_t)n);
		if (r < 0) {
			violation(h->c->id, "HTTP/2: %s", nghttp2_strerror((int)r));
			return -1;
		}
	}
	if (n == 0)
		count(N_CLOSE_NOTIFY, 1);
	return n == -EAGAIN ? 0 : -1;
}

static void
loop(struct h2 *h)
{
	int64_t next;
	struct kick k;

	for (;;) {
		if (feed(h) < 0)
			return;
		while (conn_take_kick(h->c, &k))
			kicked(h, &k);
		next = pump(h);
		if (!nghttp2_session_want_read(h->ng) && !nghttp2_session_want_write(h->ng) && out_count(h->out) == 0)
			return;
		if (wire_step(h->w, next) < 0)
			return;
	}
}

/* What should have been answered while the session lived. */
static void
reckon(const struct h2 *h)
{
	int64_t late = now_ms() - LATE_MS - 2 * wire_weather(h->w)->rtt;

	if (h->settings_sent && h->settings_sent < late)
		violation(h->c->id, "SETTINGS not acknowledged");
	if (h->ping_sent && h->ping_sent < late)
		violation(h->c->id, "PING not answered");
}

void
h2_serve(struct conn *c, const char *snapshot)
{
	struct h2 *h = calloc(1, sizeof(*h));

	if (!h)
		abort();
	h->c = c;
	h->w = c->wire;
	h->out = out_new(c->wire);
	h->reader = reader_new(snapshot, c->id);
	wire_scope(h->w, SCOPE_H2);
	if (wire_weather(h->w)->late > 0)
		wire_sleep(h->w, now_ms() + wire_weather(h->w)->late);
	if (session_new(h) == 0)
		loop(h);
	reckon(h);
	while (h->streams)
		stream_free(h, h->streams);
	nghttp2_session_del(h->ng);
	out_free(h->out);
	reader_free(h->reader);
	free(h);
}
