/*
 * TCP connections.
 *
 * Each address has a deadline of its own, so that a dead one (often IPv6 where nobody
 * routes it) leaves time for the next. Knows nothing of what is spoken then.
 */
#include "tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "resolve.h"
#include "wait.h"

/* Best effort: no connection fails for lack of one of these. */
static void
set_options(int fd, int dead_ms)
{
	static const struct { int level, name; } opt[] = {
		{ IPPROTO_TCP, TCP_NODELAY },	/* or the handshake takes 45 ms longer */
		{ SOL_SOCKET, SO_KEEPALIVE },
		{ IPPROTO_TCP, TCP_KEEPIDLE }, { IPPROTO_TCP, TCP_KEEPINTVL }, { IPPROTO_TCP, TCP_KEEPCNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT },
	};
	int third = dead_ms / 3000 > 0 ? dead_ms / 3000 : 1;	/* s: idle, then two probes */
	int value[] = { 1, 1, third, third, 2, dead_ms };
	unsigned i;

	for (i = 0; i < sizeof opt / sizeof opt[0]; i++)
		setsockopt(fd, opt[i].level, opt[i].name, &value[i], sizeof value[i]);
}

static int
connect_one(const struct addr *a, const struct tcp_conf *c)
{
	int64_t deadline = clock_ms() + c->connect_ms;
	int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc = 0;
	socklen_t len = sizeof rc;

	if (fd < 0)
		return -errno;
	set_options(fd, c->dead_ms);
	if (connect(fd, (const struct sockaddr *)&a->sa, a->len))
		rc = -errno;
	if (rc == -EINPROGRESS) {
		rc = wait_fd(fd, POLLOUT, c->cancel_fd, deadline < c->deadline ? deadline : c->deadline);
		if (!rc && getsockopt(fd, SOL_SOCKET, SO_ERROR, &rc, &len))
			rc = errno;
		if (rc > 0)
			rc = -rc;
	}
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

static const char *
reason(int rc)
{
	switch (-rc) {
	case ECONNREFUSED:
		return "connection refused (nothing listens on that port)";
	case ETIMEDOUT:
		return "no answer (a firewall, or no such machine?)";
	case ENETUNREACH:
		return "network unreachable (is the network up?)";
	case EHOSTUNREACH:
		return "no route to the machine, or it is off";
	default:
		return strerror(-rc);
	}
}

int
tcp_connect(const struct tcp_conf *c, char *peer, size_t cap, struct err *e)
{
	struct addr addr[ADDRS_MAX];
	char why[400] = "";
	int n, i, fd = -ENOENT;
	size_t len;

	n = resolve(c->host, c->port, c->deadline, c->cancel_fd, addr, e);
	if (n < 0)
		return n;
	for (i = 0; i < n; i++) {
		addr_print(&addr[i], peer, cap);
		fd = connect_one(&addr[i], c);
		if (fd >= 0)
			return fd;
		len = strlen(why);
		snprintf(why + len, sizeof why - len, "%s%s%s%s", len ? "; " : "", n > 1 ? peer : "", n > 1 ? ": " : "", reason(fd));
		if (fd == -ECANCELED || c->deadline <= clock_ms())
			break;
	}
	return err_set(e, ST_FAIL, fd, "cannot connect to %s port %u: %s", c->host, c->port, why);
}
