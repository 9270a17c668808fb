/*
 * Lists of a datastore's directory: what a server would answer about the same one. Manifests are
 * read by several threads, since a cold disk is asked for thousands of small files.
 *
 * Names that are none are passed over: a datastore's disk holds other things too (lost+found). What cannot be
 * read is said, and the list goes on, and fails in the end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blob.h"
#include "config.h"
#include "log.h"
#include "store_parts.h"
#include "thread.h"

#define SAID_MAX 20			/* of a thousand errors */
#define READ_ALONE 16			/* snapshots for which no thread is worth starting */

struct place {
	int dir;			/* the datastore's */
	const char *path;		/*   for messages */
	list_fn fn;
	void *ctx;
	struct err *e;
	int rc;				/* of what was lost first; and how often */
	unsigned lost;
};

/* ---- directories ---- */

static int
failed(const struct place *p, const char *path, int rc)
{
	return err_set(p->e, rc == -EACCES ? ST_TRUST : ST_FAIL, rc, "%s/%s: %s", p->path, path, strerror(-rc));
}

/* rc: 0, or what is missing in the list because of it. */
static void
lost(struct place *p, const char *path, int rc)
{
	if (rc == 0)
		return;
	if (p->lost++ == 0)
		p->rc = failed(p, path, rc);
	else if (p->lost <= SAID_MAX)
		say("%s/%s: %s", p->path, path, strerror(-rc));
}

