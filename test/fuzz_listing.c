/* Lists: any text as each kind. What comes out has names that are safe, however the text was split. */
#include <stdlib.h>
#include <string.h>

#include "../listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static int
take(void *ctx, const struct list_row *r)
{
	unsigned *sum = ctx;
	size_t i;

	if (ns_check(r->name.ns, NULL) < 0 || (r->name.type[0] && !safe_id(r->name.id, strlen(r->name.id))) ||
	    strpbrk(r->comment, "\r\n"))
		abort();
	for (i = 0; i < r->count_files; i++) {
		if (!safe_id(r->files[i].name, strlen(r->files[i].name)))
			abort();
		*sum = *sum * 31 + (unsigned char)r->files[i].name[0];
	}
	*sum = *sum * 31 + (unsigned)r->size + (unsigned)r->name.time + (unsigned)r->finished;
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const struct snapshot at = { .type = "vm", .id = "100" };
	struct listing l;
	unsigned sum[2];
	int what, rc[2];
	size_t i;

	for (what = LIST_NAMESPACES; what <= LIST_SNAPSHOTS; what++) {
		sum[0] = sum[1] = 0;
		listing_begin(&l, (enum list_what)what, &at, take, &sum[0], NULL);
		json_feed(&l.p.json, (const char *)p, n);
		rc[0] = listing_end(&l);
		listing_begin(&l, (enum list_what)what, &at, take, &sum[1], NULL);
		for (i = 0; i < n; i++)
			json_feed(&l.p.json, (const char *)p + i, 1);
		rc[1] = listing_end(&l);
		if (rc[0] != rc[1] || sum[0] != sum[1])
			abort();
	}
	memset(&l, 0, sizeof(l));
	if (listing_manifest(&l, (const char *)p, n, 1, NULL) == 0)
		take(&sum[0], &l.row);
	listing_free(&l);
	return 0;
}
