/*
 * Requests to a server's HTTP API, each on a connection of its own: login, lists, and the
 * upgrade to the reader protocol. Blocks; any thread; several at once.
 */
#ifndef API_H
#define API_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "auth.h"
#include "err.h"
#include "net.h"

struct api {
	struct net_conf net;		/* cancel_fd is not used: each call has its own */
	char host[280];			/* host:port, for the Host field and for messages */
	int stall;			/* ms */
	struct auth auth;
	pthread_mutex_t lock;		/* of auth: one login at a time */
};

int api_init(struct api *a, const struct net_conf *net, const char *id, const char *secret, int stall, struct err *e);
void api_free(struct api *a);

/* GET; each piece of a 2xx answer's body is handed to body(), whose negative result ends it. Logs in before when needed. Texts of errors name the
 * server. Refused: -EACCES, ST_TRUST; what is not there: -ENOENT; the server's own words are in the text. */
int api_get(struct api *a, int cancel_fd, const char *target, int (*body)(void *ctx, const uint8_t *p, size_t n),
    void *ctx, struct err *e);

/* GET with an upgrade: *out then speaks that protocol; its first bytes may be in net_in() already. */
int api_upgrade(struct api *a, int cancel_fd, const char *target, const char *protocol, struct net **out, struct err *e);

/* Logs in anew when the ticket is the only secret and grows old. 0 also when there is nothing to do. */
int api_renew(struct api *a, int cancel_fd, struct err *e);

#endif
