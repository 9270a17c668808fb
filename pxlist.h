/* `list SNAPSHOT ARCHIVE [PATH]`: what is in a file archive. */
#ifndef PXLIST_H
#define PXLIST_H

#include "opt.h"

/* Returns an exit status. */
int pxlist_run(const struct opts *o, struct err *e);

/* "drwxr-sr-x" */
void pxlist_mode(uint32_t mode, char out[11]);

#endif
