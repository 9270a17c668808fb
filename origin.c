/*
 * From options and environment to a source. The only place that knows both of directories and
 * of servers; what it hands out is a source like any other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "conf.h"
#include "config.h"
#include "daemon.h"
#include "net.h"
#include "origin.h"
#include "secret.h"
#include "session.h"

/* ---- names ---- */

/* An option, else the environment; NULL when neither says anything. */
static const char *
pick(const char *option, const char *name)
{
	const char *env = getenv(name);

	return option ? option : env && *env ? env : NULL;
}

/* The parts that newer clients know, each instead of the repository's own. */
static int
set_parts(struct repo *r, const struct opts *o, int parts, int any, struct err *e)
{
	const char *auth = pick(o->auth_id, "PBS_AUTH_ID"), *host = pick(o->server, "PBS_SERVER");
	const char *port = pick(o->port, "PBS_PORT"), *store = pick(o->datastore, "PBS_DATASTORE");
	char text[1024], number[8];
	int v6;

	if (!auth && !host && !port && !store)
		return any ? 0 : err_set(e, ST_USAGE, -EINVAL,
		    "which repository? Give --repository or set PBS_REPOSITORY");
	/* A directory in the environment has none of these parts: options are about something else. */
	if (any && r->is_dir && !parts)
		return 0;
	any &= !r->is_dir;
	snprintf(number, sizeof(number), "%u", any && r->has_port ? r->port : 8007u);
	if (!auth && any && r->has_auth)
		auth = r->auth_id;
	if (!host)
		host = any && r->has_host ? r->host : "localhost";
	if (!store)
		store = any ? r->store : NULL;
	if (!store)
		return err_set(e, ST_USAGE, -EINVAL, "which datastore? Give --datastore or set PBS_DATASTORE");
	v6 = strchr(host, ':') && *host != '[';
	snprintf(text, sizeof(text), "%s%s%s%s%s:%s:%s", auth ? auth : "", auth ? "@" : "", v6 ? "[" : "", host,
	    v6 ? "]" : "", port ? port : number, store);
	return repo_parse(text, r, e);
}

static int
find_name(struct origin *g, const struct opts *o, struct err *e)
{
	char text[4200];
	const char *ns = pick(o->ns, "PBS_NAMESPACE");
	int parts = o->server || o->port || o->datastore || o->auth_id, n, rc;

	memset(g, 0, sizeof(*g));
	if (o->repository && parts)
		return err_set(e, ST_USAGE, -EINVAL, "--repository does not go with --server, --port, --datastore, --auth-id");
	if (ns && (rc = ns_check(ns, e)) < 0)
		return rc;
	snprintf(g->ns, sizeof(g->ns), "%s", ns ? ns : "");
	if (o->repository)
		return repo_parse(o->repository, &g->repo, e);
	n = secret_lookup("PBS_REPOSITORY", "proxmox-backup-client.repository", text, sizeof(text), e);
	if (n < 0 && n != -ENOENT)
		return n;
	if (n >= 0 && (rc = repo_parse(text, &g->repo, e)) < 0)
		return rc;
	return set_parts(&g->repo, o, parts, n >= 0, e);
}

static const struct origin *preset;

void
origin_preset(const struct origin *g)
{
	preset = g;
}

int
origin_name(struct origin *g, const struct opts *o, struct err *e)
{
	if (preset == NULL)
		return find_name(g, o, e);
	*g = *preset;
	return 0;
}

/* ---- servers ---- */

static int
get_secret(const struct repo *r, char *buf, size_t cap, struct err *e)
{
	int token = strchr(r->auth_id, '!') != NULL, n;
	char prompt[400];

	n = secret_lookup("PBS_PASSWORD", "proxmox-backup-client.password", buf, cap, e);
	if (n != -ENOENT)
		return n;
	snprintf(prompt, sizeof(prompt), token ? "Secret of API token %s: " : "Password of %s: ", r->auth_id);
	if ((n = secret_ask(prompt, buf, cap, e)) == -ENOTTY)
		return err_set(e, ST_TRUST, n, "no %s for %s: set PBS_PASSWORD (or PBS_PASSWORD_FD, _FILE, _CMD)",
		    token ? "secret" : "password", r->auth_id);
	return n;
}

static int
open_server(struct origin *g, const struct opts *o, struct err *e)
{
	char secret[SECRET_MAX];
	struct session_conf c = {
		.repo = &g->repo,
		.secret = secret,
		.trust = &g->trust,
		.proxy = net_proxy(),
		.stop_fd = daemon_stop_fd(),
		.stall = o->stall,
		.timeout = o->timeout,
		.connections = o->connections,
	};
	int rc;

	if ((rc = trust_init(&g->trust, g->repo.host, o->fingerprint, o->ca, e)) < 0)
		return rc;
	g->trust.ask = prompt_line;
	if ((rc = get_secret(&g->repo, secret, sizeof(secret), e)) >= 0)
		rc = session_open(&c, &g->source, e);
	wipe(secret, sizeof(secret));
	return rc;
}

int
origin_open(struct origin *g, const struct opts *o, struct err *e)
{
	int rc;

	if ((rc = origin_name(g, o, e)) < 0)
		return rc;
	return g->repo.is_dir ? store_open(g->repo.path, &g->source, e) : open_server(g, o, e);
}

void
origin_close(struct origin *g)
{
	if (g->source)
		g->source->ops->close(g->source);
	g->source = NULL;
	trust_free(&g->trust);
}
