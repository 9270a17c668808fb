/* Names: repositories, namespaces, snapshots, times, archives. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "repo.h"
#include "t.h"

static struct repo r;
static struct snapshot s;
static struct err e;

static void
is_server(const char *text, const char *auth, const char *host, int port, const char *store,
    int given, const char *printed)
{
	char out[1024];

	check_int(repo_parse(text, &r, &e), 0);
	check_int(r.is_dir, 0);
	check_str(r.auth_id, auth);
	check_str(r.host, host);
	check_int(r.port, port);
	check_str(r.store, store);
	check_int(r.has_auth * 100 + r.has_host * 10 + r.has_port, given);
	check_int(repo_print(&r, out, sizeof out), strlen(printed));
	check_str(out, printed);
}

static void
test_servers(void)
{
	is_server("store", "root@pam", "localhost", 8007, "store", 0, "store");
	is_server("host:store", "root@pam", "host", 8007, "store", 10, "host:store");
	is_server("h:1:store", "root@pam", "h", 1, "store", 11, "h:1:store");
	is_server("8008:store", "root@pam", "localhost", 8008, "store", 1, "localhost:8008:store");
	is_server("a@pbs@h:store", "a@pbs", "h", 8007, "store", 110, "a@pbs@h:8007:store");
	is_server("a@pbs!tok@h.example.com:65535:Store_1.x", "a@pbs!tok", "h.example.com", 65535,
	    "Store_1.x", 111, "a@pbs!tok@h.example.com:65535:Store_1.x");
	is_server("a@b.org@ad@10.0.0.1:store", "a@b.org@ad", "10.0.0.1", 8007, "store", 110,
	    "a@b.org@ad@10.0.0.1:8007:store");
	is_server("a!b@ad!t@h:store", "a!b@ad!t", "h", 8007, "store", 110, "a!b@ad!t@h:8007:store");
	is_server("j\xc3\xb6rg@pam@h:store", "j\xc3\xb6rg@pam", "h", 8007, "store", 110,
	    "j\xc3\xb6rg@pam@h:8007:store");
	is_server("[fe80::1]:store", "root@pam", "fe80::1", 8007, "store", 10, "[fe80::1]:store");
	is_server("[::1]:12:store", "root@pam", "::1", 12, "store", 11, "[::1]:12:store");
	is_server("r@pam@[fe80::1%eth0.5]:store", "r@pam", "fe80::1%eth0.5", 8007, "store", 110,
	    "r@pam@[fe80::1%eth0.5]:8007:store");
	is_server("[::ffff:10.0.0.1]:store", "root@pam", "::ffff:10.0.0.1", 8007, "store", 10,
	    "[::ffff:10.0.0.1]:store");
}

static void
test_print_cut(void)
{
	char out[6];

	check_int(repo_parse("host:store", &r, &e), 0);
	check_int(repo_print(&r, out, sizeof out), 10);
	check_str(out, "host:");
}

static void
is_dir(const char *text, const char *path)
{
	check_int(repo_parse(text, &r, &e), 0);
	check_int(r.is_dir, 1);
	check_str(r.path, path);
}

static void
test_dirs(void)
{
	char out[32];

	is_dir("/mnt/a b:c@d", "/mnt/a b:c@d");
	is_dir("./x", "./x");
	is_dir("../x", "../x");
	is_dir(".", ".");
	is_dir("..", "..");
	is_dir("file:x/y", "x/y");
	is_dir("file:/x", "/x");
	check_int(repo_print(&r, out, sizeof out), 2);
	check_str(out, "/x");
}

/* Refused, and the message holds `says`. */
static void
bad_repo(const char *text, const char *says)
{
	e.text[0] = '\0';
	check_int(repo_parse(text, &r, &e), -EINVAL);
	check_int(e.status, ST_USAGE);
	if (!check(strstr(e.text, says) != NULL && strstr(e.text, "DATASTORE") != NULL))
		printf("# %s: %s\n", text, e.text);
}

