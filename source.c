/*
 * What both kinds of source share: a group stands for its newest finished snapshot.
 */
#include <errno.h>

#include "source.h"

struct newest {
	int64_t time;
	int finished, unfinished;	/* how many were seen */
};

static int
note_newest(void *ctx, const struct snapshot_info *info)
{
	struct newest *n = ctx;

	if (!info->finished) {
		n->unfinished++;
		return 0;
	}
	if (n->finished++ == 0 || info->name.time > n->time)
		n->time = info->name.time;
	return 0;
}

int
source_resolve(struct source *src, struct snapshot *s, struct err *e)
{
	struct newest n = { 0, 0, 0 };
	char group[ID_MAX + 64];
	int rc;

	if (s->has_time)
		return 0;
	if ((rc = src->ops->snapshots(src, s, note_newest, &n, e)) < 0)
		return rc;
	snapshot_print(s, group, sizeof(group));
	if (n.finished == 0)
		return err_set(e, ST_FAIL, -ENOENT, "%s: has no %ssnapshot%s%s", group,
		    n.unfinished ? "finished " : "", s->ns[0] ? " in namespace " : "", s->ns);
	s->has_time = 1;
	s->time = n.time;
	return 0;
}
