/*
 * Names: how repositories, namespaces, groups, snapshots and archives are
 * written, and nothing else.  Knows no server, no directory, no clock, no
 * locale and no time zone; whatever passes here is safe as a path component
 * and in a URL's query once encoded.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "repo.h"

#define STORE_MIN 3u			/* characters of a datastore's name */
#define HOST_MAX 253u			/* by DNS */
#define NS_DEPTH 8

static int
is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A copy of n bytes with a NUL; 0 when they do not fit. */
static int
copy(char *out, size_t cap, const char *s, size_t n)
{
	if (n >= cap)
		return 0;
	memcpy(out, s, n);
	out[n] = '\0';
	return 1;
}

int
safe_id(const char *s, size_t len)
{
	/* No leading dot or dash: neither "..", nor a hidden file, nor an
	 * option of somebody's command. */
	if (len == 0 || !(is_alnum(s[0]) || s[0] == '_'))
		return 0;
	for (size_t i = 1; i < len; i++)
		if (!is_alnum(s[i]) && !memchr("._-", s[i], 3))
			return 0;
	return 1;
}

/* What the server allows in a user's name: nearly all, '@' and '!' too. */
static int
is_user(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c <= ' ' || c == 0x7f || c == ':' || c == '/')
			return 0;
	}
	return n > 0;
}

/* A name or an IPv4 address. Also what resolvers take for one, as a_b; but no
 * leading '-' and no empty label. */
static int
is_host(const char *s, size_t n)
{
	if (n == 0 || n > HOST_MAX || s[0] == '-')
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (!is_alnum(s[i]) && !memchr("._-", s[i], 3))
			return 0;
		if (s[i] == '.' && (i == 0 || s[i - 1] == '.'))
			return 0;
	}
	return 1;
}

/* An IPv6 address, with a zone perhaps: what a rescuer has before there are
 * routers is fe80::1%eth0. */
static int
is_ipv6(const char *s, size_t n)
{
	const char *zone = memchr(s, '%', n);
	size_t len = zone ? (size_t)(zone - s) : n;
	struct in6_addr addr;
	char text[INET6_ADDRSTRLEN];

	if (zone && !safe_id(zone + 1, n - len - 1))
		return 0;
	return copy(text, sizeof text, s, len) && inet_pton(AF_INET6, text, &addr) == 1;
}

static int
all_digits(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return 0;
	return n > 0;
}

/* These return NULL or what is wrong. */

static const char *
parse_port(const char *s, size_t n, struct repo *r)
{
	unsigned long v = 0;

	if (!all_digits(s, n) || n > 5)
		return "the port is no number from 1 to 65535";
	for (size_t i = 0; i < n; i++)
		v = v * 10 + (unsigned long)(s[i] - '0');
	if (v == 0 || v > 65535)
		return "the port is no number from 1 to 65535";
	r->port = (uint16_t)v;
	r->has_port = 1;
	return NULL;
}

/* host, host:port, [ipv6], [ipv6]:port or port. */
static const char *
parse_host(const char *s, size_t n, struct repo *r)
{
	const char *host = s, *end, *rest;
	size_t len;

	/* No host is called 8007, so that is the port of the default host. */
	if (all_digits(s, n))
		return parse_port(s, n, r);
	if (n > 0 && s[0] == '[') {
		host++;
		end = memchr(s, ']', n);
		if (!end || !is_ipv6(host, (size_t)(end - host)))
			return "there is no IPv6 address in the brackets";
		rest = end + 1;
	} else {
		end = memchr(s, ':', n);
		end = rest = end ? end : s + n;
		/* Not guessed at: fe80::1:8007 is an address as well. */
		if (rest < s + n && memchr(rest + 1, ':', (size_t)(s + n - rest - 1)))
			return "an IPv6 address stands in brackets, as in [fe80::1]:store";
		if (!is_host(host, (size_t)(end - host)))
			return "the host is no name or address";
	}
	len = (size_t)(end - host);
	if (!copy(r->host, sizeof r->host, host, len))
		return "the host's name is too long";
	r->has_host = 1;
	if (rest == s + n)
		return NULL;
	if (*rest != ':')
		return "a colon and a port or a datastore follow the address";
	return parse_port(rest + 1, (size_t)(s + n - rest - 1), r);
}

/* user@realm or user@realm!token; the user may have an '@' itself. */
static const char *
parse_auth(const char *s, size_t n, struct repo *r)
{
	const char *at = memrchr(s, '@', n), *realm, *bang;
	size_t len;

	if (!at)
		return "the user lacks a realm, as in root@pam@host:store";
	if (!is_user(s, (size_t)(at - s)))
		return "the user's name is empty or has a blank, ':' or '/'";
	realm = at + 1;
	len = (size_t)(s + n - realm);
	bang = memchr(realm, '!', len);
	if (bang && !safe_id(bang + 1, (size_t)(s + n - bang - 1)))
		return "the token's name after '!' is empty or has forbidden characters";
	if (!safe_id(realm, bang ? (size_t)(bang - realm) : len))
		return "the realm is empty or has forbidden characters";
	if (!copy(r->auth_id, sizeof r->auth_id, s, n))
		return "the user's name is too long";
	r->has_auth = 1;
	return NULL;
}

