/*
 * The commands `unmap` and `status`: from what a user typed to an entry of the
 * registry, and what may be done to it.  The registry knows how it is done.
 */
#include "unmap.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "hold.h"
#include "human.h"
#include "jsonout.h"
#include "log.h"
#include "loop.h"
#include "mounts.h"
#include "part.h"
#include "proc.h"
#include "run.h"

#define ENTRIES_MAX 1024
#define END_MS 10000			/* from SIGINT to the process's end */
#define DETACH_MS 2000
#define FORCE_MS 100			/* the same with force: its process has waited already */
#define KILL_MS 2000			/* the same from SIGKILL */
#define LOST_MS 300			/* a mapping that just ends looks lost for a moment */

struct table {
	int dirfd;
	int count;
	struct run_entry ent[ENTRIES_MAX];
};

static const char *const state_names[] = {
	[RUN_ALIVE] = "alive", [RUN_STARTING] = "starting", [RUN_LOST] = "lost", [RUN_DEAD] = "dead",
	[RUN_UNKNOWN] = "unknown",
};

/* All mappings; none when the directory was never made. NULL: *rc says why. table_free() it. */
static struct table *
table_new(int *rc, struct err *e)
{
	struct table *t = calloc(1, sizeof *t);

	if (t == NULL) {
		*rc = err_set(e, ST_FAIL, -ENOMEM, "out of memory");
		return NULL;
	}
	t->dirfd = run_dir(0, e);
	*rc = t->dirfd;
	if (t->dirfd >= 0)
		*rc = t->count = run_list(t->dirfd, t->ent, ENTRIES_MAX, e);
	if (*rc >= 0 || *rc == -ENOENT) {
		*rc = 0;
		e->text[0] = '\0';
		return t;
	}
	if (t->dirfd >= 0)
		close(t->dirfd);
	free(t);
	return NULL;
}

static void
table_free(struct table *t)
{
	if (t->dirfd >= 0)
		close(t->dirfd);
	free(t);
}

/* A name as people write it. */
static const char *
plain(const struct run_entry *ent)
{
	static char text[RUN_NAME];

	run_unescape(ent->name, text, sizeof text);
	return text;
}

/* ---- status ---- */

static void
print_number(long n, int known)
{
	if (known)
		printf("%ld", n);
	else
		printf("null");
}

/* A mount is listed with what a mapping has, and its directory. */
static int
json_mount(void *ctx, const struct mounts_entry *m)
{
	int *any = ctx;

	printf("%s{\"device\":null,\"number\":null,\"size\":0,\"pid\":%ld,\"name\":", *any ? ",\n " : "", (long)m->pid);
	json_out(stdout, m->name);
	printf(",\"state\":\"%s\",\"directory\":", state_names[m->alive ? RUN_ALIVE : RUN_DEAD]);
	json_out(stdout, m->point);
	putchar('}');
	*any = 1;
	return 0;
}

static void
print_json(const struct table *t)
{
	char device[32];
	int any = t->count != 0;

	putchar('[');
	for (int i = 0; i < t->count; i++) {
		const struct run_entry *ent = &t->ent[i];

		snprintf(device, sizeof device, "\"/dev/loop%d\"", ent->loop_nr);
		printf("%s{\"device\":%s,\"number\":", i ? ",\n " : "",
		    ent->loop_nr < 0 ? "null" : device);
		print_number(ent->loop_nr, ent->loop_nr >= 0);
		printf(",\"size\":%llu,\"pid\":", ent->size);
		print_number(ent->pid, ent->pid != 0);
		printf(",\"name\":");
		json_out(stdout, plain(ent));
		printf(",\"state\":\"%s\"}", state_names[ent->state]);
	}
	mounts_each(json_mount, &any);
	puts("]");
}

static void
print_head(void)
{
	printf("%-12s %9s %7s %-8s %s\n", "DEVICE", "SIZE", "PID", "STATE", "NAME");
}

