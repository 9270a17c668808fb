/*
 * Restoring a file archive, whatever it becomes: which parts of it, what was wrong on the way, what is
 * told at the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"
#include "pxextract.h"
#include "pxrestore.h"
#include "start.h"

static uint8_t piece[PXOUT_PIECE];

void
pxout_bad(struct pxout *x, const struct pxwalk_entry *ent, int rc)
{
	struct err e;

	view_error(&x->view, rc, *ent->path ? ent->path : x->view.name, &e);
	progress_clear(&x->progress);
	say("%s", e.text);
	x->bad++;
}

void
pxout_lack(struct pxout *x, enum pxlack_kind what, const char *path, int err)
{
	struct pxlack *l = &x->lack[what];

	x->lacking++;
	if (l->n++ == 0)
		snprintf(l->first, sizeof(l->first), "%.400s%s%s", *path ? path : ".", err ? ": " : "", err ? strerror(err) : "");
}

int
pxout_link(struct pxout *x, const struct pxwalk_entry *ent, char out[PXAR_TARGET])
{
	size_t n = strlen(x->base);

	/* Links lead backwards, so what is below the same base was restored before. */
	if (!ent->st->linked || pxwalk_first(&x->view, ent, out) < 0)
		return 0;
	return n == 0 || (strncmp(out, x->base, n) == 0 && (out[n] == '/' || out[n] == 0));
}

/* The data of a file is there up to `upto`, of which the last n bytes are new. */
static void
count(struct pxout *x, const struct pxar_stat *st, uint64_t upto, uint32_t n)
{
	struct progress *p = &x->progress;
	uint64_t place = x->before + st->data + upto - x->start;

	if (x->view.split)
		p->done += n;
	else if (st->data >= x->start && place > p->done && place <= p->total)
		p->done = place;	/* a hard link leads back, perhaps to before the start */
}

int
pxout_data(struct pxout *x, const struct pxar_stat *st, int (*fn)(void *, const uint8_t *, size_t), void *ctx)
{
	struct pxar *p = &x->view.px;
	uint64_t at;
	uint32_t n;
	int rc = pxar_check_data(p, st);

	for (at = 0; rc == 0 && at < st->size; at += n) {
		n = st->size - at < PXOUT_PIECE ? (uint32_t)(st->size - at) : PXOUT_PIECE;
		if ((rc = start_pace(x->view.fetch, &x->pace, &x->progress, x->view.stop)) == 0 && (rc = p->read(p->ctx, st->payload, st->data + at, piece, n)) == 0)
			rc = fn(ctx, piece, n);
		count(x, st, at + n, n);
	}
	return rc;
}

int
pxrestore_wanted(const struct opts *o)
{
	enum archive_kind kind;
	char stored[256];

	return o->operands > 1 && archive_parse(o->operand[1], stored, sizeof(stored), &kind, NULL) == 0 &&
	    kind == ARCHIVE_PXAR;
}

/* ---- how much it is ---- */

static int
add_size(void *ctx, const struct pxwalk_entry *ent)
{
	if (ent->what == PXWALK_ENTRY && !ent->above && S_ISREG(ent->st->mode))
		*(uint64_t *)ctx += ent->st->size;
	return 0;
}

/* Bytes to restore, by what progress goes; *start: where they begin. What is not there is the walk's to tell. */
static uint64_t
measure(struct pxout *x, const char *path, uint64_t *start)
{
	const struct pxar *p = &x->view.px;
	struct pxar_dir d;
	struct pxar_stat st;
	uint64_t sum = 0;
	struct err e;

	*start = 0;
	if (*path == 0)
		return x->view.split ? p->payload_size : p->size;
	if (x->view.split) {
		pxwalk(&x->view, path, PXWALK_ALL, add_size, &sum, &e);
	} else if (pxar_path(p, p->root, path, &st) == 0) {
		*start = st.id / 2;
		sum = st.data + st.size;
		if (PXAR_IS_DIR(st.id) && pxar_dir(p, st.id, &d) == 0) {
			*start = d.entry;
			sum = st.id / 2;
		}
		sum = sum > *start ? sum - *start : 0;
	}
	x->view.failed = 0;
	return sum;
}

