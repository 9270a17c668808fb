/*
 * CRC-32.  Long data goes through carry-less multiplication or ARMv8's CRC
 * instruction, the rest and other machines through eight tables, made once.
 * Within this file a crc is the register's value, i.e. inverted.
 */
#include "crc32.h"

#include <pthread.h>
#include <string.h>

#include "bytes.h"
#include "cpu.h"

#define POLY 0xedb88320u		/* bits reversed, as the register is */

typedef uint32_t (*update_fn)(uint32_t crc, const uint8_t *p, size_t n);

/* table[k][b]: what byte b leaves behind after k more zero bytes. */
static uint32_t table[8][256];

static uint32_t
update_plain(uint32_t crc, const uint8_t *p, size_t n)
{
	uint32_t hi;

	/* Eight bytes a step, each through the table of its distance to the end. */
	for (; n >= 8; n -= 8, p += 8) {
		crc ^= get32le(p);
		hi = get32le(p + 4);
		crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^
		    table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^
		    table[3][hi & 255] ^ table[2][hi >> 8 & 255] ^
		    table[1][hi >> 16 & 255] ^ table[0][hi >> 24];
	}
	for (; n > 0; n--)
		crc = table[0][(crc ^ *p++) & 255] ^ crc >> 8;
	return crc;
}

#if CPU_X86
#include <immintrin.h>

/*
 * x, moved over the 128 * m bits up to next, and next.  by holds
 * x^(128m+32) and x^(128m-32) mod P, bits reversed, for x's two halves.
 */
__attribute__((target("pclmul,sse2")))
static inline __m128i
fold(__m128i x, __m128i by, __m128i next)
{
	return _mm_xor_si128(next, _mm_xor_si128(
	    _mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11)));
}

#define LOAD(i) _mm_loadu_si128((const __m128i *)p + (i))

__attribute__((target("pclmul,sse2")))
static uint32_t
update_pclmul(uint32_t crc, const uint8_t *p, size_t n)
{
	const __m128i by4 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
	const __m128i by1 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
	__m128i a, b, c, d;
	uint8_t rest[16];

	if (n < 64)
		return update_plain(crc, p, n);
	/* Four at once, since one multiplication's latency would be the limit. */
	a = _mm_xor_si128(LOAD(0), _mm_cvtsi32_si128((int)crc));
	b = LOAD(1);
	c = LOAD(2);
	d = LOAD(3);
	for (p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
		a = fold(a, by4, LOAD(0));
		b = fold(b, by4, LOAD(1));
		c = fold(c, by4, LOAD(2));
		d = fold(d, by4, LOAD(3));
	}
	a = fold(fold(fold(a, by1, b), by1, c), by1, d);
	for (; n >= 16; p += 16, n -= 16)
		a = fold(a, by1, LOAD(0));
	/* These 16 bytes have the CRC of all before them. */
	_mm_storeu_si128((__m128i *)rest, a);
	return update_plain(update_plain(0, rest, 16), p, n);
}
#endif

#if CPU_ARM64
#include <arm_acle.h>

CPU_TARGET_CRC32
static uint32_t
update_armv8(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n >= 8; n -= 8, p += 8)
		crc = __crc32d(crc, get64le(p));
	for (; n > 0; n--)
		crc = __crc32b(crc, *p++);
	return crc;
}
#endif

/* The best first, and what they do, in the same order. */
static const struct cpu_path paths[] = {
#if CPU_X86
	{ "pclmul", cpu_has_pclmul },
#elif CPU_ARM64
	{ "armv8", cpu_has_crc32 },
#endif
	{ "plain", NULL },
};
static const update_fn fns[] = {
#if CPU_X86
	update_pclmul,
#elif CPU_ARM64
	update_armv8,
#endif
	update_plain,
};
enum { PATHS = sizeof(paths) / sizeof(paths[0]) };

static update_fn update;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
choose(void)
{
	uint32_t crc;
	int i, k;

	for (i = 0; i < 256; i++) {
		crc = (uint32_t)i;
		for (k = 0; k < 8; k++)
			crc = crc >> 1 ^ ((crc & 1) != 0 ? POLY : 0);
		table[0][i] = crc;
	}
	for (i = 0; i < 256; i++)
		for (k = 1; k < 8; k++)
			table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
	update = fns[cpu_choose(paths, PATHS, NULL)];
}

const char *
crc32_use(const char *name)
{
	int i;

	pthread_once(&once, choose);
	i = cpu_choose(paths, PATHS, name);
	if (i < 0)
		return NULL;
	update = fns[i];
	return paths[i].name;
}

uint32_t
crc32_update(uint32_t crc, const void *p, size_t n)
{
	pthread_once(&once, choose);
	return ~update(~crc, p, n);
}
