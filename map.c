/*
 * The life of a mapping: prepare (nothing exists yet, everything is checked, the first chunk
 * read), publish (name, FUSE file, loop device), serve, and the way back in reverse order.
 * The one poll() loop is here: FUSE, finished chunks, the assignment thread, the abort pipe.
 *
 * Whatever fails undoes what was done before it, and the exit status of the command says so.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assign.h"
#include "bytes.h"
#include "clock.h"
#include "conf.h"
#include "config.h"
#include "daemon.h"
#include "fetch.h"
#include "fuse.h"
#include "image.h"
#include "log.h"
#include "map.h"
#include "report.h"
#include "run.h"
#include "snap.h"
#include "start.h"

enum state { STARTING, SERVING, ENDING, ENDED };

struct mapping {
	const struct opts *o;
	int stop;			/* the abort pipe */
	struct snap snap;
	struct archive archive;
	struct fetch *fetch;
	struct image *image;
	struct fuse *fuse;
	struct assign *assign;
	struct part_table table;
	uint64_t size;			/* of the device: padded to whole sectors */
	int dirfd;			/* RUN_DIR, which is the working directory too */
	int claimed;
	char name[RUN_NAME];
	char path[sizeof(RUN_DIR) + RUN_NAME];
	struct loop loop;
	enum state state;
	int assign_busy;
	int check_again;		/* the file was closed while the thread was busy */
	int fuse_gone;
	int64_t deadline;		/* of ENDING, ms */
	int rc;
	struct err err;
};

/* ---- prepare ---- */

static int
prepare(struct mapping *m, struct err *e)
{
	const struct manifest_file *f;
	struct start_reader r;
	uint8_t byte;
	int rc;

	if (geteuid() != 0)
		return err_set(e, ST_FAIL, -EPERM, "mapping needs root");
	if ((rc = fuse_check(e)) < 0 ||
	    (rc = snap_open(&m->snap, m->o, m->o->operand[0], e)) < 0 ||
	    (rc = snap_find(&m->snap, m->o->operand[1], ARCHIVE_IMG, &f, e)) < 0 ||
	    (rc = snap_unlock(&m->snap, m->o, f, e)) < 0 ||
	    (rc = snap_index(&m->snap, f, &m->archive, e)) < 0)
		return rc;
	conf_forget();
	if (m->archive.index.size == 0)
		return err_set(e, ST_FAIL, -EINVAL, "%s: the image is empty (0 bytes): nothing to map", f->name);
	if ((m->fetch = start_fetch(m->o, &m->snap, m->archive.index.chunk_max, e)) == NULL)
		return -ENOMEM;
	r = (struct start_reader){ m->fetch, &m->archive.index, m->stop, { ST_FAIL, "" } };
	if (start_read(&r, 0, &byte, 1) < 0) {
		*e = r.err;
		return -EIO;
	}
	start_table(&r, &m->table);
	m->size = (m->archive.index.size + m->table.sector - 1) / m->table.sector * m->table.sector;
	return 0;
}

/* ---- publish ---- */

static void
fuse_read(void *ctx, uint64_t offset, uint32_t len, void *tag)
{
	struct mapping *m = ctx;

	image_read(m->image, offset, len, tag);
}

static void
fuse_interrupt(void *ctx, void *tag)
{
	struct mapping *m = ctx;

	image_interrupt(m->image, tag);
}

static int
fuse_full(void *ctx)
{
	struct mapping *m = ctx;

	return image_full(m->image);
}

/* Somebody closed the file; was it the loop device, detached by somebody else? */
static void
fuse_closed(void *ctx)
{
	struct mapping *m = ctx;

	m->check_again = 1;
}

static int
start_image(struct mapping *m, struct err *e)
{
	struct image_conf c = {
		.fetch = m->fetch,
		.index = &m->archive.index,
		.size = m->size,
		.timeout = m->o->timeout,
		.ahead = m->o->no_ahead ? 0 : start_ahead(m->o, m->archive.index.chunk_max),
		.answer = fuse_answer,
	};

	return (m->image = image_new(&c, e)) ? 0 : -ENOMEM;
}

static int
start_fuse(struct mapping *m, struct err *e)
{
	struct fuse_conf c = {
		.path = m->name,
		.size = m->size,
		.mtime = m->snap.name.time,
		.background = m->o->no_background ? 0 : FUSE_BACKGROUND,
		.no_async = m->o->no_async,
		.read_max = m->o->no_large ? READ_SMALL : READ_MAX,
		.read = fuse_read,
		.interrupt = fuse_interrupt,
		.closed = fuse_closed,
		.ctx = m,
	};

	return (m->fuse = fuse_open(&c, e)) ? 0 : -EIO;
}

static int
start_assign(struct mapping *m, struct err *e)
{
	struct assign_conf c = {
		.path = m->path,
		.name = m->name,
		.direct = !m->o->no_direct,
		.read_ahead = m->o->no_ahead ? 0 : LOOP_READ_AHEAD,
		.table = &m->table,
	};

	return (m->assign = assign_new(&c, e)) ? 0 : -ENOMEM;
}

static void
begin(struct mapping *m, enum assign_task task)
{
	m->assign_busy = 1;
	assign_begin(m->assign, task);
}

