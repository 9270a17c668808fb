/*
 * HTTP/1.1 answers by a push parser, and the writing of requests.
 *
 * Knows nothing of sockets, TLS, tickets or JSON. One line at a time is kept; bodies
 * go through untouched. What a client must not guess about (two lengths, folded lines,
 * codings it did not ask for) ends the parse: an answer read otherwise than the server
 * meant it would be worse than none.
 */
#include "http.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum {
	STATUS_LINE,
	FIELDS,
	BODY_LENGTH,			/* `left` bytes to come */
	BODY_CLOSE,			/* up to the end of the connection */
	CHUNK_SIZE,
	CHUNK_DATA,
	CHUNK_END,			/* the line end after a chunk's bytes */
	TRAILER,
	DONE,
	FAILED,
};

void
http_init(struct http *h, const struct http_events *ev, void *ctx)
{
	*h = (struct http){ .ev = ev, .ctx = ctx, .state = STATUS_LINE };
}

static int
fail(struct http *h, int rc)
{
	h->state = FAILED;
	h->rc = rc;
	return rc;
}

#define bad(h, e, ...) fail(h, err_set(e, ST_FAIL, -EPROTO, __VA_ARGS__))

/* What else may be listening on that port, by its first bytes. */
static int
no_http(struct http *h, struct err *e)
{
	const char *s = h->line;

	if (strncmp(s, "SSH-", 4) == 0)
		return bad(h, e, "this is an SSH server (wrong port?)");
	if ((s[0] == 0x15 || s[0] == 0x16) && s[1] == 3)
		return bad(h, e, "the answer is TLS within TLS, not HTTP (a proxy that passes TLS on?)");
	if (strncasecmp(s, "<htm", 4) == 0 || strncasecmp(s, "<!do", 4) == 0)
		return bad(h, e, "the answer is a bare HTML page, not HTTP/1.1 (a proxy in between?)");
	if (strncmp(s, "PRI ", 4) == 0 || (h->len >= 2 && s[0] == 0 && s[1] == 0))
		return bad(h, e, "the answer is HTTP/2, not HTTP/1.1 (a proxy in between?)");
	return bad(h, e, "the answer is not HTTP (wrong port?)");
}

