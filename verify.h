/* The command `verify`. */
#ifndef VERIFY_H
#define VERIFY_H

#include "opt.h"

/* Reads and checks a snapshot, or some of its archives. Returns the exit status; has said why when
 * it is not 0. */
int verify_run(const struct opts *o);

#endif
