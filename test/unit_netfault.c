/* Sockets that give and take little, fail at the Nth call, memory that runs out at the Nth allocation: for every N an
 * error or success, nothing left behind, no hang. */
#include "t.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "netserver.h"

static int fail_at = -1, calls, live, errno_at;	/* allocations and calls are counted together */
static int small;			/* sockets give and take a byte or nothing, now and then */
static __thread int mine;		/* this thread is tested, not the server's */

static int
fails(void)
{
	if (!mine || calls++ != fail_at)
		return 0;
	errno = errno_at;
	return 1;
}

static void *
test_malloc(size_t n)
{
	void *p = fails() ? NULL : malloc(n);

	live += p != NULL;
	return p;
}

static void *
test_calloc(size_t n, size_t size)
{
	void *p = fails() ? NULL : calloc(n, size);

	live += p != NULL;
	return p;
}

static void *
test_realloc(void *old, size_t n)
{
	void *p = fails() ? NULL : realloc(old, n);

	live += p != NULL && !old;
	return p;
}

static void
test_free(void *p)
{
	live -= p != NULL;
	free(p);
}

/* One byte; then EINTR; then EAGAIN; then what there is; … */
static size_t
less(size_t n, int *no)
{
	static unsigned turn;

	*no = 0;
	if (!small)
		return n;
	switch (turn++ % 7) {
	case 0: *no = EINTR; return n;
	case 2: *no = EAGAIN; return n;
	case 3: case 4: return n < 3 ? n : 3;
	case 5: return n;
	default: return 1;
	}
}

static ssize_t
test_recv(int fd, void *p, size_t n, int flags)
{
	int no;

	n = less(n, &no);
	if (fails() || (errno = no) != 0)
		return -1;
	return recv(fd, p, n, flags);
}

static ssize_t
test_send(int fd, const void *p, size_t n, int flags)
{
	int no;

	n = less(n, &no);
	if (fails() || (errno = no) != 0)
		return -1;
	return send(fd, p, n, flags);
}

static int
test_poll(struct pollfd *p, nfds_t n, int ms)
{
	return fails() ? -1 : poll(p, n, ms);
}

static int
test_socket(int family, int type, int protocol)
{
	return fails() ? -1 : socket(family, type, protocol);
}

static int
test_connect(int fd, const struct sockaddr *a, socklen_t n)
{
	return fails() ? -1 : connect(fd, a, n);
}

static int
test_open(const char *path, int flags, ...)
{
	return fails() ? -1 : open(path, flags, 0600);
}

static ssize_t
test_read(int fd, void *p, size_t n)
{
	return fails() ? -1 : read(fd, p, n);
}

static int
test_fsync(int fd)
{
	return fails() ? -1 : fsync(fd);
}

static int
test_rename(const char *from, const char *to)
{
	return fails() ? -1 : rename(from, to);
}

static int
test_mkdir(const char *path, mode_t mode)
{
	return fails() ? -1 : mkdir(path, mode);
}

/* These modules stand here instead of in the archive. */
#define malloc test_malloc
#define calloc test_calloc
#define realloc test_realloc
#define free test_free
#define recv test_recv
#define send test_send
#define poll test_poll
#define socket test_socket
#define connect test_connect
#define open test_open
#define read test_read
#define fsync test_fsync
#define rename test_rename
#define mkdir test_mkdir
#include "../net.c"
#include "../tcp.c"
#include "../ca.c"
#include "../known.c"
#undef malloc
#undef free
#undef read
#undef open
#undef socket

static struct trust trust;

