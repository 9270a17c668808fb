/*
 * Archives that are right, made by the input: directories with tables in order, every kind of node, attributes, ACLs, hard
 * links. All that was put in is found. Then bytes are changed here and there, and it is only looked at.
 */
#include "../pxar.c"
#include "pxlook.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = 1 << 16, CHILDREN = 64, DEPTH = 12 };

struct row {
	uint64_t hash, start, size;
};

static const uint8_t *in;
static size_t left;
static uint8_t out[ROOM + 8192];
static size_t at;
static unsigned made, attrs, links;	/* nodes, attributes of them; possible targets of links */
static size_t target[CHILDREN];		/* FILENAMEs of files */
static unsigned target_attrs[CHILDREN];
static int split, version_1;

static uint8_t
next(void)
{
	return (uint8_t)(left ? (left--, *in++) : 0);
}

static void
put(const void *p, size_t n)
{
	if (n)
		memcpy(out + at, p, n);
	at += n;
}

static void
put64(uint64_t v)
{
	for (int i = 0; i < 8; i++)
		out[at++] = (uint8_t)(v >> 8 * i);
}

static void
item(uint64_t type, const void *p, size_t n)
{
	put64(type);
	put64(HEAD + n);
	put(p, n);
}

static void
item64(uint64_t type, unsigned n, uint64_t a, uint64_t b)
{
	put64(type);
	put64(HEAD + 8u * n);
	put64(a);
	if (n > 1)
		put64(b);
}

static void
put_acls(unsigned kinds)
{
	unsigned n = next() % 5, i;
	int access = 0, dflt = 0;

	for (i = 0; kinds & 4 && i < n; i++, access = 1)
		item64(next() % 2 ? PXAR_ACL_USER : PXAR_ACL_GROUP, 2, next(), next() % 8);
	if (kinds & 8) {
		item64(PXAR_ACL_GROUP_OBJ, 1, next() % 8, 0);
		access = 1;
	}
	if (kinds & 16) {
		put64(PXAR_ACL_DEFAULT);
		put64(HEAD + 32);
		for (i = 0; i < 3; i++)
			put64(next() % 8);
		put64(n % 2 ? ~0ull : n);
		for (i = 0; i < n; i++)
			item64(i % 2 ? PXAR_ACL_DEFAULT_USER : PXAR_ACL_DEFAULT_GROUP, 2, next(), next() % 8);
		dflt = 1;
	}
	attrs += (unsigned)(access + dflt);
}

static void
put_entry_of(uint64_t mode)
{
	unsigned kinds = next(), n = next() % 4, i;
	uint8_t value[300], ids[2] = { next(), next() };

	put64(version_1 ? ENTRY_V1 : ENTRY);
	put64(version_1 ? HEAD + 32 : HEAD + 40);
	put64(mode);
	put64(0);
	put64(ids[0] | (uint64_t)ids[1] << 32);
	put64((uint64_t)next() << 29);
	if (!version_1)
		put64((uint64_t)next() << 10);
	for (i = 0; kinds & 1 && i < n; i++, attrs++) {
		size_t k = (size_t)snprintf((char *)value, 32, "user.%u", i) + 1, len = next();

		for (size_t j = 0; j < len; j++)
			value[k + j] = (uint8_t)j;
		item(PXAR_XATTR, value, k + len);
	}
	if (kinds & 2) {
		item(PXAR_FCAPS, "12345678901234567890", 20);
		attrs++;
	}
	put_acls(kinds);
	if (kinds & 32)
		item64(PXAR_QUOTA_PROJID, 1, next(), 0);
}

/* Rows, which are in the order of their hashes, to where a search in an array looks for them. */
static void
place(struct row *to, const struct row *from, unsigned n, unsigned i, unsigned *used)
{
	if (i >= n)
		return;
	place(to, from, n, 2 * i + 1, used);
	to[i] = from[(*used)++];
	place(to, from, n, 2 * i + 2, used);
}

