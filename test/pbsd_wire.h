/*
 * A connection's bytes: the socket, TLS on it, and what the weather does to
 * both. Used by one thread.
 */
#ifndef PBSD_WIRE_H
#define PBSD_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <openssl/ssl.h>

#include "pbsd_fault.h"

struct wire;

/* Takes over fd. wake: an eventfd by which others interrupt waiting; woken(ctx) is then called. */
struct wire *wire_new(int fd, int wake, int id, void (*woken)(void *ctx), void *ctx);
void wire_free(struct wire *w);

/* Serves the handshake; 0 or -1. */
int wire_tls(struct wire *w, SSL_CTX *ctx);
/* From here on bytes count for this scope's breakpoint, if they did not before. */
void wire_scope(struct wire *w, enum scope s);
const struct weather *wire_weather(const struct wire *w);

/* Sends, waits (until deadline in ms, -1: none, or until something happened), receives. -1: the connection is over. */
int wire_step(struct wire *w, int64_t deadline);
/* Plain bytes: >0, -EAGAIN, 0 at the client's close_notify, -EPIPE when it just went. */
ssize_t wire_read(struct wire *w, void *buf, size_t n);
/* How much wire_write() takes now. */
size_t wire_room(const struct wire *w);
size_t wire_pending(const struct wire *w);	/* raw bytes not yet sent */
void wire_write(struct wire *w, const void *p, size_t n);
/* Writes it all, however long that takes; waits until the given time. -1: the connection is over. */
int wire_put(struct wire *w, const void *p, size_t n);
int wire_sleep(struct wire *w, int64_t until);
/* All that was written is on its way, then the end. */
void wire_finish(struct wire *w);
void wire_break(struct wire *w, enum breakage how);
void wire_resume(struct wire *w);

int64_t now_ms(void);

#endif