static void
test_bad_repos(void)
{
	static char big[5000];

	bad_repo("", "3 to 32");
	bad_repo("ab", "3 to 32");
	bad_repo("host:", "3 to 32");
	bad_repo("host:.store", "3 to 32");
	bad_repo("host:st/ore", "3 to 32");
	bad_repo("host:a23456789012345678901234567890123", "3 to 32");
	bad_repo(":store", "host");
	bad_repo("h ost:store", "host");
	bad_repo("-host:store", "host");
	bad_repo("a..b:store", "host");
	bad_repo("host:0:store", "1 to 65535");
	bad_repo("host:65536:store", "1 to 65535");
	bad_repo("host:99999999999999999999:store", "1 to 65535");
	bad_repo("host:18446744073709559623:store", "1 to 65535");
	bad_repo("host::store", "1 to 65535");
	bad_repo("host:8x:store", "1 to 65535");
	bad_repo("0:store", "1 to 65535");
	bad_repo("fe80::1:store", "brackets");
	bad_repo("1:2:3:store", "brackets");
	bad_repo("[fe80::g]:store", "brackets");
	bad_repo("[fe80::1:store", "brackets");
	bad_repo("[10.0.0.1]:store", "brackets");
	bad_repo("[::1%]:store", "brackets");
	bad_repo("[::1%a/b]:store", "brackets");
	bad_repo("[::1]x:store", "follow the address");
	bad_repo("[::1]8007:store", "follow the address");
	bad_repo("root@host:store", "realm");
	bad_repo("root@pam@store", "follow the user");
	bad_repo("@pam@host:store", "user");
	bad_repo("a b@pam@host:store", "user");
	bad_repo("a:b@pam@host:store", "user");
	bad_repo("a/b@pam@host:store", "user");
	bad_repo("a\tb@pam@host:store", "user");
	bad_repo("root@@host:store", "realm");
	bad_repo("root@p m@host:store", "realm");
	bad_repo("root@pam!@host:store", "token");
	bad_repo("root@pam!a!b@host:store", "token");
	bad_repo("file:", "empty");
	memset(big, 'a', sizeof big - 1);
	bad_repo(big, "3 to 32");
	big[0] = '/';
	e.text[0] = '\0';
	check_int(repo_parse(big, &r, &e), -EINVAL);
	strcpy(big + 400, "@pam@host:store");
	big[0] = 'a';
	bad_repo(big, "too long");
	strcpy(big + 260, ":store");
	bad_repo(big, "host");
	strcpy(big + 254, ":store");
	bad_repo(big, "host");
	strcpy(big + 253, ":store");
	check_int(repo_parse(big, &r, &e), 0);
	check_int(repo_parse("", &r, NULL), -EINVAL);
}

static void
test_ids(void)
{
	check(safe_id("a", 1) && safe_id("_", 1) && safe_id("0.-_Z", 5));
	check(!safe_id("", 0) && !safe_id(".", 1) && !safe_id("..", 2) && !safe_id("-a", 2));
	check(!safe_id("a/b", 3) && !safe_id("a\0b", 3) && !safe_id("\xc3\xb6", 2));
}

static void
test_namespaces(void)
{
	char big[300];

	check_int(ns_check("", &e), 0);
	check_int(ns_check("a/b", &e), 0);
	check_int(ns_check("1/2/3/4/5/6/7/8", &e), 0);
	check_int(ns_check("1/2/3/4/5/6/7/8/9", &e), -EINVAL);
	check_int(ns_check("/a", &e), -EINVAL);
	check_int(ns_check("a/", &e), -EINVAL);
	check_int(ns_check("a//b", &e), -EINVAL);
	check_int(ns_check("a/../b", &e), -EINVAL);
	check_int(e.status, ST_USAGE);
	check(strstr(e.text, "'a/../b'") != NULL);
	memset(big, 'a', sizeof big);
	big[256] = '\0';
	check_int(ns_check(big, &e), 0);
	big[256] = 'a';
	big[257] = '\0';
	check_int(ns_check(big, &e), -EINVAL);
}

static void
good_snapshot(const char *text, const char *type, const char *id, int has_time, int64_t when)
{
	char out[300];

	check_int(snapshot_parse(text, "a/b", &s, &e), 0);
	check_str(s.ns, "a/b");
	check_str(s.type, type);
	check_str(s.id, id);
	check_int(s.has_time, has_time);
	check_int(s.time, when);
	snapshot_print(&s, out, sizeof out);
	check_str(out, text);
}

