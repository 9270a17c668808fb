/* File archives: every kind of entry, every read failing, every byte damaged. The archives are test/mkpxar.py's. */
#include <errno.h>
#include <sys/stat.h>

#include "../pxattr.h"
#include "../pxdir.h"
#include "pxmem.h"
#include "t.h"

static struct pxmem mem;
static struct pxar px;

static void
load(const char *name)
{
	char path[100];
	FILE *f;

	snprintf(path, sizeof(path), "test/corpus/pxar/%s", name);
	f = fopen(path, "rb");
	memset(&mem, 0, sizeof(mem));
	mem.data = malloc(1 << 16);
	if (f) {
		mem.size = fread(mem.data, 1, 1 << 16, f);
		fclose(f);
	}
	px = pxmem_archive(&mem);
	check(mem.size > 0);
}

static struct pxar_stat
at(const char *path, int want)
{
	struct pxar_stat st;

	memset(&st, 0, sizeof(st));
	check_int(pxar_path(&px, px.root, path, &st), want);
	return st;
}

static void
look_at_all(int v1)
{
	char target[PXAR_TARGET];
	struct pxar_stat st;

	check_int(pxar_open(&px), 0);
	st = at("", 0);
	check(st.id == px.root && st.mode == (S_IFDIR | 0755) && st.mtime == 5);
	st = at("file", 0);
	check(st.mode == (S_IFREG | 04711) && st.uid == 1000 && st.gid == 100000 && st.size == 5);
	check(v1 ? st.mtime == 0 && st.nsec == 7 : st.mtime == -1 && st.nsec == 999999999);
	check(memcmp(mem.data + st.data, "hello", 5) == 0 && !st.payload && !st.linked);
	check(at("hard", 0).id == st.id && at("hard", 0).linked);
	st = at("link", 0);
	check(S_ISLNK(st.mode) && st.size == 4 && pxar_target(&px, &st, target) == 0);
	check_str(target, "file");
	st = at("null", 0);
	check(st.mode == (S_IFCHR | 0666) && st.major == 1 && st.minor == 3);
	st = at("loop", 0);
	check(st.mode == (S_IFBLK | 0640) && st.major == 7 && st.minor == 1 << 19);
	check(at("fifo", 0).mode == (S_IFIFO | 0600));
	check(at("sock", 0).mode == (S_IFSOCK | 0700));
	check(at("dir/empty", 0).mode == (S_IFDIR | 0755));
	check(at("/dir//./f17/", 0).size == 2);
	at("dir/f20", -ENOENT);
	at("file/x", -ENOTDIR);
	at("dir/../file", -EINVAL);
	at("same/n5", 0);
	at("same/n10", 0);
	at("same/n5x", -ENOENT);
}

static void
test_every_kind(void)
{
	load("every");
	look_at_all(0);
	free(mem.data);
}

static void
test_version_1(void)
{
	load("every-v1");
	look_at_all(1);
	free(mem.data);
}

static void
test_split(void)
{
	struct pxar_stat st;

	load("every-split");
	px.payload_size = 1 << 20;
	check_int(pxar_open(&px), 0);
	st = at("file", 0);
	/* The first item in the payload archive is its start marker. */
	check(st.payload && st.data == 32 && st.size == 5);
	check_int(pxar_check_data(&px, &st), -EBADMSG);	/* there is none here */
	check(at("dir/f3", 0).size == 1);
	px.payload_size = 36;		/* beyond its end */
	at("file", -EBADMSG);
	free(mem.data);
}

static void
test_directory_in_order(void)
{
	struct pxdir *d;
	struct pxar_child c;
	char name[PXAR_NAME], want[8];
	int i, rc;

	load("every");
	pxar_open(&px);
	d = pxdir_new(at("dir", 0).id);
	while ((rc = pxdir_load(d, &px)) > 0)
		;
	check_int(rc, 0);
	check_int(d->d.count, 21);
	for (i = 0; i < 20; i++) {
		snprintf(want, sizeof(want), "f%d", i);
		check(pxdir_child(d, (uint64_t)i, &c) == 0 && pxar_name(&px, &c, name) == 0);
		check_str(name, want);
	}
	pxdir_free(d);
	free(mem.data);
}

