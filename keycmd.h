/* `key`: what a key file tells, and the key of a backup out of the copy that a master key opens. */
#ifndef KEYCMD_H
#define KEYCMD_H

#include "err.h"
#include "opt.h"

/* Negative errno: *e says why. */
int keycmd_run(const struct opts *o, struct err *e);

#endif
