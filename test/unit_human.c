/* Sizes and times for people. */
#include <errno.h>
#include <string.h>

#include "human.h"
#include "t.h"

static void
size(uint64_t bytes, const char *want)
{
	char out[10];

	check_str(human_size(bytes, out), want);
}

static void
test_sizes(void)
{
	size(0, "0 B");
	size(1023, "1023 B");
	size(1024, "1.0 KiB");
	size(1075, "1.0 KiB");
	size(1076, "1.1 KiB");
	size(31458816, "30.0 MiB");
	size((1ull << 20) - 1, "1.0 MiB");
	size((1ull << 20) - 512, "1.0 MiB");
	size((1ull << 20) - 513, "1023 KiB");
	size(1000ull << 10, "1000 KiB");
	size((1000ull << 10) - 52, "999.9 KiB");
	size((1000ull << 10) - 51, "1000 KiB");
	size(1ull << 30, "1.0 GiB");
	size(5ull << 40, "5.0 TiB");
	size(1ull << 50, "1.0 PiB");
	size(UINT64_MAX, "16.0 EiB");
}

/* Around every power of two and at many others: it fits, grows, and is near the truth. */
static void
test_sizes_fit(void)
{
	static const char units[] = "BKMGTPE";
	uint64_t last = 0;

	for (unsigned bit = 0; bit < 64; bit++) {
		for (uint64_t step = 0; step < 64 && (step == 0 || bit >= 6); step++) {
			uint64_t v = (1ull << bit) + (bit >= 6 ? step << (bit - 6) : 0);
			char out[10], unit = 0;
			double shown = 0;

			human_size(v, out);
			check(strlen(out) <= 9);
			check(sscanf(out, "%lf %c", &shown, &unit) == 2 && strchr(units, unit));
			for (const char *p = units; *p && *p != unit; p++)
				shown *= 1024;
			check(shown >= (double)v * 0.949 && shown <= (double)v * 1.051);
			check(v > last || v == 1);
			last = v;
		}
	}
}

static void
span(uint64_t s, const char *want)
{
	char out[8];

	check_str(human_time(s, out), want);
}

static void
test_times(void)
{
	span(0, "0s");
	span(59, "59s");
	span(60, "1m00s");
	span(725, "12m05s");
	span(3599, "59m59s");
	span(3600, "1h00m");
	span(11220, "3h07m");
	span(86399, "23h59m");
	span(86400, "1d00h");
	span(100ull * 86400 - 1, "99d23h");
	span(100ull * 86400, "100d");
	span(10000ull * 86400 - 1, "9999d");
	span(10000ull * 86400, "long");
	span(UINT64_MAX, "long");
}

static void
parse(const char *text, int rc, uint64_t want)
{
	uint64_t v = 7;

	if (!check(human_parse(text, &v) == rc))
		printf("# %s\n", text);
	check(v == (rc == 0 ? want : 7));
}

static void
test_parse(void)
{
	parse("0", 0, 0);
	parse("4096", 0, 4096);
	parse("64M", 0, 64ull << 20);
	parse("1G", 0, 1ull << 30);
	parse("512K", 0, 512 << 10);
	parse("512k", 0, 512 << 10);
	parse("2T", 0, 2ull << 40);
	parse("64MiB", 0, 64ull << 20);
	parse("18446744073709551615", 0, UINT64_MAX);
	parse("18446744073709551616", -ERANGE, 0);
	parse("99999999999999999999999999999999", -ERANGE, 0);
	parse("15E", 0, 15ull << 60);
	parse("16E", -ERANGE, 0);
	parse("17179869184G", -ERANGE, 0);
	parse("18446744073709551615K", -ERANGE, 0);
	parse("", -EINVAL, 0);
	parse("M", -EINVAL, 0);
	parse("-1", -EINVAL, 0);
	parse("+1", -EINVAL, 0);
	parse(" 1", -EINVAL, 0);
	parse("1 M", -EINVAL, 0);
	parse("1.5G", -EINVAL, 0);
	parse("64MB", -EINVAL, 0);
	parse("64m", 0, 64ull << 20);
	parse("64{", -EINVAL, 0);
	parse("64MiBx", -EINVAL, 0);
	parse("64MM", -EINVAL, 0);
	parse("0x10", -EINVAL, 0);
}

int
main(void)
{
	run(test_sizes);
	run(test_sizes_fit);
	run(test_times);
	run(test_parse);
	return t_end();
}
