/*
 * The stream: BearSSL's engine between a socket and its one user.
 *
 * Records are received straight into the engine's buffer, decrypted there, and handed out
 * there. The socket never blocks; only net_poll() waits. A failure is for good: the
 * user makes a new connection. Knows nothing of HTTP.
 */
#include "net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "tcp.h"
#include "tls.h"
#include "wait.h"

#define CONNECT_MS 10000
#define DEAD_MS 30000
#define GLANCE 64			/* records between two looks at the other descriptors: 1 MiB */

struct net {
	int fd, cancel_fd;
	int rc;				/* of the failure that ended it, which is in err */
	int send_rc;			/* sending has failed; what came before that is still read */
	int eof;
	unsigned turns;
	int64_t heard;
	char name[300];			/* "host:port" */
	char peer[64];
	struct err err;
	struct chain *chain;		/* during the handshake */
	struct tls tls;
};

static br_ssl_engine_context *
engine(struct net *n)
{
	return &n->tls.client.eng;
}

const char *
net_proxy(void)
{
	const char *p = getenv("ALL_PROXY");

	return p && *p ? p : NULL;
}

static void
send_all(struct net *n)
{
	const uint8_t *p;
	size_t len;
	ssize_t sent;

	/* makes a record of what was put; without it the engine waits for a full one */
	br_ssl_engine_flush(engine(n), 0);
	while (!n->send_rc && (p = br_ssl_engine_sendrec_buf(engine(n), &len)) != NULL) {
		sent = send(n->fd, p, len, MSG_NOSIGNAL);
		if (sent > 0)
			br_ssl_engine_sendrec_ack(engine(n), (size_t)sent);
		else if (sent < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		else
			n->send_rc = -errno;
	}
}

/* Receives until the engine has something for the user or the socket has no more. 0, 1: the peer has closed, or a negative errno. */
static int
receive(struct net *n)
{
	uint8_t *p;
	size_t len;
	ssize_t got;

	/* two system calls a record, header and body; reading the next header along with a body gained nothing measurable */
	while ((p = br_ssl_engine_recvrec_buf(engine(n), &len)) != NULL) {
		got = recv(n->fd, p, len, 0);
		if (got <= 0)
			return got == 0 ? 1 : errno == EAGAIN || errno == EINTR ? 0 : -errno;
		tls_saw(&n->tls, p, (size_t)got);
		n->heard = clock_ms();
		br_ssl_engine_recvrec_ack(engine(n), (size_t)got);
	}
	return 0;
}

static int
fail(struct net *n, int rc)
{
	n->rc = rc;
	if (n->chain && rc == -ECONNRESET)
		return err_set(&n->err, ST_FAIL, rc, "%s: the server closed the connection during the TLS handshake; is it "
		    "the right port? (a PBS listens on 8007)", n->name);
	if (rc == -ECONNRESET)
		return err_set(&n->err, ST_FAIL, rc, "%s: the connection was closed", n->name);
	if (rc == -ETIMEDOUT)
		return err_set(&n->err, ST_FAIL, rc, "%s: the server no longer answers", n->name);
	return err_set(&n->err, ST_FAIL, rc, "%s: connection lost: %s", n->name, strerror(-rc));
}

/* Moves what can be moved without waiting. */
static int
pump(struct net *n)
{
	size_t len;
	int rc;

	if (n->rc || n->eof)
		return n->rc;
	send_all(n);
	rc = receive(n);
	send_all(n);		/* the handshake's answer, or an alert, to what just came */
	if (br_ssl_engine_current_state(engine(n)) == BR_SSL_CLOSED) {
		n->eof = br_ssl_engine_last_error(engine(n)) == 0;
		if (!n->eof)
			n->rc = tls_explain(&n->tls, n->name, n->chain, &n->err);
		return n->rc;
	}
	/* what came before the end is the user's first; the socket will say it again */
	if (net_in(n, &len))
		return 0;
	if (rc == 1 || rc == -EPIPE || n->send_rc == -EPIPE)
		rc = -ECONNRESET;
	return rc < 0 ? fail(n, rc) : n->send_rc ? fail(n, n->send_rc) : 0;
}

static int
ready(struct net *n)
{
	size_t len;

	return (net_in(n, &len) ? NET_IN : 0) | (n->eof ? NET_EOF : 0) |
	    (br_ssl_engine_sendapp_buf(engine(n), &len) ? NET_OUT : 0);
}

/* Waits for the socket as the engine wants it, for fd and cancel_fd: NET_FD, 0 (socket or deadline), or a negative errno. */
static int
look(struct net *n, int fd, int with_socket, int timeout)
{
	unsigned state = br_ssl_engine_current_state(engine(n));
	short events = (short)((state & BR_SSL_RECVREC ? POLLIN : 0) | (state & BR_SSL_SENDREC ? POLLOUT : 0));
	/* an end that nobody waits for must not make poll() return at once, again and again: then -1 */
	struct pollfd p[3] = {
		{ with_socket && events ? n->fd : -1, events, 0 }, { fd, POLLIN, 0 }, { n->cancel_fd, POLLIN, 0 },
	};

	if (poll(p, 3, timeout) < 0 && errno != EINTR)
		return -errno;
	return p[2].revents ? -ECANCELED : p[1].revents ? NET_FD : 0;
}

int
net_poll(struct net *n, int want, int fd, int64_t deadline, struct err *e)
{
	int rc, got, left;

	for (;;) {
		rc = pump(n);
		if (rc) {
			if (e)
				*e = n->err;
			return rc;
		}
		got = ready(n);
		left = wait_left(deadline);
		if (got & (want | NET_EOF)) {
			/* a stream without a pause must not make us deaf */
			rc = ++n->turns % GLANCE ? 0 : look(n, fd, 0, 0);
			return rc < 0 ? err_set(e, ST_FAIL, rc, "%s: %s", n->name, strerror(-rc)) : got | rc;
		}
		rc = look(n, fd, 1, left);
		if (rc < 0)
			return err_set(e, ST_FAIL, rc, "%s: %s", n->name, strerror(-rc));
		if (rc || !left)
			return rc ? rc | got : 0;
	}
}

const uint8_t *
net_in(struct net *n, size_t *len)
{
	const uint8_t *p = br_ssl_engine_recvapp_buf(engine(n), len);

	if (!p)
		*len = 0;
	return p;
}

void
net_in_done(struct net *n, size_t len)
{
	if (len)
		br_ssl_engine_recvapp_ack(engine(n), len);
}

size_t
net_put(struct net *n, const void *p, size_t len)
{
	size_t room, done = 0;
	uint8_t *to;

	while (!n->rc && done < len && (to = br_ssl_engine_sendapp_buf(engine(n), &room)) != NULL) {
		room = room < len - done ? room : len - done;
		memcpy(to, (const uint8_t *)p + done, room);
		br_ssl_engine_sendapp_ack(engine(n), room);
		done += room;
	}
	return done;
}

int
net_read(struct net *n, void *buf, size_t len, int64_t deadline, struct err *e)
{
	const uint8_t *p;
	size_t have;
	int rc = net_poll(n, NET_IN, -1, deadline, e);

	if (rc < 0)
		return rc;
	p = net_in(n, &have);
	if (!p)
		return rc & NET_EOF ? 0 : err_set(e, ST_FAIL, -ETIMEDOUT, "%s: the server does not answer", n->name);
	have = have < len ? have : len;
	memcpy(buf, p, have);
	net_in_done(n, have);
	return (int)have;
}

int
net_write(struct net *n, const void *p, size_t len, int64_t deadline, struct err *e)
{
	size_t done = 0;
	int rc;

	do {
		done += net_put(n, (const uint8_t *)p + done, len - done);
		/* there is room again only when the socket has taken everything */
		rc = net_poll(n, NET_OUT, -1, deadline, e);
		if (rc < 0)
			return rc;
		if (!(rc & NET_OUT))
			return err_set(e, ST_FAIL, rc ? -ECONNRESET : -ETIMEDOUT, "%s: the server %s", n->name,
			    rc ? "has closed the connection" : "takes no more data");
	} while (done < len);
	return 0;
}

int64_t
net_heard(const struct net *n)
{
	return n->heard;
}

const char *
net_cipher(const struct net *n)
{
	return tls_cipher(&n->tls);
}

const char *
net_peer(const struct net *n)
{
	return n->peer;
}

unsigned
net_rtt(const struct net *n)
{
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);

	return getsockopt(n->fd, IPPROTO_TCP, TCP_INFO, &i, &len) == 0 ? i.tcpi_rtt : 0;
}