/* ---- all of it ---- */

/* The next path to restore, without slashes at its ends; i counts operands. */
static void
take_path(struct pxout *x, int i, char base[4096])
{
	size_t n;

	snprintf(base, 4096, "%s", i < x->o->operands ? x->o->operand[i] : "");
	for (n = strlen(base); n && base[n - 1] == '/'; n--)
		base[n - 1] = 0;
	x->base = base + strspn(base, "/");
}

static int
take_entry(void *ctx, const struct pxwalk_entry *ent)
{
	struct pxout *x = ctx;

	progress_tick(&x->progress);
	return x->entry(x, ent);
}

static int
each_path(struct pxout *x, struct err *e)
{
	const struct opts *o = x->o;
	uint64_t total = 0;
	char base[4096];
	int rc = 0, i = 3;

	do {
		take_path(x, i, base);
		total += o->quiet ? 0 : measure(x, x->base, &x->start);
	} while (++i < o->operands);
	progress_begin(&x->progress, o->quiet ? PROGRESS_QUIET : o->progress_json ? PROGRESS_JSON : PROGRESS_AUTO,
	    "restored", total);
	x->pace.rate = o->limit;
	i = 3;
	do {
		take_path(x, i, base);
		x->before = x->progress.done;
		total = o->quiet ? 0 : measure(x, x->base, &x->start);
		if ((rc = pxwalk(&x->view, x->base, PXWALK_ALL, take_entry, x, e)) == 0)
			x->progress.done = x->before + total;
	} while (rc == 0 && ++i < o->operands);
	progress_end(&x->progress);
	return rc;
}

static int
summary(const struct pxout *x, struct err *e)
{
	static const char *const what[] = {
		[LACK_OWNER] = "owner", [LACK_MODE] = "mode", [LACK_XATTR] = "extended attribute", [LACK_ACL] = "ACL",
		[LACK_TIME] = "time", [LACK_NODE] = "device or other special file", [LACK_LINK] = "link",
		[LACK_SOCKET] = "socket",
	};
	size_t i;

	for (i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		if (x->lack[i].n)
			say("not restored: %s, %llu times (first %s)", what[i], x->lack[i].n, x->lack[i].first);
	if (x->bad)
		return err_set(e, ST_DAMAGED, -EBADMSG, "%llu entries are damaged or could not be read", x->bad);
	if (x->lacking && x->o->strict)
		return err_set(e, ST_FAIL, -EPERM, "not everything could be restored as it was");
	return 0;
}

int
pxrestore_run(const struct opts *o, struct err *e)
{
	static struct pxout x;
	int rc, stop, out = strcmp(o->operand[2], "-") == 0;

	x.o = o;
	x.entry = out ? tar_entry : extract_entry;
	if (o->sparse || o->compare || o->delta || o->resume || out != o->tar) {
		err_set(e, ST_USAGE, -EINVAL, out != o->tar ? "a file archive goes into a directory, or to '-' with --tar" :
		    "--sparse, --verify, --delta and --resume are for images");
		return ST_USAGE;
	}
	if ((rc = daemon_start(1, &stop)) >= 0)
		return rc;
	if ((rc = view_open(&x.view, o, stop, NULL, e)) == 0 && (out || (rc = extract_begin(o->operand[2], o->yes, e)) == 0))
		rc = each_path(&x, e);
	if (rc == 0 && out && tar_end() < 0)
		rc = err_set(e, ST_FAIL, -EPIPE, "cannot write to stdout");
	extract_end();
	if (rc == 0)
		rc = summary(&x, e);
	view_close(&x.view);
	return rc < 0 ? (int)e->status : ST_DONE;
}
