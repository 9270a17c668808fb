/* Sequential readers are recognised and followed, random ones cost nothing. */
#include "../ahead.h"
#include "t.h"

#define CHUNK (4u << 20)

static uint64_t
wanted(const struct ahead_stream *s)
{
	return s->chunk + s->window + 1;
}

static void
test_grows(void)
{
	struct ahead a = { .max = 16 };
	struct ahead_stream *s;

	s = ahead_note(&a, 0, 4096, CHUNK);
	check_int(s->window, 0);
	check_int(ahead_note(&a, 1, 4096, CHUNK)->window, 1);
	check_int(ahead_note(&a, 2, 4096, CHUNK)->window, 2);
	check_int(ahead_note(&a, 3, 4096, CHUNK)->window, 4);
	check_int(ahead_note(&a, 4, 4096, CHUNK)->window, 8);
	s = ahead_note(&a, 5, 4096, CHUNK);
	check_int(s->window, 16);
	check_int(wanted(s), 22);
	check_int(ahead_note(&a, 6, 4096, CHUNK)->window, 16);
}

static void
test_within_one_chunk(void)
{
	struct ahead a = { .max = 16 };
	int i;

	check_int(ahead_note(&a, 7, 1 << 20, CHUNK)->window, 0);	/* one read tells nothing */
	check_int(ahead_note(&a, 7, 1 << 20, CHUNK)->window, 1);
	for (i = 0; i < 16; i++)
		check_int(ahead_note(&a, 100, 4096, CHUNK)->window, 0);
}

static void
test_several_at_once(void)
{
	struct ahead a = { .max = 16 };
	int i;

	for (i = 0; i < 6; i++) {
		ahead_note(&a, (uint64_t)i, 4096, CHUNK);
		ahead_note(&a, (uint64_t)(1000 + i), 4096, CHUNK);
		ahead_note(&a, (uint64_t)(2000 + i), 4096, CHUNK);
	}
	check_int(ahead_note(&a, 6, 4096, CHUNK)->window, 16);
	check_int(ahead_note(&a, 1006, 4096, CHUNK)->window, 16);
	check_int(ahead_note(&a, 2006, 4096, CHUNK)->window, 16);
}

static void
test_random(void)
{
	struct ahead a = { .max = 16 };
	uint64_t x = 1, sum = 0;
	int i;

	for (i = 0; i < 10000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		sum += ahead_note(&a, (x >> 33) % 250000, 4096, CHUNK)->window;
	}
	check(sum < 100);
}

static void
test_out_of_order_and_back(void)
{
	struct ahead a = { .max = 16 };
	struct ahead_stream *s;

	ahead_note(&a, 0, 4096, CHUNK);
	ahead_note(&a, 1, 4096, CHUNK);
	ahead_note(&a, 2, 4096, CHUNK);
	s = ahead_note(&a, 1, 4096, CHUNK);		/* a little late */
	check_int(s->chunk, 2);
	check_int(s->window, 2);
	s = ahead_note(&a, 500, 4096, CHUNK);		/* a jump begins with nothing */
	check_int(s->window, 0);
	check_int(s->upto, 501);
}

static void
test_off(void)
{
	struct ahead a = { .max = 0 };
	int i;

	for (i = 0; i < 20; i++)
		check_int(ahead_note(&a, (uint64_t)i, 1 << 20, CHUNK)->window, 0);
}

int
main(void)
{
	run(test_grows);
	run(test_within_one_chunk);
	run(test_several_at_once);
	run(test_random);
	run(test_out_of_order_and_back);
	run(test_off);
	return t_end();
}