static void
bad_snapshot(const char *text, const char *says)
{
	e.text[0] = '\0';
	check_int(snapshot_parse(text, "", &s, &e), -EINVAL);
	check_int(e.status, ST_USAGE);
	if (!check(strstr(e.text, says) != NULL))
		printf("# %s: %s\n", text, e.text);
}

static void
test_snapshots(void)
{
	char big[300] = "vm/";

	good_snapshot("vm/100", "vm", "100", 0, 0);
	good_snapshot("ct/x.y", "ct", "x.y", 0, 0);
	good_snapshot("host/a-b/2026-01-02T03:04:05Z", "host", "a-b", 1, 1767323045);
	check_int(snapshot_parse("vm/1", NULL, &s, &e), 0);
	check_int(snapshot_parse("vm/1", "a//b", &s, &e), -EINVAL);
	check(strstr(e.text, "namespace") != NULL);
	bad_snapshot("", "vm/");
	bad_snapshot("vm", "ID");
	bad_snapshot("vm/", "ID");
	bad_snapshot("/vm/1", "vm/");
	bad_snapshot("VM/1", "vm/");
	bad_snapshot("hosts/1", "vm/");
	bad_snapshot("aaaaaaaaaaaaaaaa/1", "vm/");
	bad_snapshot("vm/..", "ID");
	bad_snapshot("vm//2026-01-02T03:04:05Z", "ID");
	bad_snapshot("vm/1/", "UTC");
	bad_snapshot("vm/1/2026-01-02T03:04:05", "UTC");
	bad_snapshot("vm/1/2026-01-02T03:04:05Z/", "UTC");
	bad_snapshot("vm/1/1767323045", "UTC");
	memset(big + 3, 'a', 255);
	check_int(snapshot_parse(big, "", &s, &e), 0);
	big[258] = 'a';
	bad_snapshot(big, "ID");
}

static void
bad_time(const char *text)
{
	int64_t t;

	if (!check(time_parse(text, strlen(text), &t) == -1))
		printf("# %s\n", text);
}

static void
test_bad_times(void)
{
	bad_time("");
	bad_time("1969-12-31T23:59:59Z");
	bad_time("2026-00-01T00:00:00Z");
	bad_time("2026-13-01T00:00:00Z");
	bad_time("2026-01-00T00:00:00Z");
	bad_time("2026-01-32T00:00:00Z");
	bad_time("2026-04-31T00:00:00Z");
	bad_time("2025-02-29T00:00:00Z");
	bad_time("2100-02-29T00:00:00Z");
	bad_time("2026-01-01T24:00:00Z");
	bad_time("2026-01-01T00:60:00Z");
	bad_time("2026-01-01T00:00:60Z");
	bad_time("2026-01-01t00:00:00Z");
	bad_time("2026-01-01T00:00:00z");
	bad_time("2026-01-01 00:00:00Z");
	bad_time("2026-01-01T00:00:00ZZ");
	bad_time("2026-1-01T00:00:00Z");
	bad_time("+026-01-01T00:00:00Z");
	bad_time("2026-01-01T00:00:0 Z");
}

static int
same_as_libc(int64_t t)
{
	char out[21], want[40];
	time_t libc = (time_t)t;
	struct tm tm;
	int64_t back = -1;

	time_print(t, out);
	gmtime_r(&libc, &tm);
	strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%SZ", &tm);
	check_str(out, want);
	return strcmp(out, want) == 0 && time_parse(out, 20, &back) == 0 && back == t;
}

/* The first and the last second of days from 1970 to 9999: every one at first,
 * then every 13th, which meets each day of a year. */
static void
test_days(void)
{
	const int64_t end = 253402300800 / 86400;
	int64_t day = 0;

	while (day < end && same_as_libc(day * 86400) && same_as_libc(day * 86400 + 86399))
		day += day < 50000 ? 1 : 13;
	check(day >= end);
}

