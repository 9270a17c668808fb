/*
 * A datastore's directory as a source. Chunk files are opened by threads of its own, which have the
 * kernel begin to read them: so a disk always has several requests, what waits lies in the page
 * cache, and nothing above ever waits for a disk but the worker that wants the chunk now.
 * Everything is opened relative to descriptors held from the start: the daemon outlives a switch_root.
 * Nothing read here is trusted: lengths are bounded, names were checked by whoever made them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "config.h"
#include "store_parts.h"
#include "thread.h"

struct queue {
	struct chunk_req *head, **tail;
};

struct store {
	struct source src;		/* first */
	char path[4096];
	int dir, chunks, snapshot;	/* descriptors; -1: none */
	int files[STORE_READERS + 1];	/* a broker that opens files, for each reader and for who calls; -1: we do */
	int started;			/* readers that know their number */
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct queue urgent, later;
	int quit;
	int readers;			/* threads that run */
	pthread_t reader[STORE_READERS];
};

/* ---- chunks ---- */

/* Reads exactly n bytes; -EBADMSG when the file ends before. */
static int
read_full(int fd, uint8_t *p, size_t n)
{
	size_t done = 0;
	ssize_t got;

	while (done < n) {
		got = read(fd, p + done, n - done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EBADMSG;
		done += (size_t)got;
	}
	return 0;
}

/* On a worker: the raw blob into memory. */
static int
pull(struct chunk_req *r)
{
	uint8_t magic[8];
	int rc;

	if ((rc = read_full(r->stream, magic, 8)) == 0) {
		req_place(r, magic);
		memcpy(r->raw, magic, 8);
		rc = read_full(r->stream, r->raw + 8, r->len - 8);
	}
	close(r->stream);
	if (rc < 0)
		err_set(&r->err, rc == -EBADMSG || rc == -EIO ? ST_DAMAGED : ST_FAIL, rc, "cannot be read: %s",
		    rc == -EBADMSG ? "it is shorter than it was" : strerror(-rc));
	return rc;
}

/* On a reader thread: opens the file and has the kernel read it. */
static int
open_chunk(struct store *s, int nr, struct chunk_req *r)
{
	int64_t size;
	int fd = store_file_open(s->files[nr], s->chunks, r->digest, NULL, &size);

	if (fd == -EBADMSG)
		return err_set(&r->err, ST_DAMAGED, fd, "is no regular file");
	if (fd < 0)
		return err_set(&r->err, fd == -ENOENT ? ST_DAMAGED : ST_FAIL, fd,
		    fd == -ENOENT ? "is missing from the datastore" : "cannot be opened: %s", strerror(-fd));
	if (size < 12 || (uint64_t)size > r->cap) {
		close(fd);
		return err_set(&r->err, ST_DAMAGED, -EBADMSG, "has the impossible length of %lld bytes", (long long)size);
	}
	posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
	r->stream = fd;
	r->len = (size_t)size;
	r->pull = pull;
	return 0;
}

static struct chunk_req *
take(struct queue *q)
{
	struct chunk_req *r = q->head;

	if (r && (q->head = r->next) == NULL)
		q->tail = &q->head;
	return r;
}

static void
put(struct queue *q, struct chunk_req *r)
{
	r->next = NULL;
	*q->tail = r;
	q->tail = &r->next;
}

static void *
reader(void *arg)
{
	struct store *s = arg;
	struct chunk_req *r;
	int nr;

	pthread_mutex_lock(&s->lock);
	nr = s->started++;
	while (!s->quit) {
		if ((r = take(&s->urgent)) == NULL && (r = take(&s->later)) == NULL) {
			pthread_cond_wait(&s->some, &s->lock);
			continue;
		}
		pthread_mutex_unlock(&s->lock);
		r->rc = open_chunk(s, nr, r);
		r->done(r);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void
store_ask(struct source *src, struct chunk_req *r)
{
	struct store *s = (struct store *)src;

	pthread_mutex_lock(&s->lock);
	put(r->demand ? &s->urgent : &s->later, r);
	pthread_cond_signal(&s->some);
	pthread_mutex_unlock(&s->lock);
}

/* Takes it out of the queue of read-ahead, if it is still there. */
static int
withdraw(struct store *s, struct chunk_req *r)
{
	struct chunk_req **p;

	for (p = &s->later.head; *p && *p != r; p = &(*p)->next)
		;
	if (*p == NULL)
		return 0;
	if ((*p = r->next) == NULL)
		s->later.tail = p;
	return 1;
}

static int
store_drop(struct source *src, struct chunk_req *r)
{
	struct store *s = (struct store *)src;
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = withdraw(s, r);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void
store_raise(struct source *src, struct chunk_req *r)
{
	struct store *s = (struct store *)src;

	pthread_mutex_lock(&s->lock);
	if (withdraw(s, r)) {
		r->demand = 1;
		put(&s->urgent, r);
	}
	pthread_mutex_unlock(&s->lock);
}

/* ---- snapshots and files ---- */

int
store_ns_path(const char *ns, char *out, size_t cap)
{
	size_t n = 0, len;

	*out = 0;
	for (; *ns; ns += len + (ns[len] == '/')) {
		len = strcspn(ns, "/");
		n += (size_t)snprintf(out + n, cap - n, "ns/%.*s/", (int)len, ns);
		if (n >= cap)
			return -ENAMETOOLONG;
	}
	return (int)n;
}

int
store_path(const struct snapshot *s, char *out, size_t cap)
{
	char name[ID_MAX + 64];
	int n = store_ns_path(s->ns, out, cap);

	if (n < 0)
		return n;
	snapshot_print(s, name, sizeof(name));
	return (size_t)snprintf(out + n, cap - (size_t)n, "%s", name) < cap - (size_t)n ? 0 : -ENAMETOOLONG;
}

struct dirent *
store_entry(DIR *d, int *rc)
{
	struct dirent *ent;

	errno = 0;
	if ((ent = readdir(d)) == NULL && errno)
		*rc = -errno;
	return ent;
}

int
store_is_finished(int group, const char *time)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/index.json.blob", time);
	if (faccessat(group, name, F_OK, 0) == 0)
		return 1;
	return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
}

static int
store_snapshots(struct source *src, const struct snapshot *group,
    int (*fn)(void *, const struct snapshot_info *), void *ctx, struct err *e)
{
	struct store *s = (struct store *)src;
	struct snapshot_info info;
	struct dirent *d;
	char path[1024];
	DIR *dir = NULL;
	int fd, rc, bad = 0;

	memset(&info, 0, sizeof(info));
	info.name = *group;
	info.name.has_time = 0;
	if ((rc = store_path(&info.name, path, sizeof(path))) < 0)
		return err_set(e, ST_USAGE, rc, "the name is too long");
	fd = openat(s->dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || (dir = fdopendir(fd)) == NULL) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return err_set(e, ST_FAIL, rc, "%s/%s: %s", s->path, path, rc == -ENOENT ? "no such group" : strerror(-rc));
	}
	info.name.has_time = 1;
	/* What cannot be read may be the newest: an older one would not be what was asked for. */
	while (rc == 0 && bad == 0 && (d = store_entry(dir, &bad)) != NULL) {
		if (time_parse(d->d_name, strlen(d->d_name), &info.name.time) < 0)
			continue;
		if ((info.finished = store_is_finished(dirfd(dir), d->d_name)) < 0)
			bad = info.finished;
		else
			rc = fn(ctx, &info);
	}
	closedir(dir);
	return bad < 0 ? err_set(e, ST_FAIL, bad, "%s/%s: %s", s->path, path, strerror(-bad)) : rc;
}

static int
open_snapshot(struct store *s, const struct snapshot *snap, struct err *e)
{
	char path[1024];
	int fd, rc;

	if ((rc = store_path(snap, path, sizeof(path))) < 0)
		return err_set(e, ST_USAGE, rc, "the name is too long");
	fd = openat(s->dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		return err_set(e, rc == -EACCES ? ST_TRUST : ST_FAIL, rc, "%s/%s: %s", s->path, path,
		    rc == -ENOENT ? "no such snapshot" : strerror(-rc));
	}
	if (s->snapshot >= 0)
		close(s->snapshot);
	s->snapshot = fd;
	return 0;
}

static int
start_readers(struct store *s, struct err *e)
{
	int rc = 0;

	while (rc == 0 && s->readers < STORE_READERS)
		if ((rc = thread_new(&s->reader[s->readers], 0, reader, s)) == 0)
			s->readers++;
	return rc < 0 ? err_set(e, ST_FAIL, rc, "cannot start threads: %s", strerror(-rc)) : 0;
}

/* Where a broker opens files, it has the snapshot's directory. */
static int
store_snapshot(struct source *src, const struct snapshot *snap, struct err *e)
{
	struct store *s = (struct store *)src;
	int rc = s->files[0] < 0 ? open_snapshot(s, snap, e) : 0;

	return rc < 0 ? rc : start_readers(s, e);
}

/* The whole of an open file, which is closed. */
static int
slurp(int fd, int64_t size, const char *name, uint64_t max, uint8_t **out, size_t *len, struct err *e)
{
	uint8_t *p = NULL;
	int rc = 0;

	if (fd == -EBADMSG)
		return err_set(e, ST_DAMAGED, fd, "%s: is no regular file", name);
	if (fd < 0)
		return err_set(e, fd == -EACCES ? ST_TRUST : fd == -ENOENT || fd == -ELOOP ? ST_DAMAGED : ST_FAIL, fd, "%s: %s",
		    name, strerror(-fd));
	if ((uint64_t)size > max)
		rc = err_set(e, ST_DAMAGED, -EFBIG, "%s: is longer than it may be (%lld bytes)", name, (long long)size);
	else if ((p = malloc((size_t)size + 1)) == NULL)
		rc = err_set(e, ST_FAIL, -ENOMEM, "%s: not enough memory", name);
	else if ((rc = read_full(fd, p, (size_t)size)) < 0)
		err_set(e, ST_FAIL, rc, "%s: cannot be read: %s", name, strerror(-rc));
	close(fd);
	if (rc < 0) {
		free(p);
		return rc;
	}
	*out = p;
	*len = (size_t)size;
	return 0;
}

int
store_read(int dir, const char *name, uint64_t max, uint8_t **out, size_t *len, struct err *e)
{
	int64_t size = 0;
	int fd = store_file_open(-1, dir, NULL, name, &size);

	return slurp(fd, size, name, max, out, len, e);
}

static int
store_file(struct source *src, const char *name, uint64_t max, uint8_t **out, size_t *len, struct err *e)
{
	struct store *s = (struct store *)src;
	int64_t size = 0;
	int fd = store_file_open(s->files[STORE_READERS], s->snapshot, NULL, name, &size);

	return slurp(fd, size, name, max, out, len, e);
}

static int
store_rows(struct source *src, enum list_what what, const struct snapshot *at, list_fn fn, void *ctx, struct err *e)
{
	struct store *s = (struct store *)src;

	return store_list(s->dir, s->path, what, at, fn, ctx, e);
}

/* ---- beginning and end ---- */

static void
store_close(struct source *src)
{
	struct store *s = (struct store *)src;
	int i;

	pthread_mutex_lock(&s->lock);
	s->quit = 1;
	pthread_cond_broadcast(&s->some);
	pthread_mutex_unlock(&s->lock);
	for (i = 0; i < s->readers; i++)
		pthread_join(s->reader[i], NULL);
	for (i = 0; i <= STORE_READERS; i++)
		if (s->files[i] >= 0)
			close(s->files[i]);
	if (s->snapshot >= 0)
		close(s->snapshot);
	if (s->chunks >= 0)
		close(s->chunks);
	if (s->dir >= 0)
		close(s->dir);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->some);
	free(s);
}

static const struct source_ops store_ops = {
	.snapshots = store_snapshots,
	.list = store_rows,
	.open = store_snapshot,
	.file = store_file,
	.ask = store_ask,
	.drop = store_drop,
	.raise = store_raise,
	.close = store_close,
};

static int
open_dirs(struct store *s, const char *path, struct err *e)
{
	int rc;

	if ((s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		rc = -errno;
		return err_set(e, rc == -EACCES ? ST_TRUST : ST_FAIL, rc, "datastore %s: %s", path, strerror(-rc));
	}
	if ((s->chunks = openat(s->dir, ".chunks", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		rc = -errno;
		return err_set(e, rc == -EACCES ? ST_TRUST : ST_FAIL, rc,
		    rc == -ENOENT ? "%s: is no datastore (it has no .chunks in it)" : "%s/.chunks: %s",
		    path, strerror(-rc));
	}
	return 0;
}

int
store_open(const char *path, struct source **out, struct err *e)
{
	struct store *s = calloc(1, sizeof(*s));
	int rc, i;

	if (s == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	s->src.ops = &store_ops;
	s->src.depth = STORE_DEPTH;
	s->src.pulls = 1;
	s->dir = s->chunks = s->snapshot = -1;
	for (i = 0; i <= STORE_READERS; i++)
		s->files[i] = -1;
	s->urgent.tail = &s->urgent.head;
	s->later.tail = &s->later.head;
	snprintf(s->path, sizeof(s->path), "%s", path);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->some, NULL);
	if ((rc = open_dirs(s, path, e)) < 0) {
		store_close(&s->src);
		return rc;
	}
	*out = &s->src;
	return 0;
}

int
store_give_away(struct source *src, const struct snapshot *snap, struct err *e)
{
	struct store *s = (struct store *)src;
	int rc = open_snapshot(s, snap, e);

	if (rc < 0 || (rc = store_broker(s->chunks, s->snapshot, s->files, STORE_READERS + 1, e)) < 0)
		return rc;
	close(s->chunks);
	close(s->snapshot);
	close(s->dir);
	s->dir = s->chunks = s->snapshot = -1;
	return 0;
}
