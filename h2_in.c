/*
 * The client's side of an HTTP/2 connection: what comes.
 *
 * Bodies pass through in place, everything else is collected in one buffer, a frame or
 * a header block at a time. What a server must not do ends the connection, since a peer
 * that errs about frames may err about whose bytes they carry.
 */
#include <errno.h>
#include <string.h>

#include "bytes.h"
#include "h2_parts.h"

enum { FRAME_HEAD, FRAME_KEEP, FRAME_SKIP, DATA_PAD, DATA_BYTES };	/* states */

#define violated(h, e, code, ...) h2_end_connection(h, code, err_set(e, ST_FAIL, -EPROTO, __VA_ARGS__))

static const char *
type_name(uint8_t type)
{
	static const char *const name[] = {
		"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
		"CONTINUATION",
	};

	return type < sizeof(name) / sizeof(name[0]) ? name[type] : "a frame of unknown type";
}

/* --- header blocks --- */

/* A header block is whole: decodes it, also for a stream nobody waits for any more, to keep the table in step. */
static int
block_end(struct h2 *h, struct err *e)
{
	struct h2_stream *s = h2_find(h, h->block_id);
	int rc;

	h->block_id = 0;
	h2_list_start(&h->list, s);
	rc = hpack_decode(&h->hpack, h->block, h->block_len, h2_list_field, h, e);
	if (rc < 0)
		return h2_end_connection(h, COMPRESSION_ERROR, rc);
	h2_list_finish(&h->list, h->block_end_stream);
	if (h->list.bad)
		return violated(h, e, PROTOCOL_ERROR, "malformed answer: %s", h->list.bad);
	s = h->list.stream;		/* a callback may have given it up */
	h->list.stream = NULL;
	if (!s || h->list.status / 100 == 1)
		return 0;
	if (!h->list.trailer) {
		uint32_t id = s->id;

		s->status = h->list.status;
		s->length = h->list.length;
		h->ev->head(h->ctx, s->user, s->status, s->length);
		if (s->id != id)
			return 0;
	}
	if (h->block_end_stream)
		h2_finish(h, s, s->length >= 0 && s->got != s->length ? H2_LENGTH : H2_COMPLETE, 0);
	return 0;
}

/* Takes padding and priority off what HEADERS brought; CONTINUATION has neither. */
static int
headers_end(struct h2 *h, struct err *e)
{
	size_t skip = 0, pad = 0;

	if (h->type == HEADERS) {
		if (h->flags & PADDED) {
			skip = 1;
			pad = h->size ? h->block[0] : 0;
		}
		if (h->flags & HAS_PRIORITY)
			skip += 5;
		if (skip + pad > h->size)
			return violated(h, e, PROTOCOL_ERROR, "padding larger than its frame");
		h->block_len = h->size - skip - pad;
		memmove(h->block, h->block + skip, h->block_len);
	}
	return h->flags & END_HEADERS ? block_end(h, e) : 0;
}

/* --- control frames, whole in h->block --- */

/* We send no DATA, so these windows only matter in that a peer must not let them overflow. */
static int
set_initial_window(struct h2 *h, uint32_t v, struct err *e)
{
	int i;

	if (v > WINDOW_MAX)
		return violated(h, e, FLOW_CONTROL_ERROR, "initial window of %u bytes", v);
	for (i = 0; i < H2_STREAMS_MAX; i++) {
		struct h2_stream *s = &h->stream[i];

		s->peer_window += (int64_t)v - h->peer_initial_window;
		if (s->id && s->peer_window > WINDOW_MAX)
			return violated(h, e, FLOW_CONTROL_ERROR, "window of stream %u overflows", s->id);
	}
	h->peer_initial_window = v;
	return 0;
}

/* What is unknown is ignored; each is acknowledged, which is what tells the peer that a limit is in force. */
static int
settings_end(struct h2 *h, struct err *e)
{
	uint32_t i;
	int rc = 0;

	if (h->flags & ACK) {
		h->settings_acked = 1;
		hpack_limit(&h->hpack, 0);
		return 0;
	}
	h->settings_seen = 1;
	for (i = 0; rc == 0 && i + 6 <= h->size; i += 6) {
		uint32_t v = get32be(h->block + i + 2);

		switch (get16be(h->block + i)) {
		case 2:
			if (v != 0)
				rc = violated(h, e, PROTOCOL_ERROR, "a server that offers to take pushes");
			break;
		case 3:
			h->max_active = v < H2_STREAMS_MAX ? v : H2_STREAMS_MAX;
			break;
		case 4:
			rc = set_initial_window(h, v, e);
			break;
		case 5:
			if (v < 16384 || v > 0xffffff)
				rc = violated(h, e, PROTOCOL_ERROR, "frame size of %u announced", v);
			break;
		}
	}
	if (rc == 0)
		h2_put_frame(h, SETTINGS, ACK, 0, h->block, 0, OUT_SPARE);
	return rc;
}

