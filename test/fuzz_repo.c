/* Names: what is accepted is printed and read back the same; nothing else. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "repo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int cond)
{
	if (!cond)
		abort();
}

static void
try_repo(const char *text)
{
	static struct repo a, b;
	static char out[5000], again[5000];
	struct err e;

	if (repo_parse(text, &a, &e) < 0)
		return;
	must(repo_print(&a, out, sizeof out) == (int)strlen(out));
	if (a.is_dir)
		return;
	must(safe_id(a.store, strlen(a.store)) && a.port != 0);
	must(repo_parse(out, &b, &e) == 0);
	must(repo_print(&b, again, sizeof again) > 0 && strcmp(out, again) == 0);
	must(strcmp(a.auth_id, b.auth_id) == 0 && strcmp(a.host, b.host) == 0 && a.port == b.port);
}

static void
try_snapshot(const char *text)
{
	struct snapshot s;
	char out[300];
	struct err e;

	if (snapshot_parse(text, "", &s, &e) < 0)
		return;
	snapshot_print(&s, out, sizeof out);
	must(strcmp(out, text) == 0);
}

static void
try_archive(const char *text)
{
	char stored[256], plain[256], again[256];
	enum archive_kind kind;
	struct err e;

	if (archive_parse(text, stored, sizeof stored, &kind, &e) < 0)
		return;
	must(safe_id(stored, strlen(stored)));
	archive_print(stored, plain, sizeof plain);
	must(strncmp(stored, plain, strlen(plain)) == 0);
	/* A stored name is its own. */
	must(archive_parse(stored, again, sizeof again, &kind, &e) == 0 && strcmp(stored, again) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct err e;
	int64_t t;

	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	try_repo(text);
	try_snapshot(text);
	try_archive(text);
	ns_check(text, &e);
	time_parse(text, size, &t);
	free(text);
	return 0;
}
