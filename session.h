/*
 * A server as a source (source.h): the HTTP API and the reader protocol, and everything that may happen
 * to a connection. Above it nobody knows that there is one.
 */
#ifndef SESSION_H
#define SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "repo.h"
#include "source.h"
#include "trust.h"

struct session_conf {
	const struct repo *repo;	/* copied */
	const char *secret;		/* password, ticket or token secret; copied, wiped at the end */
	struct trust *trust;		/* outlives the session. open() unsets its `ask` when it starts threads */
	const char *proxy;		/* net_proxy(); outlives the session; NULL: none */
	int stop_fd;			/* -1: none; readable: calls that block return -ECANCELED */
	int stall;			/* s; 0: STALL_DEFAULT */
	int timeout;			/* s that file() waits during an outage; 0: READ_TIMEOUT */
	int inflight;			/* chunks on the wire for each connection; 0: LOADS_DEFAULT */
	int connections;		/* 0: 1, and by itself more where one is the limit */
	unsigned full;			/* bytes on the way of one flow that are its limit; 0: LINK_FULL */
};

/* Connects to nothing yet: the first of snapshots(), session_get() and open() does, and what is wrong is said there. */
int session_open(const struct session_conf *conf, struct source **out, struct err *e);

/* Its file() also takes "/speedtest": 1 MiB of nothing, for measuring. */

/* GET of an API path of the server, for what a source has no function for: see api_get(). */
int session_get(struct source *src, const char *target, int (*body)(void *ctx, const uint8_t *p, size_t n), void *ctx,
    struct err *e);

#endif
