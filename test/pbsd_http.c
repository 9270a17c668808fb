/*
 * HTTP/1.1: reads a request, hands it to the API, writes the answer when its
 * time has come. Whatever in a request is not as RFC 9112 wants it counts as
 * a violation. Knows no path.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "pbsd_api.h"
#include "pbsd_conn.h"
#include "pbsd_http.h"

#define HEAD_MAX (64u << 10)
#define BODY_MAX (1u << 20)
#define PIECE 32768u			/* bytes of a chunk of a chunked body */

const char *
request_header(const struct request *r, const char *name)
{
	for (int i = 0; i < r->headers; i++)
		if (strcasecmp(r->header[i].name, name) == 0)
			return r->header[i].value;
	return NULL;
}

static int
hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)((p - digits) % 16) : -1;
}

int
percent_decode(const char *s, size_t n, int plus, char *out, size_t cap)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)s[i];

		if (c == '%') {
			if (n - i < 3 || hex_digit(s[i + 1]) < 0 || hex_digit(s[i + 2]) < 0)
				return -1;
			c = hex_digit(s[i + 1]) * 16 + hex_digit(s[i + 2]);
			i += 2;
		} else if (c == '+' && plus)
			c = ' ';
		if (c == 0 || len + 1 >= cap)
			return -1;
		out[len++] = (char)c;
	}
	out[len] = '\0';
	return (int)len;
}

int
query_param(const char *query, const char *key, char *out, size_t cap)
{
	size_t klen = strlen(key);

	while (query && *query) {
		size_t n = strcspn(query, "&");

		if (n > klen && strncmp(query, key, klen) == 0 && query[klen] == '=')
			return percent_decode(query + klen + 1, n - klen - 1, 1, out, cap) < 0 ? -1 : 1;
		query += n + (query[n] == '&');
	}
	return 0;
}

