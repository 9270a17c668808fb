/*
 * A FUSE session: root's mount(2) needs no other program; who is not root gets libfuse's helper,
 * fusermount3, when there is one. Never blocks but in mounting. See fusedev.h.
 */
#include "fusedev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuse.h"
#include "log.h"
#include "modules.h"

#define FUSE_MINOR 229

static char last[256];			/* what libfuse said last, while mounting */

int
fuse_check(struct err *e)
{
	int fd = modules_open("fuse", "fuse", FUSE_MINOR);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (fd == -ENOENT || fd == -ENODEV || fd == -ENXIO)
		return err_set(e, ST_FAIL, fd, "/dev/fuse: %s; the kernel module fuse is missing "
		    "(modprobe fuse)", strerror(-fd));
	return err_set(e, ST_FAIL, fd, "/dev/fuse: %s%s", strerror(-fd),
	    fd == -EACCES || fd == -EPERM ? "; pbsmap must be root" : "");
}

void
fuse_answer(void *tag, const struct iovec *iov, int n, int rc)
{
	if (rc < 0)
		fuse_reply_err(tag, -rc);
	else
		fuse_reply_iov(tag, iov, n);
}

/* libfuse prints its errors; they belong in our messages, under our name. */
static void
log_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	size_t n;

	if (level > FUSE_LOG_ERR)
		return;
	vsnprintf(last, sizeof(last), fmt, ap);
	for (n = strlen(last); n && last[n - 1] == '\n'; n--)
		last[n - 1] = 0;
	note("%s", last);
}

int
fuse_scan(const char *restrict text, const char *restrict format, ...)
{
	unsigned long n;
	va_list ap;
	char *end;

	n = strtoul(text, &end, 10);
	if (strcmp(format, "%u") != 0 || end == text || *end)
		return 0;
	va_start(ap, format);
	*va_arg(ap, unsigned *) = (unsigned)n;
	va_end(ap);
	return 1;
}

void
fusedev_background(struct fuse_conn_info *conn, int background)
{
	/* Asynchronous reads and direct I/O are on by libfuse's choice; the number of requests in
	 * flight is what makes random reads fast. */
	conn->max_background = (unsigned)background;
	conn->congestion_threshold = (unsigned)background * 3 / 4;
}

static int
start_session(struct fusedev *d, const char *options, const struct fuse_lowlevel_ops *ops, void *ctx, struct err *e)
{
	char name[] = "pbsmap", dash_o[] = "-o", *text = strdup(options ? options : "");
	char *argv[] = { name, dash_o, text, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(options ? 3 : 1, argv);

	memset(d, 0, sizeof(*d));
	if (text == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	fuse_set_log_func(log_fuse);
	last[0] = 0;
	d->session = fuse_session_new(&args, ops, sizeof(*ops), ctx);
	fuse_opt_free_args(&args);
	free(text);
	return d->session ? 0 : err_set(e, ST_FAIL, -EINVAL, "cannot start a FUSE session: %s", last);
}

int
fusedev_mount(struct fusedev *d, const char *path, const char *options, struct err *e)
{
	static const struct fuse_lowlevel_ops none;
	int rc = start_session(d, options, &none, NULL, e);

	d->path = path;
	if (rc < 0)
		return rc;
	errno = 0;
	if (fuse_session_mount(d->session, path) < 0)
		return err_set(e, ST_FAIL, -EIO, "cannot mount %s: %s", *path == '/' ? path : "the image's file",
		    last[0] ? last : errno ? strerror(errno) : "FUSE refused");
	d->mounted = 1;
	fcntl(fuse_session_fd(d->session), F_SETFL, O_NONBLOCK);
	fcntl(fuse_session_fd(d->session), F_SETFD, FD_CLOEXEC);
	return 0;
}

void
fusedev_let_go(struct fusedev *d, int other)
{
	if (d->session)
		dup2(other, fuse_session_fd(d->session));
}

static ssize_t
io_writev(int fd, struct iovec *iov, int n, void *ctx)
{
	(void)ctx;
	return writev(fd, iov, n);
}

static ssize_t
io_read(int fd, void *buf, size_t len, void *ctx)
{
	(void)ctx;
	return read(fd, buf, len);
}

int
fusedev_serve(struct fusedev *d, int fd, const struct fuse_lowlevel_ops *ops, void *ctx, struct err *e)
{
	/* Only so does libfuse take a descriptor without opening other things first. */
	static const struct fuse_custom_io io = { .writev = io_writev, .read = io_read };
	int rc = start_session(d, NULL, ops, ctx, e);

	if (rc == 0 && fuse_session_custom_io(d->session, &io, fd) != 0)
		rc = err_set(e, ST_FAIL, -EINVAL, "cannot start a FUSE session: %s", last);
	if (rc < 0)
		close(fd);
	return rc;
}

int
fusedev_turn(struct fusedev *d, int (*full)(void *ctx), void *ctx)
{
	int n, i;

	/* Not without end: finished chunks and signals want their turn too. */
	for (i = 0; i < 64 && !full(ctx); i++) {
		n = fuse_session_receive_buf(d->session, &d->buf);
		if (n == -EAGAIN || n == -EINTR)
			return 0;
		if (n <= 0)
			return n == 0 || n == -ENODEV || n == -ECONNABORTED ? -ENODEV : n;
		fuse_session_process_buf(d->session, &d->buf);
		if (fuse_session_exited(d->session))
			return -ENODEV;
	}
	return 0;
}

void
fuse_read_ahead_dev(dev_t dev, unsigned kib)
{
	char text[64];
	int fd, n;

	snprintf(text, sizeof(text), "/sys/class/bdi/%u:%u/read_ahead_kb", major(dev), minor(dev));
	if ((fd = open(text, O_WRONLY | O_CLOEXEC)) < 0)
		return;
	n = snprintf(text, sizeof(text), "%u", kib);
	if (write(fd, text, (size_t)n) != n)
		note("read-ahead of the file not set: %s", strerror(errno));
	close(fd);
}

void
fuse_read_ahead(const char *path, unsigned kib)
{
	struct stat st;

	if (stat(path, &st) == 0)
		fuse_read_ahead_dev(st.st_dev, kib);
}

void
fusedev_close(struct fusedev *d)
{
	if (d->mounted && geteuid() != 0)
		fuse_session_unmount(d->session);
	/* By force: whoever waits for an answer gets an error, also when the one that serves hangs. */
	else if (d->mounted && umount2(d->path, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
		say("cannot unmount %s: %s", d->path, strerror(errno));
	if (d->session)
		fuse_session_destroy(d->session);
	free(d->buf.mem);
	memset(d, 0, sizeof(*d));
}
