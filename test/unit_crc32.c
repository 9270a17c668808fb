/* CRC-32: zlib's vectors, and every path against them at all lengths and alignments. */
#include <stdlib.h>

#include "t.h"
#include "../crc32.h"

static const char *const names[] = { "pclmul", "armv8", "plain" };
static uint8_t data[100000 + 64];

/* A bit at a time, as the definition has it. */
static uint32_t
slow(uint32_t crc, const uint8_t *p, size_t n)
{
	int i;

	for (crc = ~crc; n > 0; n--) {
		crc ^= *p++;
		for (i = 0; i < 8; i++)
			crc = (crc & 1) != 0 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
	}
	return ~crc;
}

static void
vectors(void)
{
	static const struct { size_t n; uint32_t crc; } v[] = {
	    { 0, 0x00000000 }, { 1, 0x4b0bbe37 }, { 2, 0xfd2698b4 }, { 3, 0x732e5a6b },
	    { 7, 0x016eaf0a }, { 8, 0x0f0efdeb }, { 15, 0xf8351712 }, { 16, 0xa4269b0a },
	    { 17, 0x6cadd906 }, { 63, 0xb97f92c5 }, { 64, 0x27b45448 }, { 65, 0xc924fea2 },
	    { 127, 0x8e203ade }, { 128, 0x2135beff }, { 129, 0xe79672c9 }, { 255, 0xa072386f },
	    { 256, 0xa47edc25 }, { 1000, 0xae280f90 }, { 4096, 0x3c284582 }, { 100000, 0xbe505f53 },
	};
	size_t i, cut;

	check(crc32_update(0, "123456789", 9) == 0xcbf43926u);
	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		for (cut = 0; cut <= v[i].n; cut = cut * 3 + 1)
			check(crc32_update(crc32_update(0, data, cut), data + cut, v[i].n - cut) == v[i].crc);
}

static void
lengths(void)
{
	size_t n, at;

	for (n = 0; n <= 300; n++)
		for (at = 0; at < 16; at++)
			check(crc32_update((uint32_t)n * 2654435761u, data + at, n) ==
			    slow((uint32_t)n * 2654435761u, data + at, n));
	check(crc32_update(7, NULL, 0) == 7);
}

static void
test_paths(void)
{
	size_t i, n = 0;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)((i * i + 7 * i + 3) % 251);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (crc32_use(names[i]) == NULL) {
			printf("# no %s here\n", names[i]);
			continue;
		}
		n++;
		vectors();
		lengths();
	}
	check(n > 0);
	check(crc32_use("none") == NULL);
}

int
main(void)
{
	run(test_paths);
	return t_end();
}
