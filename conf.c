/*
 * The configuration file: environment variables in a file.
 *
 * What the user set in the environment wins, whole: PBS_PASSWORD_FILE there must not lose to a
 * PBS_PASSWORD here. Within the file the last assignment counts. Knows names, not what they mean.
 */
#include "conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "log.h"

static const struct {
	const char *name;
	int forms;			/* has _FD, _FILE and _CMD, too */
	int secret;
	int part;			/* of a repository: goes with PBS_REPOSITORY */
} known[] = {
	{ "PBS_REPOSITORY", 0, 0, 0 },
	{ "PBS_SERVER", 0, 0, 1 },
	{ "PBS_PORT", 0, 0, 1 },
	{ "PBS_DATASTORE", 0, 0, 1 },
	{ "PBS_AUTH_ID", 0, 0, 1 },
	{ "PBS_NAMESPACE", 0, 0, 0 },
	{ "PBS_PASSWORD", 1, 1, 0 },
	{ "PBS_ENCRYPTION_PASSWORD", 1, 1, 0 },
	{ "PBS_FINGERPRINT", 1, 0, 0 },
	{ "ALL_PROXY", 0, 0, 0 },
	{ "SSL_CERT_FILE", 0, 0, 0 },
};
#define KNOWN (sizeof known / sizeof known[0])

static const char *const form[] = { "", "_FD", "_FILE", "_CMD" };
#define FORMS (sizeof form / sizeof form[0])

static unsigned loaded;			/* bit i: the file's plain known[i], a secret, is in the environment */

struct load {
	const char *path;
	int set_before[KNOWN];
};

/* One value: text[*i] on; written over the text from *o on. 0, or -1: a quote is not closed. */
static int
value(char *text, size_t len, size_t *i, size_t *o, unsigned *line)
{
	size_t keep = *o;		/* blanks after this are dropped at the end */
	char quote = 0, ch;
	int start = 1;			/* a quote may begin here */

	for (; *i < len && (quote || text[*i] != '\n'); (*i)++) {
		ch = text[*i];
		*line += ch == '\n';
		if (quote && ch == quote) {
			quote = 0;
			start = 1;
			continue;
		}
		if (start && !quote && (ch == '\'' || ch == '"')) {
			quote = ch;
			continue;
		}
		if (!quote && (ch == ' ' || ch == '\t' || ch == '\r')) {
			if (!start)
				text[(*o)++] = ch;
			continue;
		}
		start = 0;
		if (ch == '\\' && quote != '\'' && *i + 1 < len) {
			ch = text[*i + 1];
			if (!quote || strchr("\\\"$`\n", ch))
				(*i)++;
			else
				ch = '\\';
			if (ch == '\n') {
				++*line;
				continue;
			}
		}
		text[(*o)++] = ch;
		keep = *o;
	}
	*o = keep;
	return quote ? -1 : 0;
}

/* The length of a key at the start of p[len], 0: none. */
static size_t
key_len(const char *p, size_t len)
{
	size_t n;

	for (n = 0; n < len; n++)
		if (!(p[n] == '_' || (p[n] >= 'A' && p[n] <= 'Z') || (p[n] >= 'a' && p[n] <= 'z') ||
		    (n && p[n] >= '0' && p[n] <= '9')))
			break;
	return n;
}

