/*
 * Hexadecimal, constant-time comparison, wiping.  Pure; nothing here knows
 * what the bytes mean.
 */
#include "bytes.h"

#include <string.h>

static const char digits[] = "0123456789abcdef";

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

void
hex_encode(char *out, const uint8_t *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		*out++ = digits[p[i] >> 4];
		*out++ = digits[p[i] & 15];
	}
	*out = '\0';
}

int
hex_decode(uint8_t *out, size_t n, const char *text, size_t len)
{
	size_t i;
	int hi, lo;

	/* Not len != 2 * n: n may be a hostile length that wraps. */
	if (len % 2 != 0 || len / 2 != n)
		return -1;
	for (i = 0; i < n; i++) {
		hi = hex_value(text[2 * i]);
		lo = hex_value(text[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return -1;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

void
hex_colons(char *out, const uint8_t *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (i > 0)
			*out++ = ':';
		*out++ = digits[p[i] >> 4];
		*out++ = digits[p[i] & 15];
	}
	*out = '\0';
}

int
hex_fingerprint(uint8_t out[32], const char *text, size_t len)
{
	size_t i;

	/* Only the whole length can have colons. */
	if (len != 32 * 3 - 1)
		return hex_decode(out, 32, text, len);
	for (i = 0; i < 32; i++)
		if (hex_decode(out + i, 1, text + 3 * i, 2) != 0 ||
		    (i < 31 && text[3 * i + 2] != ':'))
			return -1;
	return 0;
}

int
equal_ct(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;
	/* No way out before the end: its time must not tell where they differ. */
	unsigned diff = 0;

	while (n-- > 0)
		diff |= (unsigned)(*x++ ^ *y++);
	return diff == 0;
}

void
wipe(void *p, size_t n)
{
	memset(p, 0, n);
	/* Claims to read the memory, so the memset is no dead store. */
	__asm__ volatile("" : : "r"(p) : "memory");
}
