/* TLS 1.2 by BearSSL: an engine set up for a server, and its failures in words. No I/O but for random numbers. */
#ifndef TLS_H
#define TLS_H

#include <bearssl.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "trust.h"

struct tls {
	br_ssl_client_context client;
	uint8_t first[8];		/* what the peer sent first, to tell what it is */
	size_t saw;
	uint8_t buf[BR_SSL_BUFSIZE_BIDI];
};

/* Makes t ready for a handshake with host (name or address). The chain judges the certificate; it must
 * live until the handshake is over. May wait for the kernel's random numbers. */
int tls_start(struct tls *t, const char *host, struct chain *c, int cancel_fd, int64_t deadline, struct err *e);

/* Remembers the peer's first bytes. */
void tls_saw(struct tls *t, const void *p, size_t n);

/* Why the engine has stopped (its error is not 0): a negative errno, *e set. c: during the handshake, else NULL. */
int tls_explain(const struct tls *t, const char *name, const struct chain *c, struct err *e);

/* "TLS 1.2, ECDHE-RSA-AES128-GCM-SHA256" */
const char *tls_cipher(const struct tls *t);

#endif
