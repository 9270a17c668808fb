/*
 * A FUSE session without libfuse's loops: mounting, and taking requests when the main loop's poll()
 * says so. Knows nothing of what the file system shows. Includes libfuse's header: for file systems only.
 */
#ifndef FUSEDEV_H
#define FUSEDEV_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "err.h"

#define FUSE_FOREVER 1e9		/* s that the kernel may keep what it knows: nothing changes */

struct fusedev {
	const char *path;		/* borrowed */
	struct fuse_session *session;
	struct fuse_buf buf;		/* libfuse's, made at the first request */
	int mounted;
};

/* One process mounts, on path with libfuse's options ("a,b=c"); its session's descriptor is for the other. fusedev_close() in any case. */
int fusedev_mount(struct fusedev *d, const char *path, const char *options, struct err *e);
/* The other is gone: puts `other` in the descriptor's place, with which the connection ends. */
void fusedev_let_go(struct fusedev *d, int other);
/* The other serves at the descriptor, which is its from here on. fusedev_close() in any case. */
int fusedev_serve(struct fusedev *d, int fd, const struct fuse_lowlevel_ops *ops, void *ctx, struct err *e);
/* Takes requests while there are some and `full` (ctx) says 0. Returns 0, or -ENODEV when the
 * file system was unmounted or the connection aborted. */
int fusedev_turn(struct fusedev *d, int (*full)(void *ctx), void *ctx);
/* Unmounts lazily when `mounted` is still set, and ends the session. */
void fusedev_close(struct fusedev *d);

/* For libfuse, in place of sscanf(): "%u" alone. The real one makes the program 10 KB larger. */
int fuse_scan(const char *restrict text, const char *restrict format, ...);

/* How many requests the kernel keeps in flight: to be set in init(). */
void fusedev_background(struct fuse_conn_info *conn, int background);

#endif
