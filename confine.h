/* A worker's step from root to nobody: between opening its source and the first byte that others wrote. */
#ifndef CONFINE_H
#define CONFINE_H

#include "snap.h"

/* s->origin is open and s->name set. What is to be opened later is opened by brokers from here on. */
int confine(struct snap *s, struct err *e);

#endif