static int
print_mount(void *ctx, const struct mounts_entry *m)
{
	int *any = ctx;

	if (!*any)
		print_head();
	*any = 1;
	printf("%-12s %9s %7ld %-8s %s\n", m->point, "-", (long)m->pid,
	    state_names[m->alive ? RUN_ALIVE : RUN_DEAD], m->name);
	return 0;
}

static void
print_table(const struct table *t)
{
	char device[32] = "-", size[10] = "-", pid[16] = "-";
	int any = t->count != 0;

	if (any)
		print_head();
	for (int i = 0; i < t->count; i++) {
		const struct run_entry *ent = &t->ent[i];

		if (ent->loop_nr >= 0) {
			snprintf(device, sizeof device, "/dev/loop%d", ent->loop_nr);
			human_size(ent->size, size);
		} else {
			strcpy(device, "-");
			strcpy(size, "-");
		}
		if (ent->pid != 0)
			snprintf(pid, sizeof pid, "%ld", (long)ent->pid);
		else
			strcpy(pid, "-");
		printf("%-12s %9s %7s %-8s %s\n", device, size, pid, state_names[ent->state],
		    plain(ent));
	}
	mounts_each(print_mount, &any);
}

/* What a dead process left, and processes whose device was taken away. Living
 * mappings, and those that just begin or end, are left alone. */
static void
tidy(struct table *t)
{
	const struct timespec moment = { 0, LOST_MS * 1000000L };
	struct err why;
	int lost = 0, kept = 0;

	for (int i = 0; i < t->count; i++)
		lost |= t->ent[i].state == RUN_LOST;
	if (lost)
		nanosleep(&moment, NULL);
	for (int i = 0; i < t->count; i++) {
		struct run_entry *ent = &t->ent[i];
		int rc = 0;

		if (ent->state == RUN_LOST && !run_again(t->dirfd, ent))
			continue;
		if (ent->state == RUN_LOST) {
			rc = run_stop(t->dirfd, ent, SIGINT, END_MS, &why);
			if (rc == 0)
				say("ended process %ld: %s had lost its device", (long)ent->pid,
				    plain(ent));
		}
		if (rc == 0 && ent->state == RUN_DEAD) {
			rc = run_clean(t->dirfd, ent, &why);
			if ((rc == 0 || rc == -EBUSY) && (!run_again(t->dirfd, ent) || ent->state == RUN_DEAD))
				say("removed what was left of %s", plain(ent));
		}
		if (rc < 0)
			say("%s: %s", plain(ent), why.text);
		if (run_again(t->dirfd, ent))
			t->ent[kept++] = *ent;
	}
	t->count = kept;
}

int
status_run(int json, struct err *e)
{
	struct table *t;
	int rc;

	t = table_new(&rc, e);
	if (t == NULL)
		return rc;
	/* Others cannot even see who is alive. */
	if (geteuid() == 0)
		tidy(t);
	if (json)
		print_json(t);
	else
		print_table(t);
	table_free(t);
	return 0;
}

/* ---- which one ---- */

int
unmap_is_end(const char *what, const char *full)
{
	size_t n = strlen(full), w = strlen(what);

	if (w > 5 && (strcmp(what + w - 5, ".fidx") == 0 || strcmp(what + w - 5, ".didx") == 0))
		w -= 5;
	if (w == 0 || w > n || strncmp(full + n - w, what, w) != 0)
		return 0;
	return w == n || full[n - w - 1] == '/' || full[n - w - 1] == ':';
}

static int
is_end_of(const char *what, const struct run_entry *ent)
{
	return unmap_is_end(what, plain(ent));
}

