/* DER elements over bytes that an attacker may have written: nothing reaches outside of what is around it. */
#include "der.h"

#include <string.h>

int
der_next(struct der *in, unsigned *tag, struct der *value)
{
	const uint8_t *p = in->p;
	size_t left = in->len, n, digits;

	if (left < 2)
		return -1;
	*tag = p[0];
	n = p[1];
	p += 2;
	left -= 2;
	if (n >= 0x80) {
		digits = n & 0x7f;
		/* 0x80 is BER's endless form; more than 16 MiB is no certificate */
		if (digits == 0 || digits > 3 || digits > left)
			return -1;
		for (n = 0; digits; digits--, left--)
			n = n << 8 | *p++;
	}
	if (n > left)
		return -1;
	in->p = p + n;
	in->len = left - n;
	value->p = p;		/* last: the element may take its own list's place */
	value->len = n;
	return 0;
}

int
der_expect(struct der *in, unsigned tag, struct der *value)
{
	unsigned t;

	return der_next(in, &t, value) || t != tag ? -1 : 0;
}

int
der_is(const struct der *d, const void *p, size_t n)
{
	return d->len == n && memcmp(d->p, p, n) == 0;
}
