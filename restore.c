/*
 * `restore`: an archive to a disk, a file or a stream.
 *
 * Seekable targets are written by the workers, as chunks come, straight from the cache's slots; zeros follow when
 * all data is there, so that nothing is lost before it is known that data can be had. Streams are stream.c's.
 * What could not be had is named, and the exit status says so.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "clock.h"
#include "config.h"
#include "daemon.h"
#include "human.h"
#include "log.h"
#include "progress.h"
#include "report.h"
#include "restore.h"
#include "resume.h"
#include "scan.h"
#include "start.h"
#include "stream.h"
#include "target.h"
#include "walk.h"

#define SAVE_MS 10000			/* between two states */
#define ZERO_PIECE (256ull << 20)	/* bytes zeroed at once: a signal waits no longer */
#define SAMPLES 32			/* chunks looked at before a state is believed */

struct restore {
	const struct opts *o;
	int stop;
	struct snap snap;
	struct archive archive;
	struct target target;
	struct walk *walk;
	struct stream *stream;
	struct progress progress;
	uint8_t *skip, *done;		/* bits of chunks: that were there before; that are there */
	struct resume resume;
	int64_t saved;			/* ms: the state, last */
	uint64_t zeros, before;		/* bytes: written as such; there before */
	uint32_t damaged;		/* chunks' places that could not be had, */
	enum status why_not;		/*   for good, or (ST_FAIL) now */
	pthread_mutex_t lock;		/* of why */
	struct err why;			/* the target failed; text empty: it did not */
	int lost;			/* a negative errno: a sync failed. The kernel says so once, the next one succeeds */
};

/* ---- what all ways share ---- */

static void
begin_progress(struct restore *r, const char *what)
{
	progress_begin(&r->progress, r->o->quiet ? PROGRESS_QUIET : r->o->progress_json ? PROGRESS_JSON : PROGRESS_AUTO,
	    what, r->archive.index.size);
}

static uint32_t
chunk_at(const struct restore *r, uint64_t chunk, uint64_t *offset)
{
	struct chunk_want want;

	*offset = index_start(&r->archive.index, chunk);
	index_chunk(&r->archive.index, chunk, &want);
	return want.len;
}

static int
target_failed(struct restore *r, const char *what, uint64_t offset, int rc, struct err *e)
{
	return err_set(e, ST_FAIL, rc, "%s: %s at offset %llu: %s", r->target.path, what, (unsigned long long)offset,
	    strerror(-rc));
}

static int
sync_target(struct restore *r, struct err *e)
{
	int rc = r->lost ? r->lost : (r->lost = target_sync(&r->target));

	return rc == 0 ? 0 : err_set(e, ST_FAIL, rc, "%s: cannot bring everything to the disk: %s", r->target.path,
	    strerror(-rc));
}

/* ---- in any order ---- */

/* On a worker: all places of the chunk. */
static int
use(void *ctx, uint32_t place, const uint8_t *data, struct err *e)
{
	struct restore *r = ctx;
	uint64_t offset = 0;
	uint32_t len, p;
	int rc = 0;

	for (p = place; rc == 0 && p != WALK_NONE; p = walk_next(r->walk, p)) {
		len = chunk_at(r, p, &offset);
		rc = target_write_sparse(&r->target, offset, data, len);
	}
	if (rc == 0)
		return 0;
	pthread_mutex_lock(&r->lock);
	if (r->why.text[0] == 0)
		target_failed(r, "cannot write", offset, rc, &r->why);
	pthread_mutex_unlock(&r->lock);
	return err_set(e, ST_FAIL, -EIO, "not written");
}

/* The target's errors end it, the source's are noted: what can be had is worth having. */
static int
chunk_failed(struct restore *r, uint32_t place, const struct err *e)
{
	struct chunk_want want;
	char hex[65];
	int stop;

	pthread_mutex_lock(&r->lock);
	stop = r->why.text[0] != 0;
	pthread_mutex_unlock(&r->lock);
	if (stop)
		return -EIO;
	r->why_not = r->why_not == ST_DAMAGED ? ST_DAMAGED : e->status;
	index_chunk(&r->archive.index, place, &want);
	hex_encode(hex, want.digest, 32);
	progress_clear(&r->progress);
	for (; place != WALK_NONE; place = walk_next(r->walk, place), r->damaged++)
		say("chunk %s: %s (offset %llu)", hex, e->text, (unsigned long long)index_start(&r->archive.index, place));
	return 0;
}