static void
test_times(void)
{
	int64_t t;
	char out[21];

	check_int(time_parse("1970-01-01T00:00:00Z", 20, &t), 0);
	check_int(t, 0);
	check_int(time_parse("2000-02-29T12:34:56Z", 20, &t), 0);
	check_int(t, 951827696);
	check_int(time_parse("9999-12-31T23:59:59Zjunk", 20, &t), 0);
	check_int(t, 253402300799);
	time_print(t, out);
	check_str(out, "9999-12-31T23:59:59Z");
	time_print(t + 1, out);
	check_str(out, "(time out of range)");
	time_print(INT64_MAX, out);
	check_str(out, "(time out of range)");
	time_print(-1, out);
	check_str(out, "(time out of range)");
	time_print(INT64_MIN, out);
	check_str(out, "(time out of range)");
}

static void
archive(const char *text, const char *stored, enum archive_kind kind, const char *plain)
{
	char out[256], back[256];
	enum archive_kind k;

	check_int(archive_parse(text, out, sizeof out, &k, &e), 0);
	check_str(out, stored);
	check_int(k, kind);
	archive_print(out, back, sizeof back);
	check_str(back, plain);
}

static void
test_archives(void)
{
	archive("drive-scsi0.img", "drive-scsi0.img.fidx", ARCHIVE_IMG, "drive-scsi0.img");
	archive("drive-scsi0.img.fidx", "drive-scsi0.img.fidx", ARCHIVE_IMG, "drive-scsi0.img");
	archive("root.pxar", "root.pxar.didx", ARCHIVE_PXAR, "root.pxar");
	archive("root.pxar.didx", "root.pxar.didx", ARCHIVE_PXAR, "root.pxar");
	archive("root.mpxar", "root.mpxar.didx", ARCHIVE_PXAR, "root.mpxar");
	archive("root.ppxar.didx", "root.ppxar.didx", ARCHIVE_PXAR, "root.ppxar");
	archive("catalog.pcat1", "catalog.pcat1.didx", ARCHIVE_OTHER, "catalog.pcat1");
	archive("catalog.pcat1.didx", "catalog.pcat1.didx", ARCHIVE_OTHER, "catalog.pcat1");
	archive("qemu-server.conf", "qemu-server.conf.blob", ARCHIVE_BLOB, "qemu-server.conf");
	archive("index.json", "index.json.blob", ARCHIVE_BLOB, "index.json");
	archive("client.log.blob", "client.log.blob", ARCHIVE_BLOB, "client.log");
	archive("x.img.blob", "x.img.blob", ARCHIVE_BLOB, "x.img");
	archive("x.img.didx", "x.img.didx", ARCHIVE_OTHER, "x.img");
	archive("x.fidx", "x.fidx", ARCHIVE_OTHER, "x");
	archive("img", "img.blob", ARCHIVE_BLOB, "img");
	archive("A.IMG", "A.IMG.blob", ARCHIVE_BLOB, "A.IMG");
}

static void
test_bad_archives(void)
{
	static const char *const bad[] = { "", ".img", ".fidx", "a/b.img", "..", "-x.img", "a b.img", "x\n.img" };
	enum archive_kind k;
	char out[300], big[300], small[10];

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		check_int(archive_parse(bad[i], out, sizeof out, &k, &e), -EINVAL);
		check_int(e.status, ST_USAGE);
	}
	memset(big, 'a', sizeof big);
	big[251] = '\0';
	check_int(archive_parse(big, out, sizeof out, &k, &e), -EINVAL);
	big[250] = '\0';
	check_int(archive_parse(big, out, sizeof out, &k, &e), 0);
	check_int(strlen(out), 255);
	check_int(archive_parse("a.img", small, sizeof small, &k, &e), -EINVAL);
	check_int(archive_parse("abcd", small, sizeof small, &k, &e), 0);
}

int
main(void)
{
	run(test_servers);
	run(test_print_cut);
	run(test_dirs);
	run(test_bad_repos);
	run(test_ids);
	run(test_namespaces);
	run(test_snapshots);
	run(test_times);
	run(test_bad_times);
	run(test_days);
	run(test_archives);
	run(test_bad_archives);
	return t_end();
}