static int
by_hash(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static void
put_table(struct row *rows, unsigned n, size_t entry)
{
	struct row sorted[CHILDREN] = { { 0 } };
	size_t goodbye = at;
	unsigned used = 0;

	qsort(rows, n, sizeof(rows[0]), by_hash);
	place(sorted, rows, n, 0, &used);
	put64(GOODBYE);
	put64(HEAD + ROW * (n + 1));
	for (unsigned i = 0; i < n; i++) {
		put64(sorted[i].hash);
		put64(goodbye - sorted[i].start);
		put64(sorted[i].size);
	}
	put64(TAIL);
	put64(goodbye - entry);
	put64(HEAD + ROW * (n + 1));
}

static void put_dir(int depth);

/* What follows a FILENAME at `start`. */
static void
put_node(int depth, size_t start)
{
	static const unsigned kinds[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK, S_IFREG };
	unsigned kind = kinds[next() % 8], before = attrs, n;
	uint8_t text[300] = "link";

	if (kind == S_IFDIR && depth < DEPTH) {
		put_dir(depth + 1);
		return;
	}
	if (kind == S_IFDIR)
		kind = S_IFIFO;
	put_entry_of(kind | 0644);
	n = next();
	if (kind == S_IFREG && split)
		item64(PAYLOAD_REF, 2, n * 16u, n);
	else if (kind == S_IFREG)
		item(PAYLOAD, text, n);
	else if (kind == S_IFLNK)
		item(SYMLINK, text, 5);
	else if (kind == S_IFBLK || kind == S_IFCHR)
		item64(DEVICE, 2, n, n);
	if (kind == S_IFREG && links < CHILDREN) {
		target_attrs[links] = attrs - before;
		target[links++] = start;
	}
}

static void
put_child(int depth, unsigned nr, struct row *r)
{
	char name[40];
	size_t start = at;
	unsigned n = next(), k;
	uint8_t path[16] = { 0 };

	snprintf(name, sizeof(name), n < 200 ? "%u" : n < 250 ? "%u a longer name" : "%u\xff\n", nr);
	item(FILENAME, name, strlen(name) + 1);
	if (n % 8 == 7 && links) {
		k = next() % links;
		for (unsigned i = 0; i < 8; i++)
			path[i] = (uint8_t)((start - target[k]) >> 8 * i);
		memcpy(path + 8, "0/1", 4);
		item(HARDLINK, path, 12);
		attrs += target_attrs[k];
	} else {
		put_node(depth, start);
	}
	made++;
	*r = (struct row){ siphash24(HASH_0, HASH_1, name, strlen(name)), start, at - start };
}

static void
put_dir(int depth)
{
	struct row rows[CHILDREN];
	size_t entry = at;
	unsigned n = next() % 24, i;

	put_entry_of(S_IFDIR | 0755);
	if (depth == 0)			/* nobody looks at the root's */
		attrs = 0;
	for (i = 0; i < n && at < ROOM - 16384; i++)
		put_child(depth, i, &rows[i]);
	put_table(rows, i, depth ? entry : 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pxlook l;
	unsigned form;
	size_t where;
	int whole, rc;

	in = data;
	left = size;
	at = made = attrs = links = 0;
	form = next();
	split = form & 1;
	version_1 = form & 2 && !split;
	if (split)
		item64(FORMAT_VERSION, 1, 2, 0);
	if (split && form & 4)
		item(PRELUDE, "prelude", 7);
	put_dir(0);
	whole = left == 0 && at < ROOM - 16384;
	while (left >= 3) {
		where = (next() | (size_t)next() << 8) % at;
		out[where] = next();
	}
	rc = pxlook(&l, out, at, split ? 1 << 20 : 0);
	if (whole && (rc < 0 || l.nodes != made || l.found != made || l.attrs != attrs))
		abort();
	return 0;
}
