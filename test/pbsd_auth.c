/*
 * Accounts and tickets. A ticket looks like a real one and is signed with a
 * key of this run; voiding all tickets is a new key. Secrets are the tests'
 * own, so nothing here is wiped.
 */
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "pbsd_api.h"
#include "pbsd_auth.h"

#define ACCOUNTS_MAX 32

static struct account {
	char id[320], secret[512];
	int rights;
} accounts[ACCOUNTS_MAX];
static int account_count;
static unsigned char key[32];
static int have_key;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct account *
find(const char *id)
{
	for (int i = 0; i < account_count; i++)
		if (strcmp(accounts[i].id, id) == 0)
			return &accounts[i];
	return NULL;
}

int
auth_add(const char *spec, int rights)
{
	const char *colon = strchr(spec, ':');
	struct account *a;
	char id[320];

	if (!colon || colon - spec >= (int)sizeof(id))
		return -1;
	snprintf(id, sizeof(id), "%.*s", (int)(colon - spec), spec);
	pthread_mutex_lock(&lock);
	a = find(id);
	if (!a && account_count < ACCOUNTS_MAX) {
		a = &accounts[account_count++];
		memcpy(a->id, id, sizeof(id));
		a->rights = rights;
	}
	if (a)
		snprintf(a->secret, sizeof(a->secret), "%s", colon + 1);
	pthread_mutex_unlock(&lock);
	return a ? 0 : -1;
}

int
auth_rights(const char *id, int rights)
{
	struct account *a;

	pthread_mutex_lock(&lock);
	a = find(id);
	if (a)
		a->rights = rights;
	pthread_mutex_unlock(&lock);
	return a ? 0 : -1;
}

void
auth_expire(void)
{
	pthread_mutex_lock(&lock);
	have_key = RAND_bytes(key, sizeof(key)) == 1;
	pthread_mutex_unlock(&lock);
}

/* Base64 without padding of an HMAC over text. */
static void
sign(const char *text, const EVP_MD *md, char out[128])
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	pthread_mutex_lock(&lock);
	if (!have_key)
		have_key = RAND_bytes(key, sizeof(key)) == 1;
	HMAC(md, key, sizeof(key), (const unsigned char *)text, strlen(text), mac, &n);
	pthread_mutex_unlock(&lock);
	EVP_EncodeBlock((unsigned char *)out, mac, (int)n);
	out[strcspn(out, "=")] = '\0';
}

/* "PBS:WHO:TIME::SIGNATURE", the time in hex, as real tickets have it. */
static void
ticket_make(const char *what, char *out, size_t cap)
{
	char text[512], mac[128];

	snprintf(text, sizeof(text), "PBS:%.400s:%08llX", what, (long long)time(NULL));
	sign(text, EVP_sha512(), mac);
	snprintf(out, cap, "%s::%s", text, mac);
}

/* The user of a valid ticket to id: 1, else 0. */
static int
ticket_check(const char *ticket, char *id, size_t cap)
{
	const char *sig = strstr(ticket, "::"), *colon;
	char text[1024], mac[128];
	long long made;

	if (!sig || sig - ticket >= (int)sizeof(text) || strncmp(ticket, "PBS:", 4) != 0 || ticket[4] == '!')
		return 0;
	snprintf(text, sizeof(text), "%.*s", (int)(sig - ticket), ticket);
	sign(text, EVP_sha512(), mac);
	colon = strrchr(text, ':');
	made = strtoll(colon + 1, NULL, 16);
	if (strcmp(mac, sig + 2) != 0 || time(NULL) - made >= site.ticket_life)
		return 0;
	snprintf(id, cap, "%.*s", (int)(colon - text - 4), text + 4);
	return 1;
}

/* A field of the login's body, which is JSON or a form. */
static int
login_field(const struct request *r, const char *name, char *out, size_t cap)
{
	const char *type = request_header(r, "content-type");
	const char *s;
	json_t *o;
	int n;

	if (!type || strncasecmp(type, "application/json", 16) != 0)
		return query_param(r->body, name, out, cap) == 1 ? 0 : -1;
	o = json_loadb(r->body, r->body_len, JSON_REJECT_DUPLICATES, NULL);
	s = json_string_value(json_object_get(o, name));
	n = s ? snprintf(out, cap, "%s", s) : -1;
	json_decref(o);
	return n < 0 || (size_t)n >= cap ? -1 : 0;
}

/* For Set-Cookie: a ticket holds ":", "/" and "+". */
static void
percent_encode(const char *s, char *out, size_t cap)
{
	size_t n = 0;

	for (; *s && n + 4 < cap; s++) {
		if (isalnum((unsigned char)*s) || strchr("-_.~", *s))
			out[n++] = *s;
		else
			n += (size_t)snprintf(out + n, 4, "%%%02X", (unsigned char)*s);
	}
	out[n] = '\0';
}

