/* Names to addresses, with a deadline: getaddrinfo() has none, so it has a thread of its own. */
#ifndef RESOLVE_H
#define RESOLVE_H

#include <stdint.h>
#include <sys/socket.h>

#include "err.h"

#define ADDRS_MAX 16

struct addr {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* Fills at most ADDRS_MAX addresses, best first, and returns their number (> 0). Numeric addresses need no thread. -ETIMEDOUT at the
 * deadline (clock_ms() ms), -ECANCELED when cancel_fd is readable: the look-up then ends by itself, later.
 * A name that was found before and cannot be looked up now has the addresses it had. Any thread. */
int resolve(const char *host, uint16_t port, int64_t deadline, int cancel_fd, struct addr *out, struct err *e);

/* From here on names are looked up by another process, if this host's has to be. */
int resolve_give_away(const char *host, struct err *e);

/* "192.0.2.1", "2001:db8::1" */
void addr_print(const struct addr *a, char *out, size_t cap);

#endif
