/*
 * A worker that serves an image. Everything is checked and the first chunk read before the monitor hears of it; then
 * the poll() loop waits for FUSE, finished chunks and the monitor.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "config.h"
#include "daemon.h"
#include "fetch.h"
#include "fuse.h"
#include "image.h"
#include "relay.h"
#include "serve.h"
#include "snap.h"
#include "start.h"

struct server {
	const struct opts *o;
	int stop;			/* a byte: the monitor ends it; its end: at once */
	struct snap snap;
	struct archive archive;
	struct fetch *fetch;
	struct image *image;
	struct fuse *fuse;
	int fuse_gone;
};

/* ---- prepare ---- */

static int
prepare(struct server *s, struct chan_ready *ready, struct err *e)
{
	const struct manifest_file *f;
	struct start_reader r;
	uint64_t sector;
	uint8_t byte;
	int rc;

	if ((rc = snap_open(&s->snap, s->o, s->o->operand[0], e)) < 0 ||
	    (rc = snap_find(&s->snap, s->o->operand[1], ARCHIVE_IMG, &f, e)) < 0 ||
	    (rc = snap_unlock(&s->snap, s->o, f, e)) < 0 ||
	    (rc = snap_index(&s->snap, f, &s->archive, e)) < 0)
		return rc;
	if (s->archive.index.size == 0)
		return err_set(e, ST_FAIL, -EINVAL, "%s: the image is empty (0 bytes): nothing to map", f->name);
	if ((s->fetch = start_fetch(s->o, &s->snap, s->archive.index.chunk_max, e)) == NULL)
		return -ENOMEM;
	r = (struct start_reader){ s->fetch, &s->archive.index, s->stop, { ST_FAIL, "" } };
	if (start_read(&r, 0, &byte, 1) < 0) {
		*e = r.err;
		return -EIO;
	}
	start_table(&r, &ready->table);
	sector = ready->table.sector;
	ready->time = s->snap.name.time;
	ready->image_size = s->archive.index.size;
	ready->size = (ready->image_size + sector - 1) / sector * sector;
	return 0;
}

/* ---- what FUSE asks for ---- */

static void
fuse_read(void *ctx, uint64_t offset, uint32_t len, void *tag)
{
	struct server *s = ctx;

	image_read(s->image, offset, len, tag);
}

static void
fuse_interrupt(void *ctx, void *tag)
{
	struct server *s = ctx;

	image_interrupt(s->image, tag, 0);
}

static int
fuse_full(void *ctx)
{
	struct server *s = ctx;

	return image_full(s->image);
}

/* Somebody closed the file; was it the loop device, detached by somebody else? */
static void
fuse_closed(void *ctx)
{
	(void)ctx;
	relay_tell(CHAN_CLOSED);
}

static int
start_image(struct server *s, uint64_t size, struct err *e)
{
	struct image_conf c = {
		.fetch = s->fetch,
		.index = &s->archive.index,
		.size = size,
		.timeout = s->o->timeout,
		.ahead = s->o->no_ahead ? 0 : start_ahead(s->o, s->archive.index.chunk_max),
		.answer = fuse_answer,
	};

	return (s->image = image_new(&c, e)) ? 0 : -ENOMEM;
}

static int
start_fuse(struct server *s, int fd, uint64_t size, struct err *e)
{
	struct fuse_conf c = {
		.fd = fd,
		.size = size,
		.mtime = s->snap.name.time,
		.background = s->o->no_background ? 0 : FUSE_BACKGROUND,
		.no_async = s->o->no_async,
		.read_max = s->o->no_large ? READ_SMALL : READ_MAX,
		.read = fuse_read,
		.interrupt = fuse_interrupt,
		.closed = fuse_closed,
		.ctx = s,
	};

	return (s->fuse = fuse_open(&c, e)) ? 0 : -EIO;
}

/* ---- serve ---- */

/* 0: it has ended. */
static int
turn(struct server *s, const struct pollfd *p)
{
	char byte;

	if (p[0].revents) {
		if (read(s->stop, &byte, 1) <= 0)
			return 0;
		image_end(s->image);	/* and goes on answering, so that the device can be detached */
	}
	if (p[1].revents) {
		fetch_turn(s->fetch);
		image_ahead(s->image);
	}
	if (p[2].revents && fuse_turn(s->fuse, fuse_full) < 0) {
		s->fuse_gone = 1;
		relay_tell(CHAN_GONE);
	}
	return 1;
}

static void
serve(struct server *s)
{
	struct pollfd p[3] = {
		{ .fd = s->stop, .events = POLLIN },
		{ .fd = fetch_fd(s->fetch), .events = POLLIN },
		{ .fd = fuse_fd(s->fuse), .events = POLLIN },
	};
	int wait;

	do {
		wait = image_expire(s->image);
		/* While all reads wait, new ones stay with the kernel. */
		p[2].fd = s->fuse_gone || image_full(s->image) ? -1 : fuse_fd(s->fuse);
		if (poll(p, 3, wait) < 0)
			p[0].revents = p[1].revents = p[2].revents = 0;
	} while (turn(s, p));
}

int
serve_image(const struct opts *o, struct err *e)
{
	static struct chan_ready ready;
	struct server s = { .o = o, .stop = daemon_stop_fd() };
	int rc, fd = -1;

	if ((rc = prepare(&s, &ready, e)) == 0 && (rc = start_image(&s, ready.size, e)) == 0 &&
	    (rc = fd = relay_ready(&ready, e)) >= 0 && (rc = start_fuse(&s, fd, ready.size, e)) == 0)
		serve(&s);
	/* A thread that reads from a disk that hangs is not waited for: the process's end frees the rest. */
	wipe(&s.snap.key, sizeof(s.snap.key));
	return rc < 0 ? rc : 0;
}