/* NULL: *rc says why, 0 when it is not there. */
static DIR *
open_dir(int dir, const char *path, int *rc)
{
	int fd = openat(dir, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	*rc = d || errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	if (d == NULL && fd >= 0)
		close(fd);
	return d;
}

/* The next entry whose name is plain; NULL at the end, *rc says of what kind. */
static const char *
next_name(DIR *d, int *rc)
{
	struct dirent *ent;

	while ((ent = store_entry(d, rc)) != NULL)
		if (safe_id(ent->d_name, strlen(ent->d_name)))
			return ent->d_name;
	return NULL;
}

/* The next snapshot's time; NULL at the end, else its name. */
static const char *
next_time(DIR *d, int64_t *t, int *rc)
{
	struct dirent *ent;

	while ((ent = store_entry(d, rc)) != NULL)
		if (time_parse(ent->d_name, strlen(ent->d_name), t) == 0)
			return ent->d_name;
	return NULL;
}

/* ---- namespaces ---- */

static int
namespaces(struct place *p, const char *ns)
{
	struct list_row row = { .size = -1 };
	char path[1024], below[1024];
	const char *name;
	DIR *d = NULL;
	int rc = 0, bad, n = store_ns_path(ns, path, sizeof(path) - 3);

	/* One that is too deep, or whose name is too long, is none. */
	if (n < 0 || ns_check(ns, NULL) < 0)
		return 0;
	if ((d = open_dir(p->dir, path, &bad)) == NULL) {
		lost(p, path, bad);
		return 0;
	}
	closedir(d);
	strcpy(row.name.ns, ns);
	if ((rc = p->fn(p->ctx, &row)) != 0)
		return rc;
	strcpy(path + n, "ns");
	d = open_dir(p->dir, path, &bad);
	while (d && rc == 0 && (name = next_name(d, &bad)) != NULL) {
		snprintf(below, sizeof(below), "%s%s%s", ns, *ns ? "/" : "", name);
		rc = namespaces(p, below);
	}
	lost(p, path, bad);
	if (d)
		closedir(d);
	return rc;
}

/* ---- groups ---- */

/* The file's first line; empty when there is none. 0 or a negative errno. */
static int
read_owner(int group, char *out, size_t cap)
{
	uint8_t *text = NULL;
	size_t len = 0;
	int rc = store_read(group, "owner", 1 << 16, &text, &len, NULL);

	snprintf(out, cap, "%.*s", (int)len, text ? (char *)text : "");
	out[strcspn(out, "\n")] = 0;
	free(text);
	return rc == -ENOENT || rc == -EBADMSG || rc == -EFBIG || rc == -ELOOP ? 0 : rc;
}

static int
group(struct place *p, const struct list_row *of)
{
	struct list_row row = *of;
	char path[1024];
	const char *name;
	int64_t t;
	DIR *d;
	int rc, bad = 0;

	if (store_path(&row.name, path, sizeof(path)) < 0)
		return 0;
	if ((d = open_dir(p->dir, path, &bad)) == NULL) {
		lost(p, path, bad);
		return 0;
	}
	lost(p, path, read_owner(dirfd(d), row.owner, sizeof(row.owner)));
	while ((name = next_time(d, &t, &bad)) != NULL) {
		if ((rc = store_is_finished(dirfd(d), name)) <= 0) {
			bad = rc;
			continue;
		}
		row.count++;
		if (t > row.last)
			row.last = t;
	}
	lost(p, path, bad);
	closedir(d);
	return p->fn(p->ctx, &row);
}

static int
groups(struct place *p, const struct snapshot *at)
{
	static const char types[3][5] = { "vm", "ct", "host" };
	struct list_row row = { .size = -1 };
	char path[1024];
	const char *name;
	DIR *d;
	int i, bad = 0, rc = 0, n = store_ns_path(at->ns, path, sizeof(path) - 5);

	if (n < 0 || (d = open_dir(p->dir, path, &bad)) == NULL)
		return n < 0 ? 0 : bad < 0 ? failed(p, path, bad) : err_set(p->e, ST_FAIL, -ENOENT,
		    "%s: there is no namespace '%s'", p->path, at->ns);
	closedir(d);
	strcpy(row.name.ns, at->ns);
	for (i = 0; rc == 0 && i < 3; i++) {
		strcpy(path + n, types[i]);
		strcpy(row.name.type, types[i]);
		d = open_dir(p->dir, path, &bad);
		while (d && rc == 0 && (name = next_name(d, &bad)) != NULL) {
			snprintf(row.name.id, sizeof(row.name.id), "%s", name);
			rc = group(p, &row);
		}
		lost(p, path, bad);
		if (d)
			closedir(d);
	}
	return rc;
}

/* ---- snapshots ---- */

struct job {
	struct place *p;
	const struct snapshot *at;
	int group;			/* its directory */
	char owner[ID_MAX];
	int64_t *times;
	size_t count, room;
	pthread_mutex_t lock;		/* of what follows, and of place: */
	size_t next;
	int rc;
};

/* One that is damaged, or secret, is no error: the row says so by having no size. */
static int
read_manifest(struct listing *l, struct blob_worker *w, uint8_t *out, int dir)
{
	uint8_t *raw = NULL;
	size_t len, n;
	int read, rc;

	rc = read = store_read(dir, "index.json.blob", MANIFEST_MAX, &raw, &len, NULL);
	if (rc == 0)
		rc = blob_decode(w, NULL, raw, len, out, MANIFEST_MAX, &n, NULL, NULL);
	if (rc == 0)
		rc = listing_manifest(l, (char *)out, n, len, NULL);
	if (rc < 0)
		listing_clear(l);
	free(raw);
	return rc == -ENOMEM || (read < 0 && rc != -ENOENT && rc != -EACCES && rc != -EBADMSG && rc != -EFBIG &&
	    rc != -ELOOP) ? rc : 0;
}

static int
is_archive(const char *name)
{
	const char *end = strrchr(name, '.');

	return end && (strcmp(end, ".fidx") == 0 || strcmp(end, ".didx") == 0 || strcmp(end, ".blob") == 0);
}

/* 1: there is a row; *bad: something is missing in it, or it is missing. */
static int
read_snapshot(const struct job *j, struct listing *l, struct blob_worker *w, uint8_t *out, int64_t t, int *bad)
{
	struct list_row *r = &l->row;
	char time[21];
	const char *name;
	DIR *d;
	int rc = 0;

	time_print(t, time);
	listing_clear(l);
	if ((d = open_dir(j->group, time, bad)) == NULL)
		return 0;		/* it was pruned, or is no directory */
	*bad = read_manifest(l, w, out, dirfd(d));
	r->name = *j->at;
	r->name.has_time = 1;
	r->name.time = t;
	strcpy(r->owner, j->owner);
	r->is_protected = faccessat(dirfd(d), ".protected", F_OK, 0) == 0;
	while (rc == 0 && (name = next_name(d, bad)) != NULL)
		if (is_archive(name))
			rc = listing_add(l, name, CRYPT_UNKNOWN, -1);
	closedir(d);
	return rc < 0 ? rc : 1;
}

static void *
work(void *arg)
{
	struct blob_worker *w = blob_worker_new();
	uint8_t *out = malloc(MANIFEST_MAX);	/* touched only as far as manifests reach */
	struct job *j = arg;
	struct listing l;
	char time[21];
	size_t i;
	int bad, rc = w && out ? 0 : -ENOMEM;

	memset(&l, 0, sizeof(l));
	pthread_mutex_lock(&j->lock);
	while (rc >= 0 && j->rc == 0 && j->next < j->count) {
		i = j->next++;
		pthread_mutex_unlock(&j->lock);
		rc = read_snapshot(j, &l, w, out, j->times[i], &bad);
		pthread_mutex_lock(&j->lock);
		time_print(j->times[i], time);
		lost(j->p, time, bad);
		if (rc > 0 && j->rc == 0)
			j->rc = j->p->fn(j->p->ctx, &l.row);
	}
	if (rc < 0)
		j->rc = err_set(j->p->e, ST_FAIL, rc, "out of memory");
	pthread_mutex_unlock(&j->lock);
	listing_free(&l);
	free(out);
	if (w)
		blob_worker_free(w);
	return NULL;
}

/* Threads that cannot be had are missed by nobody: this one does all there is to do. */
static void
work_together(struct job *j)
{
	pthread_t thread[STORE_READERS];
	int n = 0;

	while (j->count > READ_ALONE && n < STORE_READERS && thread_new(&thread[n], 0, work, j) == 0)
		n++;
	work(j);
	while (n > 0)
		pthread_join(thread[--n], NULL);
}

static int
add_time(struct job *j, int64_t t)
{
	int64_t *more;

	if (j->count == j->room) {
		if ((more = realloc(j->times, (j->room * 2 + 64) * sizeof(*more))) == NULL)
			return err_set(j->p->e, ST_FAIL, -ENOMEM, "out of memory");
		j->times = more;
		j->room = j->room * 2 + 64;
	}
	j->times[j->count++] = t;
	return 0;
}

static int
snapshots(struct place *p, const struct snapshot *at)
{
	struct job j = { .p = p, .at = at };
	struct snapshot of = *at;
	char path[1024];
	int64_t t;
	DIR *d;
	int rc = 0, bad;

	of.has_time = 0;
	if (store_path(&of, path, sizeof(path)) < 0)
		return 0;
	if ((d = open_dir(p->dir, path, &bad)) == NULL)
		return bad < 0 ? failed(p, path, bad) : 0;
	j.group = dirfd(d);
	lost(p, path, read_owner(j.group, j.owner, sizeof(j.owner)));
	while (rc == 0 && next_time(d, &t, &bad) != NULL)
		if (!at->has_time || at->time == t)
			rc = add_time(&j, t);
	lost(p, path, bad);
	if (rc == 0 && j.count) {
		pthread_mutex_init(&j.lock, NULL);
		work_together(&j);
		pthread_mutex_destroy(&j.lock);
		rc = j.rc;
	}
	free(j.times);
	closedir(d);
	return rc;
}

int
store_list(int dir, const char *path, enum list_what what, const struct snapshot *at, list_fn fn, void *ctx,
    struct err *e)
{
	struct place p = { dir, path, fn, ctx, e, 0, 0 };
	int rc = what == LIST_NAMESPACES ? namespaces(&p, at->ns) : what == LIST_GROUPS ? groups(&p, at) : snapshots(&p, at);

	return rc ? rc : p.rc;
}
