/*
 * Sizes and times for people.  Integers only: what is shown never depends on
 * a locale, and never rounds 1023.96 to a fifth digit.
 */
#include "human.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char units[] = "KMGTPE";

char *
human_size(uint64_t bytes, char out[10])
{
	unsigned unit = 0, tenths;

	if (bytes < 1024) {
		snprintf(out, 10, "%u B", (unsigned)bytes);
		return out;
	}
	/* Down to the unit's 1024th part; 1023.5 and more is 1.0 of the next. */
	while (bytes >= 1024u * 1024 - 512) {
		bytes >>= 10;
		unit++;
	}
	tenths = (unsigned)(bytes * 10 + 512) / 1024;
	if (tenths < 10000)
		snprintf(out, 10, "%u.%u %ciB", tenths / 10 % 1000, tenths % 10, units[unit]);
	else
		snprintf(out, 10, "%u %ciB", (unsigned)(bytes + 512) / 1024 % 10000, units[unit]);
	return out;
}

char *
human_time(uint64_t seconds, char out[8])
{
	unsigned s = (unsigned)(seconds % 86400);
	uint64_t days = seconds / 86400;

	if (seconds < 60)
		snprintf(out, 8, "%us", s % 60);
	else if (seconds < 3600)
		snprintf(out, 8, "%um%02us", s / 60 % 60, s % 60);
	else if (days == 0)
		snprintf(out, 8, "%uh%02um", s / 3600 % 24, s / 60 % 60);
	else if (days < 100)
		snprintf(out, 8, "%ud%02uh", (unsigned)days % 100, s / 3600 % 24);
	else if (days < 10000)
		snprintf(out, 8, "%ud", (unsigned)days % 10000);
	else
		strcpy(out, "long");
	return out;
}

int
human_parse(const char *text, uint64_t *bytes)
{
	uint64_t v = 0;
	const char *p = text, *unit;
	unsigned shift = 0;
	int too_big = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		unsigned d = (unsigned)(*p - '0');

		too_big |= v > (UINT64_MAX - d) / 10;
		v = v * 10 + d;
	}
	if (p == text)
		return -EINVAL;
	if (*p != '\0') {
		unit = strchr(units, *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
		if (!unit || (p[1] != '\0' && strcmp(p + 1, "iB") != 0))
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (too_big || v > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = v << shift;
	return 0;
}
