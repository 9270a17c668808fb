/*
 * One HTTP/1.1 exchange after the other, and what a server's refusals mean.
 *
 * Knows the API's paths for login only, and nothing of snapshots. A connection is used
 * once: newer servers close it after the answer anyway.
 */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "clock.h"

#define REQUEST_MAX (COOKIE_MAX + 6144)	/* bytes */
#define RENEW_PATIENCE 3000		/* ms: connections wait for a renewal, and the next try comes soon */

/* One exchange. */
struct call {
	struct http http;
	int (*field)(struct call *c, const char *name, const char *value);
	int (*body)(void *ctx, const uint8_t *p, size_t n);
	void *ctx;
	struct auth_login login;
	char text[400];			/* of an answer that is no success */
	size_t text_len;
	int patience;			/* ms until it must be connected, and of silence; 0: the usual ones */
	size_t request_len;
	char request[REQUEST_MAX];
};

int
api_init(struct api *a, const struct net_conf *net, const char *id, const char *secret, int stall, struct err *e)
{
	int rc = auth_init(&a->auth, id, secret, e);

	a->net = *net;
	a->stall = stall;
	snprintf(a->host, sizeof(a->host), strchr(net->host, ':') ? "[%s]:%u" : "%s:%u", net->host, net->port);
	pthread_mutex_init(&a->lock, NULL);
	return rc;
}

void
api_free(struct api *a)
{
	pthread_mutex_destroy(&a->lock);
	auth_wipe(&a->auth);
}

/* --- one exchange --- */

static int
on_field(void *ctx, const char *name, const char *value)
{
	struct call *c = ctx;

	return c->field ? c->field(c, name, value) : 0;
}

/* Bodies of refusals are for people: their beginning is kept, whatever their length. */
static int
on_body(void *ctx, const uint8_t *p, size_t n)
{
	struct call *c = ctx;

	if (c->http.status / 100 == 2)
		return c->body ? c->body(c->ctx, p, n) : 0;
	if (n > sizeof(c->text) - 1 - c->text_len)
		n = sizeof(c->text) - 1 - c->text_len;
	memcpy(c->text + c->text_len, p, n);
	c->text_len += n;
	c->text[c->text_len] = 0;
	return 0;
}

static const struct http_events events = { on_field, on_body };

/* Reads the answer. Bytes after it stay in the stream. The time limit is for silence, not for the whole. */
static int
read_answer(struct api *a, struct net *n, struct call *c, struct err *e)
{
	struct err why = { .text = "" };
	const uint8_t *p;
	size_t len, used;
	int rc = 0, got;

	while (rc == 0) {
		got = net_poll(n, NET_IN, -1, clock_ms() + (c->patience ? c->patience : a->stall), e);
		if (got < 0)
			return got;
		if (got == 0)
			return err_set(e, ST_FAIL, -ETIMEDOUT, "%s: the server does not answer", a->host);
		p = net_in(n, &len);
		if (p) {
			rc = http_push(&c->http, p, len, &used, &why);
			net_in_done(n, used);
		} else if (got & NET_EOF) {
			rc = http_eof(&c->http, &why);
		}
	}
	if (rc < 0 && why.text[0])
		return err_set(e, ST_FAIL, rc, "%s: %s", a->host, why.text);
	return rc < 0 ? rc : 0;
}

/* Connects, sends the request that stands in c->request, reads the answer. *keep NULL: closes the connection. */
static int
exchange(struct api *a, int cancel_fd, struct call *c, int upgrade, struct net **keep, struct err *e)
{
	struct net_conf conf = a->net;
	int64_t deadline = clock_ms() + (c->patience ? c->patience : CONNECT_TIMEOUT);
	struct net *n = NULL;
	int rc;

	conf.cancel_fd = cancel_fd;
	http_init(&c->http, &events, c);
	c->http.upgrade = upgrade;
	c->text_len = 0;
	c->text[0] = 0;
	rc = net_open(&conf, deadline, &n, NULL, e);
	if (rc == 0)
		rc = net_write(n, c->request, c->request_len, deadline, e);
	if (rc == 0 || rc == -ECONNRESET)	/* a server that closes may have said why before */
		rc = n ? read_answer(a, n, c, e) : rc;
	if (rc == 0 && keep && c->http.status == 101)
		*keep = n;
	else
		net_close(n);
	return rc;
}

/* --- refusals --- */

/* An answer that is none of what was hoped for: what it means, in the server's own words where it has some. */
static int
refused(const struct api *a, const struct call *c, struct err *e)
{
	const char *text = c->text_len ? c->text : "no reason given";
	int status = c->http.status;

	if (c->http.html)
		return err_set(e, ST_FAIL, -EPROTO, "%s: the answer is a web page (status %d), not a PBS server's: is there a "
		    "proxy in between, or is it the wrong port?", a->host, status);
	if (strstr(c->text, "missing Upgrade header"))
		return err_set(e, ST_FAIL, -EPROTO, "%s: a proxy in between removes the Upgrade header; connect to the server "
		    "itself (port 8007), or have the proxy pass upgrades on", a->host);
	if (status == 401)
		return err_set(e, ST_TRUST, -EACCES, "%s: %s is not let in (wrong password or token secret?): %s", a->host,
		    a->auth.id, text);
	if (status == 403 || strstr(c->text, "permission") || strstr(c->text, "owner check failed"))
		return err_set(e, ST_TRUST, -EACCES, "%s: %s lacks the permission (Datastore.Read, or Datastore.Backup and being "
		    "the owner, is needed): %s", a->host, a->auth.id, text);
	if (strstr(c->text, "no such") || strstr(c->text, "does not exist") || strstr(c->text, "not found") ||
	    strstr(c->text, "No such file"))
		return err_set(e, ST_FAIL, -ENOENT, "%s: %s", a->host, text);
	if (status == 404)
		return err_set(e, ST_FAIL, -ENOENT, "%s: this path is not known there: is it a Proxmox Backup Server? (%s)",
		    a->host, text);
	if (status / 100 == 2)
		return err_set(e, ST_FAIL, -EPROTO, "%s: the server ignores the upgrade; is there a proxy in between?", a->host);
	return err_set(e, ST_FAIL, -EIO, "%s: the server says (status %d): %s", a->host, status, text);
}

