/* The choice of a path.  Pure; each module keeps what it chose. */
#include "cpu.h"

#include <string.h>

int
cpu_choose(const struct cpu_path *paths, size_t n, const char *name)
{
	size_t i;

	for (i = 0; i < n; i++)
		if ((name == NULL || strcmp(paths[i].name, name) == 0) &&
		    (paths[i].there == NULL || paths[i].there()))
			return (int)i;
	return -1;
}
