/* A worker that serves an image: no rights, no names, only bytes. */
#ifndef SERVE_H
#define SERVE_H

#include "err.h"
#include "opt.h"

/* For monitor_start(): prepares, has itself published, serves. Returns at the mapping's end (0), or before it with the reason. */
int serve_image(const struct opts *o, struct err *e);

#endif