void
net_close(struct net *n)
{
	if (!n)
		return;
	if (n->fd >= 0) {
		if (!n->rc && !n->eof && !n->chain) {
			br_ssl_engine_close(engine(n));
			send_all(n);
		}
		close(n->fd);
	}
	free(n->chain);
	wipe(n, sizeof *n);	/* the session's keys */
	free(n);
}

static int
handshake(struct net *n, const struct net_conf *c, int64_t deadline, struct err *e)
{
	int rc = tls_start(&n->tls, c->host, n->chain, n->cancel_fd, deadline, e);

	if (rc)
		return rc;
	rc = net_poll(n, NET_OUT, -1, deadline, e);
	if (rc & NET_OUT || rc < 0)
		return rc < 0 ? rc : 0;
	if (rc & NET_EOF) {
		rc = fail(n, -ECONNRESET);
		*e = n->err;
		return rc;
	}
	return err_set(e, ST_FAIL, -ETIMEDOUT, "%s: the server does not answer the TLS handshake", n->name);
}

static int
connect_once(const struct net_conf *c, int64_t deadline, struct net **out, struct cert_seen *seen, struct err *e)
{
	struct tcp_conf tcp = {
		.host = c->host, .proxy = c->proxy, .port = c->port, .cancel_fd = c->cancel_fd, .deadline = deadline,
		.connect_ms = c->connect_ms ? c->connect_ms : CONNECT_MS, .dead_ms = c->dead_ms ? c->dead_ms : DEAD_MS,
	};
	struct net *n = calloc(1, sizeof *n);
	int rc;

	if (!n || !(n->chain = malloc(sizeof *n->chain))) {
		free(n);
		return err_set(e, ST_FAIL, -ENOMEM, "%s: out of memory", c->host);
	}
	chain_init(n->chain, c->trust, (int64_t)time(NULL));
	n->cancel_fd = c->cancel_fd;
	snprintf(n->name, sizeof n->name, strchr(c->host, ':') ? "[%s]:%u" : "%s:%u", c->host, c->port);
	n->fd = (c->proxy ? proxy_connect : tcp_connect)(&tcp, n->peer, sizeof n->peer, e);
	rc = n->fd < 0 ? n->fd : handshake(n, c, deadline, e);
	*seen = n->chain->seen;		/* also of a server that is refused: for the question */
	if (rc) {
		net_close(n);
		return rc;
	}
	free(n->chain);
	n->chain = NULL;
	*out = n;
	return 0;
}

int
net_open(const struct net_conf *c, int64_t deadline, struct net **out, struct cert_seen *seen, struct err *e)
{
	int64_t span = deadline - clock_ms();
	struct cert_seen own;
	struct err why;
	int rc, answer;

	seen = seen ? seen : &own;
	rc = connect_once(c, deadline, out, seen, &why);
	if (rc == -EACCES) {
		answer = trust_ask(c->trust, seen, &why);
		/* a new connection: the server does not wait for people */
		if (answer <= 0)
			rc = answer ? answer : connect_once(c, clock_ms() + span, out, seen, &why);
	}
	if (rc && e)
		*e = why;
	return rc;
}
