/*
 * A connection to a server: TCP (perhaps through a proxy), TLS, trust; above it a stream
 * of bytes for one thread. Every wait has a deadline and ends when cancel_fd is readable.
 *
 *	net_open(&conf, clock_ms() + 30000, &n, e);
 *	net_put(n, request, len);
 *	while ((r = net_poll(n, NET_IN, queue_fd, deadline, e)) > 0) {
 *		p = net_in(n, &len); … net_in_done(n, used);
 *	}
 */
#ifndef NET_H
#define NET_H

#include <stddef.h>
#include <stdint.h>

#include "clock.h"	/* all deadlines are clock_ms() */
#include "err.h"
#include "trust.h"

struct net;

struct net_conf {
	const char *host;		/* name or address, no brackets */
	uint16_t port;
	const char *proxy;		/* "[http://][user:password@]host[:port]"; NULL: none (net_proxy() has the environment's) */
	struct trust *trust;		/* outlives net_open() */
	int cancel_fd;			/* -1: none; borrowed for the connection's life */
	int connect_ms;			/* for each address; 0: 10 s */
	int dead_ms;			/* TCP gives a silent peer up; 0: 30 s */
};

/* ALL_PROXY, or NULL. */
const char *net_proxy(void);

/* Connects, shakes hands, decides on trust; asks (trust->ask) and connects again when a person says yes. Texts of errors name the server.
 * -ECANCELED, -ETIMEDOUT, -ECONNREFUSED, …; not trusted: -EACCES, ST_TRUST; *seen (may be NULL) has the certificate in any case. */
int net_open(const struct net_conf *c, int64_t deadline, struct net **out, struct cert_seen *seen, struct err *e);
/* At once; says good-bye if that does not block. NULL is fine. */
void net_close(struct net *n);

#define NET_IN 1			/* net_in() has bytes */
#define NET_OUT 2			/* net_put() has room */
#define NET_FD 4			/* fd is readable */
#define NET_EOF 8			/* the server has ended the stream properly; bytes may still be in net_in() */

/* Sends what was put, receives what came, and waits until something of `want` (NET_IN, NET_OUT) is so, fd (-1: none) is
 * readable or the stream has ended: the NET_ bits that are so; 0: deadline. When bytes flow without a pause, fd is looked at
 * now and then only.
 * A connection that broke: a negative errno, for good (-ECONNRESET: ended without TLS's good-bye). A deadline in the past: does not wait. */
int net_poll(struct net *n, int want, int fd, int64_t deadline, struct err *e);

/* Received bytes, in place: valid until net_in_done() or net_poll(). NULL and 0 when there are none. */
const uint8_t *net_in(struct net *n, size_t *len);
void net_in_done(struct net *n, size_t len);

/* Takes as many bytes as there is room for, to be sent by net_poll(). Never blocks. */
size_t net_put(struct net *n, const void *p, size_t len);

/* For one request after the other: blocks until some bytes came (their number; 0: end) or until all is sent (0). */
int net_read(struct net *n, void *buf, size_t len, int64_t deadline, struct err *e);
int net_write(struct net *n, const void *p, size_t len, int64_t deadline, struct err *e);

/* When bytes last came from the socket (clock_ms()), to notice a stall. */
int64_t net_heard(const struct net *n);
/* How long a packet goes there and back, as TCP has found (us); 0: not known. */
unsigned net_rtt(const struct net *n);
/* What was negotiated: "TLS 1.2, ECDHE-RSA-AES128-GCM-SHA256". The peer's address: addr_print()'s. */
const char *net_cipher(const struct net *n);
const char *net_peer(const struct net *n);

#endif
