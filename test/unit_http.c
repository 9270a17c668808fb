/* HTTP/1.1: recorded answers in every split, what is refused, requests. */
#include <errno.h>
#include <glob.h>
#include <stdlib.h>

#include "../http.h"
#include "t.h"

/* All that a parse tells, as one text: equal for every split. */
struct seen {
	char fields[20000];
	char body[60000];
	size_t nfields, nbody, used;
	int rc, status, close, html;
	char error[sizeof(((struct err *)0)->text)];
};

static int
got_field(void *ctx, const char *name, const char *value)
{
	struct seen *s = ctx;
	int n = snprintf(s->fields + s->nfields, sizeof(s->fields) - s->nfields, "%s: %s\n", name, value);

	s->nfields += (size_t)n;
	return strcmp(name, "x-stop") == 0 ? -ECANCELED : 0;
}

static int
got_body(void *ctx, const uint8_t *p, size_t n)
{
	struct seen *s = ctx;

	if (n == 0 || n > sizeof(s->body) - s->nbody)
		return -ENOSPC;
	memcpy(s->body + s->nbody, p, n);
	s->nbody += n;
	return memchr(p, '\a', n) ? -ECANCELED : 0;
}

static const struct http_events events = { got_field, got_body };
static struct http h;

/* Feeds p in pieces: sizes first, then step each (0: all the rest). eof: the connection ends after it. */
static void
feed(struct seen *s, const char *p, size_t n, size_t first, size_t step, int upgrade, int eof)
{
	struct err e = { 0 };
	size_t i, k, used;

	memset(s, 0, sizeof(*s));
	http_init(&h, &events, s);
	h.upgrade = upgrade;
	for (i = 0; i < n && s->rc == 0; i += used) {
		k = i == 0 && first ? first : step ? step : n - i;
		if (k > n - i)
			k = n - i;
		s->rc = http_push(&h, (const uint8_t *)p + i, k, &used, &e);
		s->used += used;
		if (s->rc == 0)
			check_int(used, k);	/* all, while more is needed */
	}
	if (s->rc == 0 && eof)
		s->rc = http_eof(&h, &e);
	s->status = h.status;
	s->close = h.close;
	s->html = h.html;
	snprintf(s->error, sizeof(s->error), "%s", e.text);
}

static int
same(const struct seen *a, const struct seen *b)
{
	return a->rc == b->rc && a->used == b->used && a->status == b->status && a->close == b->close &&
	    a->nbody == b->nbody && memcmp(a->body, b->body, a->nbody) == 0 &&
	    strcmp(a->fields, b->fields) == 0 && strcmp(a->error, b->error) == 0;
}

/* Whole, then in two pieces cut everywhere, byte by byte and in threes. */
static void
every_split(struct seen *s, const char *p, size_t n, int upgrade, int eof)
{
	static struct seen t;
	size_t i;

	feed(s, p, n, 0, 0, upgrade, eof);
	for (i = 1; i < n; i++) {
		feed(&t, p, n, i, 0, upgrade, eof);
		if (!check(same(s, &t))) {
			printf("# cut at %zu: %s / %s\n", i, s->error, t.error);
			break;
		}
	}
	feed(&t, p, n, 0, 1, upgrade, eof);
	check(same(s, &t));
	feed(&t, p, n, 2, 3, upgrade, eof);
	check(same(s, &t));
}

static size_t
slurp(const char *name, char *out, size_t cap)
{
	FILE *f = fopen(name, "rb");
	size_t n = f ? fread(out, 1, cap, f) : 0;

	if (f)
		fclose(f);
	return n;
}

static struct seen s;
static char file[65536];

static void
test_golden(void)
{
	static const struct { const char *name; int status; const char *body; } want[] = {
		{ "bad-token", 401, "authentication failed" }, { "no-auth", 401, "authentication failed" },
		{ "no-store", 400, "no such datastore 'nosuch'" }, { "ticket-bad", 401, "permission check failed." },
		{ "reader-no-upgrade", 400, "missing Upgrade header" },
		{ "reader-no-snapshot", 400, "snapshot vm/100/2026-01-02T03:04:06Z does not exist." },
		{ "session.101", 101, "" },
	};
	glob_t g;
	size_t i, k, n;

	glob("test/golden/wire/*/*.http", 0, NULL, &g);
	check_int(g.gl_pathc, 34);
	for (i = 0; i < g.gl_pathc; i++) {
		const char *name = g.gl_pathv[i];
		int status = 200;

		n = slurp(name, file, sizeof(file) - 4);
		memcpy(file + n, "rest", 4);	/* of the next protocol: not the parser's */
		every_split(&s, file, n + 4, 1, 0);
		check_int(s.rc, 1);
		check_int(s.used, n);
		for (k = 0; k < sizeof(want) / sizeof(want[0]); k++)
			if (strstr(name, want[k].name)) {
				status = want[k].status;
				check(strncmp(s.body, want[k].body, strlen(want[k].body)) == 0);
			}
		check_int(s.status, status);
		check_int(s.close, status != 101 && strstr(name, "/4.2/") != NULL);
		if (status == 200) {
			check(strncmp(s.body, "{\"data\":", 8) == 0);
			check(s.body[s.nbody - 1] == '}');
		}
		if (strstr(name, "4.2/no-auth"))
			check(strstr(s.fields, "set-cookie: __Host-PBSAuthCookie=; Expires=Thu") != NULL);
	}
	globfree(&g);
}

