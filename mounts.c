/*
 * The mounts of file archives: finding and ending them. Asks no server of a mount anything, so a
 * dead one is ended like any other.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "hold.h"
#include "log.h"
#include "mounts.h"
#include "proc.h"
#include "unmap.h"

#define END_MS 10000			/* from unmounting to the process's end */
#define KILL_MS 2000
#define ROUNDS 1024			/* mounts that are ended at once, at most */

void
mounts_source(const char *name, char *out, size_t cap)
{
	snprintf(out, cap, "%s#%ld", name, (long)getpid());
}

struct each {
	int (*fn)(void *, const struct mounts_entry *);
	void *ctx;
};

static int
take_mount(void *ctx, const struct proc_mount *m)
{
	const struct each *x = ctx;
	const char *hash = strrchr(m->source, '#');
	struct mounts_entry ent = { .point = m->point };
	char *end;

	if (strcmp(m->type, "fuse.pbsmap") != 0 || hash == NULL)
		return 0;
	ent.pid = (pid_t)strtol(hash + 1, &end, 10);
	if (ent.pid <= 1 || *end)
		return 0;
	snprintf(ent.name, sizeof(ent.name), "%.*s", (int)(hash - m->source), m->source);
	ent.connection = minor(m->dev);
	ent.alive = proc_has_fuse(ent.pid, ent.connection) > 0;
	return x->fn(x->ctx, &ent);
}

int
mounts_each(int (*fn)(void *, const struct mounts_entry *), void *ctx)
{
	return proc_mounts(0, take_mount, &(struct each){ fn, ctx });
}

/* ---- ending one ---- */

/* Waits until the process is gone; with force it is made to. */
static int
end_process(int pidfd, pid_t pid, int force, struct err *e)
{
	int rc = proc_wait(pidfd, pid, END_MS);

	if (rc < 0 && force) {
		proc_signal(pidfd, pid, SIGKILL);
		rc = proc_wait(pidfd, pid, KILL_MS);
	}
	return rc == 0 ? 0 : err_set(e, ST_FAIL, rc, "process %ld has not ended within %d s", (long)pid, END_MS / 1000);
}

static int
undo(const struct mounts_entry *m, int force, struct err *e)
{
	int pidfd = m->alive ? proc_open(m->pid) : -ESRCH, rc = 0;
	char list[4096];

	/* Not root: the process does it, by what it was mounted with; which asks nobody. */
	if (geteuid() != 0)
		rc = pidfd == -ESRCH ? -EPERM : !force && hold_list_mount(m->point, m->pid, list, sizeof(list)) ? -EBUSY :
		    proc_signal(pidfd, m->pid, SIGINT);
	else if (umount2(m->point, UMOUNT_NOFOLLOW | (force || !m->alive ? MNT_DETACH : 0)) < 0)
		rc = -errno;
	if (rc == -EBUSY && hold_list_mount(m->point, m->pid, list, sizeof(list)))
		fputs(list, stderr);
	if (rc == -EBUSY)
		err_set(e, ST_BUSY, rc, "%s is in use: not unmounted (-f does it all the same)", m->point);
	else if (rc < 0)
		err_set(e, ST_FAIL, rc, "cannot unmount %s: %s", m->point, strerror(-rc));
	else if (!m->alive)
		say("removed what was left of %s", m->name);
	/* Whoever still uses what was unmounted by force gets errors. */
	if (rc == 0 && force && pidfd != -ESRCH)
		proc_signal(pidfd, m->pid, SIGINT);
	if (rc == 0 && pidfd != -ESRCH)
		rc = end_process(pidfd, m->pid, force, e);
	if (pidfd >= 0)
		close(pidfd);
	return rc;
}

/* ---- which one ---- */

struct search {
	const char *what;
	char path[PATH_MAX];		/* the same as an absolute path */
	int matches;
	int exact;			/* it is a directory's or a whole name: no other counts */
	struct mounts_entry found;
	char point[PATH_MAX];
};

/* The directory itself may be one of a dead server: only its parent is looked at. */
static void
make_path(const char *what, char out[PATH_MAX])
{
	char *copy = strdup(what), *slash, dir[PATH_MAX];
	size_t n = copy ? strlen(copy) : 0;

	snprintf(out, PATH_MAX, "%s", what);
	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = 0;
	if (copy && n > 1) {
		slash = strrchr(copy, '/');
		if (slash)
			*slash = 0;
		if (realpath(slash == copy ? "/" : slash ? copy : ".", dir))
			snprintf(out, PATH_MAX, "%s/%s", dir[1] ? dir : "", slash ? slash + 1 : copy);
	}
	free(copy);
}

static int
match(void *ctx, const struct mounts_entry *m)
{
	struct search *s = ctx;
	int exact = strcmp(s->path, m->point) == 0 || strcmp(s->what, m->name) == 0;

	if (!exact && (s->exact || !unmap_is_end(s->what, m->name)))
		return 0;
	if (exact && !s->exact)
		s->matches = 0;
	s->exact |= exact;
	s->matches++;
	s->found = *m;			/* of mounts on one another the last is on top */
	s->found.point = s->point;
	snprintf(s->point, sizeof(s->point), "%s", m->point);
	return 0;
}

int
mounts_undo(const char *what, int force, struct err *e)
{
	struct search *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	s->what = what;
	make_path(what, s->path);
	mounts_each(match, s);
	if (s->matches == 0)
		rc = -ENOENT;
	else if (s->matches > 1 && strcmp(s->point, s->path) != 0)
		rc = err_set(e, ST_USAGE, -EINVAL, "%s may mean %d mounts: give the directory", what, s->matches);
	else
		rc = undo(&s->found, force, e);
	free(s);
	return rc;
}

void
mounts_tidy(const char *point)
{
	struct search *s = calloc(1, sizeof(*s));
	struct err why;

	if (s == NULL)
		return;
	s->what = point;
	make_path(point, s->path);
	mounts_each(match, s);
	if (s->matches && !s->found.alive && strcmp(s->path, s->point) == 0 && undo(&s->found, 0, &why) < 0)
		say("%s", why.text);
	free(s);
}

struct all {
	int force, skip, seen, rc;
	struct err *e;
};

/* The list changes with each that is ended, so it is read anew for each. */
static int
undo_next(void *ctx, const struct mounts_entry *m)
{
	struct all *a = ctx;
	struct err why;
	int rc;

	if (a->seen++ < a->skip)
		return 0;
	if ((rc = undo(m, a->force, &why)) < 0) {
		a->skip++;
		if (a->rc == 0 && a->e)
			*a->e = why;
		else
			say("%s", why.text);
		a->rc = a->rc ? a->rc : rc;
	}
	return 1;
}

int
mounts_undo_all(int force, struct err *e)
{
	struct all a = { .force = force, .e = e };
	int i;

	for (i = 0; i < ROUNDS; i++) {
		a.seen = 0;
		if (mounts_each(undo_next, &a) <= 0)
			break;
	}
	return a.rc;
}
