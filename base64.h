/* Base64 (RFC 4648), for keys and PEM: time depends on the text's length and layout alone. */
#ifndef BASE64_H
#define BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Decodes to out[cap]; blanks and line breaks anywhere are skipped. Returns the number of bytes, or -1 when it is
 * no base64 (foreign characters, padding missing or not at the end, bits left over) or longer than cap. */
long base64_decode(uint8_t *out, size_t cap, const char *text, size_t len);

/* Writes (n + 2) / 3 * 4 characters and a NUL; returns where that is. Not for keys: it looks things up in a table. */
char *base64_encode(char *out, const void *p, size_t n);

#endif
