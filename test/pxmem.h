/* An archive in memory, for tests: reads that count, and fail when they are told to. */
#ifndef PXMEM_H
#define PXMEM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../pxar.h"

struct pxmem {
	uint8_t *data;
	uint64_t size;
	long reads;			/* until now */
	long fail_at;			/* the read that fails, with fail_rc; 0: none */
	int fail_rc;
	long outside;			/* reads beyond the end: never */
};

static int
pxmem_read(void *ctx, int payload, uint64_t offset, void *buf, uint32_t len)
{
	struct pxmem *m = ctx;

	m->reads++;
	if (m->fail_at && m->reads >= m->fail_at)
		return m->fail_rc;
	if (offset > m->size || len > m->size - offset) {
		m->outside++;
		if (!payload)
			abort();
		memset(buf, 0, len);
		return 0;
	}
	memcpy(buf, m->data + offset, len);
	return 0;
}

static inline struct pxar
pxmem_archive(struct pxmem *m)
{
	return (struct pxar){ .read = pxmem_read, .ctx = m, .size = m->size };
}

#endif