static int
done(void *ctx, uint32_t place, int rc, const struct err *e)
{
	struct restore *r = ctx;
	uint64_t offset;

	if (rc < 0)
		return chunk_failed(r, place, e);
	for (; place != WALK_NONE; place = walk_next(r->walk, place)) {
		bit_set(r->done, place);
		r->progress.done += chunk_at(r, place, &offset);
	}
	return 0;
}

/* What the state says was done is on the disk before it is said. */
static int
save(struct restore *r, struct err *e)
{
	int rc;

	r->saved = clock_ms();
	if (r->resume.fd < 0)
		return 0;
	if ((rc = sync_target(r, e)) < 0)
		return rc;
	if ((rc = resume_save(&r->resume, r->done)) < 0)
		return err_set(e, ST_FAIL, rc, "%s: %s", r->resume.path, strerror(-rc));
	return 0;
}

static int
tick(void *ctx)
{
	struct restore *r = ctx;
	struct err e;

	if (r->resume.fd >= 0 && clock_ms() - r->saved > SAVE_MS && save(r, &e) < 0) {
		progress_clear(&r->progress);
		say("%s", e.text);
	}
	return progress_tick(&r->progress);
}

static int
is_stopped(const struct restore *r)
{
	struct pollfd p = { .fd = r->stop, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* Zeros: neighbours at once, as far as a piece goes. */
static int
write_zeros(struct restore *r, struct err *e)
{
	const struct index *x = &r->archive.index;
	uint64_t c, first, from, offset, len;
	int rc;

	for (c = 0; c < x->count; c++) {
		if (bit_get(r->skip, (uint32_t)c) || !index_is_zero(x, c))
			continue;
		from = index_start(x, c);
		len = chunk_at(r, c, &offset);
		for (first = c; len < ZERO_PIECE && c + 1 < x->count && !bit_get(r->skip, (uint32_t)c + 1) &&
		    index_is_zero(x, c + 1); )
			len += chunk_at(r, ++c, &offset);
		if (is_stopped(r))
			return err_set(e, ST_FAIL, -EINTR, "interrupted");
		if ((rc = target_zero(&r->target, from, len)) < 0)
			return target_failed(r, "cannot write zeros", from, rc, e);
		for (; first <= c; first++)
			bit_set(r->done, (uint32_t)first);
		r->zeros += len;
		r->progress.zeros += len;
		r->progress.done += len;
		tick(r);
	}
	return 0;
}

/* ---- what is there already ---- */

/* What tells most about a target: data that is done, else zeros, which a blank disk has too. x->count: nothing is done. */
static uint64_t
pick_sample(const struct restore *r, uint64_t c, uint64_t step)
{
	const struct index *x = &r->archive.index;
	uint64_t end = c + step, zero = x->count;

	for (; c < end && c < x->count; c++)
		if (bit_get(r->done, (uint32_t)c)) {
			if (!index_is_zero(x, c))
				return c;
			zero = c;
		}
	return zero;
}

/* A state is believed when the target has what it says: another disk may stand under the name by now. */
static int
check_state(struct restore *r, struct err *e)
{
	const struct index *x = &r->archive.index;
	uint64_t step = x->count / SAMPLES + 1, c, i, offset;
	struct chunk_want want;
	uint8_t *buf, digest[32];
	int rc = 0;

	if (posix_memalign((void **)&buf, 4096, (x->chunk_max + 4095u) / 4096 * 4096) != 0)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	for (c = 0; rc == 0 && c < x->count; c += step) {
		if ((i = pick_sample(r, c, step)) == x->count)
			continue;
		index_chunk(x, i, &want);
		offset = index_start(x, i);
		if ((rc = target_read(&r->target, offset, buf, want.len)) == 0)
			chunk_digest(digest, buf, want.len, want.encrypted ? snap_key(&r->snap) : NULL);
		if (rc < 0 || memcmp(digest, want.digest, 32) != 0)
			rc = err_set(e, ST_BUSY, -ESTALE, "%s: at offset %llu is not what %s says was written; --delta compares "
			    "everything", r->target.path, (unsigned long long)offset, r->o->resume);
	}
	free(buf);
	return rc;
}

static int
scan(struct restore *r, const char *what, const uint8_t *skip, uint8_t *same, struct err *e)
{
	struct scan_conf c = { .target = &r->target, .index = &r->archive.index, .key = snap_key(&r->snap),
		.workers = start_workers(r->o), .stop = r->stop, .skip = skip, .progress = &r->progress };
	int rc;

	begin_progress(r, what);
	rc = scan_run(&c, same, e);
	progress_end(&r->progress);
	return rc;
}

static uint64_t
count_bytes(const struct restore *r, const uint8_t *bits)
{
	uint64_t c, n = 0, offset;

	for (c = 0; c < r->archive.index.count; c++)
		if (bit_get(bits, (uint32_t)c))
			n += chunk_at(r, c, &offset);
	return n;
}

static int
look_back(struct restore *r, int begun, struct err *e)
{
	int rc;

	if (begun && !r->target.made && (rc = check_state(r, e)) < 0)
		return rc;
	if (begun && r->target.made)	/* the state of a file that is gone */
		memset(r->done, 0, r->archive.index.count / 8 + 1);
	if (r->o->delta && !r->target.made && (rc = scan(r, "compared", r->done, r->done, e)) < 0)
		return rc;
	memcpy(r->skip, r->done, r->archive.index.count / 8 + 1);
	return 0;
}

/* ---- the end ---- */

/* Reads back past the caches. */
static int
compare(struct restore *r, struct err *e)
{
	uint64_t bytes = r->archive.index.count / 8 + 1, c, wrong = 0;
	uint8_t *same = calloc(1, bytes);
	struct err why;
	int rc;

	if (same == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	target_forget(&r->target);
	rc = scan(r, "read back", NULL, same, e);
	for (c = 0; rc == 0 && c < r->archive.index.count; c++)
		if (!bit_get(same, (uint32_t)c) && bit_get(r->done, (uint32_t)c)) {
			r->done[c / 8] &= (uint8_t)~(1u << c % 8);	/* --resume writes it again */
			if (wrong++ < 100)
				say("%s: reads back wrong at offset %llu", r->target.path,
				    (unsigned long long)index_start(&r->archive.index, c));
		}
	if (wrong && save(r, &why) < 0)
		say("%s", why.text);
	free(same);
	return rc < 0 || wrong == 0 ? rc : err_set(e, ST_FAIL, -EIO, "%s: %llu chunks read back wrong: it cannot be trusted",
	    r->target.path, (unsigned long long)wrong);
}

static int
read_target(void *ctx, uint64_t offset, void *buf, size_t len)
{
	const struct target *t = ctx;
	ssize_t n = pread(t->fd, buf, len, (off_t)offset);

	return n < 0 ? -errno : n == (ssize_t)len ? 0 : -EIO;
}

/* A partition table is shown as it is on the target now, and what is shown is there, whatever parsers the kernel has. */
static void
show_parts(struct restore *r)
{
	struct part_table *t = malloc(sizeof(*t));
	size_t n = strlen(r->archive.file->name);
	int device = r->target.kind == TARGET_DEVICE;

	if (t && n > 9 && strcmp(r->archive.file->name + n - 9, ".img.fidx") == 0 &&
	    part_scan(read_target, &r->target, r->target.size, t, NULL) == 0) {
		if (device)
			part_tell(r->target.fd, t);
		if (!r->o->quiet)
			report_parts(device ? r->target.path : "partition ", t);
		if (!r->o->quiet && device && t->kind == PART_GPT && r->target.room > r->target.size)
			fprintf(stderr, "  (larger than the image: the backup GPT is not at its end; see sgdisk -e)\n");
	}
	free(t);
}

static void
summarize(struct restore *r, int64_t began)
{
	char size[10], zeros[10], there[10], rate[10];
	uint64_t ms = (uint64_t)(clock_ms() - began) + 1, n = r->archive.index.size;

	if (!r->o->quiet) {
		fprintf(stderr, "%s: %s restored, %s of it zeros", r->target.path, human_size(n, size),
		    human_size(r->zeros, zeros));
		if (r->before)
			fprintf(stderr, ", %s were there", human_size(r->before, there));
		fprintf(stderr, ", in %llu.%llu s (%s/s)\n", (unsigned long long)ms / 1000, (unsigned long long)ms / 100 % 10,
		    human_size((uint64_t)((double)n * 1000 / (double)ms), rate));
	}
	if (r->target.kind != TARGET_STREAM)
		show_parts(r);
}

/* ---- seekable targets ---- */

static int
write_all(struct restore *r, struct err *e)
{
	struct walk_conf c = { .o = r->o, .snap = &r->snap, .archives = &r->archive, .count = 1, .skip_zero = 1,
		.more_workers = r->target.kind == TARGET_DEVICE ? 2 : 0,
		.skip = r->skip, .ctx = r, .use = use, .done = done, .tick = tick };
	int rc;

	if ((r->walk = walk_new(&c, e)) == NULL)
		return -ENOMEM;
	begin_progress(r, "restored");
	r->progress.done = r->progress.before = r->before = count_bytes(r, r->skip);
	rc = walk_run(r->walk, r->stop, e);
	if (r->why.text[0]) {		/* done() has returned an error, so no other thread sets it now */
		*e = r->why;
		rc = -EIO;
	}
	if (rc == 0)
		rc = write_zeros(r, e);
	progress_end(&r->progress);
	return rc;
}

/* What was done is kept whatever happened after. */
static int
finish(struct restore *r, int rc, struct err *e)
{
	struct err why;
	char done_size[10], size[10];
	int end = rc == 0 ? sync_target(r, e) : 0;

	if (save(r, &why) < 0)
		say("%s", why.text);
	if (rc < 0)
		err_set(e, e->status, rc, "%s; %s of %s are restored: go on with --yes --%s", e->text,
		    human_size(count_bytes(r, r->done), done_size), human_size(r->archive.index.size, size),
		    r->o->resume ? "resume" : "delta");
	return rc < 0 ? rc : end;
}

static int
restore_seekable(struct restore *r, struct err *e)
{
	int64_t began = clock_ms();
	int rc, begun = 0;

	r->skip = calloc(1, r->archive.index.count / 8 + 1);
	r->done = calloc(1, r->archive.index.count / 8 + 1);
	if (r->skip == NULL || r->done == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	if (r->o->resume && (begun = resume_open(&r->resume, r->o->resume, r->archive.file, &r->archive.index, r->done, e)) < 0)
		return begun;
	if ((rc = look_back(r, begun, e)) < 0)
		return rc;
	rc = finish(r, write_all(r, e), e);
	/* Whatever else is wrong: what the kernel has is not on the disk any more. */
	if (r->target.kind == TARGET_DEVICE && target_reread(&r->target) == -EBUSY)
		say("%s: the kernel still has the old partition table; have it read anew (blockdev --rereadpt)", r->target.path);
	if (rc < 0 || (r->o->compare && (rc = compare(r, e)) < 0))
		return rc;
	if (r->damaged)
		return err_set(e, r->why_not, -EIO, "%s: %lu chunks could not be had: their ranges were left as they were",
		    r->target.path, (unsigned long)r->damaged);
	resume_close(&r->resume, 1);
	summarize(r, began);
	return 0;
}

/* ---- the command ---- */

static int
check_kind(const struct restore *r, struct err *e)
{
	if (r->target.kind == TARGET_STREAM && (r->o->resume || r->o->delta || r->o->compare))
		return err_set(e, ST_USAGE, -ESPIPE, "%s: is no disk and no file: --resume, --delta and --verify need one",
		    r->target.path);
	return 0;
}

static int
restore_stream(struct restore *r, struct err *e)
{
	struct stream_conf c = { .o = r->o, .snap = &r->snap, .index = &r->archive.index, .target = &r->target,
		.stop = r->stop, .progress = &r->progress };
	int64_t began = clock_ms();
	int rc;

	if (r->archive.index.size == 0)
		return sync_target(r, e);
	if ((r->stream = stream_new(&c, e)) == NULL)
		return -ENOMEM;
	begin_progress(r, "written");
	rc = stream_run(r->stream, e);
	progress_end(&r->progress);
	r->zeros = r->progress.zeros;
	if (rc == 0 && (rc = sync_target(r, e)) == 0)
		summarize(r, began);
	return rc;
}

static int
restore_archive(struct restore *r, const struct manifest_file *f, struct err *e)
{
	struct target_conf c = { .path = r->o->operand[2], .stop = r->stop, .yes = r->o->yes, .sparse = r->o->sparse };
	int rc;

	if ((rc = snap_index(&r->snap, f, &r->archive, e)) < 0)
		return rc;
	c.size = r->archive.index.size;
	if (r->archive.index.count >= WALK_NONE)
		return err_set(e, ST_FAIL, -EFBIG, "%s: too many chunks", f->name);
	if ((rc = target_open(&r->target, &c, e)) < 0)
		return rc;
	if ((rc = check_kind(r, e)) < 0)
		return rc;
	return r->target.kind == TARGET_STREAM ? restore_stream(r, e) : restore_seekable(r, e);
}

static int
compare_blob(struct restore *r, const uint8_t *data, size_t len, struct err *e)
{
	uint8_t *buf = malloc(len + 4096);	/* target_read() fills whole pages */
	int rc = -ENOMEM;

	target_forget(&r->target);
	if (buf && (rc = target_read(&r->target, 0, buf, len)) == 0 && memcmp(buf, data, len) != 0)
		rc = -EIO;
	free(buf);
	return rc < 0 ? target_failed(r, "reads back wrong", 0, rc, e) : 0;
}

static int
restore_blob(struct restore *r, const struct manifest_file *f, struct err *e)
{
	struct target_conf c = { .path = r->o->operand[2], .stop = r->stop, .yes = r->o->yes, .text = 1 };
	uint8_t *data;
	size_t len;
	int rc;

	if ((rc = snap_blob(&r->snap, f, &data, &len, e)) < 0)
		return rc;
	c.size = len;
	if (f->size == NOT_LISTED && !r->o->quiet)
		say("%s is not in the manifest: only its own checksum was verified", f->name);
	if ((rc = target_open(&r->target, &c, e)) == 0 && (rc = check_kind(r, e)) == 0) {
		rc = r->target.kind == TARGET_STREAM ? target_put(&r->target, data, len) :
		    target_write(&r->target, 0, data, len);
		rc = rc < 0 ? target_failed(r, "cannot write", 0, rc, e) : sync_target(r, e);
		if (rc == 0 && r->o->compare)
			rc = compare_blob(r, data, len, e);
	}
	free(data);
	return rc;
}

static int
restore(struct restore *r, struct err *e)
{
	const struct manifest_file *f;
	enum archive_kind kind;
	char stored[256];
	int rc;

	if ((rc = archive_parse(r->o->operand[1], stored, sizeof(stored), &kind, e)) < 0 ||
	    (rc = snap_open(&r->snap, r->o, r->o->operand[0], e)) < 0 ||
	    (rc = snap_find(&r->snap, r->o->operand[1], kind, &f, e)) < 0 ||
	    (rc = snap_unlock(&r->snap, r->o, f, e)) < 0)
		return rc;
	return kind == ARCHIVE_BLOB ? restore_blob(r, f, e) : restore_archive(r, f, e);
}

int
restore_run(const struct opts *o)
{
	struct err e = { ST_FAIL, "" };
	struct restore r;
	int rc;

	if (o->operands > 3 || o->tar || o->strict) {
		say("%s is no file archive: it goes to one target, without --tar and --strict", o->operand[1]);
		return ST_USAGE;
	}
	if (o->sparse && o->delta) {
		say("--sparse says that the target is zero, --delta that it is not");
		return ST_USAGE;
	}
	memset(&r, 0, sizeof(r));
	r.o = o;
	r.resume.fd = r.target.fd = r.target.direct = -1;
	pthread_mutex_init(&r.lock, NULL);
	if ((rc = daemon_start(1, &r.stop)) >= 0)
		return rc;
	if ((rc = restore(&r, &e)) < 0)
		say("%s", e.text);
	snap_close(&r.snap);
	if (r.walk)
		walk_free(r.walk);
	if (r.stream)
		stream_free(r.stream);
	target_close(&r.target);
	resume_close(&r.resume, 0);
	archive_free(&r.archive);
	free(r.skip);
	free(r.done);
	return rc < 0 ? (int)e.status : ST_DONE;
}
