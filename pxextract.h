/* Entries of a file archive to files in a directory. */
#ifndef PXEXTRACT_H
#define PXEXTRACT_H

#include "pxrestore.h"

/* Opens (makes) the directory; without `yes` it must be empty. */
int extract_begin(const char *dir, int yes, struct err *e);
/* For pxwalk(); ctx is a struct pxout. */
int extract_entry(void *ctx, const struct pxwalk_entry *ent);
void extract_end(void);

#endif
