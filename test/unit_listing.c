/* Rows of lists out of JSON: a server's answers, manifests. */
#include <errno.h>
#include <stdlib.h>

#include "t.h"
#include "golden.h"
#include "../listing.h"

struct got {
	int rows, stop;
	char text[4096];
};

static int
take(void *ctx, const struct list_row *r)
{
	struct got *g = ctx;
	size_t i, n = strlen(g->text), cap = sizeof(g->text);
	char name[ID_MAX + 64] = "";

	if (r->name.type[0])
		snapshot_print(&r->name, name, sizeof(name));
	n += (size_t)snprintf(g->text + n, cap - n, "%s:%s %s %lld/%llu %d %lld %d %s '%s'", r->name.ns, name, r->owner,
	    (long long)r->last, (unsigned long long)r->count, r->finished, (long long)r->size, r->is_protected,
	    r->verify, r->comment);
	for (i = 0; i < r->count_files; i++)
		n += (size_t)snprintf(g->text + n, cap - n, " %s=%d,%lld", r->files[i].name, r->files[i].crypt,
		    (long long)r->files[i].size);
	snprintf(g->text + n, cap - n, "\n");
	return ++g->rows == g->stop ? 7 : 0;
}

/* Feeds the text in pieces of n bytes. */
static int
list(const char *json, enum list_what what, const struct snapshot *at, struct got *g, size_t n, struct err *e)
{
	struct listing *l = malloc(sizeof(*l));
	size_t len = strlen(json), i;
	int rc;

	g->rows = 0;
	g->text[0] = 0;
	listing_begin(l, what, at, take, g, e);
	for (i = 0; i < len; i += n)
		if (json_feed(&l->p.json, json + i, len - i < n ? len - i : n) < 0)
			break;
	rc = listing_end(l);
	free(l);
	return rc;
}

static const struct snapshot vm1 = { .ns = "a/b", .type = "vm", .id = "1" };

#define ROW "\"backup-type\":\"vm\",\"backup-id\":\"1\",\"backup-time\":5"

static void
same_in_any_pieces(const char *json, enum list_what what, const char *want, int rows)
{
	static const size_t pieces[] = { 1, 7, 100000 };
	struct got g = { 0, 0, "" };
	size_t i;

	for (i = 0; i < 3; i++) {
		check_int(list(json, what, &vm1, &g, pieces[i], NULL), 0);
		check_int(g.rows, rows);
		check_str(g.text, want);
	}
}

static void
test_snapshots(void)
{
	same_in_any_pieces("{\"data\":[{" ROW ",\"verification\":{\"upid\":\"x\",\"state\":\"ok\"},\"files\":[{\"filename\":"
	    "\"a.img.fidx\",\"crypt-mode\":\"encrypt\",\"size\":9},{\"filename\":\"index.json.blob\",\"size\":3}],\"size\":12,"
	    "\"owner\":\"me\",\"protected\":true,\"comment\":\"one\\ntwo\"},{" ROW ",\"files\":[{\"filename\":\"x.blob\"}],"
	    "\"protected\":false,\"comment\":null,\"verification\":null}]}", LIST_SNAPSHOTS,
	    "a/b:vm/1/1970-01-01T00:00:05Z me 0/0 1 12 1 ok 'one' a.img.fidx=2,9 index.json.blob=0,3\n"
	    "a/b:vm/1/1970-01-01T00:00:05Z  0/0 0 -1 0  '' x.blob=-1,-1\n", 2);
}

static void
test_groups_and_namespaces(void)
{
	same_in_any_pieces("{\"data\":[{\"backup-type\":\"ct\",\"backup-id\":\"x\",\"backup-count\":3,\"last-backup\":77,"
	    "\"files\":[\"a\",\"b\"],\"owner\":\"me\"}]}", LIST_GROUPS, "a/b:ct/x me 77/3 0 -1 0  ''\n", 1);
	same_in_any_pieces("{\"data\":[{\"ns\":\"\"},{\"ns\":\"a\",\"comment\":\"c\"},{\"ns\":\"../x\"},{\"ns\":\"a/b\"}]}",
	    LIST_NAMESPACES, ":  0/0 0 -1 0  ''\na:  0/0 0 -1 0  'c'\na/b:  0/0 0 -1 0  ''\n", 3);
	same_in_any_pieces("{\"data\":[]}", LIST_GROUPS, "", 0);
}

