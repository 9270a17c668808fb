/* `check`, the way to a server: name, TCP, TLS and certificate, login. Each by the functions that a session uses. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "check_parts.h"
#include "clock.h"
#include "config.h"
#include "net.h"
#include "resolve.h"
#include "session.h"
#include "tcp.h"

#define TRIPS 3				/* small requests, the fastest of which is the round trip */
#define SOON (14 * 86400)		/* s before a certificate's end that deserve a warning */

static int
check_name(struct check *c)
{
	const struct repo *r = &c->snap.origin.repo;
	struct addr addr[ADDRS_MAX];
	char text[400] = "", one[64];
	size_t len = 0;
	struct err e;
	int n, i;

	if (net_proxy()) {
		check_say(c, CHECK_OK, "name", "left to the proxy of ALL_PROXY");
		return 0;
	}
	if ((n = resolve(r->host, r->port, clock_ms() + check_patience(c), -1, addr, &e)) < 0)
		return check_fail(c, "name", &e);
	for (i = 0; i < n && len < sizeof(text); i++) {
		addr_print(&addr[i], one, sizeof(one));
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? ", " : "", one);
	}
	check_say(c, CHECK_OK, "name", "%s is %s", r->host, text);
	return 0;
}

static int
check_tcp(struct check *c)
{
	const struct repo *r = &c->snap.origin.repo;
	struct tcp_conf conf = { .host = r->host, .proxy = net_proxy(), .port = r->port, .cancel_fd = -1,
		.connect_ms = 10000, .dead_ms = 30000, .deadline = clock_ms() + check_patience(c) };
	int64_t start = clock_ms();
	char peer[64];
	struct err e;
	int fd = conf.proxy ? proxy_connect(&conf, peer, sizeof(peer), &e) : tcp_connect(&conf, peer, sizeof(peer), &e);

	if (fd < 0)
		return check_fail(c, "tcp", &e);
	close(fd);
	check_say(c, CHECK_OK, "tcp", "%s%s port %u, %lld ms", conf.proxy ? "by the proxy " : "", peer, r->port,
	    (long long)(clock_ms() - start));
	return 0;
}

static void
certificate(struct check *c, const struct cert_seen *s)
{
	const struct trust *t = &c->snap.origin.trust;
	int soon = s->by == TRUST_CA && s->not_after - time(NULL) < SOON;
	char shown[FINGERPRINT_TEXT], from[21], until[21];

	hex_colons(shown, s->fingerprint, 32);
	time_print(s->not_before, from);
	time_print(s->not_after, until);
	check_say(c, s->by == TRUST_NONE ? CHECK_FAIL : soon ? CHECK_WARN : CHECK_OK, "certificate",
	    "%s%s; for %s, %s, from %s to %s%s; %s", s->by == TRUST_PIN ? "by its fingerprint, from " :
	    s->by == TRUST_CA ? "by an authority of " : "not trusted",
	    s->by == TRUST_PIN ? t->from : s->by == TRUST_CA ? t->ca.path : "", s->names, s->key, from, until,
	    soon ? " (soon: it should have been renewed)" : "", shown);
}

static int
check_tls(struct check *c)
{
	struct origin *g = &c->snap.origin;
	struct net_conf conf = { .host = g->repo.host, .port = g->repo.port, .proxy = net_proxy(), .trust = &g->trust,
		.cancel_fd = -1 };
	int64_t start = clock_ms();
	struct cert_seen seen;
	struct net *n = NULL;
	struct err e;
	int rc;

	memset(&seen, 0, sizeof(seen));
	if ((rc = net_open(&conf, clock_ms() + check_patience(c), &n, &seen, &e)) < 0)
		check_fail(c, "tls", &e);
	else
		check_say(c, CHECK_OK, "tls", "%s, %lld ms", net_cipher(n), (long long)(clock_ms() - start));
	net_close(n);
	if (seen.have && (rc == 0 || rc == -EACCES))
		certificate(c, &seen);
	return rc;
}

int
check_net(struct check *c)
{
	struct origin *g = &c->snap.origin;
	struct err e;
	int rc;

	if (check_name(c) < 0 || check_tcp(c) < 0)
		return -1;
	if ((rc = origin_open(g, c->o, &e)) < 0)
		check_fail(c, "access", &e);
	/* A missing password says nothing of the certificate. */
	return (g->trust.host[0] && check_tls(c) < 0) || rc < 0 ? -1 : 0;
}

struct version {
	struct json json;
	struct json_rows rows;
	struct version_row {
		char version[24], release[24];
	} row;
	int found;
};

static int
version_body(void *ctx, const uint8_t *p, size_t n)
{
	struct version *v = ctx;

	return json_feed(&v->json, (const char *)p, n);
}

int
check_login(struct check *c)
{
	static const struct json_field fields[] = {
		JSON_FIELD("version", JSON_AS_START, struct version_row, version, 0),
		JSON_FIELD("release", JSON_AS_START, struct version_row, release, 0),
	};
	struct version v = { .rows = { .path = "data", .fields = fields, .count = 2, .size = sizeof(v.row) } };
	int64_t start = clock_ms();
	struct err e = { ST_FAIL, "" }, text;
	int rc;

	v.rows.row = &v.row;
	json_init(&v.json, json_rows_token, &v.rows, &text);
	rc = session_get(c->snap.origin.source, "/api2/json/version", version_body, &v, &e);
	if (json_end(&v.json) < 0 && !e.text[0])	/* not refused, but no answer either */
		rc = err_set(&e, ST_FAIL, -EPROTO, "the server's version is %s", text.text);
	if (rc < 0)
		return check_fail(c, "login", &e);
	check_say(c, CHECK_OK, "login", "%s; the server is version %s.%s, %lld ms", c->snap.origin.repo.auth_id, v.row.version,
	    v.row.release, (long long)(clock_ms() - start));
	return 0;
}

/* ms of a request for what is small and has been read already. */
static int64_t
round_trip(struct source *src)
{
	int64_t least = INT64_MAX, start;
	uint8_t *p;
	size_t n;
	int i;

	for (i = 0; i < TRIPS; i++) {
		start = clock_ms();
		if (src->ops->file(src, "index.json.blob", MANIFEST_MAX, &p, &n, NULL) < 0)
			break;
		free(p);
		if (clock_ms() - start < least)
			least = clock_ms() - start;
	}
	return least;
}

void
check_upgraded(struct check *c, int readable)
{
	int64_t trip = readable ? round_trip(c->snap.source) : INT64_MAX;

	if (trip == INT64_MAX)
		check_say(c, CHECK_OK, "upgrade", "works");
	else
		check_say(c, CHECK_OK, "upgrade", "works, round trip %lld ms", (long long)trip);
}

int
check_not_upgraded(struct check *c, int rc, const struct err *e)
{
	if (c->status == ST_DONE)
		c->status = e->status;
	/* The login was answered, so it is this request that does not get through; unless the server says why (-EIO). */
	check_say(c, CHECK_FAIL, "upgrade", "%s%s", e->text, rc == -EIO || strstr(e->text, "proxy") ? "" :
	    "; is it a proxy? Try port 8007 itself");
	return -1;
}
