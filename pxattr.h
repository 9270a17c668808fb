/*
 * Extended attributes of a node in a file archive, as the kernel has them: those stored, file
 * capabilities, and POSIX ACLs put together from their items. Pure, as pxar.h.
 */
#ifndef PXATTR_H
#define PXATTR_H

#include "pxar.h"

#define PXATTR_NAME 256			/* with the NUL */
#define PXATTR_VALUE 65536u		/* bytes; the kernel's limit */

struct pxattr {
	char name[PXATTR_NAME];
	const uint8_t *data;		/* the value, or NULL: */
	uint64_t offset;		/*   where it is in the archive (not the payload's) */
	uint32_t len;			/* bytes of the value */
};

/* Calls fn for each; it returns 0 to go on. 0, what fn returned, or a negative errno. */
int pxattr_each(const struct pxar *p, const struct pxar_stat *st,
    int (*fn)(void *ctx, const struct pxattr *a), void *ctx);
/* The value of one, at most cap bytes, to out; its length. -ENODATA: there is none; -ERANGE: longer than cap. With
 * cap 0 the length alone. */
int pxattr_get(const struct pxar *p, const struct pxar_stat *st, const char *name, uint8_t *out, uint32_t cap);

#endif
