/*
 * HTTP proxies: CONNECT, then the connection is the server's.
 *
 * The answer is read byte by byte: what follows its blank line is not ours. Names of
 * servers are the proxy's to look up. The password stays out of all messages.
 */
#include "tcp.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base64.h"
#include "bytes.h"
#include "wait.h"

#define PROXY_PORT 1080
#define ANSWER_MAX 8192			/* bytes of the header */

struct proxy {
	char host[256];
	uint16_t port;
	char login[256];		/* user:password */
};

/* "[http://][user:password@]host[:port][/]". 0, or -1. */
static int
parse(const char *text, struct proxy *p)
{
	const char *at, *end;
	char *rest = NULL;
	unsigned long port = PROXY_PORT;
	int bracket;
	size_t n;

	if (strncmp(text, "http://", 7) == 0)
		text += 7;
	n = strcspn(text, "/");
	if (text[n] && text[n + 1])	/* another scheme, or a path */
		return -1;
	at = memrchr(text, '@', n);
	snprintf(p->login, sizeof p->login, "%.*s", at ? (int)(at - text) : 0, text);
	if (at && (size_t)(at - text) >= sizeof p->login)
		return -1;
	n -= at ? (size_t)(at + 1 - text) : 0;
	text = at ? at + 1 : text;
	end = text + n;
	bracket = *text == '[';
	text += bracket;
	n = strcspn(text, bracket ? "]" : ":/");
	if (n == 0 || n >= sizeof p->host || text + n + bracket > end)
		return -1;
	snprintf(p->host, sizeof p->host, "%.*s", (int)n, text);
	text += n + (size_t)bracket;
	if (*text == ':') {
		port = strtoul(text + 1, &rest, 10);
		text = rest;
	}
	p->port = (uint16_t)port;
	return text == end && port > 0 && port <= UINT16_MAX ? 0 : -1;
}

/* A request fits a new socket's buffer: no partial writes. */
static int
ask(int fd, const struct tcp_conf *c, const struct proxy *p)
{
	const char *l = strchr(c->host, ':') ? "[" : "", *r = *l ? "]" : "";
	char request[1600], login[400];
	ssize_t sent;
	int n;

	base64_encode(login, p->login, strlen(p->login));
	n = snprintf(request, sizeof request, "CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\n%s%s%s\r\n",
	    l, c->host, r, c->port, l, c->host, r, c->port, *login ? "Proxy-Authorization: Basic " : "", login, *login ? "\r\n" : "");
	sent = send(fd, request, (size_t)n, MSG_NOSIGNAL);
	wipe(request, sizeof request);
	wipe(login, sizeof login);
	return sent == n ? 0 : sent < 0 ? -errno : -EIO;
}

/* The answer's status; 0: it is no HTTP; or a negative errno. */
static int
answer(int fd, const struct tcp_conf *c)
{
	char line[16] = "", end[4] = "", ch;
	size_t n = 0;
	ssize_t got;
	int rc;

	while (memcmp(end, "\r\n\r\n", 4)) {
		rc = wait_fd(fd, POLLIN, c->cancel_fd, c->deadline);
		if (rc)
			return rc;
		got = recv(fd, &ch, 1, 0);
		if (got < 0 && errno == EAGAIN)
			continue;
		if (got <= 0)
			return got ? -errno : -ECONNRESET;
		if (n == ANSWER_MAX)
			return 0;
		memmove(end, end + 1, 3);
		end[3] = ch;
		if (n < sizeof line - 1)
			line[n] = ch;
		n++;
	}
	if (n < 13 || strncmp(line, "HTTP/1.", 7) || line[8] != ' ' || strspn(line + 9, "0123456789") != 3)
		return 0;
	return (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
}

int
proxy_connect(const struct tcp_conf *c, char *peer, size_t cap, struct err *e)
{
	struct tcp_conf via = *c;
	struct proxy p;
	int fd, rc;

	if (parse(c->proxy, &p))
		return err_set(e, ST_USAGE, -EINVAL, "the proxy in ALL_PROXY cannot be used: wanted is [http://][user:password@]host[:port]");
	via.host = p.host;
	via.port = p.port;
	fd = tcp_connect(&via, peer, cap, e);
	if (fd < 0) {
		err_set(e, e->status, fd, "the proxy (ALL_PROXY): %s", e->text);
		goto out;
	}
	rc = ask(fd, c, &p);
	if (!rc)
		rc = answer(fd, c);
	if (rc >= 200 && rc < 300)
		goto out;
	close(fd);
	fd = rc < 0 ? rc : -ECONNREFUSED;
	if (rc < 0)
		err_set(e, ST_FAIL, fd, "proxy %s port %u: no answer to CONNECT: %s", p.host, p.port, strerror(-rc));
	else if (rc == 407)
		err_set(e, ST_TRUST, fd, "proxy %s port %u wants another user and password (ALL_PROXY=http://user:password@host:port)", p.host, p.port);
	else if (rc)
		err_set(e, ST_FAIL, fd, "proxy %s port %u does not connect to %s port %u: status %d", p.host, p.port, c->host, c->port, rc);
	else
		err_set(e, ST_FAIL, fd, "proxy %s port %u does not speak HTTP", p.host, p.port);
out:
	wipe(p.login, sizeof p.login);
	return fd;
}
