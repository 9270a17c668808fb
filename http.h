/*
 * HTTP/1.1 for a client: requests are written, answers parsed as they come. No I/O, no
 * allocation. Texts of errors are the reason alone; the caller knows the server's name.
 */
#ifndef HTTP_H
#define HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "err.h"

/* Both return 0 to go on or a negative errno, which http_push() then returns (leaving *e alone). NULL: not wanted. */
struct http_events {
	int (*field)(void *ctx, const char *name, const char *value);	/* name in lower case; not those of 1xx or trailers */
	int (*body)(void *ctx, const uint8_t *p, size_t n);		/* n > 0 */
};

struct http {
	/* The caller's before the first push: */
	int upgrade;			/* 101 is what we hope for */
	/* To be read once the header is there (head_done): */
	int head_done;
	int status;			/* 200, 404 … */
	int close;			/* the connection does not outlive the answer */
	int html;			/* a page for people: not the server but something before it */
	/* Ours. */
	const struct http_events *ev;
	void *ctx;
	int state;
	int rc;				/* of the failure that ended it */
	int has_length, chunked;
	uint64_t left;			/* bytes of the body or of the chunk still to come */
	unsigned interim;
	size_t head;			/* bytes of header lines so far */
	size_t len;			/* bytes in line */
	char line[HTTP_LINE_MAX];
};

void http_init(struct http *h, const struct http_events *ev, void *ctx);

/* Feeds n bytes; any split gives the same. *used says how many belonged to the answer (the rest is the caller's: after
 * a 101 the next protocol's). 1: the answer is complete; 0: more is needed; else a negative errno: -EPROTO, ST_FAIL. */
int http_push(struct http *h, const uint8_t *p, size_t n, size_t *used, struct err *e);

/* The server closed the connection: 1 if that completes the answer, else -ECONNRESET or -EPROTO, what was missing said. */
int http_eof(struct http *h, struct err *e);

/* A request, written to a buffer of the caller's. Fields with control characters, and a buffer that is too small, make
 * http_finish() fail: -EINVAL, -ENOBUFS. */
struct http_out {
	char *buf;
	size_t cap, len;
	int rc;
};

void http_start(struct http_out *o, char *buf, size_t cap, const char *method, const char *target, const char *host);
void http_field(struct http_out *o, const char *name, const char *value);
int http_finish(struct http_out *o, const char *body, size_t n);	/* body NULL: none */

/* Appends s percent-encoded (all but unreserved characters) to the string out[cap]. 0 or -ENOBUFS. */
int http_escape(char *out, size_t cap, const char *s);
/* Appends "?name=value" or "&name=value" to the target out[cap], value percent-encoded. 0 or -ENOBUFS. */
int http_query(char *out, size_t cap, const char *name, const char *value);

#endif
