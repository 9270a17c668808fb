/*
 * `verify`: reads everything and says what is wrong. The result is on stdout, a line for each damaged
 * range and one at the end; stderr has the progress. Chunks that several places or archives share are read
 * once, and reported for each place.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "config.h"
#include "daemon.h"
#include "human.h"
#include "log.h"
#include "progress.h"
#include "start.h"
#include "verify.h"
#include "walk.h"

struct bad {
	uint32_t place;			/* the chain's first */
	char why[120];
};

struct verify {
	const struct opts *o;
	int stop;
	struct snap snap;
	const struct manifest_file **files;	/* count of them: what is verified */
	unsigned count;
	struct archive *archives;	/* indexes that could be read */
	unsigned indexes;
	struct walk *walk;
	struct progress progress;
	struct bad *bad;
	size_t bads, room;
	size_t unread;			/* of the bads: not damaged, but could not be had now */
	unsigned broken;		/* files that are damaged as such */
	uint32_t unopened;		/* encrypted chunks and blobs of which only the outside could be checked */
	uint64_t bytes;			/* of data in distinct chunks */
};

/* ---- files ---- */

static void
report_file(struct verify *v, const char *why)
{
	v->broken++;
	printf("%s\n", why);
}

static int
check_blob(struct verify *v, const struct manifest_file *f, struct err *e)
{
	uint8_t *data;
	size_t n;
	int rc = snap_blob(&v->snap, f, &data, &n, e);

	free(data);
	if (rc != -ENOKEY)
		return rc;
	v->unopened++;
	return 0;
}

/* What the snapshot lacks or has damaged is reported, and the rest is looked at; a lost connection ends it. */
static int
check_files(struct verify *v, struct err *e)
{
	const struct manifest_file *f;
	size_t len;
	unsigned i;
	int rc;

	for (i = 0; i < v->count; i++) {
		f = v->files[i];
		len = strlen(f->name);
		if (len > 5 && strcmp(f->name + len - 5, ".blob") == 0) {
			rc = check_blob(v, f, e);
		} else if ((rc = snap_index(&v->snap, f, &v->archives[v->indexes], e)) == 0) {
			v->indexes++;
		} else {
			archive_free(&v->archives[v->indexes]);
		}
		if (rc < 0 && e->status != ST_DAMAGED)
			return rc;
		if (rc < 0)
			report_file(v, e->text);
	}
	return 0;
}

