/*
 * The queue between nghttp2 and the wire. It keeps frames in order while
 * payloads are read from their files piece by piece, as the wire has room.
 */
#include <stdlib.h>
#include <string.h>

#include "pbsd_out.h"

#define STAGE (64u << 10)		/* bytes collected before they go to TLS */
#define ITEMS 64			/* more than a session queues before it drains */

struct item {
	uint8_t *bytes;
	size_t len, at;			/* of bytes, or of the payload */
	struct body *body;
	size_t pad;			/* zeros behind the payload */
	enum breakage how;
};

struct out {
	struct wire *w;
	struct item item[ITEMS];
	size_t head, tail;
	uint8_t stage[STAGE];
	size_t staged;
	int data;			/* DATA frames among them */
};

struct out *
out_new(struct wire *w)
{
	struct out *o = calloc(1, sizeof(*o));

	if (!o)
		abort();
	o->w = w;
	return o;
}

static void
drop(struct out *o, struct item *i)
{
	o->data -= i->body != NULL;
	free(i->bytes);
	body_unref(i->body);
}

void
out_free(struct out *o)
{
	while (o->head < o->tail)
		drop(o, &o->item[o->head++]);
	free(o);
}

static struct item *
add(struct out *o)
{
	struct item *i = &o->item[o->tail++];

	if (o->tail > ITEMS)
		abort();
	memset(i, 0, sizeof(*i));
	return i;
}

void
out_bytes(struct out *o, const void *p, size_t n)
{
	struct item *i = add(o);

	i->bytes = malloc(n);
	if (!i->bytes)
		abort();
	memcpy(i->bytes, p, n);
	i->len = n;
}

void
out_data(struct out *o, const uint8_t *head, size_t padlen, struct body *b, size_t n)
{
	uint8_t first[10];
	struct item *i;

	memcpy(first, head, 9);
	first[9] = padlen > 0 ? (uint8_t)(padlen - 1) : 0;
	out_bytes(o, first, padlen > 0 ? 10 : 9);
	i = add(o);
	i->len = n;
	i->pad = padlen > 0 ? padlen - 1 : 0;
	i->body = b;
	b->refs++;
	o->data++;
}

void
out_break(struct out *o, enum breakage how)
{
	add(o)->how = how;
}

size_t
out_count(const struct out *o)
{
	return o->tail - o->head;
}

int
out_has_data(const struct out *o)
{
	return o->data > 0;
}

void
out_flush(struct out *o)
{
	wire_write(o->w, o->stage, o->staged);
	o->staged = 0;
}

/* Payload first, then the padding. */
static void
fill(struct item *i, uint8_t *to, size_t n)
{
	if (i->at >= i->len)
		memset(to, 0, n);
	else if (i->body)
		body_read(i->body, to, n);
	else
		memcpy(to, i->bytes + i->at, n);
	i->at += n;
}

/* Puts as much of an item on the stage as fits: 1 when it is done. */
static int
drain_item(struct out *o, struct item *i)
{
	while (i->at < i->len + i->pad) {
		size_t room = wire_room(o->w), left = i->at < i->len ? i->len - i->at : i->len + i->pad - i->at, n;

		if (o->staged == STAGE || o->staged >= room) {
			if (room == 0)
				return 0;
			out_flush(o);
			continue;
		}
		n = (STAGE < room ? STAGE : room) - o->staged;
		n = n < left ? n : left;
		fill(i, o->stage + o->staged, n);
		o->staged += n;
	}
	if (i->how != BREAK_NONE) {
		out_flush(o);
		if (wire_pending(o->w) > 0)
			return 0;
		wire_break(o->w, i->how);
	}
	return 1;
}

int
out_drain(struct out *o)
{
	while (o->head < o->tail) {
		if (!drain_item(o, &o->item[o->head]))
			return 0;
		drop(o, &o->item[o->head++]);
	}
	o->head = o->tail = 0;
	return 1;
}
