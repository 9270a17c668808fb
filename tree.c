/*
 * A worker that serves a tree of files. The archive is opened and its root read before the monitor hears of it; then the
 * poll() loop waits for requests, finished chunks and the monitor.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "config.h"
#include "daemon.h"
#include "fuse.h"
#include "pxfs.h"
#include "relay.h"
#include "tree.h"
#include "view.h"

struct tree {
	const struct opts *o;
	struct view view;
	struct pxfs *fs;
	struct fusedev dev;
};

/* ---- prepare ---- */

/* The directory to show. */
static int
find_root(struct tree *t, uint64_t *root, struct err *e)
{
	const char *path = t->o->subdir ? t->o->subdir : "";
	struct pxar_stat st;
	int rc = pxar_path(&t->view.px, t->view.px.root, path, &st);

	if (rc < 0)
		return view_error(&t->view, rc, *path ? path : t->view.name, e);
	if (!S_ISDIR(st.mode))
		return err_set(e, ST_FAIL, -ENOTDIR, "--subdir: %s is no directory in %s", path, t->view.name);
	*root = st.id;
	return 0;
}

static int
prepare(struct tree *t, struct err *e)
{
	struct pxfs_conf c = { .timeout = t->o->timeout, .background = FUSE_BACKGROUND };
	int rc;

	if ((rc = view_open(&t->view, t->o, daemon_stop_fd(), fuse_answer, e)) < 0 || (rc = find_root(t, &c.root, e)) < 0)
		return rc;
	c.fetch = t->view.fetch;
	c.image[0] = t->view.image[0];
	c.image[1] = t->view.image[1];
	c.px = t->view.px;
	return (t->fs = pxfs_new(&c, e)) ? 0 : -ENOMEM;
}

/* ---- serve ---- */

static int
wait_ms(struct tree *t)
{
	int best = pxfs_expire(t->fs), ms, i;

	for (i = 0; i <= t->view.split; i++)
		if ((ms = image_expire(t->view.image[i])) >= 0 && (best < 0 || ms < best))
			best = ms;
	return best;
}

/* From here on all requests fail. */
static void
end(struct tree *t)
{
	int i;

	for (i = 0; i <= t->view.split; i++)
		image_end(t->view.image[i]);
	pxfs_end(t->fs);
}

static void
serve(struct tree *t)
{
	struct pollfd p[3] = {
		{ .fd = daemon_stop_fd(), .events = POLLIN },
		{ .fd = fetch_fd(t->view.fetch), .events = POLLIN },
		{ .fd = fuse_session_fd(t->dev.session), .events = POLLIN },
	};
	int fuse_fd = p[2].fd, i;
	char byte;

	for (;;) {
		p[2].fd = pxfs_full(t->fs) ? -1 : fuse_fd;
		if (poll(p, 3, wait_ms(t)) < 0)
			continue;
		if (p[0].revents) {
			if (read(p[0].fd, &byte, 1) <= 0)
				return;
			end(t);
		}
		if (p[1].revents) {
			fetch_turn(t->view.fetch);
			for (i = 0; i <= t->view.split; i++)
				image_ahead(t->view.image[i]);
		}
		if (p[2].revents && fusedev_turn(&t->dev, pxfs_full, t->fs) < 0) {
			fuse_fd = -1;		/* unmounted, most likely */
			relay_tell(CHAN_GONE);
		}
	}
}

int
serve_tree(const struct opts *o, struct err *e)
{
	static struct chan_ready ready;
	struct tree t = { .o = o };
	int rc, fd = -1;

	if ((rc = prepare(&t, e)) == 0) {
		ready.time = t.view.snap.name.time;
		if ((rc = fd = relay_ready(&ready, e)) >= 0 && (rc = fusedev_serve(&t.dev, fd, &pxfs_ops, t.fs, e)) == 0)
			serve(&t);
	}
	wipe(&t.view.snap.key, sizeof(t.view.snap.key));	/* the process's end frees the rest */
	return rc < 0 ? rc : 0;
}
