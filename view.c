/*
 * A file archive, opened. Knows which files of a snapshot make one up, and nothing of what is
 * done with it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "start.h"
#include "view.h"

/* "root" of root.pxar, root.mpxar, root.ppxar, each with or without .didx. */
static size_t
stem(const char *stored)
{
	size_t n = strlen(stored) - strlen(".didx");

	while (stored[n - 1] != '.')
		n--;
	return n - 1;
}

/* Its name as it is stored. */
static int
parse(const char *text, char stored[256], struct err *e)
{
	enum archive_kind kind;
	int rc;

	if ((rc = archive_parse(text, stored, 256, &kind, e)) < 0)
		return rc;
	if (kind != ARCHIVE_PXAR)
		return err_set(e, ST_USAGE, -EINVAL, kind == ARCHIVE_IMG ? "%s is a disk image: use 'map' for it" :
		    "%s is no file archive (as root.pxar is)", text);
	return 0;
}

int
view_name(const char *text, char *name, size_t cap, struct err *e)
{
	char stored[256];
	int rc = parse(text, stored, e);

	if (rc == 0)
		snprintf(name, cap, "%.*s.pxar", (int)stem(stored), stored);
	return rc;
}

/* The files of the archive that a user means; f[1] NULL: it is no split one. */
static int
find_files(struct view *v, const char *text, const struct manifest_file *f[2], struct err *e)
{
	char stored[256], other[264];
	size_t n;
	int rc;

	f[1] = NULL;
	if ((rc = parse(text, stored, e)) < 0)
		return rc;
	n = stem(stored);
	snprintf(v->name, sizeof(v->name), "%.*s.pxar", (int)n, stored);
	snprintf(other, sizeof(other), "%.*s.mpxar.didx", (int)n, stored);
	if (strcmp(stored + n, ".pxar.didx") == 0 && manifest_find(&v->snap.manifest, other) == NULL)
		return snap_find(&v->snap, text, ARCHIVE_PXAR, f, e);
	v->split = 1;
	if ((f[0] = manifest_find(&v->snap.manifest, other)) == NULL)
		return snap_find(&v->snap, text, ARCHIVE_PXAR, f, e) < 0 ? -ENOENT :
		    err_set(e, ST_DAMAGED, -ENOENT, "%s lacks its other half, %s", text, other);
	snprintf(other, sizeof(other), "%.*s.ppxar.didx", (int)n, stored);
	if ((f[1] = manifest_find(&v->snap.manifest, other)) == NULL)
		return err_set(e, ST_DAMAGED, -ENOENT, "%s lacks its other half, %s", v->name, other);
	return 0;
}

static int
view_read(void *ctx, int payload, uint64_t offset, void *buf, uint32_t len)
{
	struct view *v = ctx;
	struct image *m = v->image[payload];
	struct fetch_wait w = { .ready = NULL };
	uint8_t *out = buf;
	int n, rc;

	for (; len; out += n, offset += (unsigned)n, len -= (unsigned)n) {
		if ((n = image_peek(m, offset, out, len, &w)) != 0)
			continue;
		fetch_cancel(v->fetch, &w);
		if ((rc = fetch_first(v->fetch, &w, v->stop, &v->err)) < 0) {
			v->failed = 1;
			return rc == -EINTR ? rc : -EIO;
		}
		image_ahead(m);
	}
	return 0;
}

int
view_error(struct view *v, int rc, const char *what, struct err *e)
{
	if (v->failed) {
		if (v->failed == 2)
			*e = v->err;
		else
			err_set(e, v->err.status, rc, "%s: %s", what, v->err.text);
		v->failed = 0;
		return rc;
	}
	if (rc == -EBADMSG)
		return err_set(e, ST_DAMAGED, rc, "%s: the archive is damaged there", what);
	return err_set(e, ST_FAIL, rc, "%s: %s", what, strerror(-rc));
}

static int
open_images(struct view *v, const struct opts *o, void (*answer)(void *, const struct iovec *, int, int), struct err *e)
{
	struct image_conf c = { .timeout = o->timeout, .answer = answer };
	uint32_t most = 1;
	int i;

	for (i = 0; i <= v->split; i++)
		if (v->archive[i].index.chunk_max > most)
			most = v->archive[i].index.chunk_max;
	if ((v->fetch = start_fetch_varied(o, &v->snap, most, e)) == NULL)
		return -ENOMEM;
	for (i = 0; i <= v->split; i++) {
		c.fetch = v->fetch;
		c.index = &v->archive[i].index;
		c.size = c.index->size;
		c.ahead = o->no_ahead ? 0 : o->limit ? 1 : start_ahead(o, (uint32_t)(c.size / (c.index->count + 1) + 1));
		if ((v->image[i] = image_new(&c, e)) == NULL)
			return -ENOMEM;
	}
	return 0;
}

static int
open_archive(struct view *v, struct err *e)
{
	int rc;

	v->px = (struct pxar){ .read = view_read, .ctx = v, .size = v->archive[0].index.size,
		.payload_size = v->split ? v->archive[1].index.size : 0 };
	if ((rc = pxar_open(&v->px)) == 0)
		return 0;
	return rc == -ENOTSUP ? err_set(e, ST_FAIL, rc, "%s: an archive of a newer format than this pbsmap knows",
	    v->name) : view_error(v, rc, v->name, e);
}

int
view_open(struct view *v, const struct opts *o, int stop,
    void (*answer)(void *, const struct iovec *, int, int), struct err *e)
{
	const struct manifest_file *f[2];
	int rc;

	memset(v, 0, sizeof(*v));
	v->stop = stop;
	if ((rc = snap_open(&v->snap, o, o->operand[0], e)) < 0 || (rc = find_files(v, o->operand[1], f, e)) < 0)
		return rc;
	/* Once, since the key may come by a pipe: for the file that needs it more. */
	if ((rc = snap_unlock(&v->snap, o, f[1] && f[1]->crypt == CRYPT_ENCRYPT ? f[1] : f[0], e)) < 0 ||
	    (rc = snap_index(&v->snap, f[0], &v->archive[0], e)) < 0 ||
	    (f[1] && (rc = snap_index(&v->snap, f[1], &v->archive[1], e)) < 0) ||
	    (rc = open_images(v, o, answer, e)) < 0)
		return rc;
	return open_archive(v, e);
}

void
view_close(struct view *v)
{
	int i;

	for (i = 0; i < 2; i++)
		if (v->image[i])
			image_free(v->image[i]);
	snap_close(&v->snap);
	if (v->fetch)
		fetch_free(v->fetch);
	for (i = 0; i < 2; i++)
		archive_free(&v->archive[i]);
}