/* --- login --- */

static int
login_field(struct call *c, const char *name, const char *value)
{
	return auth_login_field(&c->login, name, value);
}

/* Fed as it comes; what is wrong with it is told by auth_login_end(). */
static int
login_body(void *ctx, const uint8_t *p, size_t n)
{
	return auth_login_body(ctx, p, n);
}

/* With the lock held, so that others wait for the ticket instead of logging in too. */
static int
login(struct api *a, int cancel_fd, int patience, struct err *e)
{
	struct call *c = calloc(1, sizeof(*c));
	struct err why = { .status = ST_FAIL };
	char form[3 * (SECRET_MAX + 320) + 64] = "";
	struct http_out o;
	int rc;

	if (c == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	http_start(&o, c->request, sizeof(c->request), "POST", "/api2/json/access/ticket", a->host);
	http_field(&o, "Content-Type", "application/x-www-form-urlencoded");
	http_field(&o, "Connection", "close");
	rc = auth_form(&a->auth, form, sizeof(form));
	if (rc >= 0)
		rc = http_finish(&o, form, (size_t)rc);
	c->request_len = o.len;
	c->patience = patience;
	c->field = login_field;
	c->body = login_body;
	c->ctx = &c->login;
	auth_login_start(&c->login, &why);
	if (rc < 0)
		err_set(e, ST_FAIL, rc, "%s: the login cannot be sent", a->host);
	else if ((rc = exchange(a, cancel_fd, c, 0, NULL, e)) == 0 && c->http.status != 200)
		rc = refused(a, c, e);
	else if (rc == 0)
		rc = auth_login_end(&c->login, &a->auth, clock_ms(), &why);
	if (rc < 0 && why.text[0])	/* the answer came, but is no good */
		err_set(e, why.status, rc, "%s: login: %s", a->host, why.text);
	wipe(form, sizeof(form));
	wipe(c, sizeof(*c));
	free(c);
	return rc;
}

/* Writes a request with what proves who we are, after a login when that is needed. `force`: the ticket was refused. */
static int
prepare(struct api *a, int cancel_fd, struct call *c, const char *target, const char *protocol, int force, struct err *e)
{
	struct http_out o;
	int rc = 0;

	pthread_mutex_lock(&a->lock);
	if (force || auth_stale(&a->auth, clock_ms()))
		rc = login(a, cancel_fd, 0, e);
	if (rc == 0) {
		http_start(&o, c->request, sizeof(c->request), "GET", target, a->host);
		auth_fields(&a->auth, &o);
		http_field(&o, "Connection", protocol ? "upgrade" : "close");
		if (protocol)
			http_field(&o, "Upgrade", protocol);
		rc = http_finish(&o, NULL, 0);
		c->request_len = o.len;
		if (rc < 0)
			err_set(e, ST_USAGE, rc, "%s: user name, password or name of what is asked for has characters that "
			    "cannot be sent", a->host);
	}
	pthread_mutex_unlock(&a->lock);
	return rc;
}

/* A ticket may have expired, or the server may have forgotten it: once, a 401 means to log in anew. */
static int
get(struct api *a, int cancel_fd, struct call *c, const char *target, const char *protocol, struct net **out, struct err *e)
{
	int rc, again;

	for (again = 0; ; again++) {
		rc = prepare(a, cancel_fd, c, target, protocol, again, e);
		if (rc == 0)
			rc = exchange(a, cancel_fd, c, protocol != NULL, out, e);
		if (rc < 0 || c->http.status != 401 || a->auth.is_token || again)
			return rc;
	}
}

/* struct call is too large for a thread's stack, and holds secrets: from the heap, wiped. */
int
api_get(struct api *a, int cancel_fd, const char *target, int (*body)(void *, const uint8_t *, size_t), void *ctx,
    struct err *e)
{
	struct call *c = calloc(1, sizeof(*c));
	int rc;

	if (c == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	c->body = body;
	c->ctx = ctx;
	rc = get(a, cancel_fd, c, target, NULL, NULL, e);
	if (rc == 0 && (c->http.status != 200 || c->http.html))
		rc = refused(a, c, e);
	wipe(c, sizeof(*c));
	free(c);
	return rc;
}

/* Any answer but 101 is a refusal, also a 200: somebody in between has not understood what was asked. */
int
api_upgrade(struct api *a, int cancel_fd, const char *target, const char *protocol, struct net **out, struct err *e)
{
	struct call *c = calloc(1, sizeof(*c));
	int rc;

	*out = NULL;
	if (c == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	rc = get(a, cancel_fd, c, target, protocol, out, e);
	if (rc == 0 && c->http.status != 101)
		rc = refused(a, c, e);
	wipe(c, sizeof(*c));
	free(c);
	return rc;
}

int
api_renew(struct api *a, int cancel_fd, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&a->lock);
	if (auth_renew(&a->auth, clock_ms()))
		rc = login(a, cancel_fd, RENEW_PATIENCE, e);
	pthread_mutex_unlock(&a->lock);
	return rc;
}
