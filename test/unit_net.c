/* A connection: TLS, trust, deadlines and breaks, against a server of BearSSL's in a thread. */
#include "t.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "../net.h"
#include "netserver.h"

static void
serve_cut(struct server *s)
{
	tls_server(s, 0);
}

static void
serve_text(struct server *s)
{
	char buf[2000];

	if (!s->text)
		poll(NULL, 0, 400);	/* silence */
	else if (read(s->fd, buf, sizeof buf) > 0)
		send(s->fd, s->text, strlen(s->text), MSG_NOSIGNAL);
}

/* A proxy: shows what it was asked in s->text's place, then becomes the server itself. */
static char asked[2000];

static void
serve_proxy(struct server *s)
{
	ssize_t n = read(s->fd, asked, sizeof asked - 1);

	asked[n > 0 ? n : 0] = 0;
	send(s->fd, s->text, strlen(s->text), MSG_NOSIGNAL);
	if (strstr(s->text, " 200 "))
		tls_server(s, 1);
}

static struct trust trust;
static struct net_conf conf;
static struct err e;

static int
dial(struct server *s, const char *host, int ms, struct net **n)
{
	conf = (struct net_conf){ .host = host, .port = s->port, .trust = &trust, .cancel_fd = conf.cancel_fd, .proxy = conf.proxy };
	snprintf(trust.host, sizeof trust.host, "%s", host);
	*n = NULL;
	memset(&e, 0, sizeof e);
	return net_open(&conf, clock_ms() + ms, n, NULL, &e);
}

static void
says(const char *want)
{
	if (!strstr(e.text, want))
		check_str(e.text, want);
}

/* A request of len bytes, and its answer in reads of `step`: 1 if it is the pattern and a proper end. */
static int
exchange(struct net *n, size_t len, size_t step)
{
	uint8_t *buf = malloc(sizeof pattern + step), head[4] = { (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len };
	size_t got = 0;
	int rc = net_write(n, head, 4, clock_ms() + 5000, &e);

	if (!rc)
		rc = net_write(n, pattern, len, clock_ms() + 5000, &e);
	while (!rc && got < sizeof pattern) {
		rc = net_read(n, buf + got, step, clock_ms() + 5000, &e);
		if (rc <= 0)
			break;
		got += (size_t)rc;
		rc = 0;
	}
	if (!rc)
		rc = net_read(n, buf, 1, clock_ms() + 5000, &e);
	rc = rc == 0 && got == sizeof pattern && memcmp(buf, pattern, got) == 0;
	free(buf);
	return rc;
}

static void
test_exchange(void)
{
	static const struct { size_t len, step, piece; } v[] = {
		{ 0, 100000, 0 }, { 1, 1, 0 }, { 200000, 1000, 0 }, { 10, 16384, 1 }, { 10, 100, 7 }, { 70000, 17000, 1000 },
	};
	struct net *n;
	unsigned i;

	for (i = 0; i < sizeof v / sizeof v[0]; i++) {
		struct server s = { .serve = serve_tls, .piece = v[i].piece };

		start(&s, AF_INET);
		check_int(dial(&s, "127.0.0.1", 5000, &n), 0);
		if (!n)
			check_str(e.text, "");
		check(n && exchange(n, v[i].len, v[i].step));
		check_str(net_peer(n), "127.0.0.1");
		check(strstr(net_cipher(n), "ECDHE-ECDSA-") != NULL);
		check(net_heard(n) <= clock_ms() && net_heard(n) > clock_ms() - 5000);
		net_close(n);
		stop(&s);
		check_int(s.got, v[i].len);
	}
}

static void
test_cut(void)
{
	struct server s = { .serve = serve_cut };
	struct net *n;

	start(&s, AF_INET);
	check_int(dial(&s, "127.0.0.1", 5000, &n), 0);
	check(!exchange(n, 1, 100000));
	says("the connection was closed");
	/* for good, and the same again */
	memset(&e, 0, sizeof e);
	check_int(net_poll(n, NET_IN, -1, clock_ms() + 5000, &e), -ECONNRESET);
	says("the connection was closed");
	check_int(net_put(n, "x", 1), 0);
	net_close(n);
	stop(&s);
}

static void
test_localhost(void)
{
	struct server s = { .serve = serve_tls };
	struct net *n;

	start(&s, AF_INET6);		/* nothing on 127.0.0.1: the next address */
	check_int(dial(&s, "localhost", 5000, &n), 0);
	check_str(n ? net_peer(n) : e.text, "::1");
	net_close(n);
	stop(&s);
}

static void
test_refused(void)
{
	struct server s = { .serve = serve_tls };
	struct net *n;

	start(&s, AF_INET);
	stop(&s);
	check_int(dial(&s, "127.0.0.1", 5000, &n), -ECONNREFUSED);
	says("cannot connect to 127.0.0.1 port ");
	says("connection refused");
	check_int(dial(&s, "localhost", 5000, &n), -ECONNREFUSED);
	says("127.0.0.1: connection refused (nothing listens on that port); ::1: connection refused");
}

static void
test_strangers(void)
{
	static const struct { const char *text, *says; } v[] = {
		{ "HTTP/1.1 400 Bad Request\r\n\r\n", "plain HTTP is spoken there" },
		{ "SSH-2.0-OpenSSH_9.2\r\n", "an SSH server is there" },
		{ "220 mail.example ESMTP\r\n", "something that is not TLS" },
		{ "", "closed the connection during the TLS handshake" },
		{ "\x15\x03\x03", "closed the connection during the TLS handshake" },
		{ "\x15\x03\x03\x01\x02\x02\x46", "TLS error" },	/* a length of 258 */
	};
	struct net *n;
	unsigned i;

	for (i = 0; i < sizeof v / sizeof v[0]; i++) {
		struct server s = { .serve = serve_text, .text = v[i].text };

		start(&s, AF_INET);
		check(dial(&s, "127.0.0.1", 5000, &n) < 0);
		check(i == 5 || strstr(e.text, v[i].says));
		check_int(e.status, ST_FAIL);
		stop(&s);
	}
}

/* An address where nobody answers has a deadline of its own. */
static void
test_silent_address(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd[8], i;
	int64_t begin = clock_ms();
	socklen_t len = sizeof a;
	struct net *n;

	check(bind(listener, (struct sockaddr *)&a, len) == 0 && listen(listener, 0) == 0);
	getsockname(listener, (struct sockaddr *)&a, &len);
	for (i = 0; i < 8; i++) {		/* its queue is full: further SYNs are dropped */
		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fd[i], (struct sockaddr *)&a, len);
	}
	conf = (struct net_conf){ .host = "127.0.0.1", .port = ntohs(a.sin_port), .trust = &trust, .cancel_fd = -1, .connect_ms = 100 };
	check_int(net_open(&conf, begin + 5000, &n, NULL, &e), -ETIMEDOUT);
	says("no answer (a firewall, or no such machine?)");
	check(clock_ms() - begin >= 100 && clock_ms() - begin < 1000);
	for (i = 0; i < 8; i++)
		close(fd[i]);
	close(listener);
}

