/*
 * Base64.  What it decodes is often a key, so no table is indexed and no branch
 * taken by a character's value (blanks and padding excepted, which tell nothing).
 */
#include "base64.h"

#include <string.h>

/* All ones when lo <= c <= hi, else 0; for values up to 255. */
static uint32_t
between(uint32_t c, uint32_t lo, uint32_t hi)
{
	return 0 - (~((c - lo) | (hi - c)) >> 31);
}

/* 0 to 63, or all ones for a character that is none of the alphabet. */
static uint32_t
value(uint32_t c)
{
	uint32_t upper = between(c, 'A', 'Z'), lower = between(c, 'a', 'z');
	uint32_t digit = between(c, '0', '9'), plus = between(c, '+', '+'), slash = between(c, '/', '/');

	return (upper & (c - 'A')) | (lower & (c - 'a' + 26)) | (digit & (c - '0' + 52)) |
	    (plus & 62) | (slash & 63) | ~(upper | lower | digit | plus | slash);
}

long
base64_decode(uint8_t *out, size_t cap, const char *text, size_t len)
{
	size_t n = 0, chars = 0, pads = 0;
	uint32_t acc = 0, bad = 0;
	unsigned left = 0;		/* bits of acc that are in no byte yet */

	for (size_t i = 0; i < len; i++) {
		uint32_t v;

		if (text[i] != '\0' && strchr(" \t\r\n", text[i]))
			continue;
		if (text[i] == '=') {
			pads++;
			continue;
		}
		v = value((unsigned char)text[i]);
		bad |= pads > 0 ? 64 : v & 64;
		acc = acc << 6 | (v & 63);
		chars++;
		left += 6;
		if (left < 8)
			continue;
		if (n == cap)
			return -1;
		left -= 8;
		out[n++] = (uint8_t)(acc >> left);
	}
	bad |= acc & ((1u << left) - 1);
	if (bad || pads > 2 || (chars + pads) % 4 != 0)
		return -1;
	return (long)n;
}

char *
base64_encode(char *out, const void *p, size_t n)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *b = p;
	uint32_t v;

	for (size_t i = 0; i < n; i += 3, out += 4) {
		v = (uint32_t)b[i] << 16;
		v |= i + 1 < n ? (uint32_t)b[i + 1] << 8 : 0;
		v |= i + 2 < n ? b[i + 2] : 0u;
		out[0] = digit[v >> 18];
		out[1] = digit[v >> 12 & 63];
		out[2] = i + 1 < n ? digit[v >> 6 & 63] : '=';
		out[3] = i + 2 < n ? digit[v & 63] : '=';
	}
	*out = '\0';
	return out;
}