int
conf_parse(char *text, size_t len, const char *name,
    int (*set)(void *ctx, const char *key, const char *value), void *ctx, struct err *e)
{
	unsigned line = 1, at;
	size_t i = 0, n, start, o;
	char *key;
	int rc;

	if (memchr(text, 0, len))
		return err_set(e, ST_USAGE, -EINVAL, "%s: not a text file", name);
	for (; i < len; i++, line++) {
		i += strspn(text + i, " \t\r");
		if (text[i] == '#' || text[i] == ';')
			i += strcspn(text + i, "\n");
		if (i >= len || text[i] == '\n')
			continue;
		if (strncmp(text + i, "export ", 7) == 0)
			i += 7 + strspn(text + i + 7, " \t");
		key = text + i;
		n = key_len(key, len - i);
		i += n;
		i += strspn(text + i, " \t");
		if (!n || text[i] != '=')
			return err_set(e, ST_USAGE, -EINVAL, "%s: line %u is not KEY=VALUE", name, line);
		key[n] = 0;		/* over the '=' or a blank: both were read */
		o = start = ++i;
		at = line;
		if (value(text, len, &i, &o, &line))
			return err_set(e, ST_USAGE, -EINVAL, "%s: line %u: a quote is not closed", name, at);
		text[o] = 0;
		rc = set(ctx, key, text + start);
		if (rc)
			return err_set(e, ST_USAGE, rc, "%s: line %u: %s", name, at, strerror(-rc));
	}
	return 0;
}

/* Which of known[] a key is; *f: its form. -1: none. */
static int
find(const char *key, unsigned *f)
{
	char full[40];
	unsigned i;

	for (i = 0; i < KNOWN; i++)
		for (*f = 0; *f < (known[i].forms ? FORMS : 1); ++*f) {
			snprintf(full, sizeof full, "%s%s", known[i].name, form[*f]);
			if (strcmp(key, full) == 0)
				return (int)i;
		}
	return -1;
}

static void
forget(const char *name)
{
	char *p = getenv(name);

	if (p)
		wipe(p, strlen(p));	/* libc only drops the pointer */
	unsetenv(name);
}

static int
take(void *ctx, const char *key, const char *text)
{
	struct load *l = ctx;
	unsigned f;
	int i = find(key, &f);

	if (i < 0) {
		say("%s: unknown key %.64s is ignored", l->path, key);
		return 0;
	}
	/* [0] is PBS_REPOSITORY: a server named here must not change it */
	if (l->set_before[i] || (known[i].part && l->set_before[0]))
		return 0;
	/* an earlier assignment's copy would stay in memory */
	if (known[i].secret && f == 0) {
		forget(key);
		loaded |= 1u << i;
	}
	return setenv(key, text, 1) ? -errno : 0;
}

static int
read_file(const char *path, char *text, size_t *len, unsigned *mode)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return -errno;
	*mode = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_mode & 0777 : 0;
	for (*len = 0; *len < CONF_MAX; *len += (size_t)n) {
		n = read(fd, text + *len, CONF_MAX - *len);
		if (n < 0)
			rc = -errno;
		if (n <= 0)
			break;
	}
	close(fd);
	text[*len] = 0;
	return rc ? rc : *len == CONF_MAX ? -EFBIG : 0;
}

int
conf_load(const char *path, struct err *e)
{
	struct load l = { .path = path };
	char *text = malloc(CONF_MAX + 1), full[40];
	unsigned i, f, mode = 0;
	size_t len = 0;
	int rc;

	/* before the file adds its own */
	for (i = 0; i < KNOWN; i++)
		for (f = 0; f < FORMS; f++) {
			snprintf(full, sizeof full, "%s%s", known[i].name, form[f]);
			l.set_before[i] |= getenv(full) != NULL;
		}
	rc = text ? read_file(path, text, &len, &mode) : -ENOMEM;
	if (rc)
		err_set(e, ST_USAGE, rc, "cannot read %s: %s", path, strerror(-rc));
	else
		rc = conf_parse(text, len, path, take, &l, e);
	if (!rc && loaded && mode & 077)
		say("%s: others can read it (mode %03o) and it has a secret in it: chmod 600 %s", path, mode, path);
	if (text)
		wipe(text, CONF_MAX + 1);
	free(text);
	return rc;
}

void
conf_forget(void)
{
	unsigned i;

	for (i = 0; i < KNOWN; i++)
		if (loaded & 1u << i)
			forget(known[i].name);
	loaded = 0;
}

void
conf_secret(const char *name, const char *value)
{
	unsigned f;
	int i = find(name, &f);

	forget(name);
	if (i >= 0 && value && setenv(name, value, 1) == 0)
		loaded |= 1u << i;
}