static int
open_fds(void)
{
	int n = 0, fd;

	for (fd = 0; fd < 100; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* A connection and an exchange: 0 when all of it went well, else the error. */
static int
talk(struct err *e)
{
	struct server s = { .serve = serve_tls };
	struct net_conf conf = { .host = "127.0.0.1", .trust = &trust, .cancel_fd = -1 };
	static uint8_t buf[sizeof pattern];
	struct net *n = NULL;
	size_t got = 0;
	int rc;

	strcpy(trust.host, conf.host);
	start(&s, AF_INET);
	conf.port = s.port;
	mine = 1;
	rc = net_open(&conf, clock_ms() + 5000, &n, NULL, e);
	if (!rc)
		rc = net_write(n, "\0\0\3abc", 7, clock_ms() + 5000, e);
	while (!rc && got < sizeof buf) {
		rc = net_read(n, buf + got, sizeof buf - got, clock_ms() + 5000, e);
		if (rc <= 0)
			break;
		got += (size_t)rc;
		rc = 0;
	}
	net_close(n);
	mine = 0;
	stop(&s);
	check(rc || (got == sizeof buf && memcmp(buf, pattern, got) == 0));
	return rc;
}

static void
test_little(void)
{
	struct err e;
	int i;

	for (small = 1, i = 0; i < 3; i++)
		check_int(talk(&e), 0);
	small = 0;
}

/* Every call fails once. Where that is no failure of the whole (a good-bye that is not said, setsockopt), all went well. */
static void
failing(int no)
{
	int fds = open_fds(), ok = 0, bad = 0, rc;
	struct err e;

	errno_at = no;
	for (fail_at = 0; ; fail_at++) {
		calls = 0;
		memset(&e, 0, sizeof e);
		rc = talk(&e);
		if (calls <= fail_at)
			break;
		check_int(live, 0);
		check(rc <= 0 && (rc == 0 || e.text[0]));
		ok += rc == 0;
		bad += rc < 0;
	}
	fail_at = -1;
	check_int(rc, 0);
	check_int(open_fds(), fds);
	check(bad > 10);
	check(ok < bad / 2);
}

static void
test_reset(void)
{
	failing(ECONNRESET);
}

static void
test_nothing_left(void)
{
	failing(ENOMEM);
}

static void
test_bundle(void)
{
	struct ca ca = { 0 };
	struct err e;
	int rc, failed = 0;

	mine = 1;
	errno_at = ENOMEM;
	for (fail_at = 0; ; fail_at++, failed++) {
		calls = 0;
		rc = ca_load(&ca, "test/cert/ca.pem", &e);
		if (calls <= fail_at)
			break;
		check(rc < 0 && e.status == ST_TRUST && e.text[0]);
		ca_free(&ca);
		check_int(live, 0);
	}
	fail_at = -1;
	mine = 0;
	check_int(rc, 0);
	check(failed >= 5);
	ca_free(&ca);
	check_int(live, 0);
}

/* The file is the old one or the new one, and nothing lies beside it. */
static void
test_known(void)
{
	char dir[] = "/tmp/unit_netfault.XXXXXX", path[100], sub[100], command[200];
	uint8_t one[32] = { 1 }, two[32] = { 2 }, got[32];
	int rc, failed = 0, found;
	struct err e;

	check(mkdtemp(dir) != NULL);
	snprintf(path, sizeof path, "%s/a/f", dir);
	snprintf(sub, sizeof sub, "%s/a", dir);
	errno_at = ENOSPC;
	for (fail_at = 0; ; fail_at++, failed++) {
		int now = fail_at;

		fail_at = -1;
		check_int(known_add(path, "h", one, &e), 0);
		fail_at = now;
		calls = 0;
		mine = 1;
		rc = known_add(path, "h", two, &e);
		mine = 0;
		found = calls > now;
		fail_at = -1;
		check_int(known_find(path, "h", got, &e), 0);
		check(memcmp(got, rc ? one : two, 32) == 0);
		snprintf(command, sizeof command, "[ \"$(ls -A %s)\" = f ]", sub);
		check_int(system(command), 0);
		check_int(live, 0);
		fail_at = now;
		if (!found)
			break;
	}
	fail_at = -1;
	check_int(rc, 0);
	check(failed >= 8);
	unlink(path);
	rmdir(sub);
	check_int(rmdir(dir), 0);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	know_server(&trust);
	run(test_little);
	run(test_reset);
	run(test_nothing_left);
	run(test_bundle);
	run(test_known);
	return t_end();
}
