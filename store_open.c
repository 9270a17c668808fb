/*
 * Opening a datastore's files: in this process, or by one that can do nothing else, for a worker that may not open any.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker.h"
#include "bytes.h"
#include "chan.h"
#include "relay.h"
#include "store_parts.h"

struct question {
	uint8_t digest[32];
	char name[256];			/* empty: the chunk */
};

struct answer {
	int rc;				/* 0: the descriptor comes with it */
	int64_t size;
};

struct dirs {
	int chunks, snapshot;
};

static int
open_here(int dir, const uint8_t *digest, const char *name, int64_t *size)
{
	char chunk[5 + 64 + 1], hex[65];
	struct stat st;
	int fd, rc = 0;

	if (name == NULL) {
		hex_encode(hex, digest, 32);
		snprintf(chunk, sizeof(chunk), "%.4s/%s", hex, hex);
	}
	fd = openat(dir, name ? name : chunk, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode))
		rc = -EBADMSG;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	*size = st.st_size;
	return fd;
}

/* The broker's thread: a name is one, not a path, and cannot lead anywhere else. */
static void
serve(void *ctx, int sock)
{
	const struct dirs *d = ctx;
	struct question q;
	struct answer a;
	int fd, n;

	while ((n = chan_get(sock, &q, sizeof(q), NULL)) >= 0) {
		memset(&a, 0, sizeof(a));
		if (n != sizeof(q) || memchr(q.name, 0, sizeof(q.name)) == NULL || strchr(q.name, '/') || strcmp(q.name, "..") == 0)
			fd = -EINVAL;
		else if (q.name[0])
			fd = open_here(d->snapshot, NULL, q.name, &a.size);
		else
			fd = open_here(d->chunks, q.digest, NULL, &a.size);
		a.rc = fd < 0 ? fd : 0;
		n = chan_put(sock, &a, sizeof(a), fd);
		if (fd >= 0)
			close(fd);
		if (n < 0 && fd >= 0) {
			a.rc = n;
			n = chan_put(sock, &a, sizeof(a), -1);
		}
		if (n < 0)
			break;			/* who waits for it hears that we are gone */
	}
}

int
store_file_open(int broker, int dir, const uint8_t *digest, const char *name, int64_t *size)
{
	struct question q;
	struct answer a;
	int rc, fd = -1;

	if (broker < 0)
		return open_here(dir, digest, name, size);
	memset(&q, 0, sizeof(q));
	if (digest)
		memcpy(q.digest, digest, sizeof(q.digest));
	if (name && (size_t)snprintf(q.name, sizeof(q.name), "%s", name) >= sizeof(q.name))
		return -ENAMETOOLONG;
	if ((rc = chan_put(broker, &q, sizeof(q), -1)) < 0 || (rc = chan_get(broker, &a, sizeof(a), &fd)) < 0)
		return rc;
	*size = a.size;
	return a.rc < 0 ? a.rc : fd < 0 ? -EMFILE : fd;
}

/* Nothing can be read any more. */
static void
on_death(int sig)
{
	int keep = errno;

	(void)sig;
	relay_failed(&(struct err){ ST_FAIL, "the process that opens files has ended" });
	errno = keep;
}

int
store_broker(int chunks, int snapshot, int *sock, int n, struct err *e)
{
	const struct sigaction sa = { .sa_handler = on_death, .sa_flags = SA_RESTART | SA_NOCLDSTOP };
	struct dirs d = { chunks, snapshot };
	const int dir[] = { chunks, snapshot };
	const struct jail j = { .role = JAIL_FILES, .dir = dir, .dirs = 2 };

	int rc = broker_start(&j, serve, &d, sock, n, e);

	if (rc == 0)
		sigaction(SIGCHLD, &sa, NULL);	/* the worker has no other child */
	return rc;
}
