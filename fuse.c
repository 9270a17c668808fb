/*
 * One read-only file served by FUSE. The file is the root of its file system, mounted
 * on a regular file in /run. Knows nothing of servers, chunks or loop devices.
 *
 * No other program takes part: root's mount(2) needs no fusermount. The mount point is used relative
 * to the working directory, since absolute names mean something else after a switch_root.
 */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "config.h"
#include "fuse.h"
#include "log.h"

#define FOREVER 1e9			/* s; the image cannot change */

struct fuse {
	struct fuse_conf conf;
	struct fuse_session *session;
	struct fuse_buf buf;		/* libfuse's, made at the first request */
	int mounted;
};

static void
init(void *ctx, struct fuse_conn_info *conn)
{
	struct fuse *f = ctx;

	/* Asynchronous reads and direct I/O are on by libfuse's choice; the number of requests in
	 * flight is what makes random reads fast. */
	conn->max_background = (unsigned)f->conf.background;
	conn->congestion_threshold = (unsigned)f->conf.background * 3 / 4;
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
	fuse_reply_attr(req, &st, FOREVER);
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

void
fuse_answer(void *tag, const struct iovec *iov, int n, int rc)
{
	if (rc < 0)
		fuse_reply_err(tag, -rc);
	else
		fuse_reply_iov(tag, iov, n);
}

static const struct fuse_lowlevel_ops ops = {
	.init = init,
	.getattr = op_getattr,
	.open = op_open,
	.release = op_release,
	.read = op_read,
};

int
fuse_check(struct err *e)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return err_set(e, ST_FAIL, -errno, "/dev/fuse: %s; the kernel module fuse is missing "
		    "(modprobe fuse)", strerror(errno));
	return err_set(e, ST_FAIL, -errno, "/dev/fuse: %s%s", strerror(errno),
	    errno == EACCES || errno == EPERM ? "; pbsmap must be root" : "");
}

/* libfuse prints its errors; they belong in our log, under our name. */
static void
log_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[256];
	size_t n;

	if (level > FUSE_LOG_ERR)
		return;
	vsnprintf(line, sizeof(line), fmt, ap);
	for (n = strlen(line); n && line[n - 1] == '\n'; n--)
		line[n - 1] = 0;
	note("%s", line);
}

struct fuse *
fuse_open(const struct fuse_conf *conf, struct err *e)
{
	char opts[] = "ro,default_permissions,nosuid,nodev,subtype=pbsmap,fsname=pbsmap";
	char name[] = "pbsmap", dash_o[] = "-o";
	char *argv[] = { name, dash_o, opts, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		err_set(e, ST_FAIL, -ENOMEM, "out of memory");
		return NULL;
	}
	f->conf = *conf;
	fuse_set_log_func(log_fuse);
	f->session = fuse_session_new(&args, &ops, sizeof(ops), f);
	fuse_opt_free_args(&args);
	if (f->session == NULL) {
		err_set(e, ST_FAIL, -EINVAL, "cannot start a FUSE session");
		goto bad;
	}
	errno = 0;
	if (fuse_session_mount(f->session, conf->path) < 0) {
		err_set(e, ST_FAIL, -EIO, "cannot mount the FUSE file: %s",
		    errno ? strerror(errno) : "see --verbose");
		goto bad;
	}
	f->mounted = 1;
	fcntl(fuse_fd(f), F_SETFL, O_NONBLOCK);
	fcntl(fuse_fd(f), F_SETFD, FD_CLOEXEC);
	return f;
bad:
	fuse_close(f);
	return NULL;
}

int
fuse_fd(const struct fuse *f)
{
	return fuse_session_fd(f->session);
}

int
fuse_turn(struct fuse *f, int (*full)(void *ctx))
{
	int n, i;

	/* Not without end: finished chunks and signals want their turn too. */
	for (i = 0; i < 64 && !full(f->conf.ctx); i++) {
		n = fuse_session_receive_buf(f->session, &f->buf);
		if (n == -EAGAIN || n == -EINTR)
			return 0;
		if (n <= 0)
			return n == 0 || n == -ENODEV || n == -ECONNABORTED ? -ENODEV : n;
		fuse_session_process_buf(f->session, &f->buf);
		if (fuse_session_exited(f->session))
			return -ENODEV;
	}
	return 0;
}

void
fuse_read_ahead(const char *path, unsigned kib)
{
	struct stat st;
	char text[64];
	int fd, n;

	if (stat(path, &st) < 0)
		return;
	snprintf(text, sizeof(text), "/sys/class/bdi/%u:%u/read_ahead_kb",
	    major(st.st_dev), minor(st.st_dev));
	if ((fd = open(text, O_WRONLY | O_CLOEXEC)) < 0)
		return;
	n = snprintf(text, sizeof(text), "%u", kib);
	if (write(fd, text, (size_t)n) != n)
		note("read-ahead of the file not set: %s", strerror(errno));
	close(fd);
}

void
fuse_close(struct fuse *f)
{
	if (f->mounted && umount2(f->conf.path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
		say("cannot unmount %s: %s", f->conf.path, strerror(errno));
	if (f->session)
		fuse_session_destroy(f->session);
	free(f->buf.mem);
	free(f);
}
