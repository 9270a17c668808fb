/*
 * One read-only file served by FUSE, mounted on a regular file. Never blocks: its
 * descriptor is polled by the main loop.
 */
#ifndef FUSE_H
#define FUSE_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "err.h"

struct fuse;

struct fuse_conf {
	int fd;				/* /dev/fuse, mounted; the file system's from fuse_open() on */
	uint64_t size;			/* bytes of the file */
	int64_t mtime;			/* epoch seconds */
	int background;			/* requests that the kernel keeps in flight; 0: its own choice (12) */
	int no_async;			/* no asynchronous direct I/O */
	uint32_t read_max;		/* bytes of the largest request, at most READ_MAX */
	/* A read request; each is answered once by fuse_answer(tag, …), perhaps at once. */
	void (*read)(void *ctx, uint64_t offset, uint32_t len, void *tag);
	/* The reader of that request was killed or interrupted. */
	void (*interrupt)(void *ctx, void *tag);
	/* Somebody has closed the file for good (the loop device is one that opens it). */
	void (*closed)(void *ctx);
	void *ctx;
};

/* Is there a FUSE that can be used? Says what is missing. */
int fuse_check(struct err *e);

/* What a file is mounted with. */
#define FUSE_OPTIONS "ro,default_permissions,nosuid,nodev,subtype=pbsmap,fsname=pbsmap"

struct fuse *fuse_open(const struct fuse_conf *conf, struct err *e);
int fuse_fd(const struct fuse *f);
/* Takes requests while there are some and `full` (ctx) says 0. Returns 0, or -ENODEV when the
 * file system was unmounted or the connection aborted. */
int fuse_turn(struct fuse *f, int (*full)(void *ctx));
/* Sets what the kernel reads ahead of a reader of the plain file. Asks the server for the file's attributes: not
 * from the thread that serves, and before the file is opened. */
void fuse_read_ahead(const char *path, unsigned kib);
void fuse_read_ahead_dev(dev_t dev, unsigned kib);	/* the same, of a mount whose device is known: asks nobody */
/* image.h's answer(). */
void fuse_answer(void *tag, const struct iovec *iov, int n, int rc);
/* Ends the session; who has mounted unmounts. */
void fuse_close(struct fuse *f);

#endif
