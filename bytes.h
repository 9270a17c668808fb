/* Wire data: little-endian integers, hex.  Never cast a buffer to a struct. */
#ifndef BYTES_H
#define BYTES_H

#include <stddef.h>
#include <stdint.h>

static inline uint16_t
get16le(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t
get32le(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t
get64le(const uint8_t *p)
{
	return get32le(p) | (uint64_t)get32le(p + 4) << 32;
}

static inline uint16_t
get16be(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t
get32be(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void
put32be(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

/* Writes 2*n lower-case digits and a NUL. */
void hex_encode(char *out, const uint8_t *p, size_t n);

/* Exactly 2*n digits of either case, nothing else: 0, else -1. */
int hex_decode(uint8_t *out, size_t n, const char *text, size_t len);

/* "ab:cd:…" as fingerprints are shown: 3*n bytes with the NUL. */
void hex_colons(char *out, const uint8_t *p, size_t n);

/* The way back, as users paste it: 32 bytes, either case, with or without
 * colons (all or none): 0, else -1. */
int hex_fingerprint(uint8_t out[32], const char *text, size_t len);

/* 1 if equal; time depends on n only. */
int equal_ct(const void *a, const void *b, size_t n);

/* Overwrites a secret; the compiler may not drop it. */
void wipe(void *p, size_t n);

#endif