void
http_date(char out[64])
{
	static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t t = time(NULL);
	struct tm tm;

	gmtime_r(&t, &tm);
	snprintf(out, 64, "%.3s, %02d %.3s %d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon,
	    tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

void
answer_text(struct answer *a, int status, const char *type, const char *fmt, ...)
{
	va_list ap;
	int n;

	free(a->body);
	va_start(ap, fmt);
	n = vasprintf(&a->body, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	a->len = (size_t)n;
	a->status = status;
	a->type = type;
	a->chunked = 0;
}

static int
is_token(const char *s)
{
	return *s && s[strspn(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

/* One header line at p (NUL-terminated, without its CRLF). */
static int
parse_header(struct request *r, char *p)
{
	char *colon = strchr(p, ':'), *v;

	if (!colon || r->headers == HEADERS_MAX)
		return -1;
	*colon = '\0';
	v = colon + 1 + strspn(colon + 1, " \t");
	for (char *e = v + strlen(v); e > v && (e[-1] == ' ' || e[-1] == '\t'); e--)
		e[-1] = '\0';
	for (char *c = v; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			return -1;
	r->header[r->headers].name = p;
	r->header[r->headers++].value = v;
	return is_token(p) ? 0 : -1;
}

/* Strict: CRLF only, no folding, exactly one Host. */
static int
parse_head(struct request *r, char *p)
{
	char *line = p, *next, *sp, *q;
	int hosts = 0;

	for (next = strstr(line, "\r\n"); next; line = next + 2, next = strstr(line, "\r\n")) {
		*next = '\0';
		if (*line == '\0')
			break;
		if (strpbrk(line, "\r\n"))
			return -1;
		if (line == p)
			continue;	/* the request line, below */
		if (parse_header(r, line) < 0)
			return -1;
		hosts += strcasecmp(line, "host") == 0;
	}
	r->method = p;
	if (!(sp = strchr(p, ' ')))
		return -1;
	*sp++ = '\0';
	r->path = sp;
	if (!(sp = strchr(sp, ' ')))
		return -1;
	*sp++ = '\0';
	r->query = "";
	if ((q = strchr((char *)(uintptr_t)r->path, '?'))) {
		*q = '\0';
		r->query = q + 1;
	}
	return is_token(p) && r->path[0] == '/' && strcmp(sp, "HTTP/1.1") == 0 && hosts == 1 ? 0 : -1;
}

/* What a careful client would not do, beyond the grammar. */
static void
inspect(const struct request *r, size_t surplus)
{
	const char *up = request_header(r, "upgrade"), *con = request_header(r, "connection");
	char buf[4096];

	if (surplus)
		violation(r->conn, "%zu bytes after a request, before its answer", surplus);
	if (up && (!con || !strcasestr(con, "upgrade")))
		violation(r->conn, "Upgrade without Connection: upgrade");
	if (strcmp(r->method, "GET") == 0 && request_header(r, "content-length") && r->body_len)
		violation(r->conn, "GET with a body");
	if (percent_decode(r->query, strlen(r->query), 1, buf, sizeof(buf)) < 0)
		violation(r->conn, "query cannot be decoded: %.100s", r->query);
	if (r->query[strcspn(r->query, " \"<>\\^`{|}")] || strstr(r->query, "password"))
		violation(r->conn, "query: %.100s", r->query);
}

/* Reads until the buffer holds a whole head: its length, 0 at the end of the connection, -1 when it is broken. */
static ssize_t
read_head(struct conn *c, char *buf, size_t *have)
{
	for (;;) {
		char *end = memmem(buf, *have, "\r\n\r\n", 4);
		ssize_t r;

		if (end)
			return end + 4 - buf;
		if (*have == HEAD_MAX)
			return -1;
		r = wire_read(c->wire, buf + *have, HEAD_MAX - *have);
		if (r > 0)
			*have += (size_t)r;
		else if (r != -EAGAIN)
			return *have ? -1 : 0;
		else if (wire_step(c->wire, -1) < 0)
			return 0;
	}
}

/* The body, from what is in the buffer behind the head and then from the wire. *have is left at what follows it. */
static int
read_body(struct conn *c, struct request *r, char *rest, size_t *have)
{
	const char *l = request_header(r, "content-length");
	size_t want = l ? strtoul(l, NULL, 10) : 0, got = want < *have ? want : *have;

	if (want > BODY_MAX || request_header(r, "transfer-encoding"))
		return -1;
	r->body = calloc(1, want + 1);
	if (!r->body)
		return -1;
	memcpy(r->body, rest, got);
	memmove(rest, rest + got, *have - got);
	*have -= got;
	while (got < want) {
		ssize_t n = wire_read(c->wire, r->body + got, want - got);

		if (n > 0)
			got += (size_t)n;
		else if (n != -EAGAIN || wire_step(c->wire, -1) < 0)
			return -1;
	}
	r->body_len = want;
	return 0;
}

static const char *
reason(int status)
{
	static const struct { int status; const char *text; } table[] = {
		{ 101, "Switching Protocols" }, { 200, "OK" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 403, "Forbidden" }, { 404, "Not Found" }, { 502, "Bad Gateway" }, { 503, "Service Unavailable" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].status == status)
			return table[i].text;
	return "Error";
}

static int
write_body(struct conn *c, const struct answer *a)
{
	char line[32];

	if (!a->chunked)
		return wire_put(c->wire, a->body, a->len);
	for (size_t at = 0, n; at < a->len; at += n) {
		n = a->len - at < PIECE ? a->len - at : PIECE;
		snprintf(line, sizeof(line), "%zX\r\n", n);
		if (wire_put(c->wire, line, strlen(line)) < 0 || wire_put(c->wire, a->body + at, n) < 0 ||
		    wire_put(c->wire, "\r\n", 2) < 0)
			return -1;
	}
	return wire_put(c->wire, "0\r\n\r\n", 5);
}

/* Order of the fields as recorded. */
static int
write_answer(struct conn *c, const struct answer *a, int closing)
{
	char head[4096], date[64];
	int n;

	http_date(date);
	n = snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\n", a->status, reason(a->status));
	if (a->type)
		n += snprintf(head + n, sizeof(head) - (size_t)n, "content-type: %s\r\n", a->type);
	n += snprintf(head + n, sizeof(head) - (size_t)n, "%s", a->extra);
	if (closing && site.v4 && a->status != 101)
		n += snprintf(head + n, sizeof(head) - (size_t)n, "connection: close\r\n");
	if (a->chunked)
		n += snprintf(head + n, sizeof(head) - (size_t)n, "transfer-encoding: chunked\r\n");
	else if (a->status != 101)
		n += snprintf(head + n, sizeof(head) - (size_t)n, "content-length: %zu\r\n", a->len);
	n += snprintf(head + n, sizeof(head) - (size_t)n, "date: %s\r\n\r\n", date);
	if (wire_put(c->wire, head, (size_t)n) < 0)
		return -1;
	return a->status == 101 ? 0 : write_body(c, a);
}

/* One request, whose head (n bytes) is in buf. 0: the next one may come; 1: upgraded; -1: the end. */
static int
one(struct conn *c, char *buf, size_t n, size_t *have, char *snapshot, size_t cap)
{
	struct request r = { .conn = c->id, .weather = wire_weather(c->wire) };
	struct answer a = { 0 };
	const char *con;
	int rc = -1, closing;

	r.text = strndup(buf, n);
	memmove(buf, buf + n, *have - n);
	*have -= n;
	if (!r.text || strlen(r.text) != n || parse_head(&r, r.text) < 0 || read_body(c, &r, buf, have) < 0) {
		violation(c->id, "malformed request");
		goto out;
	}
	inspect(&r, *have);
	logline(c->id, "%s %s?%s", r.method, r.path, r.query);
	count(N_REQUESTS, 1);
	api_answer(&r, &a);
	if (a.status == 0)
		goto out;		/* upgrade: close */
	con = request_header(&r, "connection");
	closing = con && strcasestr(con, "close");
	if (wire_sleep(c->wire, now_ms() + a.wait + r.weather->delay) < 0)
		goto out;
	logline(c->id, "answered %d", a.status);
	if (write_answer(c, &a, closing) < 0)
		goto out;
	snprintf(snapshot, cap, "%s", a.snapshot);
	rc = a.status == 101 ? 1 : closing ? -1 : 0;
out:
	free(a.body);
	free(r.body);
	free(r.text);
	return rc;
}

int
http_serve(struct conn *c, char *snapshot, size_t cap)
{
	char *buf = malloc(HEAD_MAX);
	size_t have = 0;
	ssize_t n;
	int rc = 0;

	while (buf && rc == 0) {
		n = read_head(c, buf, &have);
		if (n < 0)
			violation(c->id, "%zu bytes that are no request", have);
		if (n <= 0)
			break;
		rc = one(c, buf, (size_t)n, &have, snapshot, cap);
	}
	free(buf);
	return rc == 1;
}
