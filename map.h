/* The command `map`: the life of a mapping, from the operands to the last clean-up. */
#ifndef MAP_H
#define MAP_H

#include "opt.h"

/* Returns the exit status; has said why when it is not 0. In the background process it returns at
 * the mapping's end. */
int map_run(const struct opts *o);

#endif
