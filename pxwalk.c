/*
 * Through a file archive. Knows nothing of what is done with the entries. Reads as view.h does:
 * it waits.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pxdir.h"
#include "pxwalk.h"

struct walk {
	struct view *v;
	int (*fn)(void *, const struct pxwalk_entry *);
	void *ctx;
	struct err *e;
	char *path;			/* of what is being visited */
	size_t len, cap;
};

static int visit(struct walk *w, const struct pxar_stat *st, const struct pxar_child *c, const char *way, int depth, int level);

static int
is_damage(int rc)
{
	return rc == -EBADMSG || rc == -EIO;
}

/* Appends a name; *was is the length to go back to. */
static int
push(struct walk *w, const char *name, size_t *was)
{
	size_t n = strlen(name), need = w->len + n + 2;
	char *p;

	*was = w->len;
	if (need > w->cap) {
		if ((p = realloc(w->path, need * 2)) == NULL)
			return err_set(w->e, ST_FAIL, -ENOMEM, "out of memory");
		w->path = p;
		w->cap = need * 2;
	}
	if (w->len)
		w->path[w->len++] = '/';
	memcpy(w->path + w->len, name, n + 1);
	w->len += n;
	return 0;
}

static void
pop(struct walk *w, size_t was)
{
	w->len = was;
	w->path[was] = 0;
}

static int
tell(struct walk *w, enum pxwalk_what what, const struct pxar_stat *st, const struct pxar_child *c, int above, int rc)
{
	const char *slash = strrchr(w->path, '/');
	struct pxwalk_entry ent = { what, w->path, slash ? slash + 1 : w->path, st, c, above, rc };

	return w->fn(w->ctx, &ent);
}

/* A child whose name is known, or not (name_rc). */
static int
visit_child(struct walk *w, struct pxar_child *c, const char *name, int name_rc, const char *way, int depth, int level)
{
	struct pxar_stat st;
	size_t was = w->len;
	int rc = name_rc;

	if (rc == 0 && (rc = push(w, name, &was)) < 0)
		return rc;
	if (rc == 0)
		rc = pxar_resolve(&w->v->px, c, &st);
	if (rc == 0 && S_ISDIR(st.mode) && level >= PXWALK_ALL)
		rc = -EBADMSG;
	if (rc == 0)
		rc = visit(w, &st, c, way, depth, level + 1);
	else if (is_damage(rc))
		rc = tell(w, PXWALK_BAD, NULL, NULL, 0, rc);
	pop(w, was);
	return rc;
}

/* On the way down: the one child that leads there. */
static int
follow(struct walk *w, uint64_t id, const char *way, int depth, int level)
{
	size_t n = strcspn(way, "/");
	char name[PXAR_NAME];
	struct pxar_child c;
	struct pxar_dir d;
	int rc = -ENOENT;

	if (n < PXAR_NAME) {
		memcpy(name, way, n);
		name[n] = 0;
		if ((rc = pxar_dir(&w->v->px, id, &d)) == 0)
			rc = pxar_find(&w->v->px, &d, name, &c);
	}
	if (rc < 0)
		return view_error(w->v, rc, way, w->e);
	return visit_child(w, &c, name, 0, way + n, depth, level);
}

static int
visit_children(struct walk *w, uint64_t id, int depth, int level)
{
	struct pxdir *d = pxdir_new(id);
	struct pollfd stop = { .fd = w->v->stop, .events = POLLIN };
	struct pxar_child c;
	char name[PXAR_NAME];
	uint64_t i;
	int rc;

	if (d == NULL)
		return err_set(w->e, ST_FAIL, -ENOMEM, "out of memory");
	while ((rc = pxdir_load(d, &w->v->px)) > 0)
		;
	if (is_damage(rc))
		rc = tell(w, PXWALK_BAD, NULL, NULL, 0, rc);
	else
		for (i = 0; rc == 0 && i < d->d.count; i++) {
			if (poll(&stop, 1, 0) > 0)
				rc = -EINTR;
			else if ((rc = pxdir_child(d, i, &c)) == 0)
				rc = pxar_name(&w->v->px, &c, name);
			if (rc == 0 || is_damage(rc))
				rc = visit_child(w, &c, name, rc, "", depth - 1, level);
		}
	pxdir_free(d);
	return rc;
}

/* A node; `way` is what is left of the path. */
static int
visit(struct walk *w, const struct pxar_stat *st, const struct pxar_child *c, const char *way, int depth, int level)
{
	int above, rc;

	way += strspn(way, "/");
	above = *way != 0;
	if (above && !S_ISDIR(st->mode))
		return view_error(w->v, -ENOTDIR, w->path, w->e);
	if ((rc = tell(w, PXWALK_ENTRY, st, c, above, 0)) != 0 || !S_ISDIR(st->mode))
		return rc;
	if (above)
		rc = follow(w, st->id, way, depth, level);
	else if (depth > 0)
		rc = visit_children(w, st->id, depth, level);
	return rc ? rc : tell(w, PXWALK_LEAVE, st, c, above, 0);
}

int
pxwalk(struct view *v, const char *path, int depth,
    int (*fn)(void *, const struct pxwalk_entry *), void *ctx, struct err *e)
{
	struct walk w = { .v = v, .fn = fn, .ctx = ctx, .e = e, .cap = 256 };
	struct pxar_stat st;
	int rc;

	if ((w.path = calloc(1, w.cap)) == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	e->text[0] = 0;
	/* What "." and ".." would mean nobody has to know. */
	if ((rc = pxar_path(&v->px, v->px.root, path, &st)) == 0)
		rc = pxar_stat(&v->px, v->px.root, &st);
	if (rc < 0)
		view_error(v, rc, *path ? path : v->name, e);
	else
		rc = visit(&w, &st, NULL, path, depth, 0);
	if (rc == -EINTR && !e->text[0])
		err_set(e, ST_FAIL, rc, "interrupted");
	else if (rc < 0 && !e->text[0])
		view_error(v, rc, v->name, e);
	free(w.path);
	return rc;
}

int
pxwalk_first(struct view *v, const struct pxwalk_entry *ent, char out[PXAR_TARGET])
{
	struct pxar_stat st;
	int rc = pxar_link_path(&v->px, ent->child, out);

	if (rc == 0 && (rc = pxar_path(&v->px, v->px.root, out, &st)) == 0 && st.id != ent->st->id)
		rc = -EBADMSG;
	return rc;
}
