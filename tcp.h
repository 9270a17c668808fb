/* A TCP connection: every address of a name in turn, perhaps through an HTTP proxy. */
#ifndef TCP_H
#define TCP_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct tcp_conf {
	const char *host, *proxy;	/* as in net.h */
	uint16_t port;
	int cancel_fd;
	int connect_ms;			/* for each address */
	int dead_ms;			/* an unacknowledged byte or keepalive this old ends the connection */
	int64_t deadline;		/* for all */
};

/* A non-blocking socket, connected to the host or, when there is a proxy, to the proxy; its address as text in peer. Or a
 * negative errno with *e set. */
int tcp_connect(const struct tcp_conf *c, char *peer, size_t cap, struct err *e);

/* proxy.c: the same through c->proxy: its CONNECT is done. */
int proxy_connect(const struct tcp_conf *c, char *peer, size_t cap, struct err *e);

#endif
