/* Any bytes as an archive: the whole tree is walked, each name looked up, each attribute read. Ends, and reads nothing
 * outside. */
#include <errno.h>

#include "../pxattr.h"
#include "../pxdir.h"
#include "pxmem.h"

#define READS_MAX 100000	/* an input of n bytes may have n * n things in it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pxmem mem;

static int
attr(void *ctx, const struct pxattr *a)
{
	uint8_t *value = malloc(a->len + 1u);
	int n = pxattr_get(((void **)ctx)[0], ((void **)ctx)[1], a->name, value, a->len + 1u);

	/* Doubled names: the first counts. */
	if (n < 0 && mem.reads < READS_MAX && n != -ERANGE)
		abort();
	free(value);
	return 0;
}

static void
look(struct pxar *p, uint64_t id, int depth)
{
	struct pxdir *d = pxdir_new(id);
	struct pxar_child c, found;
	struct pxar_stat st, again;
	char name[PXAR_NAME], target[PXAR_TARGET];
	uint64_t i;
	int rc;

	while ((rc = pxdir_load(d, p)) > 0)
		;
	for (i = 0; rc == 0 && i < d->d.count && mem.reads < READS_MAX; i++) {
		if (pxdir_child(d, i, &c) < 0 || pxar_name(p, &c, name) < 0)
			continue;
		pxar_find(p, &d->d, name, &found);
		if (pxar_resolve(p, &c, &st) < 0)
			continue;
		/* What was found by name is the same by its number. */
		if (pxar_stat(p, st.id, &again) == 0 && again.mode != st.mode)
			abort();
		pxattr_each(p, &st, attr, (void *[]){ p, &st });
		pxar_target(p, &st, target);
		pxar_check_data(p, &st);
		if (PXAR_IS_DIR(st.id) && st.id >= id)
			abort();
		if (PXAR_IS_DIR(st.id) && depth < 200)
			look(p, st.id, depth + 1);
	}
	pxdir_free(d);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pxar p;

	mem = (struct pxmem){ .data = malloc(size + 1), .size = size, .fail_at = READS_MAX, .fail_rc = -EIO };
	memcpy(mem.data, data, size);
	p = pxmem_archive(&mem);
	/* Split, when its length is odd. */
	p.payload_size = size & 1 ? 1 << 20 : 0;
	if (pxar_open(&p) == 0)
		look(&p, p.root, 0);
	free(mem.data);
	return 0;
}