#define H "HTTP/1.1 200 OK\r\n"

static void
test_bodies(void)
{
	static const struct { const char *text, *body; int rc, status, close; } t[] = {
		{ H "Content-Length: 3\r\n\r\nabcX", "abc", 1, 200, 0 },
		{ H "content-length: 0\r\n\r\nX", "", 1, 200, 0 },
		{ H "\r\nall to the end", "all to the end", 1, 200, 1 },
		{ "HTTP/1.0 404 Not\r\n\r\nno", "no", 1, 404, 1 },
		{ "HTTP/1.0 200 \r\nconnection: Keep-Alive\r\ncontent-length: 1\r\n\r\na", "a", 1, 200, 0 },
		{ "HTTP/1.1 204\r\n\r\n", "", 1, 204, 0 },
		{ "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", "", 1, 304, 0 },
		{ H "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0000a;x=\"y\"\r\n0123456789\r\n0\r\nTrail: er\r\n\r\n",
		    "abc0123456789", 1, 200, 0 },
		{ "HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" H
		    "content-length: 1\r\n\r\nz", "z", 1, 200, 0 },
		{ "HTTP/1.1 200 OK\nx:  a\t \ncontent-length:2 \n\nok", "ok", 1, 200, 0 },
		{ H "content-length: 2\r\ncontent-length: 2\r\n\r\nok", "ok", 1, 200, 0 },
		{ H "content-length: 5\r\n\r\nab", "ab", -ECONNRESET, 200, 0 },
		{ H "transfer-encoding: chunked\r\n\r\n4\r\nab", "ab", -ECONNRESET, 200, 0 },
		{ H "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", "ab", -ECONNRESET, 200, 0 },
		{ H "x: y", "", -ECONNRESET, 200, 0 },
		{ "", "", -ECONNRESET, 0, 0 },
		{ "HTT", "", -ECONNRESET, 0, 0 },
		{ H "content-length: 9\r\n\r\nabcdef\ahi", "abcdef\ahi", -ECANCELED, 200, 0 },
		{ H "x-stop: 1\r\ncontent-length: 9\r\n\r\n", "", -ECANCELED, 200, 0 },
	};
	static const char fields[] = H "A-b:  c d \t\r\nE:\r\ncontent-length: 0\r\n\r\n";
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		feed(&s, t[i].text, strlen(t[i].text), 0, 0, 0, 1);
		check_int(s.rc, t[i].rc);
		check_int(s.status, t[i].status);
		check_int(s.close, t[i].close);
		check(s.nbody == strlen(t[i].body) && memcmp(s.body, t[i].body, s.nbody) == 0);
		/* A body that is stopped half-way was told in other pieces. */
		if (s.rc != -ECANCELED)
			every_split(&s, t[i].text, strlen(t[i].text), 0, 1);
	}
	check_str(s.fields, "x-stop: 1\n");
	every_split(&s, fields, sizeof(fields) - 1, 0, 0);
	check_str(s.fields, "a-b: c d\ne: \ncontent-length: 0\n");
}

