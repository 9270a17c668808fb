/*
 * The life of a mount, as its monitor sees it: a worker (tree.c) opens the archive and reads its root; then it is mounted; and
 * unmounted at the end, also when the worker died. The poll() loop here waits for the worker and the abort pipe.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "daemon.h"
#include "fuse.h"
#include "fusedev.h"
#include "log.h"
#include "monitor.h"
#include "mount.h"
#include "mounts.h"
#include "proc.h"
#include "run.h"
#include "tree.h"
#include "view.h"

struct mount {
	const struct opts *o;
	int stop;			/* the abort pipe */
	struct monitor mon;
	struct fusedev dev;
	int serving, ended;
	char point[PATH_MAX];
	char name[4096];		/* for people */
	dev_t st_dev;			/* of the mount; 0: not known */
	struct err err;
	int rc;
};

/* ---- prepare ---- */

static int
prepare(struct mount *m, struct err *e)
{
	struct stat st;
	int rc;

	mounts_tidy(m->o->operand[2]);
	if (realpath(m->o->operand[2], m->point) == NULL)
		return err_set(e, ST_FAIL, -errno, "%s: %s", m->o->operand[2], strerror(errno));
	if (stat(m->point, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(e, ST_FAIL, -ENOTDIR, "%s is no directory", m->point);
	if ((rc = fuse_check(e)) < 0)
		return rc;
	return monitor_start(&m->mon, m->o, serve_tree, e);
}

/* All of it but the time is the user's own words. */
static int
make_name(struct mount *m, struct err *e)
{
	char archive[256], name[RUN_NAME];
	struct snapshot s;
	int rc;

	if ((rc = monitor_snapshot(&m->mon, &s, e)) < 0 || (rc = view_name(m->o->operand[1], archive, sizeof(archive), e)) < 0)
		return rc;
	run_name(&m->mon.origin.repo, &s, archive, name);
	run_unescape(name, m->name, sizeof(m->name));
	return 0;
}

/* ---- mount ---- */

/* libfuse takes options apart at commas. */
static void
add_escaped(char *out, size_t cap, const char *s)
{
	size_t n = strlen(out);

	for (; *s && n + 3 < cap; s++) {
		if (*s == ',' || *s == '\\')
			out[n++] = '\\';
		out[n++] = *s;
	}
	out[n] = 0;
}

static int
already(void *ctx, const struct mounts_entry *ent)
{
	return strcmp(ent->point, ctx) == 0;
}

static int
find_dev(void *ctx, const struct proc_mount *pm)
{
	struct mount *m = ctx;

	if (strcmp(pm->point, m->point) == 0)
		m->st_dev = pm->dev;	/* the last one is on top */
	return 0;
}

static int
do_mount(struct mount *m, struct err *e)
{
	char options[16384], source[4200];
	int rc;

	if (mounts_each(already, m->point) == 1)
		return err_set(e, ST_BUSY, -EEXIST, "an archive is already mounted on %s", m->point);
	mounts_source(m->name, source, sizeof(source));
	snprintf(options, sizeof(options), "nosuid,nodev,default_permissions,%ssubtype=pbsmap,fsname=",
	    geteuid() == 0 ? "allow_other," : "");
	add_escaped(options, sizeof(options), source);
	if (m->o->mount_options && strlen(options) + strlen(m->o->mount_options) + 5 < sizeof(options)) {
		strcat(options, ",");
		strcat(options, m->o->mount_options);
	}
	strcat(options, ",ro");		/* last: whatever was said before */
	if ((rc = fusedev_mount(&m->dev, m->point, options, e)) < 0)
		return rc;
	proc_mounts(0, find_dev, m);
	fuse_read_ahead_dev(m->st_dev, m->o->no_ahead ? 0 : MOUNT_READ_AHEAD >> 10);
	return 0;
}

/* The worker is ready. */
static int
publish(struct mount *m, struct err *e)
{
	int rc;

	if ((rc = make_name(m, e)) < 0 || (rc = do_mount(m, e)) < 0)
		return rc;
	monitor_answer(&m->mon, 0, fuse_session_fd(m->dev.session));
	fprintf(stderr, "Archive '%s' mounted on %s\n", m->name, m->point);
	if (chdir("/") < 0)		/* so that nothing else is held */
		note("/: %s", strerror(errno));
	if ((rc = monitor_jail(&m->mon, e)) < 0)
		return rc;
	daemon_detach();
	m->serving = 1;
	return 0;
}

/* ---- its life ---- */

static void
turn(struct mount *m, const struct pollfd *p)
{
	int kind = p[1].revents ? monitor_turn(&m->mon) : 0;

	m->ended = p[0].revents || kind < 0 || kind == CHAN_GONE;
	if (kind < 0 && m->serving) {
		say("%s: ending the mount", m->mon.err.text);
	} else if (kind < 0) {
		m->rc = kind;
		m->err = m->mon.err;
	} else if (kind == CHAN_READY && !m->serving) {
		m->rc = publish(m, &m->err);
		m->ended |= m->rc < 0;
	} else if (m->ended && !m->serving) {
		m->rc = err_set(&m->err, ST_FAIL, -EINTR, "interrupted");
	}
}

static void
watch(struct mount *m)
{
	struct pollfd p[2] = { { .fd = m->stop, .events = POLLIN }, { .events = POLLIN } };

	while (!m->ended) {
		p[1].fd = m->mon.chan;
		if (poll(p, 2, -1) > 0)
			turn(m, p);
	}
}

static int
still_there(void *ctx, const struct proc_mount *pm)
{
	const struct mount *m = ctx;

	return pm->dev == m->st_dev && strcmp(pm->point, m->point) == 0;
}

static void
undo(struct mount *m)
{
	monitor_tell_end(&m->mon);
	if (m->mon.chan < 0)
		fusedev_let_go(&m->dev, m->stop);
	/* Another one's mount may be in the place of what somebody has unmounted. */
	if (m->dev.mounted && m->st_dev && proc_mounts(0, still_there, m) == 0)
		m->dev.mounted = 0;
	fusedev_close(&m->dev);
	monitor_end(&m->mon);
}

int
mount_run(const struct opts *o)
{
	struct mount *m = calloc(1, sizeof(*m));
	int st;

	if (m == NULL)
		return ST_FAIL;
	m->o = o;
	m->mon.chan = m->mon.stop = -1;
	m->err.status = ST_FAIL;
	if ((st = daemon_start(o->verbose, &m->stop)) >= 0) {
		free(m);
		return st;
	}
	if ((m->rc = prepare(m, &m->err)) == 0)
		watch(m);
	undo(m);
	st = m->rc == 0 ? ST_DONE : (int)m->err.status;
	if (m->rc < 0) {
		say("%s", m->err.text);
		daemon_failed(m->err.status);
	}
	free(m);
	return st;
}
