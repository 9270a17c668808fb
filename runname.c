/*
 * Names of mappings, as the official client forms them.  Pure but for a
 * directory's real path, which stands for it.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "run.h"
#include "sha256.h"

#define DIGITS 32			/* of a digest that stands for a cut name's start */
#define CUT "..."			/* no name has it by itself */
#define FULL_MAX (4 * PATH_MAX + 4096)	/* every byte escaped */

static int
is_plain(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	    c == '_' || c == '.';
}

/* systemd-escape: / becomes -, all but the plain \xNN, a leading '.' too. */
static void
escape(const char *s, char *out, size_t cap)
{
	char *p = out;

	for (; *s && cap - (size_t)(p - out) > 4; s++) {
		if (*s == '/')
			*p++ = '-';
		else if (is_plain(*s) && !(*s == '.' && p == out))
			*p++ = *s;
		else
			p += sprintf(p, "\\x%02x", (unsigned char)*s);
	}
	*p = '\0';
}

/* "a/b" becomes "ns/a/ns/b/", as it stands in a datastore. */
static int
put_namespace(const char *ns, char *out, size_t cap)
{
	size_t n = 0;

	out[0] = '\0';
	while (*ns && n < cap) {
		int len = (int)strcspn(ns, "/");

		n += (size_t)snprintf(out + n, cap - n, "ns/%.*s/", len, ns);
		ns += len;
		ns += *ns == '/';
	}
	return (int)n;
}

/* Bytes of the name's pid file. */
static size_t
pid_len(const char *name)
{
	const char *dot = strrchr(name, '.');

	return (dot && dot != name ? (size_t)(dot - name) : strlen(name)) + 4;
}

/* The end of a long name, from a component's beginning if one of them fits;
 * never from within an escape. */
static const char *
tail_of(const char *full, size_t room)
{
	const char *from = full + strlen(full) - room, *p = strchr(from, '-');

	if (p != NULL)
		return p;
	for (p = from - 3; p < from; p++)
		if (*p == '\\')
			return p + 4;
	return from;
}

void
run_name(const struct repo *r, const struct snapshot *s, const char *archive, char out[RUN_NAME])
{
	static const size_t head = DIGITS + sizeof CUT - 1;
	char *plain = malloc(FULL_MAX), *full = malloc(FULL_MAX), *real = NULL;
	char ns[4 * NS_MAX], time[RUN_NAME * 2], user[RUN_NAME], store[512];
	uint8_t digest[32];

	out[0] = '\0';
	if (plain != NULL && full != NULL) {
		repo_print(r, store, sizeof store);
		if (r->is_dir)
			real = realpath(r->path, NULL);
		put_namespace(s->ns, ns, sizeof ns);
		snapshot_print(s, time, sizeof time);
		archive_print(archive, user, sizeof user);
		snprintf(plain, FULL_MAX, "%s:%s%s/%s", real ? real : r->is_dir ? r->path : store,
		    ns, time, user);
		escape(plain, full, FULL_MAX);
		if (strlen(full) < RUN_NAME && pid_len(full) < RUN_NAME) {
			strcpy(out, full);
		} else {
			/* Room for a pid file whose suffix is not in place of another. */
			sha256(digest, full, strlen(full));
			hex_encode(out, digest, DIGITS / 2);
			snprintf(out + DIGITS, RUN_NAME - DIGITS, CUT "%s",
			    tail_of(full, RUN_NAME - 1 - 4 - head));
		}
	}
	free(real);
	free(plain);
	free(full);
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void
run_unescape(const char *name, char *out, size_t cap)
{
	size_t n = 0;

	for (; *name && n + 1 < cap; name++) {
		int c = (unsigned char)*name, high, low;

		if (c == '-') {
			c = '/';
		} else if (c == '\\' && name[1] == 'x' && (high = hex_digit(name[2])) >= 0 &&
		    (low = hex_digit(name[3])) >= 0) {
			c = high << 4 | low;
			name += 3;
		}
		out[n++] = c < ' ' || c == 0x7f ? '?' : (char)c;
	}
	if (cap > 0)
		out[n] = '\0';
}

void
run_pid_name(const char *name, char out[RUN_NAME + 4])
{
	snprintf(out, RUN_NAME + 4, "%.*s.pid", (int)(pid_len(name) - 4), name);
}
