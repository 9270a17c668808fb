/* The command `mount`: a file archive as a file system, until it is unmounted. */
#ifndef MOUNT_H
#define MOUNT_H

#include "opt.h"

/* Returns an exit status. */
int mount_run(const struct opts *o);

#endif