static int
choose_files(struct verify *v, struct err *e)
{
	const struct manifest *m = &v->snap.manifest;
	enum archive_kind kind;
	char stored[256];
	int i, rc;
	size_t n = m->count > OPERANDS_MAX ? m->count : OPERANDS_MAX;

	v->files = calloc(n, sizeof(*v->files));
	v->archives = calloc(n, sizeof(*v->archives));
	if (v->files == NULL || v->archives == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	for (i = 1; i < v->o->operands; i++) {
		if ((rc = archive_parse(v->o->operand[i], stored, sizeof(stored), &kind, e)) < 0 ||
		    (rc = snap_find(&v->snap, v->o->operand[i], kind, &v->files[v->count++], e)) < 0)
			return rc;
	}
	for (n = 0; v->o->operands == 1 && n < m->count; n++)
		v->files[v->count++] = &m->files[n];
	return 0;
}

/* ---- chunks ---- */

static uint64_t
chunk_bytes(const struct verify *v, uint32_t place)
{
	struct chunk_want want;
	uint64_t c;
	const struct archive *a = walk_archive(v->walk, place, &c);

	index_chunk(&a->index, c, &want);
	return want.len;
}

static int
note_bad(struct verify *v, uint32_t place, const struct err *e)
{
	struct bad *more;

	if (v->bads == v->room) {
		v->room = v->room * 2 + 16;
		if ((more = realloc(v->bad, v->room * sizeof(*more))) == NULL)
			return -ENOMEM;
		v->bad = more;
	}
	v->bad[v->bads].place = place;
	v->unread += e->status != ST_DAMAGED;
	snprintf(v->bad[v->bads++].why, sizeof(v->bad->why), "%s", e->text);
	return 0;
}

static int
done(void *ctx, uint32_t place, int rc, const struct err *e)
{
	struct verify *v = ctx;
	uint64_t n = chunk_bytes(v, place);

	v->bytes += n;
	v->progress.done += n;
	if (rc == -ENOKEY)
		v->unopened++;
	return rc < 0 && rc != -ENOKEY ? note_bad(v, place, e) : 0;
}

static int
tick(void *ctx)
{
	struct verify *v = ctx;

	return progress_tick(&v->progress);
}

static int
check_chunks(struct verify *v, struct err *e)
{
	struct walk_conf c = { .o = v->o, .snap = &v->snap, .archives = v->archives, .count = v->indexes,
		.ctx = v, .done = done, .tick = tick };
	uint64_t total = 0;
	uint32_t p;
	int rc;

	if ((v->walk = walk_new(&c, e)) == NULL)
		return -ENOMEM;
	for (p = 0; (p = walk_first(v->walk, p)) != WALK_NONE; p++)
		total += chunk_bytes(v, p);
	progress_begin(&v->progress, v->o->quiet ? PROGRESS_QUIET : v->o->progress_json ? PROGRESS_JSON : PROGRESS_AUTO,
	    "verified", total);
	rc = walk_run(v->walk, v->stop, e);
	progress_end(&v->progress);
	return rc == -ENOMEM ? err_set(e, ST_FAIL, rc, "out of memory") : rc;
}

/* ---- what was found ---- */

static int
by_place(const void *a, const void *b)
{
	const struct bad *x = a, *y = b;

	return x->place < y->place ? -1 : x->place > y->place;
}

/* ", in partition 2 (root)"; a chunk may reach over several: the first. */
static void
find_part(const struct part_table *t, uint64_t from, uint64_t to, char *out, size_t cap)
{
	int i;

	out[0] = 0;
	for (i = 0; i < t->count; i++)
		if (from < t->part[i].start + t->part[i].size && t->part[i].start < to) {
			snprintf(out, cap, ", in partition %u%s%s%s", t->part[i].nr, t->part[i].name[0] ? " (" : "",
			    t->part[i].name, t->part[i].name[0] ? ")" : "");
			return;
		}
}

static void
report_place(struct verify *v, const struct bad *b, uint32_t place, const struct part_table *t)
{
	struct chunk_want want;
	char hex[65], size[10], where[160], name[256];
	uint64_t chunk, offset;
	const struct archive *a = walk_archive(v->walk, place, &chunk);

	index_chunk(&a->index, chunk, &want);
	offset = index_start(&a->index, chunk);
	find_part(t, offset, offset + want.len, where, sizeof(where));
	hex_encode(hex, want.digest, 32);
	archive_print(a->file->name, name, sizeof(name));
	printf("%s: offset %llu, %s%s: chunk %s: %s\n", name, (unsigned long long)offset,
	    human_size(want.len, size), where, hex, b->why);
}

/* The partition table is read only now that it is needed. Without the key it is as unreadable as the rest. */
static void
get_table(struct verify *v, const struct archive *a, struct part_table *t)
{
	struct start_reader r = { walk_fetch(v->walk), &a->index, v->stop, { ST_FAIL, "" } };
	size_t n = strlen(a->file->name);

	t->count = 0;
	if (n > 9 && strcmp(a->file->name + n - 9, ".img.fidx") == 0 && (!a->index.encrypted || snap_key(&v->snap)))
		start_table(&r, t);
}

/* By archive, then by place: each bad chunk stands in its chain's every place. */
static void
report_chunks(struct verify *v)
{
	struct part_table *t = malloc(sizeof(*t));
	const struct archive *a, *last = NULL;
	struct bad *all = NULL;
	size_t i, n = 0, room = 0;
	uint32_t p;
	uint64_t c;

	for (i = 0; i < v->bads; i++)
		for (p = v->bad[i].place; p != WALK_NONE; p = walk_next(v->walk, p))
			room++;
	if (t && room)
		all = malloc(room * sizeof(*all));
	for (i = 0; all && i < v->bads; i++)
		for (p = v->bad[i].place; p != WALK_NONE; p = walk_next(v->walk, p)) {
			all[n] = v->bad[i];
			all[n++].place = p;
		}
	if (n)
		qsort(all, n, sizeof(*all), by_place);
	for (i = 0; i < n; i++) {
		if ((a = walk_archive(v->walk, all[i].place, &c)) != last)
			get_table(v, last = a, t);
		report_place(v, &all[i], all[i].place, t);
	}
	free(all);
	free(t);
}

static void
summarize(const struct verify *v)
{
	char name[ID_MAX + 64], size[10];

	snapshot_print(&v->snap.name, name, sizeof(name));
	printf("%s: %u archive%s, %lu chunk%s (%s): ", name, v->count, v->count == 1 ? "" : "s",
	    (unsigned long)(v->walk ? walk_chunks(v->walk) : 0), v->walk && walk_chunks(v->walk) == 1 ? "" : "s",
	    human_size(v->bytes, size));
	if (v->bads == 0 && v->broken == 0)
		printf("all good");
	else
		printf("%zu chunk%s and %u file%s damaged", v->bads - v->unread, v->bads - v->unread == 1 ? "" : "s", v->broken,
		    v->broken == 1 ? "" : "s");
	if (v->unread)
		printf(", %zu chunk%s could not be read", v->unread, v->unread == 1 ? "" : "s");
	if (v->unopened)
		printf("; without the key only checksums and lengths of what is encrypted (%lu)", (unsigned long)v->unopened);
	if (!v->snap.has_key && v->snap.manifest.has_signature)
		printf("; the manifest's signature was not checked (no key)");
	printf("\n");
}

static int
verify(struct verify *v, struct err *e)
{
	int rc;

	if ((rc = snap_open(&v->snap, v->o, v->o->operand[0], e)) < 0 || (rc = snap_unlock(&v->snap, v->o, NULL, e)) < 0 ||
	    (rc = choose_files(v, e)) < 0 || (rc = check_files(v, e)) < 0)
		return rc;
	if (v->indexes)
		rc = check_chunks(v, e);
	if (v->bads)
		report_chunks(v);
	if (rc == 0)
		summarize(v);
	return rc;
}

int
verify_run(const struct opts *o)
{
	struct err e = { ST_FAIL, "" };
	struct verify v;
	unsigned i;
	int rc;

	memset(&v, 0, sizeof(v));
	v.o = o;
	if ((rc = daemon_start(1, &v.stop)) >= 0)
		return rc;
	if ((rc = verify(&v, &e)) < 0)
		say("%s", e.text);
	snap_close(&v.snap);
	if (v.walk)
		walk_free(v.walk);
	for (i = 0; i < v.indexes; i++)
		archive_free(&v.archives[i]);
	free(v.archives);
	free(v.files);
	free(v.bad);
	return rc < 0 ? (int)e.status : v.bads > v.unread || v.broken ? ST_DAMAGED : v.unread ? ST_FAIL : ST_DONE;
}
