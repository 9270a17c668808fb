/* `list`: what can be mapped or restored. */
#ifndef LIST_H
#define LIST_H

#include "err.h"
#include "opt.h"

/* Negative errno: *e says why. */
int list_run(const struct opts *o, struct err *e);

#endif