static const char *
parse_server(const char *s, struct repo *r)
{
	const char *at = strrchr(s, '@'), *why, *colon, *store;

	/* Neither host nor datastore can hold an '@': the last one is the border. */
	if (at) {
		why = parse_auth(s, (size_t)(at - s), r);
		if (why)
			return why;
		s = at + 1;
	}
	colon = strrchr(s, ':');
	if (at && !colon)
		return "host and datastore follow the user";
	store = colon ? colon + 1 : s;
	if (strlen(store) < STORE_MIN || !safe_id(store, strlen(store)) ||
	    !copy(r->store, sizeof r->store, store, strlen(store)))
		return "a datastore's name has 3 to 32 letters, digits, '.', '_' or '-'";
	return colon ? parse_host(s, (size_t)(colon - s), r) : NULL;
}

static const char *
parse_dir(const char *s, struct repo *r)
{
	r->is_dir = 1;
	/* Whether it is a datastore is found out by who opens it. */
	if (s[0] == '\0')
		return "the directory's name is empty";
	if (!copy(r->path, sizeof r->path, s, strlen(s)))
		return "the directory's name is too long";
	return NULL;
}

int
repo_parse(const char *text, struct repo *r, struct err *e)
{
	const char *why;

	/* What is not given keeps its default; has_auth and so on tell them apart. */
	memset(r, 0, sizeof *r);
	strcpy(r->auth_id, "root@pam");
	strcpy(r->host, "localhost");
	r->port = 8007;
	if (strncmp(text, "file:", 5) == 0)
		why = parse_dir(text + 5, r);
	else if (text[0] == '/' || strncmp(text, "./", 2) == 0 || strncmp(text, "../", 3) == 0 ||
	    strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
		why = parse_dir(text, r);
	else
		why = parse_server(text, r);
	if (!why)
		return 0;
	return err_set(e, ST_USAGE, -EINVAL, "repository '%.256s': %s; write "
	    "[[USER@REALM[!TOKEN]@]HOST[:PORT]:]DATASTORE or /DIRECTORY", text, why);
}

int
repo_print(const struct repo *r, char *out, size_t cap)
{
	const char *open = strchr(r->host, ':') ? "[" : "", *close = open[0] ? "]" : "";

	if (r->is_dir)
		return snprintf(out, cap, "%s", r->path);
	/* With a user everything is printed, given or not: so does the official
	 * client, and the mapping's name in /run is made of this. */
	if (r->has_auth)
		return snprintf(out, cap, "%s@%s%s%s:%u:%s", r->auth_id, open, r->host, close,
		    r->port, r->store);
	if (r->has_port)
		return snprintf(out, cap, "%s%s%s:%u:%s", open, r->host, close, r->port, r->store);
	if (r->has_host)
		return snprintf(out, cap, "%s%s%s:%s", open, r->host, close, r->store);
	return snprintf(out, cap, "%s", r->store);
}

int
ns_check(const char *ns, struct err *e)
{
	const char *p = ns, *why = NULL;
	int depth = 0;

	/* The empty one is the root; in others no part is empty, so neither
	 * "/a" nor "a/" nor "a//b" is a second name of something. */
	while (*ns && !why) {
		size_t n = strcspn(p, "/");

		if (!safe_id(p, n))
			why = "its parts have letters, digits, '.', '_' and '-'";
		else if (++depth > NS_DEPTH)
			why = "it has at most 8 parts";
		if (p[n] == '\0')
			break;
		p += n + 1;
	}
	if (strlen(ns) >= NS_MAX)
		why = "it has at most 256 characters";
	if (!why)
		return 0;
	return err_set(e, ST_USAGE, -EINVAL, "namespace '%.256s': %s; write NAME[/NAME...]", ns, why);
}

int
snapshot_parse(const char *text, const char *ns, struct snapshot *s, struct err *e)
{
	const char *id, *end, *why = NULL;

	memset(s, 0, sizeof *s);
	if (ns && ns_check(ns, e) < 0)
		return -EINVAL;
	if (ns)
		strcpy(s->ns, ns);
	id = text + strcspn(text, "/");
	if (!copy(s->type, sizeof s->type, text, (size_t)(id - text)) ||
	    (strcmp(s->type, "vm") != 0 && strcmp(s->type, "ct") != 0 && strcmp(s->type, "host") != 0)) {
		why = "it begins with vm/, ct/ or host/";
	} else {
		/* The rest after the ID, if any, is the time and nothing more. */
		id += *id == '/';
		end = id + strcspn(id, "/");
		if (!safe_id(id, (size_t)(end - id)) || !copy(s->id, sizeof s->id, id, (size_t)(end - id)))
			why = "its ID has letters, digits, '.', '_' and '-'";
		else if (*end == '/' && time_parse(end + 1, strlen(end + 1), &s->time) < 0)
			why = "its time is no UTC time as 2026-01-31T23:59:59Z";
		s->has_time = *end == '/';
	}
	if (!why)
		return 0;
	return err_set(e, ST_USAGE, -EINVAL, "snapshot '%.256s': %s; write TYPE/ID/TIME, "
	    "or TYPE/ID for the newest", text, why);
}

void
snapshot_print(const struct snapshot *s, char *out, size_t cap)
{
	char when[21] = "";

	if (s->has_time)
		time_print(s->time, when);
	snprintf(out, cap, "%s/%s%s%s", s->type, s->id, s->has_time ? "/" : "", when);
}

/* --- times --- */

static int
is_leap(int64_t y)
{
	return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

static int
month_days(int64_t y, int m)
{
	static const char days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return days[m - 1] + (m == 2 && is_leap(y));
}

/* Days from 1970-01-01 to the first of January of y >= 1970. */
static int64_t
year_start(int64_t y)
{
	int64_t p = y - 1;

	return 365 * (y - 1970) + (p / 4 - p / 100 + p / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
}

int
time_parse(const char *text, size_t len, int64_t *t)
{
	static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
	int f[6] = { 0 }, n = 0;
	int64_t day;

	if (len != sizeof form - 1)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (form[i] != 'd') {
			if (text[i] != form[i])
				return -1;
			n++;
		} else if (text[i] >= '0' && text[i] <= '9') {
			f[n] = f[n] * 10 + (text[i] - '0');
		} else {
			return -1;
		}
	}
	if (f[0] < 1970 || f[1] < 1 || f[1] > 12 || f[2] < 1 || f[2] > month_days(f[0], f[1]) ||
	    f[3] > 23 || f[4] > 59 || f[5] > 59)
		return -1;
	/* No leap second: the server's clock has none. */
	day = year_start(f[0]) + f[2] - 1;
	for (int m = 1; m < f[1]; m++)
		day += month_days(f[0], m);
	*t = ((day * 24 + f[3]) * 60 + f[4]) * 60 + f[5];
	return 0;
}

void
time_print(int64_t t, char out[21])
{
	int64_t day = t / 86400, y = 1970 + day / 366;
	unsigned s = (unsigned)(t % 86400);
	int m = 1;

	/* What cannot be written in this form must not look like a time. */
	if (t < 0 || day >= year_start(10000)) {
		strcpy(out, "(time out of range)");
		return;
	}
	/* The guess by long years is at most 17 years short in 8000. */
	while (year_start(y + 1) <= day)
		y++;
	day -= year_start(y);
	while (day >= month_days(y, m))
		day -= month_days(y, m++);
	snprintf(out, 21, "%04u-%02u-%02uT%02u:%02u:%02uZ", (unsigned)y % 10000, (unsigned)m % 100,
	    (unsigned)(day + 1) % 100, s / 3600 % 100, s / 60 % 60, s % 60);
}

/* --- archives --- */

/* Ends with the suffix, and has something before it. */
static int
ends(const char *s, size_t n, const char *suffix)
{
	size_t k = strlen(suffix);

	return n > k && memcmp(s + n - k, suffix, k) == 0;
}

/* Length of the name users know. */
static size_t
plain_len(const char *stored)
{
	size_t n = strlen(stored);

	return ends(stored, n, ".fidx") || ends(stored, n, ".didx") || ends(stored, n, ".blob") ?
	    n - 5 : n;
}

int
archive_parse(const char *text, char *stored, size_t cap, enum archive_kind *kind, struct err *e)
{
	size_t n = plain_len(text);
	const char *given = text + n, *suffix;

	if (ends(text, n, ".img")) {
		*kind = ARCHIVE_IMG;
		suffix = ".fidx";
	} else if (ends(text, n, ".pxar") || ends(text, n, ".mpxar") || ends(text, n, ".ppxar")) {
		*kind = ARCHIVE_PXAR;
		suffix = ".didx";
	} else if (ends(text, n, ".pcat1")) {
		*kind = ARCHIVE_OTHER;
		suffix = ".didx";
	} else {
		*kind = ARCHIVE_BLOB;
		suffix = ".blob";
	}
	/* Given in full: then it is that file, whatever it holds. */
	if (*given && strcmp(given, suffix) != 0) {
		*kind = strcmp(given, ".blob") == 0 ? ARCHIVE_BLOB : ARCHIVE_OTHER;
		suffix = given;
	}
	if (!safe_id(text, n) || n + 5 >= cap || n + 5 > 255)
		return err_set(e, ST_USAGE, -EINVAL, "archive '%.256s': a name has letters, digits, "
		    "'.', '_' and '-', as in drive-scsi0.img", text);
	memcpy(stored, text, n);
	strcpy(stored + n, suffix);
	return 0;
}

void
archive_print(const char *stored, char *out, size_t cap)
{
	snprintf(out, cap, "%.*s", (int)plain_len(stored), stored);
}
