/*
 * Tokens, passwords, tickets. A ticket comes in the answer's JSON or, from newer servers,
 * in a cookie that scripts of a browser cannot read; whichever came is sent back.
 *
 * Knows no connection. Everything here is secret: nothing of it may reach a message.
 */
#include "auth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "bytes.h"

#define HOST_COOKIE "__Host-PBSAuthCookie="

/* "PBS:user@realm:TIME::SIGNATURE". A password that looks so would be treated as one too: it works all the same, as
 * the server takes either for a login. */
static int
is_ticket(const char *secret)
{
	return strncmp(secret, "PBS:", 4) == 0 && strchr(secret + 4, ':') != NULL;
}

int
auth_init(struct auth *a, const char *id, const char *secret, struct err *e)
{
	memset(a, 0, sizeof(*a));
	if (strlen(id) >= sizeof(a->id) || strlen(secret) >= sizeof(a->secret))
		return err_set(e, ST_USAGE, -EINVAL, "user name or password too long");
	strcpy(a->id, id);
	strcpy(a->secret, secret);
	a->is_token = strchr(id, '!') != NULL;
	return 0;
}

void
auth_wipe(struct auth *a)
{
	wipe(a, sizeof(*a));
}

/* A new connection gets a new ticket, but several made within minutes (a list, then the reader) share one. */
int
auth_stale(const struct auth *a, int64_t now)
{
	return !a->is_token && (a->cookie[0] == 0 || now - a->since > TICKET_FRESH);
}

int
auth_renew(struct auth *a, int64_t now)
{
	if (a->is_token || !is_ticket(a->secret) || !a->cookie[0] || now - a->since <= TICKET_RENEW ||
	    (a->tried && now - a->tried < BACKOFF_REFUSED))
		return 0;
	a->tried = now;
	return 1;
}

void
auth_fields(const struct auth *a, struct http_out *o)
{
	char value[sizeof(a->id) + sizeof(a->secret) + 32];

	if (a->is_token) {
		snprintf(value, sizeof(value), "PBSAPIToken=%s:%s", a->id, a->secret);
		http_field(o, "Authorization", value);
		wipe(value, sizeof(value));
	} else if (a->cookie[0]) {
		http_field(o, "Cookie", a->cookie);
		if (a->csrf[0])
			http_field(o, "CSRFPreventionToken", a->csrf);
	}
}

/* A form, not JSON: percent-encoding cannot go wrong with any byte of a password, and every version of the server
 * takes it. */
int
auth_form(const struct auth *a, char *out, size_t cap)
{
	int rc;

	snprintf(out, cap, "username=");
	rc = http_escape(out, cap, a->id);
	if (rc == 0 && strlen(out) + sizeof("&password=") > cap)
		rc = -ENOBUFS;
	if (rc == 0) {
		strcat(out, "&password=");
		rc = http_escape(out, cap, a->secret);
	}
	return rc < 0 ? rc : (int)strlen(out);
}

static int
no_more(void *ctx, void *row, uint32_t seen)
{
	(void)ctx;
	(void)row;
	(void)seen;
	return 0;
}

void
auth_login_start(struct auth_login *l, struct err *e)
{
	static const struct json_field fields[] = {
		JSON_FIELD("ticket", JSON_AS_TEXT, struct login_row, ticket, 0),
		JSON_FIELD("ticket-info", JSON_AS_TEXT, struct login_row, info, 0),
		JSON_FIELD("CSRFPreventionToken", JSON_AS_TEXT, struct login_row, csrf, 0),
	};

	memset(l, 0, sizeof(*l));
	l->rows = (struct json_rows){ .path = "data", .fields = fields, .count = 3,
	    .row = &l->row, .size = sizeof(l->row), .done = no_more, .e = e };
	json_init(&l->json, json_rows_token, &l->rows, e);
}

/* A cookie that is set to nothing is one that is taken away. */
int
auth_login_field(struct auth_login *l, const char *name, const char *value)
{
	size_t n = strcspn(value, "; ");

	if (strcmp(name, "set-cookie") != 0 || strncasecmp(value, HOST_COOKIE, sizeof(HOST_COOKIE) - 1) != 0)
		return 0;
	if (n > sizeof(HOST_COOKIE) - 1 && n < sizeof(l->cookie)) {
		memcpy(l->cookie, value, n);
		l->cookie[n] = 0;
	}
	return 0;
}

int
auth_login_body(struct auth_login *l, const uint8_t *p, size_t n)
{
	return json_feed(&l->json, (const char *)p, n);
}

/* Whatever the outcome, the answer is wiped: it held a ticket. A ticket that served as the password is replaced by
 * the new one, so that the next renewal begins from there. */
int
auth_login_end(struct auth_login *l, struct auth *a, int64_t now, struct err *e)
{
	static const char own[] = "PBSAuthCookie=", tfa[] = "PBS:!tfa!";
	int rc = json_end(&l->json);

	if (rc == 0 && (strncmp(l->row.ticket, tfa, sizeof(tfa) - 1) == 0 || strncmp(l->row.info, tfa, sizeof(tfa) - 1) == 0))
		rc = err_set(e, ST_TRUST, -EACCES, "%s needs a second factor to log in; use an API token instead", a->id);
	else if (rc == 0 && !l->row.ticket[0] && !l->cookie[0])
		rc = err_set(e, ST_FAIL, -EPROTO, "the server's answer to the login has no ticket");
	if (rc == 0) {
		if (l->cookie[0]) {
			strcpy(a->cookie, l->cookie);
		} else {
			strcpy(a->cookie, own);
			if ((rc = http_escape(a->cookie, sizeof(a->cookie), l->row.ticket)) < 0) {
				a->cookie[0] = 0;
				err_set(e, ST_FAIL, rc, "the server's ticket is too long");
			}
		}
		strcpy(a->csrf, l->row.csrf);
		if (is_ticket(a->secret) && l->row.ticket[0] && strlen(l->row.ticket) < sizeof(a->secret))
			strcpy(a->secret, l->row.ticket);
		a->since = now;
	}
	wipe(l, sizeof(*l));
	return rc;
}
