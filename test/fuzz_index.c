/* Index files: any bytes, once as they are, once with checksums that fit.  What parses can be walked. */
#include <stdlib.h>
#include <string.h>

#include "../bytes.h"
#include "../index.h"
#include "../sha256.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
walk(const struct index *x)
{
	struct chunk_want want;
	uint64_t i, at = 0;

	for (i = 0; i < x->count; i++) {
		index_chunk(x, i, &want);
		if (want.len == 0 || want.len > x->chunk_max || index_start(x, i) != at ||
		    index_find(x, at) != i || index_find(x, at + want.len - 1) != i)
			abort();
		at += want.len;
	}
	if (at != x->size)
		abort();
}

/* The header's first 80 bytes, then entries: the rest of the 4096 means nothing. */
int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct manifest_file mf = { .name = "x.img.fidx" };
	struct index x;
	uint8_t *copy;
	size_t len;

	index_parse(p, n, &mf, &x, NULL);
	if (n < 80)
		return 0;
	len = 4096 + n - 80;
	copy = calloc(1, len);
	memcpy(copy, p, 80);
	memcpy(copy + 4096, p + 80, n - 80);
	sha256(mf.csum, copy + 4096, n - 80);
	memcpy(copy + 32, mf.csum, 32);
	mf.size = get64le(copy + 64);
	if (copy[0] == 0x1c)
		mf.size = n >= 120 ? get64le(copy + len - 40) : 0;
	if (index_parse(copy, len, &mf, &x, NULL) == 0)
		walk(&x);
	free(copy);
	return 0;
}
