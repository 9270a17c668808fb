/* DER, as far as certificates and private keys need it: one element after the other. */
#ifndef DER_H
#define DER_H

#include <stddef.h>
#include <stdint.h>

enum {
	DER_BOOL = 0x01, DER_INTEGER = 0x02, DER_BITS = 0x03, DER_OCTETS = 0x04, DER_OID = 0x06,
	DER_SEQUENCE = 0x30, DER_SET = 0x31,
};

struct der {				/* borrowed bytes */
	const uint8_t *p;
	size_t len;
};

/* Takes the next element off `in`; its contents are a slice of it. 0, or -1: the end, or malformed. `value` may be `in`. */
int der_next(struct der *in, unsigned *tag, struct der *value);
/* The same, and it must have this tag. */
int der_expect(struct der *in, unsigned tag, struct der *value);
int der_is(const struct der *d, const void *p, size_t n);	/* 1: these are its bytes */

#endif
