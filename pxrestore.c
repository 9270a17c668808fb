/*
 * Restoring a file archive, whatever it becomes: which parts of it, what was wrong on the way, what is
 * told at the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"
#include "pxextract.h"
#include "pxrestore.h"

static uint8_t piece[PXOUT_PIECE];

void
pxout_bad(struct pxout *x, const struct pxwalk_entry *ent, int rc)
{
	struct err e;

	view_error(&x->view, rc, *ent->path ? ent->path : x->view.name, &e);
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

int
pxout_data(struct pxout *x, const struct pxar_stat *st, int (*fn)(void *, const uint8_t *, size_t), void *ctx)
{
	struct pxar *p = &x->view.px;
	uint64_t at;
	uint32_t n;
	int rc = pxar_check_data(p, st);

	for (at = 0; rc == 0 && at < st->size; at += n) {
		n = st->size - at < PXOUT_PIECE ? (uint32_t)(st->size - at) : PXOUT_PIECE;
		if ((rc = p->read(p->ctx, st->payload, st->data + at, piece, n)) == 0)
			rc = fn(ctx, piece, n);
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

static int
each_path(struct pxout *x, int (*fn)(void *, const struct pxwalk_entry *), struct err *e)
{
	char base[4096];
	size_t n;
	int rc = 0, i = 3;

	do {
		snprintf(base, sizeof(base), "%s", i < x->o->operands ? x->o->operand[i] : "");
		for (n = strlen(base); n && base[n - 1] == '/'; n--)
			base[n - 1] = 0;
		x->base = base + strspn(base, "/");
		rc = pxwalk(&x->view, x->base, PXWALK_ALL, fn, x, e);
	} while (rc == 0 && ++i < x->o->operands);
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
	if (o->sparse || o->compare || o->delta || o->resume || out != o->tar) {
		err_set(e, ST_USAGE, -EINVAL, out != o->tar ? "a file archive goes into a directory, or to '-' with --tar" :
		    "--sparse, --verify, --delta and --resume are for images");
		return ST_USAGE;
	}
	if ((rc = daemon_start(1, &stop)) >= 0)
		return rc;
	if ((rc = view_open(&x.view, o, stop, NULL, e)) == 0 && (out || (rc = extract_begin(o->operand[2], o->yes, e)) == 0))
		rc = each_path(&x, out ? tar_entry : extract_entry, e);
	if (rc == 0 && out && tar_end() < 0)
		rc = err_set(e, ST_FAIL, -EPIPE, "cannot write to stdout");
	extract_end();
	if (rc == 0)
		rc = summary(&x, e);
	view_close(&x.view);
	return rc < 0 ? (int)e->status : ST_DONE;
}
