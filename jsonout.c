/*
 * Writing JSON. Names in /run and partition names can hold any byte; what is no UTF-8
 * is written as Latin-1, so that the output is valid whatever comes.
 */

#include <stddef.h>

#include "jsonout.h"

/* Bytes of the UTF-8 character at s; 0: none. */
static size_t
utf8(const unsigned char *s)
{
	size_t n = *s < 0xc2 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : *s < 0xf5 ? 4 : 0, i;

	for (i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, beyond U+10FFFF. */
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) ||
	    (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void
json_out(FILE *f, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t n;

	putc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\') {
			fprintf(f, "\\%c", *s);
		} else if (*s >= 0x20 && *s < 0x7f) {
			putc(*s, f);
		} else if ((n = utf8(s)) > 0) {
			fwrite(s, 1, n, f);
			s += n - 1;
		} else {
			fprintf(f, "\\u%04x", *s);
		}
	}
	putc('"', f);
}
