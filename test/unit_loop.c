/* What a user may call a loop device. */
#include <errno.h>

#include "t.h"
#include "../loop.h"

static void
test_number(void)
{
	static const struct { const char *text; int nr; } c[] = {
		{ "/dev/loop0", 0 }, { "/dev/loop17", 17 }, { "loop3", 3 }, { "3", 3 },
		{ "/dev/loop1048575", 1048575 }, { "/dev/loop256", 256 },
		{ "/dev/loop1048576", -1 }, { "99999999999999999999", -1 }, { "/dev/loop", -1 },
		{ "/dev/loop3p1", -1 }, { "loop-control", -1 }, { "/dev/loop03", -1 }, { "03", -1 },
		{ "-1", -1 }, { "+1", -1 }, { " 1", -1 }, { "1 ", -1 }, { "", -1 }, { "/dev/3", -1 },
		{ "/dev/sda", -1 }, { "looploop1", -1 }, { "0x1", -1 },
	};

	for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
		if (loop_number(c[i].text) != c[i].nr)
			check_str(c[i].text, "understood");
}

static void
test_none(void)
{
	char out[64];

	check_int(loop_backing(1048575, out, sizeof out), -ENOENT);
	check_int(loop_by_backing("/no/such/file"), -1);
	check_int(loop_size(1048575), 0);
}

int
main(void)
{
	run(test_number);
	run(test_none);
	return t_end();
}
