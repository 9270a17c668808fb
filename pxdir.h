/*
 * What is remembered of an archive: an open directory's children in the archive's order, and how many names
 * files were seen to have.
 */
#ifndef PXDIR_H
#define PXDIR_H

#include "pxar.h"

struct pxdir_row {
	uint64_t start, end;
};

struct pxdir {
	struct pxar_dir d;
	uint64_t id;
	uint64_t progress;		/* steps of loading that were done */
	struct pxdir_row *row;		/* d.count of them, once that is known */
	unsigned bad;			/* children that could not be shown: the caller's */
	int told;			/*   and whether the reader was told */
};

/* NULL: no memory. */
struct pxdir *pxdir_new(uint64_t id);
void pxdir_free(struct pxdir *d);
/* One step of loading the table: 1: call again, 0: it is there (after count + 2 steps), or a negative errno (then call again later, or not). */
int pxdir_load(struct pxdir *d, const struct pxar *p);
/* Child i < d->d.count, in the order of the archive. -EBADMSG: it is none. */
int pxdir_child(const struct pxdir *d, uint64_t i, struct pxar_child *c);

/* Hard links that were met. The first name of a file is a name like any other, so what is counted
 * are the others. */
struct pxlinks {
	struct pxdir_row *slot;		/* here: id of the file, offset of the name; 0: empty */
	uint32_t size, used;		/* size: a power of two */
};				/* (Used for other pairs, too: see pxop.h.) */

int pxlinks_init(struct pxlinks *l, uint32_t size);	/* 0 or -ENOMEM */
void pxlinks_free(struct pxlinks *l);
/* Beyond three quarters of size nothing is remembered. */
void pxlinks_add(struct pxlinks *l, uint64_t id, uint64_t name);
/* Is this the only name that was met? Of one that is new it is. */
int pxlinks_only(struct pxlinks *l, uint64_t id, uint64_t name);
unsigned pxlinks_count(const struct pxlinks *l, uint64_t id);

#endif