/* The connection is in its last days: what the server has begun it finishes, the rest is for another connection. */
static int
goaway_end(struct h2 *h, struct err *e)
{
	uint32_t last = get32be(h->block) & INT32_MAX, n = h->size - 8;
	int i;

	if (last > h->goaway_last)
		return violated(h, e, PROTOCOL_ERROR, "GOAWAY took streams back that it had refused");
	h->goaway = 1;
	h->goaway_last = last;
	h->goaway_code = get32be(h->block + 4);
	if (n > sizeof(h->goaway_text) - 1)
		n = sizeof(h->goaway_text) - 1;
	memcpy(h->goaway_text, h->block + 8, n);
	h->goaway_text[n] = 0;
	for (i = 0; i < H2_STREAMS_MAX; i++)
		if (h->stream[i].id > last)
			h2_finish(h, &h->stream[i], H2_RETRY, NO_ERROR);
	return 0;
}

static int
window_end(struct h2 *h, struct err *e)
{
	uint32_t n = get32be(h->block) & INT32_MAX;
	struct h2_stream *s = h2_find(h, h->id);
	int64_t *w = h->id == 0 ? &h->conn_peer_window : s ? &s->peer_window : NULL;

	if (n == 0)
		return violated(h, e, PROTOCOL_ERROR, "WINDOW_UPDATE by 0");
	if (w && (*w += n) > WINDOW_MAX)
		return violated(h, e, FLOW_CONTROL_ERROR, "window of stream %u overflows", h->id);
	return 0;
}

/* A frame that was collected is whole. */
static int
keep_end(struct h2 *h, struct err *e)
{
	struct h2_stream *s;

	switch (h->type) {
	case HEADERS:
	case CONTINUATION:
		return headers_end(h, e);
	case RST_STREAM:
		if ((s = h2_find(h, h->id)) != NULL) {
			uint32_t code = get32be(h->block);

			h2_finish(h, s, code == REFUSED_STREAM ? H2_RETRY : H2_RESET, code);
		}
		return 0;
	case SETTINGS:
		return settings_end(h, e);
	case PING:
		if (!(h->flags & ACK))
			h2_put_frame(h, PING, ACK, 0, h->block, 8, OUT_SPARE);
		else if (memcmp(h->block, "pbsm", 4) == 0 && get32be(h->block + 4) == (uint32_t)h->ping_no)
			h->pinging = 0;
		return 0;
	case GOAWAY:
		return goaway_end(h, e);
	default:
		return window_end(h, e);
	}
}

/* --- frame heads --- */

/* May a frame that belongs to a stream come for this one? A closed one: *s is NULL. */
static int
open_stream(struct h2 *h, struct h2_stream **s, struct err *e)
{
	if (!(h->id & 1) || h->id >= h->next_id)
		return violated(h, e, PROTOCOL_ERROR, "%s on stream %u, which does not exist", type_name(h->type), h->id);
	*s = h2_find(h, h->id);
	if (!*s && !h2_was_reset(h, h->id))
		return violated(h, e, STREAM_CLOSED, "%s on stream %u, which is closed", type_name(h->type), h->id);
	return 0;
}

/* Credit is taken off for the whole frame, padding too, at its head: so what follows cannot exceed it. */
static int
data_begin(struct h2 *h, struct err *e)
{
	int rc = open_stream(h, &h->body, e);

	if (rc < 0)
		return rc;
	if (h->body && !h->body->status)
		return violated(h, e, PROTOCOL_ERROR, "body of stream %u before its header", h->id);
	if (h->size > h->conn_window || (h->body && h->size > h->body->window))
		return violated(h, e, FLOW_CONTROL_ERROR, "stream %u sends more than its window", h->id);
	h->conn_window -= h->size;
	if (h->body)
		h->body->window -= h->size;
	if (h->flags & PADDED && h->size == 0)
		return violated(h, e, FRAME_SIZE_ERROR, "padded frame without room for it");
	h->pad = 0;
	h->state = h->flags & PADDED ? DATA_PAD : DATA_BYTES;
	return 0;
}