static void
test_refused(void)
{
	static const struct { const char *text, *error; } t[] = {
		{ "SSH-2.0-OpenSSH_9.2p1\r\n", "SSH" },
		{ "\x15\x03\x01\x01\x02", "TLS" },
		{ "<html><body>hello", "HTML" }, { "<!DOCTYPE html>\n", "HTML" },
		{ "PRI * HTTP/2.0\r\n", "HTTP/2" }, { "220 mail ready\r\n", "not HTTP" }, { "\r\n", "not HTTP" },
		{ "HTTX/1.1 200 OK\r\n", "not HTTP" }, { "HTTP/2 200\r\n", "version" }, { "HTTP/1. 200 OK\r\n", "version" },
		{ "HTTP/1.1  200 OK\r\n", "status line" }, { "HTTP/1.1 2000 OK\r\n", "status line" },
		{ "HTTP/1.1 20\r\n", "status line" }, { "HTTP/1.1 099 x\r\n", "status line" }, { "HTTP/1.1 \r\n", "status line" },
		{ "HTTP/1.1 101 Switching\r\n\r\n", "without being asked" },
		{ H " folded: x\r\n", "malformed header" }, { H "x: y\r\n folded\r\n", "malformed header" },
		{ H "no colon\r\n", "malformed header" }, { H ": x\r\n", "malformed header" }, { H "x : y\r\n", "malformed header" },
		{ H "x: \x01\r\n", "control character" }, { H "x: a\rb\r\n", "control character" }, { H "x: \x7f\r\n", "control character" },
		{ H "content-length: -1\r\n", "content-length" }, { H "content-length: 1, 1\r\n", "content-length" },
		{ H "content-length:\r\n", "content-length" }, { H "content-length: 99999999999999999999\r\n", "content-length" },
		{ H "content-length: 1\r\ncontent-length: 2\r\n", "two content-lengths" },
		{ H "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "both" },
		{ H "transfer-encoding: gzip, chunked\r\n", "transfer-encoding" },
		{ H "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "transfer-encoding" },
		{ H "transfer-encoding: chunked\r\n\r\n\r\n", "chunk size" }, { H "transfer-encoding: chunked\r\n\r\n-1\r\n", "chunk size" },
		{ H "transfer-encoding: chunked\r\n\r\n1234567890abcdef0\r\n", "chunk size" },
		{ H "transfer-encoding: chunked\r\n\r\n1x\r\n", "chunk size" },
		{ H "transfer-encoding: chunked\r\n\r\n1\r\nabc\r\n", "after a chunk" },
	};
	static const char nul[] = H "x: \0y\r\n\r\n";
	static const char html[] = H "content-type: text/html;charset=x\r\n\r\n";
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		every_split(&s, t[i].text, strlen(t[i].text), 0, 0);
		check_int(s.rc, -EPROTO);
		if (!check(strstr(s.error, t[i].error) != NULL))
			printf("# %s: %s\n", t[i].error, s.error);
	}
	feed(&s, nul, sizeof(nul) - 1, 0, 0, 0, 0);
	check_int(s.rc, -EPROTO);
	feed(&s, html, sizeof(html) - 1, 0, 0, 0, 0);
	check_int(s.html, 1);
}

static void
test_limits(void)
{
	char *big = malloc(200000);
	size_t n, i;

	memcpy(big, H, 17);
	memset(big + 17, 'a', 199983);
	feed(&s, big, 200000, 0, 0, 0, 0);
	check_int(s.rc, -EPROTO);
	check(s.used < 200000 || strstr(s.error, "longer"));
	for (n = 17; n < 190000; n += 10)
		memcpy(big + n, "x: 123456\n", 10);
	feed(&s, big, n, 0, 100, 0, 0);
	check(strstr(s.error, "larger") != NULL);
	n = 0;
	for (i = 0; i < 20; i++)
		n += (size_t)sprintf(big + n, "HTTP/1.1 102 x\r\n\r\n");
	feed(&s, big, n, 0, 0, 0, 0);
	check(strstr(s.error, "interim") != NULL);
	/* After a failure nothing is taken any more. */
	check_int(http_push(&h, (const uint8_t *)H, 17, &n, NULL), -EPROTO);
	check_int(n, 0);
	free(big);
}

static void
test_requests(void)
{
	static const char want[] = "POST /a HTTP/1.1\r\nHost: h:8007\r\nX: a b\r\nContent-Length: 12\r\n\r\nbody of that";
	char buf[200], target[60] = "/a";
	struct http_out o;
	size_t cap;

	for (cap = 0; cap <= sizeof(want) - 1; cap++) {
		http_start(&o, buf, cap, "POST", "/a", "h:8007");
		http_field(&o, "X", "a b");
		check_int(http_finish(&o, "body of that", 12), cap < sizeof(want) - 1 ? -ENOBUFS : 0);
		check(o.len <= cap);
	}
	check(o.len == sizeof(want) - 1 && memcmp(buf, want, o.len) == 0);
	http_start(&o, buf, sizeof(buf), "GET", "/a\r\nX: y", "h");
	check_int(http_finish(&o, NULL, 0), -EINVAL);
	http_start(&o, buf, sizeof(buf), "GET", "/a b", "h");
	check_int(http_finish(&o, NULL, 0), -EINVAL);
	http_start(&o, buf, sizeof(buf), "GET", "/", "h");
	http_field(&o, "X", "secret\n");
	check_int(http_finish(&o, NULL, 0), -EINVAL);
	http_start(&o, buf, sizeof(buf), "GET", "/", "h");
	check_int(http_finish(&o, NULL, 0), 0);
	check(o.len == 27 && memcmp(buf, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 27) == 0);

	check_int(http_query(target, sizeof(target), "ns", "a/b c"), 0);
	check_int(http_query(target, sizeof(target), "id", "\xc3\xbc-._~&="), 0);
	check_str(target, "/a?ns=a%2Fb%20c&id=%C3%BC-._~%26%3D");
	for (cap = 3; cap < 13; cap++) {
		strcpy(target, "/a");
		check_int(http_query(target, cap, "n", "x/yz"), cap < 12 ? -ENOBUFS : 0);
		check(strlen(target) < cap);
	}
}

int
main(void)
{
	run(test_golden);
	run(test_bodies);
	run(test_refused);
	run(test_limits);
	run(test_requests);
	return t_end();
}
