/*
 * A process that does one thing for a worker that may do nothing: opens a datastore's files, or looks up names. It ends
 * when the worker does.
 */
#ifndef BROKER_H
#define BROKER_H

#include "err.h"
#include "jail.h"

/* Forks it. There serve(ctx, fd) runs on a thread for each of n pairs of sockets, whose other ends are sock[], until chan_get() tells that the
 * worker is gone. It keeps j->dir's descriptors and no others. 0 or a negative errno. */
int broker_start(const struct jail *j, void (*serve)(void *ctx, int fd), void *ctx, int *sock, int n, struct err *e);

#endif
