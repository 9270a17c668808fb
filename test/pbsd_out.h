/* What a session sends, in order: bytes, DATA payloads from bodies, the end. */
#ifndef PBSD_OUT_H
#define PBSD_OUT_H

#include <stddef.h>

#include "pbsd_body.h"
#include "pbsd_wire.h"

struct out;

struct out *out_new(struct wire *w);
void out_free(struct out *o);
void out_bytes(struct out *o, const void *p, size_t n);
/* A DATA frame: its header of 9 bytes, padlen as nghttp2 counts it (with the length byte), n bytes of the body. */
void out_data(struct out *o, const uint8_t *head, size_t padlen, struct body *b, size_t n);
/* Breaks the connection once all before it was sent. */
void out_break(struct out *o, enum breakage how);
size_t out_count(const struct out *o);
int out_has_data(const struct out *o);
/* 1 when all is on its way, 0 when there is no room. */
int out_drain(struct out *o);
void out_flush(struct out *o);		/* what was collected goes to TLS */

#endif
