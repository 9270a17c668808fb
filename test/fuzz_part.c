/* Partition tables: whatever the disk says, partitions lie on it and texts end. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "part.h"
#include "sparse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int cond)
{
	if (!cond)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sparse disk;
	static struct part_table t;
	struct err e;

	if (sparse_load(&disk, data, size) < 0)
		return 0;
	disk.reads = 0;
	must(part_scan(sparse_read, &disk, disk.size, &t, &e) == 0);
	must(t.sector == 512 || t.sector == 4096);
	must(t.count >= 0 && t.count <= PARTS_MAX && (t.kind != PART_NONE || t.count == 0));
	must(disk.reads < 1100);	/* four tables of 1 MiB */
	for (int i = 0; i < t.count; i++) {
		const struct part *p = &t.part[i];

		must(p->nr >= 1 && p->nr <= 255 && p->size > 0);
		must(p->start % t.sector == 0 && p->size % t.sector == 0);
		must(p->start < disk.size && p->size <= disk.size - p->start);
		must(memchr(p->type, 0, sizeof p->type) && memchr(p->name, 0, sizeof p->name));
		must(p->type[0] != '\0');
		for (int k = 0; k < i; k++)
			must(t.part[k].nr != p->nr);
	}
	return 0;
}
