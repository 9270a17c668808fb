/*
 * Bodies: a chunk file or some memory, made shorter, longer or wrong by a
 * rule. Knows neither frames nor streams.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pbsd_body.h"

/* Rules that happen at a byte are only noted here; the session does them when that byte is due. */
static void
apply(struct body *b, const struct rule *r)
{
	b->rule = *r;
	switch (r->kind) {
	case RULE_CORRUPT:
		b->bad = r->at >= 0 ? r->at : b->real / 2;
		break;
	case RULE_SHORT:
		b->len = b->real > r->by ? b->real - r->by : 0;
		break;
	case RULE_LONG:
		b->len = b->real + r->by;
		break;
	case RULE_GARBAGE:
		b->garbage = 1;
		break;
	case RULE_EMPTY:
		b->len = b->announced = 0;
		break;
	case RULE_NOLENGTH:
		b->announced = -1;
		break;
	case RULE_TRAILER:
		b->trailer = 1;
		break;
	case RULE_RST:
	case RULE_HANG:
	case RULE_CUT:
	case RULE_STALL:
	case RULE_INJECT:
		b->faulty = 1;
		break;
	case RULE_STATUS:
	case RULE_DELAY:
		break;
	}
}

struct body *
body_new(struct reply *a, const struct rule *rule)
{
	struct body *b = calloc(1, sizeof(*b));

	if (!b)
		abort();
	b->refs = 1;
	b->fd = a->fd;
	b->mem = a->mem;
	a->fd = -1;
	a->mem = NULL;
	b->real = b->len = a->len;
	b->announced = a->with_length ? a->len : -1;
	b->late_end = !a->with_length;
	b->bad = -1;
	if (rule)
		apply(b, rule);
	return b;
}

void
body_unref(struct body *b)
{
	if (!b || --b->refs > 0)
		return;
	if (b->fd >= 0)
		close(b->fd);
	free(b->mem);
	free(b);
}

void
body_read(struct body *b, uint8_t *out, size_t n)
{
	int64_t at = b->sent, have = at < b->real ? b->real - at : 0;
	size_t k = (int64_t)n < have ? n : (size_t)have;

	if (b->mem)
		memcpy(out, b->mem + at, k);
	else
		for (size_t got = 0; got < k; ) {
			ssize_t r = pread(b->fd, out + got, k - got, (off_t)(at + (int64_t)got));
			if (r <= 0) {		/* cut short under our hands */
				memset(out + got, 0, k - got);
				break;
			}
			got += (size_t)r;
		}
	memset(out + k, 0, n - k);
	if (b->bad >= at && b->bad < at + (int64_t)n)
		out[b->bad - at] ^= 0x20;
	for (size_t i = 0; b->garbage && i < n; i++)
		out[i] = (uint8_t)(out[i] * 7 + 13 * (unsigned)(at + (int64_t)i) + 5);
	b->sent += (int64_t)n;
}

size_t
body_limit(const struct body *b, size_t n)
{
	int64_t left = b->len - b->packed;

	if (b->faulty && b->rule.at >= b->packed && b->rule.at - b->packed < left)
		left = b->rule.at - b->packed;
	return (int64_t)n < left ? n : (size_t)left;
}
