/* The command `restore`. */
#ifndef RESTORE_H
#define RESTORE_H

#include "opt.h"

/* Writes an archive of a snapshot to a disk, a file or standard output. Returns the exit status; has said why when
 * it is not 0. */
int restore_run(const struct opts *o);

#endif
