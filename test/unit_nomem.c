/* Manifests and blob workers when memory runs out at the Nth allocation, for every N: an error, and nothing left. */
#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#include "t.h"
#include "golden.h"

static int fail_at, calls, live;

static void *
count(void *p)
{
	if (p != NULL)
		live++;
	return p;
}

static void *
test_malloc(size_t n)
{
	return calls++ == fail_at ? NULL : count(malloc(n));
}

static void *
test_calloc(size_t n, size_t size)
{
	return calls++ == fail_at ? NULL : count(calloc(n, size));
}

static void *
test_realloc(void *old, size_t n)
{
	void *p;

	if (calls++ == fail_at)
		return NULL;
	p = realloc(old, n);
	return old == NULL ? count(p) : p;
}

static void
test_free(void *p)
{
	live -= p != NULL;
	free(p);
}

static ZSTD_DCtx *
test_create(void)
{
	return calls++ == fail_at ? NULL : ZSTD_createDCtx();
}

/* These modules stand here instead of in the archive. */
#define malloc test_malloc
#define calloc test_calloc
#define realloc test_realloc
#define free test_free
#define ZSTD_createDCtx test_create
#include "../blob.c"
#define on_token canonical_on_token
#include "../canonical.c"
#undef on_token
#include "../manifest.c"
#undef malloc
#undef calloc
#undef realloc
#undef free

static void
test_manifest(void)
{
	struct manifest m;
	struct key key;
	struct err e;
	size_t len;
	char *json;
	int rc = -ENOMEM, failed = 0;

	golden_key(&key);
	fail_at = -1;
	json = golden_manifest("vm/101", &len);
	for (fail_at = 0; rc != 0; fail_at++) {
		calls = live = 0;
		rc = manifest_parse(json, len, &m, &e);
		if (rc == 0)
			rc = manifest_verify(&m, json, len, &key, 1, &e);
		if (rc != 0) {
			check_int(rc, -ENOMEM);
			check_int(e.status, ST_FAIL);
			check_str(e.text, "manifest (index.json.blob): out of memory");
			failed++;
		}
		manifest_free(&m);
		check_int(live, 0);
	}
	check_int(failed, 5);
	free(json);
}

static void
test_worker(void)
{
	struct blob_worker *w = NULL;

	for (fail_at = 0; w == NULL; fail_at++) {
		calls = live = 0;
		w = blob_worker_new();
		if (w == NULL)
			check_int(live, 0);
	}
	check_int(fail_at, 3);
	blob_worker_free(w);
	check_int(live, 0);
}

int
main(void)
{
	run(test_manifest);
	run(test_worker);
	return t_end();
}
