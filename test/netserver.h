/* A TLS server for one connection, in a thread, on loopback. */
#ifndef NETSERVER_H
#define NETSERVER_H

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../trust.h"
#include "certs.h"

struct server {
	void (*serve)(struct server *);
	int listener, fd;
	size_t piece;			/* bytes written to the socket at once; 0: all */
	const char *text;		/* what plain servers say */
	size_t got;			/* bytes of the client's application data */
	pthread_t thread;
	uint16_t port;
};

static uint8_t leaf[2000], pattern[300000];

static int
sock_read(void *ctx, unsigned char *p, size_t n)
{
	ssize_t r = read(((struct server *)ctx)->fd, p, n);

	return r > 0 ? (int)r : -1;
}

static int
sock_write(void *ctx, const unsigned char *p, size_t n)
{
	struct server *s = ctx;
	ssize_t r = send(s->fd, p, s->piece && s->piece < n ? s->piece : n, MSG_NOSIGNAL);

	return r > 0 ? (int)r : -1;
}

/* TLS; echoes the length of what came as its answer's begin, then the pattern, then closes (or cuts). */
static void
tls_server(struct server *s, int polite)
{
	static uint8_t der[500], buf[BR_SSL_BUFSIZE_BIDI];
	br_ssl_server_context sc;
	br_skey_decoder_context key;
	br_x509_certificate chain = { leaf, cert_load("leaf", leaf, sizeof leaf) };
	br_sslio_context io;
	uint8_t head[4];
	size_t want;

	br_skey_decoder_init(&key);
	br_skey_decoder_push(&key, der, cert_load("leaf.key", der, sizeof der));
	br_ssl_server_init_full_ec(&sc, &chain, 1, BR_KEYTYPE_EC, br_skey_decoder_get_ec(&key));
	br_ssl_engine_set_buffer(&sc.eng, buf, sizeof buf, 1);
	br_ssl_server_reset(&sc);
	br_sslio_init(&io, &sc.eng, sock_read, s, sock_write, s);
	if (br_sslio_read_all(&io, head, 4))
		return;
	for (want = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2]; s->got < want; s->got++)
		if (br_sslio_read_all(&io, head, 1))
			return;
	br_sslio_write_all(&io, pattern, sizeof pattern);
	br_sslio_flush(&io);
	if (polite)
		br_sslio_close(&io);
}

static void
serve_tls(struct server *s)
{
	tls_server(s, 1);
}

static void *
run_server(void *arg)
{
	struct server *s = arg;

	s->fd = accept(s->listener, NULL, NULL);
	if (s->fd >= 0) {
		s->serve(s);
		close(s->fd);
	}
	return NULL;
}

static void
start(struct server *s, int family)
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *a = family == AF_INET ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6;
	socklen_t len = family == AF_INET ? sizeof a4 : sizeof a6;
	int one = 1;

	s->listener = socket(family, SOCK_STREAM, 0);
	if (family == AF_INET6)
		setsockopt(s->listener, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	check(bind(s->listener, a, len) == 0 && listen(s->listener, 5) == 0);
	getsockname(s->listener, a, &len);
	s->port = ntohs(family == AF_INET ? a4.sin_port : a6.sin6_port);
	check_int(pthread_create(&s->thread, NULL, run_server, s), 0);
}

static void
stop(struct server *s)
{
	shutdown(s->listener, SHUT_RDWR);	/* wakes accept() */
	pthread_join(s->thread, NULL);
	close(s->listener);
}

/* What the client needs to know of it. */
static void
know_server(struct trust *t)
{
	br_sha256_context sha;
	size_t i;

	for (i = 0; i < sizeof pattern; i++)
		pattern[i] = (uint8_t)(i * 7 + i / 251);
	memset(t, 0, sizeof *t);
	t->pinned = 1;
	strcpy(t->from, "here");
	br_sha256_init(&sha);
	br_sha256_update(&sha, leaf, cert_load("leaf", leaf, sizeof leaf));
	br_sha256_out(&sha, t->pin);
}

#endif