static void
test_links_are_counted_once(void)
{
	struct pxlinks l;
	uint64_t i;

	check_int(pxlinks_init(&l, 64), 0);
	pxlinks_add(&l, 8, 100);
	pxlinks_add(&l, 8, 100);
	pxlinks_add(&l, 8, 101);
	pxlinks_add(&l, 9, 101);
	check_int(pxlinks_count(&l, 8), 2);
	check_int(pxlinks_count(&l, 9), 1);
	check_int(pxlinks_count(&l, 10), 0);
	for (i = 0; i < 1000; i++)		/* full is full */
		pxlinks_add(&l, 1000 + i, i + 1);
	check_int(l.used, 48);
	check_int(pxlinks_count(&l, 8), 2);
	pxlinks_free(&l);
}

/* Two rows of a table change places: who meets one of them where it cannot be knows that this is no tree. */
static void
test_no_tree(void)
{
	uint8_t row[24], *root, *leaf;
	struct pxar_child c;
	struct pxar_dir d;
	char name[16];
	int i, rc, bad = 0, found = 0;

	load("every");
	pxar_open(&px);
	check_int(pxar_dir(&px, at("dir", 0).id, &d), 0);
	root = mem.data + d.goodbye + 16;
	leaf = root + 24 * 20;
	memcpy(row, root, 24);
	memcpy(root, leaf, 24);
	memcpy(leaf, row, 24);
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		rc = pxar_find(&px, &d, name, &c);
		bad += rc == -EBADMSG;
		found += rc == 0;
	}
	check(bad > 0 && found > 0);
	/* A row that makes no sense hides itself alone. */
	memcpy(leaf, root, 24);
	memcpy(root, row, 24);
	memset(root + 8, 0xff, 16);
	for (i = found = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		found += pxar_find(&px, &d, name, &c) == 0;
	}
	check(found >= 19);
	free(mem.data);
}

static void
test_directories_have_one_place(void)
{
	struct pxlinks l;

	check_int(pxlinks_init(&l, 64), 0);
	check(pxlinks_only(&l, 9, 5) && pxlinks_only(&l, 9, 5) && !pxlinks_only(&l, 9, 6) && pxlinks_only(&l, 11, 6));
	pxlinks_free(&l);
}

/* ---- attributes ---- */

static int
count(void *ctx, const struct pxattr *a)
{
	(void)a;
	++*(int *)ctx;
	return 0;
}