/* Lengths and streams of frames that come whole: what RFC 9113, 6 asks for each. */
static int
keep_begin(struct h2 *h, struct err *e)
{
	uint32_t n = h->size;
	int len_ok, id_ok = h->id == 0;
	struct h2_stream *s;

	switch (h->type) {
	case HEADERS:
		h->block_id = h->id;
		h->block_end_stream = h->flags & END_STREAM;
		h->block_len = h->block_frames = 0;
		return open_stream(h, &s, e);
	case CONTINUATION:
		if (h->block_id == 0)
			return violated(h, e, PROTOCOL_ERROR, "CONTINUATION without HEADERS");
		return 0;
	case RST_STREAM:
		len_ok = n == 4;
		id_ok = h->id & 1 && h->id < h->next_id;
		break;
	case SETTINGS:
		len_ok = h->flags & ACK ? n == 0 : n % 6 == 0;
		break;
	case PING:
		len_ok = n == 8;
		break;
	case GOAWAY:
		len_ok = n >= 8;
		break;
	default:			/* WINDOW_UPDATE */
		len_ok = n == 4;
		id_ok = h->id == 0 || (h->id & 1 && h->id < h->next_id);
	}
	if (!id_ok)
		return violated(h, e, PROTOCOL_ERROR, "%s on stream %u", type_name(h->type), h->id);
	if (!len_ok)
		return violated(h, e, FRAME_SIZE_ERROR, "%s of %u bytes", type_name(h->type), n);
	h->block_len = 0;
	return 0;
}

/* What no frame of its kind may be, whatever its kind. */
static int
head_check(struct h2 *h, struct err *e)
{
	if (!h->settings_seen && memcmp(h->head, "HTTP/", 5) == 0)
		return violated(h, e, PROTOCOL_ERROR, "the server goes on in HTTP/1.1 after the upgrade (a proxy in between?)");
	if (!h->settings_seen && (h->type != SETTINGS || h->flags & ACK))
		return violated(h, e, PROTOCOL_ERROR,
		    "the first frame is %s, not SETTINGS", h->type == SETTINGS ? "an acknowledgement" : type_name(h->type));
	if (h->size > h->conf.frame_max)
		return violated(h, e, FRAME_SIZE_ERROR, "%s of %u bytes", type_name(h->type), h->size);
	if (h->block_id && (h->type != CONTINUATION || h->id != h->block_id))
		return violated(h, e, PROTOCOL_ERROR, "%s within a header block", type_name(h->type));
	if (h->block_id && ++h->block_frames > 64)
		return violated(h, e, ENHANCE_YOUR_CALM, "header block in too many pieces");
	/* Whatever brings neither header nor body is counted. */
	if (h->type > HEADERS || (h->type == DATA && h->size == 0))
		if (++h->control > H2_CONTROL_MAX)
			return violated(h, e, ENHANCE_YOUR_CALM, "a flood of %s", type_name(h->type));
	return 0;
}

/* Nine bytes are there: decides how the payload is read. Everything that can be judged by the head is judged here, before
 * any of the payload is taken. */
static int
head_end(struct h2 *h, struct err *e)
{
	int rc;

	h->head_len = 0;
	h->size = h->len = get32be(h->head) >> 8;
	h->type = h->head[3];
	h->flags = h->head[4];
	h->id = get32be(h->head + 5) & INT32_MAX;
	if ((rc = head_check(h, e)) < 0)
		return rc;
	if (h->type == DATA)
		return data_begin(h, e);
	if (h->type == PUSH_PROMISE)
		return violated(h, e, PROTOCOL_ERROR, "PUSH_PROMISE, although push is off");
	if (h->type == PRIORITY && (h->size != 5 || h->id == 0))
		return violated(h, e, FRAME_SIZE_ERROR, "malformed PRIORITY");
	h->state = h->type == PRIORITY || h->type > CONTINUATION ? FRAME_SKIP : FRAME_KEEP;
	if (h->state == FRAME_KEEP && (rc = keep_begin(h, e)) < 0)
		return rc;
	/* Of GOAWAY only the beginning matters; a header block is lost when it does not fit. */
	if (h->state == FRAME_KEEP && h->type != GOAWAY && h->len > sizeof(h->block) - h->block_len)
		return violated(h, e, ENHANCE_YOUR_CALM, "header block or settings larger than %u bytes", H2_BLOCK_MAX);
	return 0;
}

