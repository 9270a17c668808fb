/* A connection and its thread; what the control side can do to all of them. */
#ifndef PBSD_CONN_H
#define PBSD_CONN_H

#include <openssl/ssl.h>

#include "pbsd_fault.h"
#include "pbsd_wire.h"

#define KICKS_MAX 16

struct conn {
	int id;
	struct wire *wire;
	int wake;
	struct kick kick[KICKS_MAX];	/* those to come, under pbsd_conn.c's lock */
	int kicks;
	struct conn *next, **self;
};

/* Serves fd in a thread of its own, with a reference of ctx. */
void conn_start(int fd, SSL_CTX *ctx);
void conn_wake_all(void);		/* the weather has changed */
void conn_kick_all(const struct kick *k);
/* Cuts all connections and waits until their threads are gone. */
void conn_end_all(void);
/* For the connection's own thread: the next kick, if any (1). */
int conn_take_kick(struct conn *c, struct kick *k);

#endif
