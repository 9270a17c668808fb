/* The body of an answer, with what a rule does to it. */
#ifndef PBSD_BODY_H
#define PBSD_BODY_H

#include <stddef.h>
#include <stdint.h>

#include "pbsd_reader.h"

struct body {
	int refs;
	int fd;
	char *mem;
	int64_t real;			/* bytes there are */
	int64_t len;			/* bytes that will be sent */
	int64_t announced;		/* content-length; -1: none */
	int64_t packed, sent;		/* given to nghttp2, to the wire */
	int64_t bad;			/* the byte that is made wrong; -1: none */
	int garbage, trailer, late_end;
	int faulty;			/* rule is set and has not been done yet */
	struct rule rule;
};

/* Takes over what the reply owns. rule: what hits it, or NULL. */
struct body *body_new(struct reply *a, const struct rule *rule);
void body_unref(struct body *b);
/* Exactly n bytes from offset `sent` on. */
void body_read(struct body *b, uint8_t *out, size_t n);
/* How many of n bytes may be packed before the end or before the rule strikes. */
size_t body_limit(const struct body *b, size_t n);

#endif