static void
test_deadline(void)
{
	struct server s = { .serve = serve_text };
	int64_t begin = clock_ms();
	struct net *n;

	start(&s, AF_INET);
	check_int(dial(&s, "127.0.0.1", 100, &n), -ETIMEDOUT);
	says("does not answer the TLS handshake");
	check(clock_ms() - begin >= 100 && clock_ms() - begin < 390);
	stop(&s);
}

static void *
write_later(void *fd)
{
	uint64_t one = 1;

	poll(NULL, 0, 50);
	check(write(*(int *)fd, &one, sizeof one) == sizeof one);
	return NULL;
}

static void
test_cancel(void)
{
	struct server s = { .serve = serve_text };
	int64_t begin = clock_ms();
	int cancel = eventfd(0, 0);
	pthread_t later;
	struct net *n;

	conf.cancel_fd = cancel;
	start(&s, AF_INET);
	pthread_create(&later, NULL, write_later, &cancel);
	check_int(dial(&s, "127.0.0.1", 5000, &n), -ECANCELED);
	check(clock_ms() - begin < 390);
	check_int(dial(&s, "127.0.0.1", 5000, &n), -ECANCELED);	/* and at once from then on */
	pthread_join(later, NULL);
	stop(&s);
	close(cancel);
	conf.cancel_fd = -1;
}

