/*
 * The life of a mapping, as its monitor sees it: a worker (serve.c) finds out what there is and reads the first chunk; then
 * the name, the FUSE file and the loop device are made; and on the way back they go in reverse order, also when the worker died.
 * The poll() loop here waits for the worker, the assignment thread and the abort pipe.
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
#include "clock.h"
#include "config.h"
#include "daemon.h"
#include "fuse.h"
#include "fusedev.h"
#include "log.h"
#include "map.h"
#include "monitor.h"
#include "report.h"
#include "run.h"
#include "serve.h"

enum state { PREPARING, STARTING, SERVING, ENDING, ENDED };

struct mapping {
	const struct opts *o;
	int stop;			/* the abort pipe */
	struct monitor mon;
	struct fusedev fuse;
	struct assign *assign;
	struct chan_ready image;	/* what the worker has found */
	int dirfd;			/* RUN_DIR, which is the working directory too */
	int claimed;
	char name[RUN_NAME];
	char path[sizeof(RUN_DIR) + RUN_NAME];
	struct loop loop;
	enum state state;
	int assign_busy;
	int check_again;		/* the file was closed while the thread was busy */
	int64_t deadline;		/* of ENDING, ms */
	int rc;
	struct err err;
};

/* ---- publish ---- */

/* The name in RUN_DIR: all of it but the time is the user's own words. */
static int
make_name(struct mapping *m, struct err *e)
{
	char stored[256], archive[256];
	enum archive_kind kind;
	struct snapshot s;
	int rc;

	if ((rc = monitor_snapshot(&m->mon, &s, e)) < 0 ||
	    (rc = archive_parse(m->o->operand[1], stored, sizeof(stored), &kind, e)) < 0)
		return rc;
	archive_print(stored, archive, sizeof(archive));
	run_name(&m->mon.origin.repo, &s, archive, m->name);
	snprintf(m->path, sizeof(m->path), "%s/%s", RUN_DIR, m->name);
	return 0;
}

static int
check_image(struct mapping *m, struct err *e)
{
	const struct chan_ready *r = &m->image;

	if (r->size == 0 || r->size > INT64_MAX || r->image_size > r->size || part_check(&m->image.table, r->size) < 0 ||
	    r->size % r->table.sector || r->size - r->image_size >= r->table.sector)
		return err_set(e, ST_FAIL, -EPROTO, "the worker process tells nonsense");
	return 0;
}

static int
start_assign(struct mapping *m, struct err *e)
{
	struct assign_conf c = {
		.path = m->path,
		.name = m->name,
		.direct = !m->o->no_direct,
		.read_ahead = m->o->no_ahead ? 0 : LOOP_READ_AHEAD,
		.table = &m->image.table,
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
	int rc;

	m->image = m->mon.msg.ready;
	if ((rc = check_image(m, e)) < 0 || (rc = make_name(m, e)) < 0)
		return rc;
	if ((m->dirfd = run_dir(1, e)) < 0)
		return m->dirfd;
	if (fchdir(m->dirfd) < 0)
		return err_set(e, ST_FAIL, -errno, "%s: %s", RUN_DIR, strerror(errno));
	if ((rc = run_claim(m->dirfd, m->name, e)) < 0)
		return rc;
	m->claimed = 1;
	if ((rc = fusedev_mount(&m->fuse, m->name, FUSE_OPTIONS, e)) < 0)
		return rc;
	monitor_answer(&m->mon, 0, fuse_session_fd(m->fuse.session));
	if ((rc = monitor_jail(&m->mon, e)) < 0 || (rc = start_assign(m, e)) < 0)
		return rc;
	m->state = STARTING;
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
	if (m->state < SERVING && m->rc == 0) {
		m->rc = -EINTR;
		err_set(&m->err, ST_FAIL, -EINTR, "interrupted");
	}
	m->state = m->assign ? ENDING : ENDED;
	m->deadline = clock_ms() + TEARDOWN_MS;
	monitor_tell_end(&m->mon);
	if (m->assign && !m->assign_busy)
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
	rc = report_map(m->o, &(struct report_map){ m->name, m->loop.nr, m->image.image_size, m->image.size,
	    getpid(), &m->image.table });
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

/* The worker is gone: nobody answers any more, and the kernel shall know. */
static void
lost(struct mapping *m)
{
	fusedev_let_go(&m->fuse, m->stop);
	if (m->state == SERVING)
		say("%s: ending the mapping", m->mon.err.text);
	else if (m->state < SERVING && m->rc == 0) {
		m->rc = -EIO;
		m->err = m->mon.err;
	}
	end(m);
}

static void
take_message(struct mapping *m)
{
	int kind = monitor_turn(&m->mon);

	if (kind < 0)
		lost(m);
	else if (kind == CHAN_CLOSED)
		m->check_again = 1;
	else if (kind == CHAN_GONE && m->state > PREPARING) {
		if (m->state < ENDING)
			say("the FUSE connection was ended by somebody else: ending the mapping");
		end(m);
	} else if (kind == CHAN_READY && m->state == PREPARING && (m->rc = publish(m, &m->err)) < 0)
		end(m);
}

static void
turn(struct mapping *m, const struct pollfd *p)
{
	if (p[0].revents & POLLIN)
		end(m);
	if (p[1].revents && m->mon.chan >= 0)
		take_message(m);
	if (p[2].revents)
		take_assign(m);
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
watch(struct mapping *m)
{
	struct pollfd p[3] = { { .fd = m->stop, .events = POLLIN }, { .events = POLLIN }, { .events = POLLIN } };

	while (m->state != ENDED) {
		if (m->state == ENDING)
			p[0].fd = -1;
		p[1].fd = m->mon.chan;
		p[2].fd = m->assign ? assign_fd(m->assign) : -1;
		if (poll(p, 3, m->state == ENDING ? 100 : -1) < 0)
			p[0].revents = p[1].revents = p[2].revents = 0;
		turn(m, p);
	}
}

/* ---- the way back ---- */

static void
undo(struct mapping *m)
{
	fusedev_close(&m->fuse);	/* also ends what the assignment thread may hang in */
	monitor_end(&m->mon);
	if (m->assign)
		assign_free(m->assign);
	if (m->claimed)
		run_release(m->dirfd, m->name);
	if (m->dirfd >= 0)
		close(m->dirfd);
}

static int
prepare(struct mapping *m, struct err *e)
{
	int rc;

	if (geteuid() != 0)
		return err_set(e, ST_FAIL, -EPERM, "mapping needs root");
	/* Modules are loaded as long as that is allowed. */
	if ((rc = fuse_check(e)) < 0 || (rc = loop_check(e)) < 0)
		return rc;
	return monitor_start(&m->mon, m->o, serve_image, e);
}

int
map_run(const struct opts *o)
{
	struct mapping m;
	int st;

	memset(&m, 0, sizeof(m));
	m.o = o;
	m.mon.chan = m.mon.stop = m.dirfd = -1;
	m.loop.nr = m.loop.fd = -1;
	m.err.status = ST_FAIL;
	if ((st = daemon_start(o->verbose, &m.stop)) >= 0)
		return st;
	daemon_protect(o->storage_daemon);
	if ((m.rc = prepare(&m, &m.err)) == 0)
		watch(&m);
	undo(&m);
	if (m.rc == 0)
		return ST_DONE;
	say("%s", m.err.text);
	daemon_failed(m.err.status);
	return (int)m.err.status;
}