static int
is_token(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* "HTTP/1.x SP DDD [SP reason]". The reason is ignored; a 1.0 server closes unless it says otherwise. */
static int
status_line(struct http *h, struct err *e)
{
	const char *s = h->line;
	int i;

	if (strncmp(s, "HTTP/1.", 7) != 0 || s[7] < '0' || s[7] > '9')
		return bad(h, e, "the answer's HTTP version is not 1.1: %.40s", s);
	if (s[8] != ' ' || s[9] < '1' || s[9] > '9')
		return bad(h, e, "malformed status line: %.40s", s);
	h->status = 0;
	for (i = 9; i < 12; i++) {
		if (s[i] < '0' || s[i] > '9')
			return bad(h, e, "malformed status line: %.40s", s);
		h->status = h->status * 10 + (s[i] - '0');
	}
	if (s[12] != ' ' && s[12] != 0)
		return bad(h, e, "malformed status line: %.40s", s);
	h->close = s[7] == '0';
	h->state = FIELDS;
	return 0;
}

/* Twice the same is allowed, by RFC 9110; two that differ are an attempt to have the answer read in two ways. */
static int
content_length(struct http *h, const char *v, struct err *e)
{
	uint64_t n = 0;

	if (!*v)
		return bad(h, e, "empty content-length");
	for (; *v; v++) {
		if (*v < '0' || *v > '9' || n > UINT64_MAX / 16)
			return bad(h, e, "malformed content-length");
		n = n * 10 + (uint64_t)(*v - '0');
	}
	if (h->has_length && h->left != n)
		return bad(h, e, "two content-lengths");
	h->has_length = 1;
	h->left = n;
	return 0;
}

/* Acts on the fields that frame the answer, then tells the caller. */
static int
use_field(struct http *h, const char *name, const char *value, struct err *e)
{
	int rc = 0;

	if (strcmp(name, "content-length") == 0) {
		rc = content_length(h, value, e);
	} else if (strcmp(name, "transfer-encoding") == 0) {
		if (h->chunked || strcasecmp(value, "chunked") != 0)
			return bad(h, e, "transfer-encoding not understood: %.40s", value);
		h->chunked = 1;
	} else if (strcmp(name, "connection") == 0) {
		if (strcasestr(value, "close"))
			h->close = 1;
		else if (strcasestr(value, "keep-alive"))
			h->close = 0;
	} else if (strcmp(name, "content-type") == 0) {
		h->html = strncasecmp(value, "text/html", 9) == 0;
	}
	if (rc == 0 && h->ev->field) {
		rc = h->ev->field(h->ctx, name, value);
		if (rc < 0)
			fail(h, rc);
	}
	return rc;
}

/* Splits a header line in place. A line that begins with a blank goes on with the one before (obs-fold): refused. */
static int
field_line(struct http *h, int wanted, struct err *e)
{
	char *s = h->line, *v, *end;

	for (v = s; is_token(*v); v++)
		if (*v >= 'A' && *v <= 'Z')
			*v = (char)(*v + ('a' - 'A'));
	if (v == s || *v != ':')
		return bad(h, e, "malformed header line: %.40s", s);
	*v++ = 0;
	while (*v == ' ' || *v == '\t')
		v++;
	for (end = v; *end; end++)
		if (((unsigned char)*end < ' ' && *end != '\t') || *end == 0x7f)
			return bad(h, e, "control character in header %.40s", s);
	while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = 0;
	return wanted ? use_field(h, s, v, e) : 0;
}

/* The blank line was read: what follows is decided here alone. */
static int
head_end(struct http *h, struct err *e)
{
	if (h->status == 101 && !h->upgrade)
		return bad(h, e, "the server switched protocols without being asked");
	if (h->status < 200 && h->status != 101) {
		if (++h->interim > HTTP_INTERIM_MAX)
			return bad(h, e, "too many interim answers");
		h->state = STATUS_LINE;
		return 0;
	}
	if (h->chunked && h->has_length)
		return bad(h, e, "both content-length and transfer-encoding");
	h->head_done = 1;
	if (h->status == 101 || h->status == 204 || h->status == 304)
		h->state = DONE;
	else if (h->chunked)
		h->state = CHUNK_SIZE;
	else if (h->has_length)
		h->state = h->left ? BODY_LENGTH : DONE;
	else
		h->state = BODY_CLOSE;
	if (h->state == BODY_CLOSE)
		h->close = 1;
	return 0;
}

/* Hexadecimal, then perhaps extensions. 15 digits: cannot overflow, and nobody sends a chunk of 2^60 bytes. */
static int
chunk_size(struct http *h, struct err *e)
{
	const char *s = h->line;
	uint64_t n = 0;
	int digits;

	for (digits = 0; ; s++, digits++) {
		unsigned d;

		if (*s >= '0' && *s <= '9')
			d = (unsigned)(*s - '0');
		else if (*s >= 'a' && *s <= 'f')
			d = (unsigned)(*s - 'a') + 10;
		else if (*s >= 'A' && *s <= 'F')
			d = (unsigned)(*s - 'A') + 10;
		else
			break;
		if (digits >= 15)
			return bad(h, e, "chunk size too large");
		n = n << 4 | d;
	}
	/* Extensions after ';' mean nothing to us. */
	if (digits == 0 || (*s && *s != ';' && *s != ' ' && *s != '\t'))
		return bad(h, e, "malformed chunk size: %.40s", h->line);
	h->left = n;
	h->state = n ? CHUNK_DATA : TRAILER;
	return 0;
}

/* A whole line, without its end, is in h->line. */
static int
take_line(struct http *h, struct err *e)
{
	switch (h->state) {
	case STATUS_LINE:
		if (strncmp(h->line, "HTTP/", 5) != 0)
			return no_http(h, e);
		return status_line(h, e);
	case FIELDS:
		return h->len ? field_line(h, h->status >= 200 || h->status == 101, e) : head_end(h, e);
	case CHUNK_SIZE:
		return chunk_size(h, e);
	case CHUNK_END:
		if (h->len)
			return bad(h, e, "no line end after a chunk");
		h->state = CHUNK_SIZE;
		return 0;
	default:			/* TRAILER */
		if (h->len)
			return field_line(h, 0, e);
		h->state = DONE;
		return 0;
	}
}

/* Collects up to the line's end and acts on a whole line. *used: bytes taken. */
static int
push_line(struct http *h, const uint8_t *p, size_t n, size_t *used, struct err *e)
{
	const uint8_t *nl = memchr(p, '\n', n);
	size_t k = nl ? (size_t)(nl - p) + 1 : n;
	size_t body = h->state == CHUNK_SIZE || h->state == CHUNK_END;
	int rc;

	/* Judged on the first four bytes whatever the pieces, so that a banner without a line end is named too. */
	if (h->state == STATUS_LINE && h->len < 4 && k > 4 - h->len)
		k = 4 - h->len;
	*used = k;
	if (k >= sizeof(h->line) - h->len)
		return bad(h, e, "header line longer than %d bytes", HTTP_LINE_MAX);
	memcpy(h->line + h->len, p, k);
	h->len += k;
	h->line[h->len] = 0;
	if (!body && (h->head += k) > HTTP_HEAD_MAX)
		return bad(h, e, "header larger than %u bytes", HTTP_HEAD_MAX);
	if (h->state == STATUS_LINE && h->len >= 4 && strncmp(h->line, "HTTP", 4) != 0)
		return no_http(h, e);
	if (h->line[h->len - 1] != '\n')
		return 0;
	h->len--;
	if (h->len && h->line[h->len - 1] == '\r')
		h->len--;
	h->line[h->len] = 0;
	if (strlen(h->line) != h->len || strchr(h->line, '\r'))
		return bad(h, e, "control character in a header line");
	rc = take_line(h, e);
	h->len = 0;
	return rc;
}

/* Bytes of the body, from where they are. */
static int
push_body(struct http *h, const uint8_t *p, size_t n, size_t *used)
{
	int rc = 0;

	if (h->state != BODY_CLOSE && n > h->left)
		n = (size_t)h->left;
	*used = n;
	if (h->ev->body)
		rc = h->ev->body(h->ctx, p, n);
	if (rc < 0)
		return fail(h, rc);
	if (h->state == BODY_CLOSE)
		return 0;
	h->left -= n;
	if (h->left == 0)
		h->state = h->state == CHUNK_DATA ? CHUNK_END : DONE;
	return 0;
}

int
http_push(struct http *h, const uint8_t *p, size_t n, size_t *used, struct err *e)
{
	size_t i = 0, k = 0;
	int rc = 0;

	while (rc == 0 && i < n && h->state != DONE && h->state != FAILED) {
		if (h->state == BODY_LENGTH || h->state == BODY_CLOSE || h->state == CHUNK_DATA)
			rc = push_body(h, p + i, n - i, &k);
		else
			rc = push_line(h, p + i, n - i, &k, e);
		i += k;
	}
	*used = i;
	if (h->state == FAILED)
		return h->rc;
	return h->state == DONE;
}

/* Only a body without any length may end so. Anything else was cut, and must not pass for the whole. */
int
http_eof(struct http *h, struct err *e)
{
	if (h->state == DONE || h->state == BODY_CLOSE) {
		h->state = DONE;
		return 1;
	}
	if (h->state == FAILED)
		return h->rc;
	if (h->state == STATUS_LINE && h->len == 0)
		return fail(h, err_set(e, ST_FAIL, -ECONNRESET, "the server closed the connection without an answer"));
	if (h->state == STATUS_LINE && strncmp(h->line, "HTTP/", h->len < 5 ? h->len : 5) != 0)
		return no_http(h, e);
	return fail(h, err_set(e, ST_FAIL, -ECONNRESET, "the server closed the connection in the middle of its answer"));
}

/* --- requests --- */

/* After the first failure nothing is written any more; http_finish() tells. */
static void
put(struct http_out *o, const char *s, size_t n)
{
	if (o->rc)
		return;
	if (n > o->cap - o->len) {
		o->rc = -ENOBUFS;
		return;
	}
	memcpy(o->buf + o->len, s, n);
	o->len += n;
}

/* Text from outside: a line end in it would begin a header of somebody else's making. */
static void
put_text(struct http_out *o, const char *s, int blanks)
{
	const char *c;

	for (c = s; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f || (*c == ' ' && !blanks))
			o->rc = -EINVAL;
	put(o, s, (size_t)(c - s));
}

void
http_start(struct http_out *o, char *buf, size_t cap, const char *method, const char *target, const char *host)
{
	*o = (struct http_out){ .buf = buf, .cap = cap };
	put_text(o, method, 0);
	put(o, " ", 1);
	put_text(o, target, 0);
	put(o, " HTTP/1.1\r\n", 11);
	http_field(o, "Host", host);
}

void
http_field(struct http_out *o, const char *name, const char *value)
{
	put_text(o, name, 0);
	put(o, ": ", 2);
	put_text(o, value, 1);
	put(o, "\r\n", 2);
}

int
http_finish(struct http_out *o, const char *body, size_t n)
{
	char digits[24], *d = digits + sizeof(digits);
	size_t left = n;

	if (body) {
		*--d = 0;
		do
			*--d = (char)('0' + left % 10);
		while (left /= 10);
		http_field(o, "Content-Length", d);
	}
	put(o, "\r\n", 2);
	if (body)
		put(o, body, n);
	return o->rc;
}

/* All but RFC 3986's unreserved characters, so that it serves paths, queries, forms and cookies alike. */
int
http_escape(char *out, size_t cap, const char *s)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = strlen(out);

	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		int plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
		    (c >= 'A' && c <= 'Z') || strchr("-._~", c);

		if (n + (plain ? 1 : 3) >= cap)
			return -ENOBUFS;
		if (plain) {
			out[n++] = (char)c;
		} else {
			out[n++] = '%';
			out[n++] = hex[c >> 4];
			out[n++] = hex[c & 15];
		}
		out[n] = 0;
	}
	return 0;
}

int
http_query(char *out, size_t cap, const char *name, const char *value)
{
	size_t n = strlen(out), k = strlen(name);

	if (n + k + 3 > cap)
		return -ENOBUFS;
	out[n] = strchr(out, '?') ? '&' : '?';
	memcpy(out + n + 1, name, k);
	memcpy(out + n + 1 + k, "=", 2);
	return http_escape(out, cap, value);
}
