/* SipHash-2-4 against its paper's vectors. */
#include "../siphash.h"
#include "t.h"

/* Key and data are 0, 1, 2, ... */
static void
test_vectors(void)
{
	static const uint64_t want[] = {
		0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
		0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
		0x93f5f5799a932462, 0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
		0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee, 0xa129ca6149be45e5,
	};
	uint8_t data[16];
	size_t i;

	for (i = 0; i < 16; i++)
		data[i] = (uint8_t)i;
	for (i = 0; i < 16; i++)
		check(siphash24(0x0706050403020100, 0x0f0e0d0c0b0a0908, data, i) == want[i]);
}

/* Long input: the length counts modulo 256. */
static void
test_lengths(void)
{
	static uint8_t zeros[600];

	check(siphash24(0, 0, zeros, 8) != siphash24(0, 0, zeros, 264));
	check(siphash24(0, 0, zeros, 255) != siphash24(0, 0, zeros, 256));
	check(siphash24(0, 0, zeros, 3) != siphash24(1, 0, zeros, 3));
	check(siphash24(0, 0, zeros, 3) != siphash24(0, 1, zeros, 3));
}

int
main(void)
{
	run(test_vectors);
	run(test_lengths);
	return t_end();
}
