/*
 * The life of a mount: prepare (nothing exists yet; the archive is opened, its root read), mount,
 * serve, and the way back. The poll() loop is here: requests, finished chunks, the abort pipe.
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
#include "log.h"
#include "mount.h"
#include "mounts.h"
#include "proc.h"
#include "pxfs.h"
#include "run.h"
#include "view.h"

struct mount {
	const struct opts *o;
	int stop;			/* the abort pipe */
	struct view view;
	struct pxfs *fs;
	struct fusedev dev;
	char point[PATH_MAX];
	char name[4096];		/* for people */
	dev_t st_dev;			/* of the mount; 0: not known */
	struct err err;
	int rc;
};

/* ---- prepare ---- */

/* The directory to show. */
static int
find_root(struct mount *m, uint64_t *root, struct err *e)
{
	const char *path = m->o->subdir ? m->o->subdir : "";
	struct pxar_stat st;
	int rc = pxar_path(&m->view.px, m->view.px.root, path, &st);

	if (rc < 0)
		return view_error(&m->view, rc, *path ? path : m->view.name, e);
	if (!S_ISDIR(st.mode))
		return err_set(e, ST_FAIL, -ENOTDIR, "--subdir: %s is no directory in %s", path, m->view.name);
	*root = st.id;
	return 0;
}

static int
prepare(struct mount *m, struct err *e)
{
	struct pxfs_conf c = { .timeout = m->o->timeout, .background = FUSE_BACKGROUND };
	char name[RUN_NAME];
	struct stat st;
	int rc;

	mounts_tidy(m->o->operand[2]);
	if (realpath(m->o->operand[2], m->point) == NULL)
		return err_set(e, ST_FAIL, -errno, "%s: %s", m->o->operand[2], strerror(errno));
	if (stat(m->point, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(e, ST_FAIL, -ENOTDIR, "%s is no directory", m->point);
	if ((rc = fuse_check(e)) < 0 || (rc = view_open(&m->view, m->o, m->stop, fuse_answer, e)) < 0 ||
	    (rc = find_root(m, &c.root, e)) < 0)
		return rc;
	run_name(&m->view.snap.origin.repo, &m->view.snap.name, m->view.name, name);
	run_unescape(name, m->name, sizeof(m->name));
	c.fetch = m->view.fetch;
	c.image[0] = m->view.image[0];
	c.image[1] = m->view.image[1];
	c.px = m->view.px;
	return (m->fs = pxfs_new(&c, e)) ? 0 : -ENOMEM;
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
	if ((rc = fusedev_open(&m->dev, m->point, options, &pxfs_ops, m->fs, e)) < 0)
		return rc;
	proc_mounts(0, find_dev, m);
	fuse_read_ahead_dev(m->st_dev, m->o->no_ahead ? 0 : MOUNT_READ_AHEAD >> 10);
	return 0;
}

/* ---- serve ---- */

static int
wait_ms(struct mount *m)
{
	int best = pxfs_expire(m->fs), t, i;

	for (i = 0; i <= m->view.split; i++)
		if ((t = image_expire(m->view.image[i])) >= 0 && (best < 0 || t < best))
			best = t;
	return best;
}

static void
serve(struct mount *m)
{
	struct pollfd p[3] = {
		{ .fd = m->stop, .events = POLLIN },
		{ .fd = fetch_fd(m->view.fetch), .events = POLLIN },
		{ .fd = fuse_session_fd(m->dev.session), .events = POLLIN },
	};
	int fuse_fd = p[2].fd, i;

	for (;;) {
		p[2].fd = pxfs_full(m->fs) ? -1 : fuse_fd;
		if (poll(p, 3, wait_ms(m)) < 0)
			continue;
		if (p[0].revents)
			return;
		if (p[1].revents) {
			fetch_turn(m->view.fetch);
			for (i = 0; i <= m->view.split; i++)
				image_ahead(m->view.image[i]);
		}
		if (p[2].revents && fusedev_turn(&m->dev, pxfs_full, m->fs) < 0)
			return;		/* unmounted, most likely */
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
	int i;

	for (i = 0; i < 2; i++)
		if (m->view.image[i])
			image_end(m->view.image[i]);
	if (m->fs)
		pxfs_end(m->fs);
	/* Another one's mount may be in the place of what somebody has unmounted. */
	if (m->dev.mounted && m->st_dev && proc_mounts(0, still_there, m) == 0)
		m->dev.mounted = 0;
	fusedev_close(&m->dev);
	if (m->fs)
		pxfs_free(m->fs);
	view_close(&m->view);
}

int
mount_run(const struct opts *o)
{
	struct mount *m = calloc(1, sizeof(*m));
	int st;

	if (m == NULL)
		return ST_FAIL;
	m->o = o;
	m->err.status = ST_FAIL;
	if ((st = daemon_start(o->verbose, &m->stop)) >= 0) {
		free(m);
		return st;
	}
	if ((m->rc = prepare(m, &m->err)) == 0 && (m->rc = do_mount(m, &m->err)) == 0) {
		fprintf(stderr, "Archive '%s' mounted on %s\n", m->name, m->point);
		if (chdir("/") == 0)	/* so that nothing else is held */
			daemon_detach();
		serve(m);
	}
	undo(m);
	st = m->rc == 0 ? ST_DONE : (int)m->err.status;
	if (m->rc < 0) {
		say("%s", m->err.text);
		daemon_failed(m->err.status);
	}
	free(m);
	return st;
}