/* --- input --- */

/* Hands body bytes on, from where they are, up to the length that was promised: what is more ends the stream. */
static void
data_bytes(struct h2 *h, const uint8_t *p, uint32_t n)
{
	uint32_t body = h->len > h->pad ? h->len - h->pad : 0;
	struct h2_stream *s = h->body;
	int excess;

	if (n > body)
		n = body;
	if (!s || n == 0)
		return;
	excess = s->length >= 0 && n > s->length - s->got;
	if (excess)
		n = (uint32_t)(s->length - s->got);
	h->received += n;
	s->got += n;
	if (n && h->ev->data(h->ctx, s->user, p, n) < 0 && h->body == s)
		h2_cancel(h, s);
	if (excess && h->body == s) {
		uint32_t id = s->id;

		h2_finish(h, s, H2_LENGTH, 0);
		h2_reset_stream(h, id, PROTOCOL_ERROR);
	}
}

/* The frame's payload is through. */
static int
frame_end(struct h2 *h, struct err *e)
{
	struct h2_stream *s = h->body;
	int state = h->state;

	h->state = FRAME_HEAD;
	if (state == FRAME_KEEP)
		return keep_end(h, e);
	if (state == FRAME_SKIP)
		return 0;
	if (h->conn_window < (int64_t)H2_CONN_WINDOW / 2) {
		h2_put_number(h, WINDOW_UPDATE, 0, (uint32_t)(H2_CONN_WINDOW - h->conn_window));
		h->conn_window = H2_CONN_WINDOW;
	}
	h->body = NULL;
	if (s && h->flags & END_STREAM)
		h2_finish(h, s, s->length >= 0 && s->got != s->length ? H2_LENGTH : H2_COMPLETE, 0);
	return 0;
}

/* n bytes of payload, at most what is left of the frame. */
static int
payload(struct h2 *h, const uint8_t *p, uint32_t n, struct err *e)
{
	switch (h->state) {
	case FRAME_KEEP:
		if (h->block_len < sizeof(h->block)) {
			size_t room = sizeof(h->block) - h->block_len, k = n < room ? n : room;

			memcpy(h->block + h->block_len, p, k);
			h->block_len += k;
		}
		break;
	case DATA_PAD:
		h->pad = p[0];
		if (h->pad >= h->size)
			return violated(h, e, PROTOCOL_ERROR, "padding larger than its frame");
		h->state = DATA_BYTES;
		break;
	case DATA_BYTES:
		data_bytes(h, p, n);
		break;
	}
	h->len -= n;
	return 0;
}

/* One step: a piece of a head or of a payload. A frame without payload ends with its head. */
static int
push_some(struct h2 *h, const uint8_t *p, size_t n, size_t *used, struct err *e)
{
	uint32_t k;
	int rc;

	if (h->state == FRAME_HEAD) {
		size_t want = sizeof(h->head) - h->head_len;

		*used = want < n ? want : n;
		memcpy(h->head + h->head_len, p, *used);
		h->head_len += *used;
		if (h->head_len < sizeof(h->head))
			return 0;
		rc = head_end(h, e);
	} else {
		k = n < h->len ? (uint32_t)n : h->len;
		if (h->state == DATA_PAD)
			k = 1;
		*used = k;
		rc = payload(h, p, k, e);
	}
	if (rc == 0 && h->len == 0)
		rc = frame_end(h, e);
	return rc;
}

int
h2_push(struct h2 *h, const uint8_t *p, size_t n, struct err *e)
{
	size_t used;
	int rc = 0;

	if (h->dead)
		return err_set(e, ST_FAIL, -EPROTO, "the connection has ended");
	while (rc == 0 && n > 0) {
		rc = push_some(h, p, n, &used, e);
		p += used;
		n -= used;
		if (rc == 0 && h->jammed)
			rc = violated(h, e, ENHANCE_YOUR_CALM, "the server asks more than it reads answers to");
	}
	return rc;
}
