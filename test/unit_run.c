/* Names of mappings: as systemd-escape and the official client form them. */
#include <stdlib.h>
#include <unistd.h>

#include "t.h"
#include "../run.h"

static char name[RUN_NAME];

static const char *
name_of(const char *repo, const char *snapshot, const char *ns, const char *archive)
{
	struct repo r;
	struct snapshot s;
	struct err e;

	check_int(repo_parse(repo, &r, &e), 0);
	check_int(snapshot_parse(snapshot, ns, &s, &e), 0);
	run_name(&r, &s, archive, name);
	return name;
}

static const char *
plain(const char *escaped)
{
	static char out[RUN_NAME];

	run_unescape(escaped, out, sizeof out);
	return out;
}

static const char *
pid_name(const char *of)
{
	static char out[RUN_NAME + 4];

	run_pid_name(of, out);
	return out;
}

static void
test_official_names(void)
{
	check_str(name_of("user@pbs!tok@pbs.example.com:8007:store1", "vm/100/2026-01-02T03:04:05Z", "",
	    "drive-scsi0.img"), "user\\x40pbs\\x21tok\\x40pbs.example.com\\x3a8007\\x3astore1\\x3a"
	    "vm-100-2026\\x2d01\\x2d02T03\\x3a04\\x3a05Z-drive\\x2dscsi0.img");
	check_str(plain(name), "user@pbs!tok@pbs.example.com:8007:store1:"
	    "vm/100/2026-01-02T03:04:05Z/drive-scsi0.img");
	check_str(name_of("host:store", "ct/1_a/2026-01-02T03:04:05Z", "", "r.img"),
	    "host\\x3astore\\x3act-1_a-2026\\x2d01\\x2d02T03\\x3a04\\x3a05Z-r.img");
	check_str(name_of("store", "host/a.b/2026-01-02T03:04:05Z", "", "r.img"),
	    "store\\x3ahost-a.b-2026\\x2d01\\x2d02T03\\x3a04\\x3a05Z-r.img");
}

static void
test_one_name_for_one_thing(void)
{
	char first[RUN_NAME];

	snprintf(first, sizeof first, "%s", name_of("store", "vm/1/2026-01-02T03:04:05Z", "", "r.img"));
	check_str(name_of("store", "vm/1/2026-01-02T03:04:05Z", "", "r.img.fidx"), first);
	snprintf(first, sizeof first, "%s", name_of("/", "vm/1/2026-01-02T03:04:05Z", "", "r.img"));
	check_str(name_of("/../tmp/../", "vm/1/2026-01-02T03:04:05Z", "", "r.img"), first);
	check_str(first, "-\\x3avm-1-2026\\x2d01\\x2d02T03\\x3a04\\x3a05Z-r.img");
	check_str(name_of("/no/such/dir", "vm/1/2026-01-02T03:04:05Z", "", "r.img"),
	    "-no-such-dir\\x3avm-1-2026\\x2d01\\x2d02T03\\x3a04\\x3a05Z-r.img");
}

static void
test_namespace(void)
{
	check_str(name_of("store", "vm/1/2026-01-02T03:04:05Z", "a/b-c", "r.img"),
	    "store\\x3ans-a-ns-b\\x2dc-vm-1-2026\\x2d01\\x2d02T03\\x3a04\\x3a05Z-r.img");
	check_str(plain(name), "store:ns/a/ns/b-c/vm/1/2026-01-02T03:04:05Z/r.img");
}

static void
test_pid_names(void)
{
	check_str(pid_name("a-drive\\x2dscsi0.img"), "a-drive\\x2dscsi0.pid");
	check_str(pid_name("pbs.example.com\\x3as"), "pbs.example.pid");
	check_str(pid_name("none"), "none.pid");
	check_str(pid_name("a."), "a.pid");
}

static void
test_unescape(void)
{
	char small[4];

	check_str(plain("\\x2ehidden-\\x5cx\\x7"), ".hidden/\\x\\x7");
	check_str(plain("a\\x1b\\x0a\\x7fb"), "a???b");
	check_str(plain("\\x4G\\x"), "\\x4G\\x");
	check_str(plain(""), "");
	run_unescape("abcdef", small, sizeof small);
	check_str(small, "abc");
	run_unescape("\\x41\\x42\\x43\\x44", small, sizeof small);
	check_str(small, "ABC");
}

/* 255 bytes at most, also of the pid file; different names stay different; the tail can be read. */
static void
test_long_names(void)
{
	char path[400] = "/", id[256], other[RUN_NAME], long_id[300];

	for (int n = 1; n < 300; n++) {
		path[n] = n % 50 ? 'd' : '-';
		name_of(path, "vm/1/2026-01-02T03:04:05Z", "", "drive-scsi0.img");
		check(strlen(name) < RUN_NAME);
		check(strlen(pid_name(name)) < RUN_NAME);
		check(n < 150 || n % 7 || strstr(plain(name), "/2026-01-02T03:04:05Z/drive-scsi0.img"));
		check(n < 250 || strncmp(name + 32, "...", 3) == 0);
	}
	strcpy(other, name);
	path[5] = 'e';
	name_of(path, "vm/1/2026-01-02T03:04:05Z", "", "drive-scsi0.img");
	check(strncmp(name, other, 32) != 0);
	check_str(name + 32, other + 32);
	memset(id, '-', 200);
	id[0] = 'x';
	strcpy(id + 200, ".img");
	snprintf(long_id, sizeof long_id, "vm/1/2026-01-02T03:04:05Z");
	name_of("store", long_id, "", id);
	check(strlen(name) < RUN_NAME);
	check(strncmp(name + 35, "\\x2d", 4) == 0);
	check(strlen(pid_name(name)) < RUN_NAME);
}

int
main(void)
{
	run(test_official_names);
	run(test_one_name_for_one_thing);
	run(test_namespace);
	run(test_pid_names);
	run(test_unescape);
	run(test_long_names);
	return t_end();
}
