/*
 * One read-only file served by FUSE. The file is the root of its file system, mounted
 * on a regular file in /run. Knows nothing of servers, chunks or loop devices.
 *
 * The monitor mounts it; it does so relative to the working directory, since absolute names mean something else
 * after a switch_root.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config.h"
#include "fuse.h"
#include "fusedev.h"

struct fuse {
	struct fuse_conf conf;
	struct fusedev dev;
};

static void
init(void *ctx, struct fuse_conn_info *conn)
{
	struct fuse *f = ctx;

	if (f->conf.background)
		fusedev_background(conn, f->conf.background);
	if (f->conf.no_async)
		conn->want &= ~(unsigned)FUSE_CAP_ASYNC_DIO;
	/* libfuse tells the kernel the pages of a request by this; nothing is ever written. */
	conn->max_write = f->conf.read_max;
}

static void
fill(const struct fuse *f, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = FUSE_ROOT_ID;
	st->st_mode = S_IFREG | 0400;
	st->st_nlink = 1;
	st->st_size = (off_t)f->conf.size;
	st->st_blocks = (blkcnt_t)(f->conf.size / 512);
	st->st_blksize = 4096;
	st->st_mtime = st->st_ctime = st->st_atime = (time_t)f->conf.mtime;
}

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)ino, (void)fi;
	fill(fuse_req_userdata(req), &st);
	fuse_reply_attr(req, &st, FUSE_FOREVER);
}

static void
op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	if ((fi->flags & O_ACCMODE) != O_RDONLY) {
		fuse_reply_err(req, EROFS);
		return;
	}
	fi->keep_cache = 1;
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

static void
op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse *f = fuse_req_userdata(req);

	(void)ino, (void)fi;
	fuse_reply_err(req, 0);
	f->conf.closed(f->conf.ctx);
}

static void
op_interrupt(fuse_req_t req, void *data)
{
	struct fuse *f = data;

	f->conf.interrupt(f->conf.ctx, req);
}

static void
op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fuse *f = fuse_req_userdata(req);

	(void)ino, (void)fi;
	if (off < 0 || size > READ_MAX) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	fuse_req_interrupt_func(req, op_interrupt, f);
	f->conf.read(f->conf.ctx, (uint64_t)off, (uint32_t)size, req);
}

static const struct fuse_lowlevel_ops ops = {
	.init = init,
	.getattr = op_getattr,
	.open = op_open,
	.release = op_release,
	.read = op_read,
};

struct fuse *
fuse_open(const struct fuse_conf *conf, struct err *e)
{
	struct fuse *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		err_set(e, ST_FAIL, -ENOMEM, "out of memory");
		return NULL;
	}
	f->conf = *conf;
	if (fusedev_serve(&f->dev, conf->fd, &ops, f, e) < 0) {
		fuse_close(f);
		return NULL;
	}
	return f;
}

int
fuse_fd(const struct fuse *f)
{
	return fuse_session_fd(f->dev.session);
}

int
fuse_turn(struct fuse *f, int (*full)(void *ctx))
{
	return fusedev_turn(&f->dev, full, f->conf.ctx);
}

void
fuse_close(struct fuse *f)
{
	fusedev_close(&f->dev);
	free(f);
}