static int
find_name(const struct table *t, const char *what, int *found, struct err *e)
{
	size_t dir = sizeof RUN_DIR - 1;
	int matches = 0;

	/* As a path, as the directory has it, as people read it: all are names. */
	if (strncmp(what, RUN_DIR "/", dir + 1) == 0)
		what += dir + 1;
	for (int i = 0; i < t->count; i++)
		if (strcmp(what, t->ent[i].name) == 0 || strcmp(what, plain(&t->ent[i])) == 0) {
			*found = i;
			return 0;
		}
	for (int i = 0; i < t->count; i++)
		if (is_end_of(what, &t->ent[i])) {
			*found = i;
			matches++;
		}
	if (matches == 1)
		return 0;
	if (matches == 0)
		return err_set(e, ST_FAIL, -ENOENT, "no mapping has the name %s (see: pbsmap status)",
		    what);
	for (int i = 0; i < t->count; i++)
		if (is_end_of(what, &t->ent[i]))
			fprintf(stderr, "  %s\n", plain(&t->ent[i]));
	return err_set(e, ST_USAGE, -EINVAL, "%s may mean %d mappings: give more of the name", what,
	    matches);
}

/* An entry of the table, or found -1: a loop device that is none. */
static int
find(const struct table *t, const char *what, int *found, struct err *e)
{
	int rc, nr = loop_number(what);

	if (nr >= 0) {
		for (int i = 0; i < t->count; i++)
			if (t->ent[i].loop_nr == nr) {
				*found = i;
				return 0;
			}
		*found = -1;
		return 0;
	}
	rc = find_name(t, what, found, e);
	if (rc == -ENOENT && strncmp(what, "/dev/", 5) == 0 && strchr(what, ':') == NULL)
		return err_set(e, ST_USAGE, -EINVAL, "%s is not the name of a loop device: expected "
		    "/dev/loopN, without a partition", what);
	return rc;
}

/* ---- undoing ---- */

static int
check_held(int loop_nr, pid_t pid, struct err *e)
{
	char list[4096];

	if (hold_list(loop_nr, pid, list, sizeof list) == 0)
		return 0;
	fputs(list, stderr);
	return err_set(e, ST_BUSY, -EBUSY, "/dev/loop%d is in use: not unmapped (-f does it all the "
	    "same)", loop_nr);
}

/* SIGINT, and with force SIGKILL to one that does not listen. */
static int
end_process(const struct table *t, const struct run_entry *ent, int force, struct err *e)
{
	int rc = run_stop(t->dirfd, ent, SIGINT, END_MS, e);

	if (rc == -ETIMEDOUT && force) {
		say("process %ld does not end: killing it", (long)ent->pid);
		rc = run_stop(t->dirfd, ent, SIGKILL, KILL_MS, e);
	}
	if (rc == -ETIMEDOUT && !force)
		err_set(e, ST_FAIL, rc, "process %ld has not ended within %d s (-f kills it)", (long)ent->pid,
		    END_MS / 1000);
	return rc;
}

/* Where the kernel does not tell, any mapping may be the one. */
static int
serves(void *ctx, pid_t pid)
{
	return proc_is_mapper(pid) != 0 && proc_has_fuse(pid, *(unsigned *)ctx) ? (int)pid : 0;
}

/* A device whose server is dead and whose mount is gone. -EEXIST: its server lives. */
static int
detach(int nr, int wait_ms, struct err *e)
{
	unsigned connection;
	struct loop l;
	dev_t dev;
	int rc = loop_backing_dev(nr, &dev);

	if (rc < 0)
		return rc == -ENXIO ? 0 : err_set(e, ST_FAIL, rc, "cannot ask /dev/loop%d: %s", nr,
		    strerror(-rc));
	connection = minor(dev);
	rc = proc_each(serves, &connection);
	if (rc > 0)
		return err_set(e, ST_BUSY, -EEXIST, "/dev/loop%d belongs to process %d, whose "
		    "registry is not this %s: end that process instead", nr, rc, RUN_DIR);
	rc = loop_open(nr, &l, e);
	if (rc < 0)
		return rc;
	part_del(l.fd, nr, NULL);
	return loop_detach(&l, wait_ms, e);
}

