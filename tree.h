/* A worker that serves a tree of files: no rights, no names, only bytes. */
#ifndef TREE_H
#define TREE_H

#include "err.h"
#include "opt.h"

/* For monitor_start(): opens the archive, has itself published, serves. Returns at the mount's end (0), or before it with the reason. */
int serve_tree(const struct opts *o, struct err *e);

#endif
