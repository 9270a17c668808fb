/* `check`: would a mapping work here, with this repository, and how fast would it be? */
#ifndef CHECK_H
#define CHECK_H

#include "opt.h"

/* The exit status: ST_DONE only if `map` would work, else that of the first line that says FAIL. */
int check_run(const struct opts *o);

#endif
