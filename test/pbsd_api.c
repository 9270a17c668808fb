/*
 * The API's routes, with the answers and errors of a real server. Knows what
 * is answered; how it is framed is pbsd_http.c's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pbsd_api.h"
#include "pbsd_auth.h"
#include "pbsd_store.h"

struct site site = { .ticket_life = 7200 };

struct caller {
	char id[320];
	int rights;
};

/* What the query of nearly every route may hold. */
struct place {
	char ns[512], type[16], id[300], time[24];
};

static void
answer_data(struct answer *a, json_t *data, int chunked)
{
	json_t *o = json_object();

	json_object_set_new(o, "data", data);
	a->body = json_dumps(o, JSON_COMPACT);
	a->len = strlen(a->body);
	a->status = 200;
	a->type = TYPE_JSON;
	a->chunked = chunked;
	json_decref(o);
}

/* 0, or -1 when the query is malformed, which is then the answer. */
static int
get_place(const struct request *r, struct answer *a, struct place *p)
{
	memset(p, 0, sizeof(*p));
	if (query_param(r->query, "ns", p->ns, sizeof(p->ns)) >= 0 &&
	    query_param(r->query, "backup-type", p->type, sizeof(p->type)) >= 0 &&
	    query_param(r->query, "backup-id", p->id, sizeof(p->id)) >= 0 &&
	    query_param(r->query, "backup-time", p->time, sizeof(p->time)) >= 0)
		return 0;
	answer_text(a, 400, TYPE_JSON, "parameter verification failed");
	return -1;
}

static void
missing(struct answer *a, const char *what)
{
	answer_text(a, 400, NULL, "parameter verification failed - '%s': parameter is missing and it is not optional.", what);
}