/* With a second factor wanted the ticket is good for answering the challenge only. */
static void
give_ticket(const struct request *r, struct answer *a, const char *user, int tfa)
{
	char ticket[1024], encoded[2048], csrf[192], mac[128];
	json_t *o = json_object(), *d = json_object();

	ticket_make(tfa ? "!tfa!%7B%22totp%22%3Atrue%2C%22recovery%22%3A%5B0%5D%7D" : user, ticket, sizeof(ticket));
	snprintf(csrf, sizeof(csrf), "%08llX", (long long)time(NULL));
	sign(csrf, EVP_sha256(), mac);
	snprintf(csrf + 8, sizeof(csrf) - 8, ":%s", mac);
	json_object_set_new(d, "CSRFPreventionToken", json_string(tfa ? "invalid" : csrf));
	if (tfa && site.v4)
		json_object_set_new(d, "NeedTFA", json_true());
	if (r->weather->host_cookie && !tfa) {
		percent_encode(ticket, encoded, sizeof(encoded));
		snprintf(a->extra, sizeof(a->extra), "set-cookie: __Host-PBSAuthCookie=%.800s; Secure; SameSite=Lax; HttpOnly; Path=/;\r\n",
		    encoded);
		*strstr(ticket, "::") = '\0';
		json_object_set_new(d, "ticket-info", json_string(ticket));
	} else
		json_object_set_new(d, "ticket", json_string(ticket));
	json_object_set_new(d, "username", json_string(user));
	json_object_set_new(o, "data", d);
	if (site.v4) {
		json_object_set_new(o, "status", json_integer(200));
		json_object_set_new(o, "success", json_true());
	}
	a->body = json_dumps(o, JSON_COMPACT);
	a->len = strlen(a->body);
	a->status = 200;
	a->type = site.v4 ? "application/json" : TYPE_JSON;
	json_decref(o);
	count(N_LOGINS, 1);
}

void
auth_login(const struct request *r, struct answer *a)
{
	char user[320], password[1024], who[320];
	struct account *acc;
	int rights = 0;

	if (login_field(r, "username", user, sizeof(user)) < 0 || login_field(r, "password", password, sizeof(password)) < 0) {
		answer_text(a, 400, NULL, "parameter verification failed - 'username': parameter is missing and it is not optional.");
		return;
	}
	pthread_mutex_lock(&lock);
	acc = find(user);
	if (acc && strcmp(acc->secret, password) == 0)
		rights = acc->rights | MAY_LOGIN;
	else if (acc)
		rights = acc->rights & ~MAY_LOGIN;
	pthread_mutex_unlock(&lock);
	if (acc && !(rights & MAY_LOGIN) && ticket_check(password, who, sizeof(who)) && strcmp(who, user) == 0)
		rights |= MAY_LOGIN;
	if (!(rights & MAY_LOGIN) || strchr(user, '!')) {
		count(N_LOGIN_FAILURES, 1);
		api_unauthorized(r, a, TYPE_JSON, "permission check failed.");
		return;
	}
	give_ticket(r, a, user, rights & WANTS_TFA);
}

/* The ticket of a Cookie header, decoded: 1 if there is one. */
static int
cookie_ticket(const struct request *r, char *out, size_t cap)
{
	static const char *const names[] = { "__Host-PBSAuthCookie=", "PBSAuthCookie=" };
	const char *c = request_header(r, "cookie"), *p;

	for (int i = r->weather->host_cookie || site.v4 ? 0 : 1; c && i < (r->weather->host_cookie ? 1 : 2); i++) {
		for (p = c; (p = strstr(p, names[i])); p++) {
			if (p != c && p[-1] != ' ' && p[-1] != ';')
				continue;
			p += strlen(names[i]);
			if (strcspn(p, ":/+ ,") < strcspn(p, ";"))
				violation(r->conn, "the ticket in the cookie is not percent-encoded");
			return percent_decode(p, strcspn(p, ";"), 0, out, cap) > 0;
		}
	}
	return 0;
}

/* Both "PBSAPIToken=ID:SECRET" and "PBSAPIToken ID:SECRET" are taken. */
static int
token_who(const char *p, char *id, size_t cap)
{
	struct account *a;
	const char *colon;
	int rights = 0;

	p += strlen("PBSAPIToken");
	if (*p != '=' && *p != ' ')
		return 0;
	p++;
	colon = strchr(p, ':');
	if (!colon || (size_t)(colon - p) >= cap)
		return 0;
	snprintf(id, cap, "%.*s", (int)(colon - p), p);
	pthread_mutex_lock(&lock);
	a = find(id);
	if (a && strchr(id, '!') && strcmp(a->secret, colon + 1) == 0)
		rights = a->rights | MAY_LOGIN;
	pthread_mutex_unlock(&lock);
	return rights;
}

int
auth_who(const struct request *r, char *id, size_t cap, const char **why)
{
	const char *h = request_header(r, "authorization");
	char ticket[1024];
	struct account *a;
	int rights = 0;

	*why = "authentication failed - invalid credentials";
	if (h && strncmp(h, "PBSAPIToken", 11) == 0)
		rights = token_who(h, id, cap);
	else if (cookie_ticket(r, ticket, sizeof(ticket))) {
		if (ticket_check(ticket, id, cap)) {
			pthread_mutex_lock(&lock);
			a = find(id);
			rights = a ? a->rights | MAY_LOGIN : 0;
			pthread_mutex_unlock(&lock);
		} else
			*why = "authentication failed - invalid ticket";
	} else
		*why = "authentication failed - no authentication credentials provided.";
	if (site.v4)
		*why = "authentication failed";
	if (!rights)
		count(N_REFUSED, 1);
	return rights;
}