static int
undo(const struct table *t, const struct run_entry *ent, int force, struct err *e)
{
	char path[sizeof RUN_DIR + RUN_NAME];
	struct run_entry left = *ent;
	int rc;

	if (!force && ent->loop_nr >= 0 && (rc = check_held(ent->loop_nr, ent->pid, e)) < 0)
		return rc;
	rc = end_process(t, ent, force, e);
	if (rc < 0)
		return rc;
	/* Usually nothing is left now; or somebody has mapped the same again. */
	rc = run_clean(t->dirfd, ent, e);
	if (rc == -EBUSY && force)
		rc = 0;
	if (rc < 0)
		return rc;
	if (run_again(t->dirfd, &left) && left.state != RUN_DEAD && (left.pid == ent->pid || ent->pid == 0))
		return err_set(e, ST_FAIL, -EBUSY, "%s is still there, or being mapped by a process that cannot be "
		    "told; try again", plain(ent));
	if (ent->state == RUN_DEAD)
		say("removed what was left of %s", plain(ent));
	/* Held by somebody; or its mount was taken away, and nobody knew it any more. */
	snprintf(path, sizeof path, "%s/%s", RUN_DIR, ent->name);
	if (ent->loop_nr >= 0 && loop_has_backing(ent->loop_nr, path) &&
	    detach(ent->loop_nr, force ? FORCE_MS : DETACH_MS, e) == -EBUSY)
		say("/dev/loop%d gives read errors from now on; it goes away when its last user "
		    "closes it", ent->loop_nr);
	return 0;
}

/* A device that is no mapping of the registry. What a dead one left, its files
 * removed by somebody, is detached; all others are refused. */
static int
undo_stray(int nr, int force, struct err *e)
{
	char backing[4096];
	int rc;

	if (loop_backing(nr, backing, sizeof backing) != 0)
		return err_set(e, ST_FAIL, -ENXIO, "nothing is mapped to /dev/loop%d", nr);
	if (strncmp(backing, RUN_DIR "/", sizeof RUN_DIR) != 0)
		return err_set(e, ST_BUSY, -EBUSY, "/dev/loop%d is in use, but not by pbsmap "
		    "(mapped to %s)", nr, backing);
	if (!force && (rc = check_held(nr, 0, e)) < 0)
		return rc;
	rc = detach(nr, DETACH_MS, e);
	if (rc == 0)
		say("detached /dev/loop%d, which was left of a mapping", nr);
	return force && rc == -EBUSY ? 0 : rc;
}

/* One that is held does not keep the others. */
static int
undo_all(const struct table *t, int force, struct err *e)
{
	struct err why;
	int first = 0;

	for (int i = 0; i < t->count; i++) {
		int rc = undo(t, &t->ent[i], force, &why);

		if (rc < 0 && first == 0) {
			first = rc;
			*e = why;
		} else if (rc < 0) {
			say("%s", why.text);
		}
	}
	return first;
}

int
unmap_run(const struct unmap_opts *o, struct err *e)
{
	struct table *t;
	int rc, found = 0;

	if (o->what == NULL && !o->all)
		return status_run(o->json, e);
	/* Before the mappings: a mount may be its owner's, who is not root. */
	if (o->what && (rc = mounts_undo(o->what, o->force, e)) != -ENOENT)
		return rc;
	if (geteuid() != 0)
		return err_set(e, ST_FAIL, -EPERM, "unmapping needs root");
	t = table_new(&rc, e);
	if (t == NULL)
		return rc;
	if (o->all) {
		rc = undo_all(t, o->force, e);
		if (rc == 0)
			rc = mounts_undo_all(o->force, e);
		else
			mounts_undo_all(o->force, NULL);
	} else {
		rc = find(t, o->what, &found, e);
		if (rc == 0)
			rc = found < 0 ? undo_stray(loop_number(o->what), o->force, e) :
			    undo(t, &t->ent[found], o->force, e);
	}
	if (rc >= 0)
		e->text[0] = '\0';	/* what was overcome on the way */
	table_free(t);
	return rc;
}
