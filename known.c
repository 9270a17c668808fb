/*
 * Known fingerprints: the official client's file, read and rewritten.
 *
 * Lines of other hosts are kept byte for byte, also those that make no sense here.
 * Knows nothing of certificates or of who asks.
 */
#include "known.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "trust.h"

#define KNOWN_MAX (1u << 20)		/* bytes of the file: 10,000 servers */

int
known_path(char *out, size_t cap)
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n;

	if (xdg && xdg[0] == '/')
		n = snprintf(out, cap, "%s/proxmox-backup/fingerprints", xdg);
	else if (home && home[0] == '/')
		n = snprintf(out, cap, "%s/.config/proxmox-backup/fingerprints", home);
	else
		return -ENOENT;
	return n < 0 || (size_t)n >= cap ? -ENOENT : 0;
}

/* The whole file, malloc'ed, with a NUL behind it. */
static int
slurp(const char *path, char **out, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0;	/* a FIFO there must not hang us */
	char *p;
	ssize_t n;

	if (fd < 0)
		return -errno;
	*len = 0;
	p = malloc(KNOWN_MAX + 1);
	while (p && *len < KNOWN_MAX && (n = read(fd, p + *len, KNOWN_MAX - *len)) != 0) {
		if (n < 0) {
			rc = -errno;
			break;
		}
		*len += (size_t)n;
	}
	close(fd);
	if (!p)
		return -ENOMEM;
	if (*len == KNOWN_MAX)
		rc = -EFBIG;
	if (rc) {
		free(p);
		return rc;
	}
	p[*len] = 0;
	*out = p;
	return 0;
}

/* Whether the line's first word is the host, with or without an IPv6 address's brackets; *rest: what follows it. */
static int
is_host(const char *line, size_t n, const char *host, const char **rest)
{
	size_t skip = 0, word, want = strlen(host);

	while (skip < n && (line[skip] == ' ' || line[skip] == '\t'))
		skip++;
	line += skip;
	n -= skip;
	for (word = 0; word < n && !strchr(" \t\r", line[word]); word++)
		;
	*rest = line + word;
	if (word > 2 && line[0] == '[' && line[word - 1] == ']') {
		line++;
		word -= 2;
	}
	return word == want && memcmp(line, host, want) == 0;
}

int
known_find(const char *path, const char *host, uint8_t fingerprint[32], struct err *e)
{
	char *text, *line, *end, print[128];
	const char *rest;
	size_t len;
	int rc = slurp(path, &text, &len), found = 0;

	if (rc == -ENOENT || rc == -ENOTDIR)
		return -ENOENT;
	if (rc)
		return err_set(e, ST_TRUST, rc, "cannot read known fingerprints from %s: %s", path, strerror(-rc));
	for (line = text; !found && line < text + len; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text + len - line));
		if (!end)
			end = text + len;
		if (!is_host(line, (size_t)(end - line), host, &rest))
			continue;
		found = 1;
		/* longer ones are no fingerprint anyway */
		snprintf(print, sizeof print, "%.*s", (int)(end - rest < 127 ? end - rest : 127), rest);
	}
	free(text);
	if (!found)
		return -ENOENT;
	if (fingerprint_parse(print, fingerprint))
		return err_set(e, ST_TRUST, -EINVAL, "%s: the line of %s has no fingerprint (wanted: 64 hex digits)", path, host);
	return 0;
}

/* Makes the directories above the file. */
static int
make_dirs(const char *path)
{
	char dir[PATH_MAX], *p;

	if (strlen(path) >= sizeof dir)
		return -ENAMETOOLONG;
	strcpy(dir, path);
	for (p = dir + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = 0;
		/* what is there already may lie where nothing can be made */
		if (mkdir(dir, 0700) && errno != EEXIST && errno != EROFS && errno != EACCES)
			return -errno;
	}
	return 0;
}

/* Writes the new file: other hosts' lines, then this one's. */
static int
rewrite(int fd, const char *text, size_t len, const char *host, const uint8_t fingerprint[32])
{
	char print[FINGERPRINT_TEXT];
	const char *line, *end, *rest;
	FILE *f = fdopen(fd, "w");
	int rc;

	if (!f) {
		close(fd);
		return -ENOMEM;
	}
	for (line = text; line < text + len; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text + len - line));
		if (!end)
			end = text + len;
		if (!is_host(line, (size_t)(end - line), host, &rest))
			fprintf(f, "%.*s\n", (int)(end - line), line);
	}
	hex_colons(print, fingerprint, 32);
	fprintf(f, strchr(host, ':') ? "[%s] %s\n" : "%s %s\n", host, print);
	/* on the disk before it takes the old one's name, or a crash leaves an empty file */
	rc = fflush(f) || fsync(fd) ? -errno : 0;
	if (fclose(f) && !rc)
		rc = -errno;
	return rc;
}

/* A new file put in the old one's place, while this process holds the directory's lock. */
static int
replace(const char *path, const char *host, const uint8_t fingerprint[32])
{
	char new[PATH_MAX], *text = NULL;
	size_t len = 0;
	int rc, fd, made = 0;

	if (snprintf(new, sizeof new, "%s.%d", path, (int)getpid()) >= (int)sizeof new)
		return -ENAMETOOLONG;
	rc = slurp(path, &text, &len);
	if (rc == -ENOENT)	/* the first host */
		rc = 0;
	if (!rc) {
		fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
		made = fd >= 0;
		rc = made ? rewrite(fd, text ? text : "", len, host, fingerprint) : -errno;
	}
	if (!rc && rename(new, path))
		rc = -errno;
	if (rc && made)
		unlink(new);
	free(text);
	return rc;
}

int
known_add(const char *path, const char *host, const uint8_t fingerprint[32], struct err *e)
{
	char dir[PATH_MAX];
	int fd = -1, rc = make_dirs(path);

	if (!rc) {
		snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = fd < 0 ? -errno : 0;
	}
	if (!rc) {
		flock(fd, LOCK_EX);	/* two at once would each drop the other's line */
		rc = replace(path, host, fingerprint);
		close(fd);
	}
	return rc ? err_set(e, ST_FAIL, rc, "cannot note the fingerprint in %s: %s", path, strerror(-rc)) : 0;
}