/* Owners may read with Datastore.Backup alone. */
static int
owns(const struct caller *who, const char *dir)
{
	char path[4200], line[320] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/../owner", dir);
	f = fopen(path, "re");
	if (f && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	line[strcspn(line, "\n")] = '\0';
	return strcmp(line, who->id) == 0 || (strncmp(line, who->id, strlen(who->id)) == 0 && line[strlen(who->id)] == '!');
}

/* snapshots come chunked and the rest with a length, as recorded. */
static void
lists(const struct request *r, struct answer *a, const char *what)
{
	struct place p;
	char parent[512] = "", depth[16] = "7", dir[4096];
	json_t *list = NULL;

	if (get_place(r, a, &p) < 0)
		return;
	if (strcmp(what, "snapshots") == 0)
		list = store_snapshots(p.ns, p.type, p.id);
	else if (strcmp(what, "groups") == 0)
		list = store_groups(p.ns);
	else if (strcmp(what, "namespace") == 0) {
		query_param(r->query, "parent", parent, sizeof(parent));
		query_param(r->query, "max-depth", depth, sizeof(depth));
		list = store_namespaces(parent, strtoll(depth, NULL, 10));
	} else if (!*p.type || !*p.id || !*p.time) {
		missing(a, !*p.type ? "backup-type" : !*p.id ? "backup-id" : "backup-time");
		return;
	} else if (store_snapshot_dir(p.ns, p.type, p.id, strtoll(p.time, NULL, 10), dir, sizeof(dir)) == 0 && !(list = store_files(dir))) {
		answer_text(a, 400, TYPE_JSON, "unable to load blob '\"%s/index.json.blob\"' - No such file or directory (os error 2)", dir);
		return;
	}
	if (!list)
		answer_text(a, 400, TYPE_JSON, "ENOENT: No such file or directory");
	else
		answer_data(a, list, strcmp(what, "snapshots") == 0);
}

/* …/admin/datastore/STORE/WHAT */
static void
datastore(const struct request *r, struct answer *a, const struct caller *who, const char *rest)
{
	size_t n = strcspn(rest, "/");
	const char *what = rest + n + (rest[n] == '/');

	if (!*what || (strcmp(what, "snapshots") && strcmp(what, "groups") && strcmp(what, "namespace") && strcmp(what, "files")))
		answer_text(a, 404, TYPE_JSON, "Path '%s' not found.", r->path);
	else if (!(who->rights & (MAY_READ | MAY_BACKUP)))
		answer_text(a, 403, TYPE_JSON, "permission check failed");
	else if (strlen(site.name) != n || strncmp(rest, site.name, n) != 0)
		answer_text(a, 400, TYPE_JSON, "no such datastore '%.*s'", (int)n, rest);
	else
		lists(r, a, what);
}

/* Only stores on which the caller has some right are listed. */
static void
stores(struct answer *a, const struct caller *who)
{
	json_t *list = json_array();

	if (who->rights & (MAY_READ | MAY_BACKUP))
		json_array_append_new(list, site.v4 ?
		    json_pack("{s:s,s:n,s:s,s:s}", "backend-type", "filesystem", "comment", "mount-status", "nonremovable", "store", site.name) :
		    json_pack("{s:n,s:s}", "comment", "store", site.name));
	answer_data(a, list, 0);
}

/* Something in between that knows no upgrades. 1 if it has answered. */
static int
proxied(const struct request *r, struct answer *a)
{
	switch ((enum upgrade)r->weather->upgrade) {
	case UPGRADE_HTML:
		answer_text(a, 502, "text/html", "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
		    "<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n");
		return 1;
	case UPGRADE_STRIP:
		answer_text(a, 400, TYPE_JSON, "missing Upgrade header");
		return 1;
	case UPGRADE_PLAIN:
		answer_text(a, 200, TYPE_JSON, "{\"data\":null}");
		return 1;
	case UPGRADE_CLOSE:
		a->status = 0;
		return 1;
	case UPGRADE_OK:
		break;
	}
	return 0;
}

/* The order of the checks is the real server's: who sees two errors sees the same one. */
static void
reader(const struct request *r, struct answer *a, const struct caller *who)
{
	const char *up = request_header(r, "upgrade");
	char store[64] = "", dir[4096];
	struct place p;
	struct stat st;

	if (get_place(r, a, &p) < 0)
		return;
	if (query_param(r->query, "store", store, sizeof(store)) != 1 || !*p.type || !*p.id || !*p.time)
		missing(a, !*store ? "store" : !*p.type ? "backup-type" : !*p.id ? "backup-id" : "backup-time");
	else if (!(who->rights & (MAY_READ | MAY_BACKUP)))
		answer_text(a, 400, TYPE_JSON, "no permissions on /datastore/%s", store);
	else if (strcmp(store, site.name) != 0)
		answer_text(a, 400, TYPE_JSON, "no such datastore '%s'", store);
	else if (!up)
		answer_text(a, 400, TYPE_JSON, "missing Upgrade header");
	else if (strcmp(up, "proxmox-backup-reader-protocol-v1") != 0)
		answer_text(a, 400, TYPE_JSON, "invalid protocol name");
	else if (store_snapshot_dir(p.ns, p.type, p.id, strtoll(p.time, NULL, 10), dir, sizeof(dir)) < 0 || stat(dir, &st) < 0) {
		const char *when = strrchr(dir, '/');
		answer_text(a, 400, TYPE_JSON, "snapshot %s/%s/%s does not exist.", p.type, p.id, when ? when + 1 : "");
	} else if (!(who->rights & MAY_READ) && !owns(who, dir))
		answer_text(a, 400, TYPE_JSON, "backup owner check failed!");
	else if (!proxied(r, a)) {
		a->status = 101;
		a->type = NULL;
		snprintf(a->snapshot, sizeof(a->snapshot), "%s", dir);
		snprintf(a->extra, sizeof(a->extra), "connection: upgrade\r\nupgrade: %s\r\n", up);
		count(N_UPGRADES, 1);
	}
}

static void
version(struct answer *a)
{
	answer_data(a, site.v4 ?
	    json_pack("{s:s,s:s,s:s}", "release", "3", "repoid", "506700f6c640eb57efbe7ab088b228e484e57dc9", "version", "4.2") :
	    json_pack("{s:s,s:s,s:s}", "release", "4", "repoid", "4940514b0f05d6cd6a5f711edfdd47c1fa41b537", "version", "3.2"), 0);
}

void
api_unauthorized(const struct request *r, struct answer *a, const char *type, const char *why)
{
	answer_text(a, 401, type, "%s", why);
	a->wait = r->weather->auth_delay;
	if (site.v4)
		snprintf(a->extra, sizeof(a->extra), "set-cookie: __Host-PBSAuthCookie=; Expires=Thu, 01 Jan 1970 00:00:00 GMT;"
		    " Secure; SameSite=Lax; HttpOnly; Path=/;\r\n");
}

void
api_answer(const struct request *r, struct answer *a)
{
	static const char base[] = "/api2/json/";
	const char *path = r->path, *why;
	struct caller who;

	if (strncmp(path, base, sizeof(base) - 1) != 0) {
		answer_text(a, 404, TYPE_JSON, "Path '%s' not found.", r->path);
		return;
	}
	path += sizeof(base) - 1;
	if (strcmp(path, "access/ticket") == 0 && strcmp(r->method, "POST") == 0) {
		auth_login(r, a);
		return;
	}
	who.rights = auth_who(r, who.id, sizeof(who.id), &why);
	if (!who.rights)
		api_unauthorized(r, a, NULL, why);
	else if (strcmp(r->method, "GET") != 0) {
		violation(r->conn, "method %s", r->method);
		answer_text(a, 404, TYPE_JSON, "Path '%s' not found.", r->path);
	} else if (strcmp(path, "version") == 0)
		version(a);
	else if (strcmp(path, "admin/datastore") == 0)
		stores(a, &who);
	else if (strncmp(path, "admin/datastore/", 16) == 0)
		datastore(r, a, &who, path + 16);
	else if (strcmp(path, "reader") == 0)
		reader(r, a, &who);
	else
		answer_text(a, 404, TYPE_JSON, "Path '%s' not found.", r->path);
}
