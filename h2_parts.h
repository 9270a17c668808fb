/* What h2.c, h2_in.c and h2_list.c share; nobody else includes it. */
#ifndef H2_PARTS_H
#define H2_PARTS_H

#include "h2.h"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, HAS_PRIORITY = 0x20 };	/* flags */
enum {
	NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
	REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM,
};

#define WINDOW_MAX INT32_MAX
#define OUT_SPARE 32			/* bytes of the output kept for GOAWAY */

/* Queues a frame, leaving `spare` bytes free. One that does not fit jams the connection. */
void h2_put_frame(struct h2 *h, uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n, size_t spare);
void h2_put_number(struct h2 *h, uint8_t type, uint32_t id, uint32_t v);
/* The connection ends here: tells the server why, once. Returns rc. */
int h2_end_connection(struct h2 *h, uint32_t code, int rc);

struct h2_stream *h2_find(struct h2 *h, uint32_t id);	/* NULL: not under way */
/* Frees the slot, then tells the owner. */
void h2_finish(struct h2 *h, struct h2_stream *s, enum h2_end why, uint32_t code);
int h2_was_reset(const struct h2 *h, uint32_t id);
void h2_reset_stream(struct h2 *h, uint32_t id, uint32_t code);

/* Header lists (RFC 9113, 8). s NULL: nobody waits for it; its fields are decoded and dropped. */
void h2_list_start(struct h2_list *l, struct h2_stream *s);
/* An hpack_field whose ctx is the struct h2. What is wrong is left in list.bad. */
int h2_list_field(void *ctx, const char *name, size_t name_len, const char *value, size_t value_len);
void h2_list_finish(struct h2_list *l, int end_stream);

#endif