static int
publish(struct mapping *m, struct err *e)
{
	char archive[256];
	int rc;

	archive_print(m->archive.file->name, archive, sizeof(archive));
	run_name(&m->snap.origin.repo, &m->snap.name, archive, m->name);
	snprintf(m->path, sizeof(m->path), "%s/%s", RUN_DIR, m->name);
	if ((m->dirfd = run_dir(1, e)) < 0)
		return m->dirfd;
	if (fchdir(m->dirfd) < 0)
		return err_set(e, ST_FAIL, -errno, "%s: %s", RUN_DIR, strerror(errno));
	if ((rc = run_claim(m->dirfd, m->name, e)) < 0)
		return rc;
	m->claimed = 1;
	if ((rc = start_image(m, e)) < 0 || (rc = start_fuse(m, e)) < 0 || (rc = start_assign(m, e)) < 0)
		return rc;
	begin(m, ASSIGN_ATTACH);
	return 0;
}

/* ---- serve ---- */

/* From here on reads fail; the device goes first, as long as somebody answers. */
static void
end(struct mapping *m)
{
	if (m->state >= ENDING)
		return;
	if (m->state == STARTING && m->rc == 0) {
		m->rc = -EINTR;
		err_set(&m->err, ST_FAIL, -EINTR, "interrupted");
	}
	m->state = ENDING;
	m->deadline = clock_ms() + TEARDOWN_MS;
	image_end(m->image);
	if (!m->assign_busy)
		begin(m, ASSIGN_DETACH);
}

static void
attached(struct mapping *m, int rc, const struct err *e)
{
	if (rc < 0) {
		m->rc = rc;
		m->err = *e;
		end(m);
		return;
	}
	if (m->state != STARTING)
		return;
	/* A mapping whose device nobody is told would only be in the way. */
	rc = report_map(m->o, &(struct report_map){ m->name, m->loop.nr, m->archive.index.size, m->size,
	    getpid(), &m->table });
	if (rc < 0) {
		m->rc = err_set(&m->err, ST_FAIL, rc, "cannot write to stdout: %s", strerror(-rc));
		end(m);
		return;
	}
	m->state = SERVING;
	daemon_detach();
}

static void
take_assign(struct mapping *m)
{
	enum assign_task task;
	struct err e;
	int rc;

	if ((task = assign_done(m->assign, &m->loop, &rc, &e)) == ASSIGN_NONE)
		return;
	m->assign_busy = 0;
	if (task == ASSIGN_ATTACH) {
		attached(m, rc, &e);
	} else if (task == ASSIGN_CHECK && rc < 0 && m->state == SERVING) {
		say("%s was detached by somebody else: ending the mapping", m->loop.path);
		end(m);
	} else if (task == ASSIGN_DETACH) {
		if (rc < 0)
			say("%s", e.text);
		m->state = ENDED;
	}
	if (m->state == ENDING && !m->assign_busy)
		begin(m, ASSIGN_DETACH);
}

static void
turn(struct mapping *m, const struct pollfd *p)
{
	if (p[0].revents & POLLIN)
		end(m);
	if (p[1].revents) {
		fetch_turn(m->fetch);
		image_ahead(m->image);
	}
	if (p[2].revents)
		take_assign(m);
	if (p[3].revents && fuse_turn(m->fuse, fuse_full) < 0) {
		m->fuse_gone = 1;
		if (m->state < ENDING)
			say("the FUSE connection was ended by somebody else: ending the mapping");
		end(m);
	}
	if (m->check_again && !m->assign_busy && m->state == SERVING) {
		m->check_again = 0;
		begin(m, ASSIGN_CHECK);
	}
	if (m->state == ENDING && clock_ms() >= m->deadline) {
		say("%s could not be detached in time", m->loop.path);
		m->state = ENDED;
	}
}

static void
serve(struct mapping *m)
{
	struct pollfd p[4] = {
		{ .fd = m->stop, .events = POLLIN },
		{ .fd = fetch_fd(m->fetch), .events = POLLIN },
		{ .fd = assign_fd(m->assign), .events = POLLIN },
		{ .fd = fuse_fd(m->fuse), .events = POLLIN },
	};
	int wait;

	while (m->state != ENDED) {
		wait = image_expire(m->image);
		if (m->state == ENDING) {
			p[0].fd = -1;
			wait = 100;
		}
		/* While all reads wait, new ones stay with the kernel. */
		p[3].fd = m->fuse_gone || image_full(m->image) ? -1 : fuse_fd(m->fuse);
		if (poll(p, 4, wait) < 0)
			p[0].revents = p[1].revents = p[2].revents = p[3].revents = 0;
		turn(m, p);
	}
}

/* ---- the way back ---- */

static void
undo(struct mapping *m)
{
	if (m->fuse)
		fuse_close(m->fuse);	/* also ends what the assignment thread may hang in */
	if (m->assign)
		assign_free(m->assign);
	if (m->claimed)
		run_release(m->dirfd, m->name);
	if (m->dirfd >= 0)
		close(m->dirfd);
	/* A thread that reads from a disk that hangs is not waited for: the process's end frees the rest. */
	if (m->fetch && !fetch_idle(m->fetch)) {
		wipe(&m->snap.key, sizeof(m->snap.key));
		return;
	}
	if (m->image)
		image_free(m->image);
	snap_close(&m->snap);
	if (m->fetch)
		fetch_free(m->fetch);
	archive_free(&m->archive);
}

int
map_run(const struct opts *o)
{
	struct mapping m;
	int st;

	memset(&m, 0, sizeof(m));
	m.o = o;
	m.dirfd = -1;
	m.loop.nr = m.loop.fd = -1;
	m.err.status = ST_FAIL;
	if ((st = daemon_start(o->verbose, &m.stop)) >= 0)
		return st;
	daemon_protect(o->storage_daemon);
	if ((m.rc = prepare(&m, &m.err)) == 0 && (m.rc = publish(&m, &m.err)) == 0)
		serve(&m);
	undo(&m);
	if (m.rc == 0)
		return ST_DONE;
	say("%s", m.err.text);
	daemon_failed(m.err.status);
	return (int)m.err.status;
}
