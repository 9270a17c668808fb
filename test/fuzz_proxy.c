/*
 * A proxy's answer to CONNECT, and what may stand in ALL_PROXY: the input is the latter's text up to a NUL, then what the
 * proxy sends. After a yes, what follows the answer's blank line is still there to be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../clock.h"
#include "../tcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *sent;
static size_t sent_len;
static int other_end;

/* Instead of tcp.c's. */
int
tcp_connect(const struct tcp_conf *c, char *peer, size_t cap, struct err *e)
{
	int fd[2];

	if (strcmp(c->host, "refused") == 0)
		return err_set(e, ST_FAIL, -ECONNREFUSED, "refused");
	if (!c->host[0] || c->port == 0 || strlen(c->host) > 255 || cap < 2)
		abort();
	strcpy(peer, "p");
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0)
		abort();
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	if (sent_len && write(fd[1], sent, sent_len) != (ssize_t)sent_len)
		abort();
	shutdown(fd[1], SHUT_WR);
	other_end = fd[1];
	return fd[0];
}

static size_t
count_rest(int fd)
{
	uint8_t buf[1024];
	size_t n = 0;
	ssize_t got;

	while ((got = read(fd, buf, sizeof(buf))) > 0)
		n += (size_t)got;
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = size ? memchr(data, 0, size) : NULL, *end;
	char peer[64], request[4096];
	struct tcp_conf c = { .host = "pbs.example", .proxy = (const char *)data, .port = 8007, .cancel_fd = -1 };
	struct err e = { .text = "" };
	size_t head;
	int fd;

	if (nul == NULL || (size_t)(data + size - nul) > 16384)
		return 0;
	sent = nul + 1;
	sent_len = (size_t)(data + size - sent);
	other_end = -1;
	c.deadline = clock_ms() + 5000;
	fd = proxy_connect(&c, peer, sizeof(peer), &e);
	if ((fd < 0) != (e.text[0] != 0))
		abort();
	if (fd >= 0) {
		end = memmem(sent, sent_len, "\r\n\r\n", 4);
		if (end == NULL || memcmp(sent, "HTTP/1.", 7) != 0 || sent[9] != '2')
			abort();
		head = (size_t)(end + 4 - sent);
		if (head > 8192 || count_rest(fd) != sent_len - head)
			abort();
		close(fd);
	}
	if (other_end >= 0) {		/* one request, and a whole one */
		ssize_t n = recv(other_end, request, sizeof(request), MSG_DONTWAIT);

		if (n < 40 || memcmp(request, "CONNECT pbs.example:8007 HTTP/1.1\r\n", 35) != 0 ||
		    memcmp(request + n - 4, "\r\n\r\n", 4) != 0)
			abort();
		close(other_end);
	}
	return 0;
}