static void
test_poll(void)
{
	struct server s = { .serve = serve_tls };
	int fd = eventfd(0, 0), rc;
	uint64_t one = 1;
	struct net *n;
	size_t len;
	int64_t begin;

	start(&s, AF_INET);
	check_int(dial(&s, "127.0.0.1", 5000, &n), 0);
	begin = clock_ms();
	check_int(net_poll(n, NET_IN, fd, begin + 50, &e), 0);
	check(clock_ms() - begin >= 50);
	check_int(net_poll(n, NET_IN, fd, begin, &e), 0);	/* the past: no wait */
	check_int(net_poll(n, NET_OUT, fd, begin, &e), NET_OUT);
	check(net_in(n, &len) == NULL && len == 0);
	check(write(fd, &one, sizeof one) == sizeof one);
	check(net_poll(n, NET_IN, fd, clock_ms() + 5000, &e) & NET_FD);
	check_int(net_poll(n, 0, -1, clock_ms() + 20, &e), 0);	/* nothing wanted: just the deadline */
	check_int(net_put(n, "\0\0\0\0", 4), 4);
	/* a stream without a pause does not hide the other descriptor */
	for (rc = 0; !(rc & NET_FD) && rc >= 0 && !(rc & NET_EOF);) {
		rc = net_poll(n, NET_IN, fd, clock_ms() + 5000, &e);
		if (net_in(n, &len))
			net_in_done(n, 1);
	}
	check(rc > 0 && rc & NET_FD);
	net_close(n);
	close(fd);
	stop(&s);
}

static void
test_untrusted(void)
{
	struct server s = { .serve = serve_tls };
	struct cert_seen seen;
	struct net *n;

	trust.pin[5] ^= 1;
	start(&s, AF_INET);
	conf.host = "127.0.0.1";
	conf.port = s.port;
	check_int(net_open(&conf, clock_ms() + 5000, &n, &seen, &e), -EACCES);
	check_int(e.status, ST_TRUST);
	says("not the right certificate");
	check(seen.have && seen.by == TRUST_NONE && strcmp(seen.key, "P-256") == 0);
	stop(&s);
	trust.pin[5] ^= 1;
}

static void
proxied(const char *proxy, const char *answer, const char *want)
{
	struct server s = { .serve = serve_proxy, .text = answer };
	char text[100];
	struct net *n;

	start(&s, AF_INET);
	snprintf(text, sizeof text, proxy, s.port);
	conf.proxy = text;
	asked[0] = 0;
	s.port = 8007;			/* of the server that the proxy is asked for */
	if (dial(&s, "pbs.invalid", 5000, &n))
		says(want ? want : "(success)");
	else
		check(!want && exchange(n, 100, 1000));
	net_close(n);
	conf.proxy = NULL;
	stop(&s);
}

static void
test_proxy(void)
{
	proxied("127.0.0.1:%u", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", NULL);
	check_str(asked, "CONNECT pbs.invalid:8007 HTTP/1.1\r\nHost: pbs.invalid:8007\r\n\r\n");
	proxied("http://user:geheim@127.0.0.1:%u/", "HTTP/1.0 200 Connection established\r\n\r\n", NULL);
	check_str(asked, "CONNECT pbs.invalid:8007 HTTP/1.1\r\nHost: pbs.invalid:8007\r\n"
	    "Proxy-Authorization: Basic dXNlcjpnZWhlaW0=\r\n\r\n");
	proxied("127.0.0.1:%u", "HTTP/1.1 403 no\r\n\r\n", "does not connect to pbs.invalid port 8007: status 403");
	proxied("127.0.0.1:%u", "HTTP/1.1 407 no\r\n\r\n", "wants another user and password");
	proxied("127.0.0.1:%u", "SSH-2.0-x\r\n\r\n", "does not speak HTTP");
	proxied("127.0.0.1:%u", "HTTP/1.1 2", "no answer to CONNECT: Connection reset by peer");
	proxied("socks5://127.0.0.1:%u", "", "the proxy in ALL_PROXY cannot be used");
	proxied("127.0.0.1:%u/path", "", "the proxy in ALL_PROXY cannot be used");
	proxied("[::1:%u", "", "the proxy in ALL_PROXY cannot be used");
	proxied("a:b:%u", "", "the proxy in ALL_PROXY cannot be used");
	proxied("geheim@127.0.0.1:0%u0", "", "the proxy in ALL_PROXY cannot be used");
	check(!strstr(e.text, "geheim"));
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	conf.cancel_fd = -1;
	know_server(&trust);
	run(test_exchange);
	run(test_cut);
	run(test_localhost);
	run(test_refused);
	run(test_strangers);
	run(test_silent_address);
	run(test_deadline);
	run(test_cancel);
	run(test_poll);
	run(test_untrusted);
	run(test_proxy);
	return t_end();
}
