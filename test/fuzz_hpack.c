/* Header blocks: each two bytes of length begin one; the table lives on from block to block. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../hpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
on_field(void *ctx, const char *name, size_t name_len, const char *value, size_t value_len)
{
	size_t *fields = ctx;

	if (name[name_len] || value[value_len] || name_len + value_len > HPACK_FIELD_MAX)
		abort();
	return ++*fields == 5000 ? -1 : 0;
}

static void
check_table(const struct hpack *h)
{
	uint32_t size = 0;
	unsigned i;

	for (i = 0; i < h->count; i++)
		size += 32u + h->entry[i].name + h->entry[i].value;
	if (size != h->size || size > h->max || h->max > HPACK_TABLE_MAX)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hpack h;
	size_t i = 1, n, fields = 0;
	uint8_t *block;
	int rc = 0;

	if (size == 0)
		return 0;
	hpack_init(&h, data[0] & 1 ? 256 : HPACK_TABLE_MAX);
	while (rc == 0 && i + 2 <= size) {
		n = (size_t)(data[i] & 0x3f) << 8 | data[i + 1];
		if (data[i] & 0x80)
			hpack_limit(&h, data[i] & 0x40 ? 100 : 0);
		i += 2;
		if (n > size - i)
			n = size - i;
		if ((block = malloc(n ? n : 1)) == NULL)	/* of its own: what is read beyond it shows */
			return 0;
		memcpy(block, data + i, n);
		rc = hpack_decode(&h, block, n, on_field, &fields, NULL);
		free(block);
		check_table(&h);
		i += n;
	}
	return 0;
}
