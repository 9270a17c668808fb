/*
 * Lists of a datastore's directory: what a server would answer about the same one. Manifests are
 * read by several threads, since a cold disk is asked for thousands of small files.
 *
 * Names that are none are passed over: a datastore's disk holds other things too (lost+found).
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
#include "store_parts.h"
#include "thread.h"

#define READ_ALONE 16			/* snapshots for which no thread is worth starting */

struct place {
	int dir;			/* the datastore's */
	const char *path;		/*   for messages */
	list_fn fn;
	void *ctx;
	struct err *e;
};

/* ---- directories ---- */

static int
failed(const struct place *p, const char *path, int rc)
{
	return err_set(p->e, rc == -EACCES ? ST_TRUST : ST_FAIL, rc, "%s/%s: %s", p->path, path, strerror(-rc));
}

/* NULL: *rc says why, 0 when it is not there. */
static DIR *
open_dir(const struct place *p, const char *path, int *rc)
{
	int fd = openat(p->dir, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	*rc = d || errno == ENOENT || errno == ENOTDIR ? 0 : failed(p, path, -errno);
	if (d == NULL && fd >= 0)
		close(fd);
	return d;
}

/* The next entry whose name is plain; NULL at the end. */
static const char *
next_name(DIR *d)
{
	struct dirent *ent;

	while ((ent = readdir(d)) != NULL)
		if (safe_id(ent->d_name, strlen(ent->d_name)))
			return ent->d_name;
	return NULL;
}

/* The next snapshot's time; NULL at the end, else its name. */
static const char *
next_time(DIR *d, int64_t *t)
{
	struct dirent *ent;

	while ((ent = readdir(d)) != NULL)
		if (time_parse(ent->d_name, strlen(ent->d_name), t) == 0)
			return ent->d_name;
	return NULL;
}

/* ---- namespaces ---- */

static int
namespaces(const struct place *p, const char *ns)
{
	struct list_row row = { .size = -1 };
	char path[1024];
	const char *name;
	DIR *d = NULL;
	int rc = 0, n = store_ns_path(ns, path, sizeof(path) - 3);

	/* One that is too deep, or whose name is too long, is none. */
	if (n < 0 || ns_check(ns, NULL) < 0)
		return 0;
	if ((d = open_dir(p, path, &rc)) == NULL)
		return rc;
	closedir(d);
	strcpy(row.name.ns, ns);
	if ((rc = p->fn(p->ctx, &row)) != 0)
		return rc;
	strcpy(path + n, "ns");
	if ((d = open_dir(p, path, &rc)) == NULL)
		return rc;
	while (rc == 0 && (name = next_name(d)) != NULL) {
		snprintf(path, sizeof(path), "%s%s%s", ns, *ns ? "/" : "", name);
		rc = namespaces(p, path);
	}
	closedir(d);
	return rc;
}

/* ---- groups ---- */

/* The file's first line; empty when there is none. */
static void
read_owner(int group, char *out, size_t cap)
{
	int fd = openat(group, "owner", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd < 0 ? 0 : read(fd, out, cap - 1);

	out[n > 0 ? n : 0] = 0;
	out[strcspn(out, "\n")] = 0;
	if (fd >= 0)
		close(fd);
}

static int
group(const struct place *p, const struct list_row *of)
{
	struct list_row row = *of;
	char path[1024], manifest[64];
	const char *name;
	int64_t t;
	DIR *d;
	int rc = 0;

	if (store_path(&row.name, path, sizeof(path)) < 0 || (d = open_dir(p, path, &rc)) == NULL)
		return rc;
	read_owner(dirfd(d), row.owner, sizeof(row.owner));
	while ((name = next_time(d, &t)) != NULL) {
		snprintf(manifest, sizeof(manifest), "%s/index.json.blob", name);
		if (faccessat(dirfd(d), manifest, F_OK, 0) < 0)
			continue;
		row.count++;
		if (t > row.last)
			row.last = t;
	}
	closedir(d);
	return p->fn(p->ctx, &row);
}

static int
groups(const struct place *p, const struct snapshot *at)
{
	static const char types[3][5] = { "vm", "ct", "host" };
	struct list_row row = { .size = -1 };
	char path[1024];
	const char *name;
	DIR *d;
	int i, rc = 0, n = store_ns_path(at->ns, path, sizeof(path) - 5);

	if (n < 0 || (d = open_dir(p, path, &rc)) == NULL)
		return n < 0 || rc < 0 ? rc : err_set(p->e, ST_FAIL, -ENOENT, "%s: there is no namespace '%s'", p->path,
		    at->ns);
	closedir(d);
	strcpy(row.name.ns, at->ns);
	for (i = 0; rc == 0 && i < 3; i++) {
		strcpy(path + n, types[i]);
		strcpy(row.name.type, types[i]);
		if ((d = open_dir(p, path, &rc)) == NULL)
			continue;
		while (rc == 0 && (name = next_name(d)) != NULL) {
			snprintf(row.name.id, sizeof(row.name.id), "%s", name);
			rc = group(p, &row);
		}
		closedir(d);
	}
	return rc;
}

/* ---- snapshots ---- */

struct job {
	const struct place *p;
	const struct snapshot *at;
	int group;			/* its directory */
	char owner[ID_MAX];
	int64_t *times;
	size_t count, room;
	pthread_mutex_t lock;		/* of what follows, and of place.fn: */
	size_t next;
	int rc;
};

/* A manifest that cannot be read is no error: the row says so by having no size. */
static void
read_manifest(struct listing *l, struct blob_worker *w, uint8_t *out, int dir)
{
	uint8_t *raw = NULL;
	size_t len, n;
	int rc;

	rc = store_read(dir, "index.json.blob", MANIFEST_MAX, &raw, &len, NULL);
	if (rc == 0)
		rc = blob_decode(w, NULL, raw, len, out, MANIFEST_MAX, &n, NULL, NULL);
	if (rc == 0)
		rc = listing_manifest(l, (char *)out, n, len, NULL);
	if (rc < 0)
		listing_clear(l);
	free(raw);
}

static int
is_archive(const char *name)
{
	const char *end = strrchr(name, '.');

	return end && (strcmp(end, ".fidx") == 0 || strcmp(end, ".didx") == 0 || strcmp(end, ".blob") == 0);
}

/* 1: there is a row. */
static int
read_snapshot(const struct job *j, struct listing *l, struct blob_worker *w, uint8_t *out, int64_t t)
{
	struct list_row *r = &l->row;
	char time[21];
	const char *name;
	DIR *d;
	int fd, rc = 0;

	time_print(t, time);
	listing_clear(l);
	fd = openat(j->group, time, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || (d = fdopendir(fd)) == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;		/* it was pruned, or is no directory */
	}
	read_manifest(l, w, out, fd);
	r->name = *j->at;
	r->name.has_time = 1;
	r->name.time = t;
	strcpy(r->owner, j->owner);
	r->is_protected = faccessat(fd, ".protected", F_OK, 0) == 0;
	while (rc == 0 && (name = next_name(d)) != NULL)
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
	size_t i;
	int rc = w && out ? 0 : -ENOMEM;

	memset(&l, 0, sizeof(l));
	pthread_mutex_lock(&j->lock);
	while (rc >= 0 && j->rc == 0 && j->next < j->count) {
		i = j->next++;
		pthread_mutex_unlock(&j->lock);
		rc = read_snapshot(j, &l, w, out, j->times[i]);
		pthread_mutex_lock(&j->lock);
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
snapshots(const struct place *p, const struct snapshot *at)
{
	struct job j = { .p = p, .at = at };
	struct snapshot of = *at;
	char path[1024];
	int64_t t;
	DIR *d;
	int rc = 0;

	of.has_time = 0;
	if (store_path(&of, path, sizeof(path)) < 0 || (d = open_dir(p, path, &rc)) == NULL)
		return rc;
	j.group = dirfd(d);
	read_owner(j.group, j.owner, sizeof(j.owner));
	while (rc == 0 && next_time(d, &t) != NULL)
		if (!at->has_time || at->time == t)
			rc = add_time(&j, t);
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
	struct place p = { dir, path, fn, ctx, e };

	return what == LIST_NAMESPACES ? namespaces(&p, at->ns) : what == LIST_GROUPS ? groups(&p, at) : snapshots(&p, at);
}