/* Names that are none, groups and times that nobody asked for. */
static void
test_what_was_not_asked_for(void)
{
	struct snapshot one = vm1;
	struct got g = { 0, 0, "" };

	same_in_any_pieces("{\"data\":[{\"backup-type\":\"vm\",\"backup-id\":\"2\",\"backup-time\":5},"
	    "{\"backup-type\":\"vm\",\"backup-id\":\"1/2026-01-02T03:04:05Z\",\"backup-time\":5},"
	    "{\"backup-type\":\"vm\",\"backup-id\":\"../1\"},{\"backup-type\":\"xx\",\"backup-id\":\"1\"},{}]}", LIST_SNAPSHOTS, "", 0);
	same_in_any_pieces("{\"data\":[{" ROW ",\"files\":[{\"filename\":\"../x\",\"size\":1},{\"filename\":\"a\",\"size\":-4}]}]}",
	    LIST_SNAPSHOTS, "a/b:vm/1/1970-01-01T00:00:05Z  0/0 0 -1 0  '' a=0,-1\n", 1);
	one.has_time = 1;
	one.time = 6;
	check_int(list("{\"data\":[{" ROW "},{\"backup-type\":\"vm\",\"backup-id\":\"1\",\"backup-time\":6}]}", LIST_SNAPSHOTS, &one,
	    &g, 5, NULL), 0);
	check_str(g.text, "a/b:vm/1/1970-01-01T00:00:06Z  0/0 0 -1 0  ''\n");
}

static void
test_nonsense(void)
{
	static const char *const bad[] = { "", "{\"data\":", "{\"data\":[{" ROW "}", "{\"data\":[{\"backup-type\":3}]}",
		"{\"data\":{}}", "{\"data\":[{" ROW ",\"files\":[\"a\"]}]}", "{\"data\":[{" ROW ",\"files\":[{}]}]}",
		"{\"data\":[{" ROW ",\"size\":\"1\"}]}", "<html>" };
	struct got g = { 0, 0, "" };
	struct err e;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		e.text[0] = 0;
		check_int(list(bad[i], LIST_SNAPSHOTS, &vm1, &g, 3, &e), -EINVAL);
		check(e.text[0]);
	}
}

static void
test_a_list_can_be_left(void)
{
	struct got g = { 0, 1, "" };

	check_int(list("{\"data\":[{" ROW "},{" ROW "}]}", LIST_SNAPSHOTS, &vm1, &g, 1000, NULL), 7);
	check_int(g.rows, 1);
}

static void
test_manifests(void)
{
	struct listing *l = calloc(1, sizeof(*l));
	size_t n;
	char *json = golden_manifest("vm/101", &n);
	const struct list_row *r = &l->row;

	listing_clear(l);
	check_int(listing_manifest(l, json, n, 557, NULL), 0);
	check_int(r->finished, 1);
	check_int(r->count_files, 4);
	check_int(r->size, 39848505);
	check_str(r->files[0].name, "drive-scsi0.img.fidx");
	check_int(r->files[0].crypt, CRYPT_ENCRYPT);
	check_str(r->files[3].name, "index.json.blob");
	check_int(r->files[3].crypt, CRYPT_SIGN);
	check(strncmp(r->fingerprint, "67:d0:f3", 8) == 0);
	/* Once more into the same: nothing is left of the first, and strays come behind. */
	listing_clear(l);
	check_int(r->count_files, 0);
	check_int(r->size, -1);
	free(json);
	json = golden_manifest("vm/100", &n);
	check_int(listing_manifest(l, json, n, 500, NULL), 0);
	check_int(listing_add(l, "client.log.blob", CRYPT_UNKNOWN, -1), 0);
	check_int(listing_add(l, "index.json.blob", CRYPT_UNKNOWN, -1), 0);
	check_int(listing_add(l, "../x", CRYPT_UNKNOWN, -1), 0);
	check_int(r->count_files, 6);
	check_int(r->size, 40388675);
	check_int(r->fingerprint[0], 0);
	check_int(listing_manifest(l, json, n - 1, 500, NULL), -EINVAL);
	free(json);
	listing_free(l);
	free(l);
}

int
main(void)
{
	run(test_snapshots);
	run(test_groups_and_namespaces);
	run(test_what_was_not_asked_for);
	run(test_nonsense);
	run(test_a_list_can_be_left);
	run(test_manifests);
	return t_end();
}
