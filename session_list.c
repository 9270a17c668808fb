/*
 * A server's lists: requests to its API, one for each list, read as they come.
 * What rows are is listing.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "session_parts.h"

static int
body(void *ctx, const uint8_t *p, size_t n)
{
	return json_feed(ctx, (const char *)p, n);
}

static int
make_target(const struct session *s, enum list_what what, const struct snapshot *at, char *out, size_t cap)
{
	static const char *const names[] = { "namespace", "groups", "snapshots" };
	int rc = 0;

	snprintf(out, cap, "/api2/json/admin/datastore/%s/%s", s->repo.store, names[what]);
	if (at->ns[0])
		rc = http_query(out, cap, what == LIST_NAMESPACES ? "parent" : "ns", at->ns);
	if (rc == 0 && what == LIST_SNAPSHOTS)
		rc = http_query(out, cap, "backup-type", at->type);
	if (rc == 0 && what == LIST_SNAPSHOTS)
		rc = http_query(out, cap, "backup-id", at->id);
	return rc;
}

int
session_list(struct source *src, enum list_what what, const struct snapshot *at, list_fn fn, void *ctx, struct err *e)
{
	struct session *s = (struct session *)src;
	struct err why = { .text = "" };
	struct listing l;
	char target[1400];
	int rc, bad, end;

	if ((rc = make_target(s, what, at, target, sizeof(target))) < 0)
		return err_set(e, ST_USAGE, rc, "the name is too long");
	listing_begin(&l, what, at, fn, ctx, &why);
	rc = api_get(&s->api, s->stop_fd, target, body, &l.p.json, e);
	/* When the answer broke off, the text that ends too early is not what was wrong. */
	bad = rc == 0 || l.p.json.rc < 0;
	end = listing_end(&l);
	/* What servers say of a namespace that is not there names nothing. */
	if (rc == -ENOENT && e && at->ns[0] && strstr(e->text, "No such file"))
		err_set(e, ST_FAIL, rc, "%s: there is no namespace '%s'", s->api.host, at->ns);
	if (!bad)
		return rc;
	return why.text[0] ? err_set(e, ST_FAIL, end, "%s: the server's list: %s", s->api.host, why.text) : end;
}

struct plain {
	int (*fn)(void *ctx, const struct snapshot_info *);
	void *ctx;
	int found;
};

static int
plain_row(void *ctx, const struct list_row *row)
{
	struct snapshot_info info = { row->name, row->finished };
	struct plain *p = ctx;

	p->found = 1;
	return p->fn(p->ctx, &info);
}

int
session_snapshots(struct source *src, const struct snapshot *group, int (*fn)(void *, const struct snapshot_info *),
    void *ctx, struct err *e)
{
	struct session *s = (struct session *)src;
	struct snapshot all = *group;
	struct plain p = { fn, ctx, 0 };
	int rc;

	all.has_time = 0;
	rc = session_list(src, LIST_SNAPSHOTS, &all, plain_row, &p, e);
	if (rc == 0 && !p.found)
		return err_set(e, ST_FAIL, -ENOENT, "%s: %s: no %s/%s there that %s may see", s->api.host, s->repo.store,
		    group->type, group->id, s->api.auth.id);
	return rc;
}
