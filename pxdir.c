/*
 * Directories in the archive's order. Tables are in the order of hashes; read so, a walk would
 * jump about in the archive, and fetch its chunks again and again.
 */
#include "pxdir.h"

#include <errno.h>
#include <stdlib.h>

#define CHILDREN_MAX (4u << 20)		/* 64 MiB of rows */
#define NONE UINT64_MAX			/* start of a row that makes no sense */

struct pxdir *
pxdir_new(uint64_t id)
{
	struct pxdir *d = calloc(1, sizeof(*d));

	if (d)
		d->id = id;
	return d;
}

void
pxdir_free(struct pxdir *d)
{
	if (d == NULL)
		return;
	free(d->row);
	free(d);
}

static int
by_start(const void *a, const void *b)
{
	const struct pxdir_row *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* What lies in an elder sibling would be a second way to the same: a child ends where the next begins, and one that
 * goes on makes no sense to its reader. */
static void
order(struct pxdir *d)
{
	size_t i, n = (size_t)d->d.count;

	qsort(d->row, n, sizeof(*d->row), by_start);
	for (i = 1; i < n; i++)
		if (d->row[i - 1].end > d->row[i].start)
			d->row[i - 1].end = d->row[i].start;
}

int
pxdir_load(struct pxdir *d, const struct pxar *p)
{
	struct pxar_child c;
	uint64_t hash;
	int rc;

	if (d->row == NULL) {
		if ((rc = pxar_dir(p, d->id, &d->d)) < 0)
			return rc;
		if (d->d.count > CHILDREN_MAX)
			return -EFBIG;
		if ((d->row = malloc((size_t)(d->d.count + 1) * sizeof(*d->row))) == NULL)
			return -ENOMEM;
	} else if (d->progress <= d->d.count) {
		rc = pxar_child(p, &d->d, d->progress - 1, &hash, &c);
		if (rc < 0 && rc != -EBADMSG)
			return rc;
		d->row[d->progress - 1] = rc < 0 ? (struct pxdir_row){ NONE, NONE } :
		    (struct pxdir_row){ c.start, c.end };
	} else if (d->progress == d->d.count + 1) {
		order(d);
	} else {
		return 0;
	}
	d->progress++;
	return 1;
}

int
pxdir_child(const struct pxdir *d, uint64_t i, struct pxar_child *c)
{
	const struct pxdir_row *r = d->row + i;

	if (r->start == NONE)
		return -EBADMSG;
	*c = (struct pxar_child){ r->start, r->end, 0 };
	return 0;
}

/* ---- hard links ---- */

int
pxlinks_init(struct pxlinks *l, uint32_t size)
{
	l->size = size;
	l->used = 0;
	l->slot = calloc(size, sizeof(*l->slot));
	return l->slot ? 0 : -ENOMEM;
}

void
pxlinks_free(struct pxlinks *l)
{
	free(l->slot);
	l->slot = NULL;
}

static uint32_t
first(const struct pxlinks *l, uint64_t id)
{
	return (uint32_t)(id * 0x9e3779b97f4a7c15u >> 32) & (l->size - 1);
}

void
pxlinks_add(struct pxlinks *l, uint64_t id, uint64_t name)
{
	struct pxdir_row *s;
	uint32_t i;

	for (i = first(l, id); (s = l->slot + i)->start; i = (i + 1) & (l->size - 1))
		if (s->start == id && s->end == name)
			return;
	if (l->used >= l->size / 4 * 3)
		return;
	s->start = id;
	s->end = name;
	l->used++;
}

int
pxlinks_only(struct pxlinks *l, uint64_t id, uint64_t name)
{
	uint32_t i;

	for (i = first(l, id); l->slot[i].start; i = (i + 1) & (l->size - 1))
		if (l->slot[i].start == id)
			return l->slot[i].end == name;
	pxlinks_add(l, id, name);
	return 1;
}

unsigned
pxlinks_count(const struct pxlinks *l, uint64_t id)
{
	unsigned n = 0;
	uint32_t i;

	for (i = first(l, id); l->slot[i].start; i = (i + 1) & (l->size - 1))
		n += l->slot[i].start == id;
	return n;
}