static void
check_attr(const char *path, const char *name, const char *hex)
{
	struct pxar_stat st = at(path, 0);
	uint8_t value[200];
	char text[401] = "";
	int n = pxattr_get(&px, &st, name, value, sizeof(value)), i;

	for (i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", value[i]);
	check_str(text, hex);
	check_int(pxattr_get(&px, &st, name, value, 0), n);
}

static void
test_attributes(void)
{
	struct pxar_stat st;
	uint8_t value[4];
	int n = 0;

	load("every");
	pxar_open(&px);
	st = at("attrs", 0);
	check_int(pxattr_each(&px, &st, count, &n), 0);
	check_int(n, 5);
	check_attr("attrs", "user.a", "31");
	check_attr("attrs", "user.empty", "");
	check_attr("attrs", "trusted.b", "0001");
	check_attr("attrs", "security.capability", "63617073");
	check_attr("attrs", "system.posix_acl_access", "02000000"
	    "01000600ffffffff" "02000600e8030000" "04000400ffffffff"
	    "08000400e9030000" "08000700ea030000" "10000600ffffffff" "20000400ffffffff");
	check_attr("dir", "system.posix_acl_default", "02000000"
	    "01000700ffffffff" "0200040005000000" "04000500ffffffff"
	    "0800010006000000" "10000700ffffffff" "20000100ffffffff");
	check_int(pxattr_get(&px, &st, "user.none", value, 4), -ENODATA);
	check_int(pxattr_get(&px, &st, "system.posix_acl_default", value, 4), -ENODATA);
	check_int(pxattr_get(&px, &st, "security.capability", value, 3), -ERANGE);
	check_int(pxattr_get(&px, &st, "security.capability", value, 4), 4);
	st = at("file", 0);
	n = 0;
	check_int(pxattr_each(&px, &st, count, &n), 0);
	check_int(n, 0);
	free(mem.data);
}

/* ---- what goes wrong ---- */

/* A path, its attributes and a whole directory: one error code for all of it. */
static int
everything(void)
{
	struct pxar_stat st;
	struct pxar_child c;
	char name[PXAR_NAME], target[PXAR_TARGET];
	struct pxdir *d = NULL;
	uint64_t i;
	int rc, n;

	if ((rc = pxar_open(&px)) < 0 || (rc = pxar_path(&px, px.root, "attrs", &st)) < 0 ||
	    (rc = pxattr_each(&px, &st, count, &n)) < 0 ||
	    (rc = pxar_path(&px, px.root, "link", &st)) < 0 || (rc = pxar_target(&px, &st, target)) < 0 ||
	    (rc = pxar_path(&px, px.root, "dir/f3", &st)) < 0)
		return rc;
	d = pxdir_new(px.root);
	while ((rc = pxdir_load(d, &px)) > 0)
		;
	for (i = 0; rc == 0 && i < d->d.count; i++)
		if ((rc = pxdir_child(d, i, &c)) == 0 && (rc = pxar_name(&px, &c, name)) == 0)
			rc = pxar_resolve(&px, &c, &st);
	pxdir_free(d);
	return rc;
}

/* What read() says is handed on, wherever it happens, and -EAGAIN is no damage. */
static void
test_every_read_fails_once(void)
{
	long n, all;

	load("every");
	check_int(everything(), 0);
	all = mem.reads;
	check(all > 100);
	for (n = 1; n <= all; n++) {
		mem.reads = 0;
		mem.fail_at = n;
		mem.fail_rc = n % 2 ? -EAGAIN : -EIO;
		if (!check(everything() == mem.fail_rc))
			break;
	}
	free(mem.data);
}

static void
test_every_length(void)
{
	uint64_t size;

	load("every");
	for (size = mem.size; size-- > 0; ) {
		px.size = mem.size = size;
		if (!check(pxar_open(&px) == -EBADMSG))
			break;
	}
	free(mem.data);
}

/* No byte of it may lead outside, whatever it says; mem aborts. */
static void
test_every_byte(void)
{
	static const uint8_t values[] = { 0, 0xff, 0x80, 1 };
	uint64_t i;
	uint8_t was;
	size_t v;
	long fine = 0;

	load("every");
	for (i = 0; i < mem.size; i++) {
		was = mem.data[i];
		for (v = 0; v < sizeof(values); v++) {
			mem.data[i] = values[v];
			fine += everything() == 0;
		}
		mem.data[i] = was;
	}
	check(fine > 0 && fine < (long)mem.size * 4);
	check_int(mem.outside, 0);
	free(mem.data);
}

static void
test_a_newer_version(void)
{
	load("every");
	mem.data[16] = 3;
	check_int(pxar_open(&px), -ENOTSUP);
	mem.data[16] = 2;
	px.size = 1ull << 62;
	check_int(pxar_open(&px), -EBADMSG);
	free(mem.data);
}

static void
test_links_only_the_first(void)
{
	struct pxlinks l;

	check_int(pxlinks_init(&l, 64), 0);
	check(pxlinks_only(&l, 8, 100));
	check(pxlinks_only(&l, 8, 100));
	check(!pxlinks_only(&l, 8, 200));
	check(pxlinks_only(&l, 16, 200));
	pxlinks_free(&l);
}

int
main(void)
{
	run(test_links_only_the_first);
	run(test_every_kind);
	run(test_version_1);
	run(test_split);
	run(test_directory_in_order);
	run(test_links_are_counted_once);
	run(test_no_tree);
	run(test_directories_have_one_place);
	run(test_attributes);
	run(test_every_read_fails_once);
	run(test_every_length);
	run(test_every_byte);
	run(test_a_newer_version);
	return t_end();
}
