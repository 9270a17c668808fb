/*
 * The client's side of an HTTP/2 connection (RFC 9113), as far as GET needs it. An engine: bytes in, in any
 * pieces; bytes out, from a queue of fixed size; events by callback. No I/O, no allocation, no clock.
 *
 *	h2_init(&h, &conf, &events, ctx);
 *	s = h2_get(&h, "/chunk?digest=…", mine);
 *	loop: h2_output() → socket → h2_sent(); socket → h2_push();
 */
#ifndef H2_H
#define H2_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "err.h"
#include "hpack.h"

struct h2_stream;

/* Why a stream ended. */
enum h2_end {
	H2_COMPLETE,			/* the whole answer came */
	H2_RETRY,			/* the server has not looked at it: ask again, perhaps on another connection */
	H2_RESET,			/* ended by the server: code is its reason (RFC 9113, 7) */
	H2_LENGTH,			/* the body is not as long as its content-length said */
};

/* Callbacks may call h2_get(), h2_credit(), h2_cancel() and h2_ping(), not h2_push(). */
struct h2_events {
	/* The answer's header: status; length -1: unknown. */
	void (*head)(void *ctx, void *user, int status, int64_t length);
	/* n > 0 bytes of body, in place. A negative result cancels the stream (end() is not called). */
	int (*data)(void *ctx, void *user, const uint8_t *p, size_t n);
	/* The stream is over; its slot is free already. */
	void (*end)(void *ctx, void *user, enum h2_end why, uint32_t code);
	/* A field of the answer, also of trailers; may be NULL. */
	void (*field)(void *ctx, void *user, const char *name, const char *value);
};

struct h2_conf {
	uint32_t frame_max;		/* bytes of payload we take, 16 KiB to 16 MiB - 1; 0: H2_FRAME_MAX */
	uint32_t stream_window;		/* credit each stream begins with, bytes; 0: H2_STREAM_WINDOW */
	const char *authority;		/* host:port; outlives the connection */
};

/* A request under way; all fields are the engine's, but reading is fine. */
struct h2_stream {
	uint32_t id;			/* 0: free slot */
	void *user;
	int status;			/* 0: no final header yet */
	int64_t length;			/* content-length; -1: unknown */
	int64_t got;			/* bytes of body so far */
	int64_t window;			/* bytes the peer may still send */
	int64_t peer_window;		/* what we might send; only checked for overflow */
};

struct h2 {
	/* To be read by the owner: */
	int dead;			/* the connection broke a rule, or the server ended it: send what is queued, then close */
	int goaway;			/* no new streams here: the server said so, or all ids are used */
	uint32_t goaway_code;		/* its reason, */
	char goaway_text[64];		/*   and its words for it */
	int pinging;			/* our PING is not answered yet */
	unsigned active;		/* streams under way */
	uint32_t max_active;		/* as many as both sides allow */
	uint64_t received;		/* bytes of bodies */
	/* Ours. */
	struct h2_conf conf;
	const struct h2_events *ev;
	void *ctx;
	struct hpack hpack;
	struct h2_stream stream[H2_STREAMS_MAX];
	uint32_t next_id;
	uint32_t reset[H2_RESETS_KEPT];	/* ids we reset, a ring */
	unsigned reset_next;
	uint32_t reset_lost;		/* the highest id that fell out of the ring */
	uint32_t goaway_last;		/* ids above it were not looked at */
	int jammed;			/* something did not fit into out */
	int64_t conn_window;		/* bytes the peer may still send on all streams */
	int64_t conn_peer_window;
	uint32_t peer_initial_window;
	int settings_seen, settings_acked;
	unsigned control;		/* frames without progress since the last tick */
	uint64_t ping_no;
	/* The frame being read. */
	int state;
	uint8_t head[9];
	size_t head_len;
	uint32_t len;			/* bytes of payload still to come */
	uint32_t size;			/* bytes of payload in all */
	uint8_t type, flags;
	uint32_t id;
	struct h2_stream *body;		/* DATA: its stream; NULL: nobody's any more */
	uint32_t pad;			/* DATA: bytes of padding at the end */
	uint32_t block_id;		/* header block not finished: only CONTINUATION of it may come */
	int block_end_stream;
	unsigned block_frames;
	size_t block_len;
	uint8_t block[H2_BLOCK_MAX];	/* a control frame's payload, or the header block so far */
	/* A header list being decoded. */
	struct h2_list {
		struct h2_stream *stream;	/* NULL: only decoded to stay in step */
		int status, pseudo_over, trailer;
		int64_t length;
		size_t size;
		const char *bad;
	} list;
	size_t out_len;
	uint8_t out[H2_OUT_MAX];
};

/* Queues preface, SETTINGS and the connection's credit. */
void h2_init(struct h2 *h, const struct h2_conf *conf, const struct h2_events *ev, void *ctx);

/* Takes all n bytes. 0, or -EPROTO, ST_FAIL when the connection cannot go on (the reason alone as text; GOAWAY is queued); nothing is called
 * any more then, and what was under way is the owner's to ask for elsewhere. */
int h2_push(struct h2 *h, const uint8_t *p, size_t n, struct err *e);

/* Bytes that wait to be sent: their number; h2_sent() takes the first n off. */
size_t h2_output(const struct h2 *h, const uint8_t **p);
void h2_sent(struct h2 *h, size_t n);

/* May a request be made now? 0: too many under way, output queue full, GOAWAY, all ids used (then goaway is set). */
int h2_can_get(struct h2 *h);
/* Asks; NULL when h2_can_get() says no, or the path is longer than 4 KiB. */
struct h2_stream *h2_get(struct h2 *h, const char *path, void *user);
/* Lets the server send n more bytes on this stream. */
void h2_credit(struct h2 *h, struct h2_stream *s, uint32_t n);
/* Gives it up; nothing is called for it any more. */
void h2_cancel(struct h2 *h, struct h2_stream *s);
/* Asks for a sign of life, unless one is awaited already. */
void h2_ping(struct h2 *h);
/* A second has passed: floods are counted by it. */
void h2_tick(struct h2 *h);

const char *h2_code(uint32_t code);	/* "REFUSED_STREAM", … */

#endif
