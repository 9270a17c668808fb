/* What `map` prints when a mapping stands: the device for scripts, the rest for people. */
#ifndef REPORT_H
#define REPORT_H

#include <stdint.h>
#include <sys/types.h>

#include "opt.h"
#include "part.h"

struct report_map {
	const char *name;		/* as in RUN_DIR */
	int loop_nr;
	uint64_t image_size, size;	/* bytes: of the image, of the device */
	pid_t pid;
	const struct part_table *table;
};

/* stdout: the device, or with --json one object; stderr: a sentence and the partitions. A negative errno
 * when stdout did not take it, and nothing is said then. */
int report_map(const struct opts *o, const struct report_map *r);

/* The partitions, a line each on stderr: "  /dev/sda1   24.0 MiB  Linux filesystem  root". */
void report_parts(const char *disk, const struct part_table *t);

#endif
