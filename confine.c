/* A worker's step from root to nobody. */
#include "confine.h"

#include "conf.h"
#include "daemon.h"
#include "jail.h"
#include "net.h"
#include "resolve.h"

int
confine(struct snap *s, struct err *e)
{
	const struct repo *r = &s->origin.repo;
	const char *proxy = net_proxy();
	struct jail j = { .role = JAIL_WORKER, .network = !r->is_dir, .port = proxy ? 0 : r->port };
	int rc;

	if (!r->is_dir)
		rc = resolve_give_away(proxy ? "" : r->host, e);
	else if ((rc = source_resolve(s->origin.source, &s->name, e)) == 0)
		rc = store_give_away(s->origin.source, &s->name, e);
	if (rc < 0)
		return rc;
	conf_forget();
	daemon_part_detach();
	jail_keep(&s->key, sizeof(s->key));
	return jail_enter(&j, e);
}
