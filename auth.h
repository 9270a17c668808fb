/*
 * Who we are to a server: an API token, or a user whose password (or ticket) is changed for a ticket. Pure: the
 * requests are sent by api.c.
 */
#ifndef AUTH_H
#define AUTH_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "err.h"
#include "http.h"
#include "json.h"

struct auth {
	char id[320];			/* user@realm[!token] */
	int is_token;
	char secret[SECRET_MAX];
	char cookie[COOKIE_MAX];	/* "PBSAuthCookie=…"; empty: not logged in */
	char csrf[256];
	int64_t since;			/* clock_ms() of the login */
	int64_t tried;			/* and of the last try to renew the ticket */
};

/* A secret that begins as a ticket does is one, and each new ticket takes its place. -EINVAL, ST_USAGE: too long. */
int auth_init(struct auth *a, const char *id, const char *secret, struct err *e);
void auth_wipe(struct auth *a);

/* Is a login needed before a connection is made now? */
int auth_stale(const struct auth *a, int64_t now);
/* Is it time to try for a new ticket, lest the only secret we have expires? Not again at once after a yes. */
int auth_renew(struct auth *a, int64_t now);

/* Adds the header fields that prove who we are. */
void auth_fields(const struct auth *a, struct http_out *o);

/* The body of `POST /api2/json/access/ticket`, a form. Its length, or -ENOBUFS. Wipe it. */
int auth_form(const struct auth *a, char *out, size_t cap);

/* The answer, as it comes. */
struct auth_login {
	char cookie[COOKIE_MAX];	/* from Set-Cookie: name=value */
	struct login_row {
		char ticket[COOKIE_MAX / 3], info[COOKIE_MAX / 3], csrf[256];
	} row;
	struct json_rows rows;
	struct json json;
};

void auth_login_start(struct auth_login *l, struct err *e);
int auth_login_field(struct auth_login *l, const char *name, const char *value);
int auth_login_body(struct auth_login *l, const uint8_t *p, size_t n);
/* The answer is whole: takes the ticket. -EACCES, ST_TRUST: a second factor is asked for. Wipes *l in any case. */
int auth_login_end(struct auth_login *l, struct auth *a, int64_t now, struct err *e);

#endif
