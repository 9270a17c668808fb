/* All of an archive in memory is looked at, for fuzzing: the whole tree, each name found again, each attribute read. Ends. */
#ifndef PXLOOK_H
#define PXLOOK_H

#include <errno.h>

#include "../pxattr.h"
#include "../pxdir.h"
#include "pxmem.h"

#define READS_MAX 100000	/* an input of n bytes may have n * n things in it */

struct pxlook {
	struct pxmem mem;
	struct pxar px;
	const struct pxar_stat *st;
	unsigned nodes, found, attrs;	/* what was there: nodes, those found by their names too */
};

static int
pxlook_attr(void *ctx, const struct pxattr *a)
{
	struct pxlook *l = ctx;
	uint8_t *value = malloc(a->len + 1u);
	int n = pxattr_get(&l->px, l->st, a->name, value, a->len + 1u);

	/* Doubled names: the first counts. */
	if (n < 0 && l->mem.reads < READS_MAX && n != -ERANGE)
		abort();
	free(value);
	l->attrs++;
	return 0;
}

static void
pxlook_dir(struct pxlook *l, uint64_t id, int depth)
{
	struct pxar *p = &l->px;
	struct pxdir *d = pxdir_new(id);
	struct pxar_child c, found;
	struct pxar_stat st, again;
	char name[PXAR_NAME], target[PXAR_TARGET];
	uint64_t i;
	int rc;

	while ((rc = pxdir_load(d, p)) > 0)
		;
	for (i = 0; rc == 0 && i < d->d.count && l->mem.reads < READS_MAX; i++) {
		if (pxdir_child(d, i, &c) < 0 || pxar_name(p, &c, name) < 0)
			continue;
		l->found += pxar_find(p, &d->d, name, &found) == 0 && found.start == c.start;
		if (pxar_resolve(p, &c, &st) < 0)
			continue;
		l->nodes++;
		/* What was found by name is the same by its number. */
		if (pxar_stat(p, st.id, &again) == 0 && again.mode != st.mode)
			abort();
		l->st = &st;
		pxattr_each(p, &st, pxlook_attr, l);
		pxar_target(p, &st, target);
		pxar_link_path(p, &c, target);
		pxar_check_data(p, &st);
		if (PXAR_IS_DIR(st.id) && st.id >= id)
			abort();
		if (PXAR_IS_DIR(st.id) && depth < 200)
			pxlook_dir(l, st.id, depth + 1);
	}
	pxdir_free(d);
}

/* The bytes are copied. 0: it is an archive. */
static int
pxlook(struct pxlook *l, const uint8_t *data, size_t size, uint64_t payload_size)
{
	int rc;

	*l = (struct pxlook){ .mem = { .data = malloc(size + 1), .size = size, .fail_at = READS_MAX, .fail_rc = -EIO } };
	if (size)
		memcpy(l->mem.data, data, size);
	l->px = pxmem_archive(&l->mem);
	l->px.payload_size = payload_size;
	rc = pxar_open(&l->px);
	if (rc == 0)
		pxlook_dir(l, l->px.root, 0);
	free(l->mem.data);
	return rc;
}

#endif
