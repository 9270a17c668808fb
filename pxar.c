/*
 * File archives. Pure: no I/O but by the caller's function, no allocation, no state but the
 * caller's.
 *
 * Everything in an archive is hostile. What holds nevertheless: an offset is used only after it
 * was checked to lie between the bounds of what refers to it; a directory's children end before
 * its table begins, so ends grow smaller on every way down and no way goes round in a circle.
 */
#include "pxar.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "bytes.h"
#include "siphash.h"

#define FORMAT_VERSION 0x730f6c75df16a40d
#define PRELUDE 0xe309d79d9f7b771b
#define ENTRY 0xd5956474e588acef
#define ENTRY_V1 0x11da850a1c1cceff
#define FILENAME 0x16701121063917b3
#define SYMLINK 0x27f971e7dbf5dc5f
#define HARDLINK 0x51269c8422bd7275
#define DEVICE 0x9fc9e906586d5ce9
#define PAYLOAD 0x28147a1b0b7c1a25
#define PAYLOAD_REF 0x419d3d6bc4ba977e
#define GOODBYE 0x2fec4fa642d5731d
#define TAIL 0xef5eed5b753e1555		/* marks the last row of a table */

#define HEAD 16u			/* bytes of an item's type and size */
#define ROW 24u				/* bytes of a row of a table */
#define ENTRY_MIN (HEAD + 32)		/* bytes of the smaller kind of ENTRY */
#define HASH_0 0x83ac3f1cfbb450db
#define HASH_1 0xaa4f1b6879369fbd
#define SAME_MAX 256			/* names with one hash that are looked at: more are no accident */
#define META_MAX 4096			/* items of metadata of one node; real ones have a few */

struct item {
	uint64_t type, at, len;		/* offset and bytes of the content */
};

static int
get(const struct pxar *p, uint64_t at, uint64_t limit, void *buf, uint32_t len)
{
	if (limit > p->size)
		limit = p->size;
	if (at > limit || len > limit - at)
		return -EBADMSG;
	return p->read(p->ctx, 0, at, buf, len);
}

/* The item at `at`, which must end before limit. */
static int
get_item(const struct pxar *p, uint64_t at, uint64_t limit, struct item *x)
{
	uint8_t b[HEAD];
	uint64_t size;
	int rc = get(p, at, limit, b, HEAD);

	if (rc < 0)
		return rc;
	size = get64le(b + 8);
	if (size < HEAD || size > limit - at)
		return -EBADMSG;
	x->type = get64le(b);
	x->at = at + HEAD;
	x->len = size - HEAD;
	return 0;
}

/* ---- nodes ---- */

/* The content of an ENTRY of either kind. */
static int
get_entry(const struct pxar *p, const struct item *x, struct pxar_stat *st)
{
	uint32_t len = x->type == ENTRY ? 40 : 32;
	uint8_t b[40];
	uint64_t mode, ns;
	int rc;

	if ((x->type != ENTRY && x->type != ENTRY_V1) || x->len != len)
		return -EBADMSG;
	if ((rc = get(p, x->at, x->at + x->len, b, len)) < 0)
		return rc;
	mode = get64le(b);
	st->uid = get32le(b + 16);
	st->gid = get32le(b + 20);
	if (len == 40) {
		st->mtime = (int64_t)get64le(b + 24);
		st->nsec = get32le(b + 32);
	} else {
		ns = get64le(b + 24);
		st->mtime = (int64_t)(ns / 1000000000);
		st->nsec = (uint32_t)(ns % 1000000000);
	}
	if (mode > 0177777 || st->nsec >= 1000000000)
		return -EBADMSG;
	st->mode = (uint32_t)mode;
	return 0;
}

static int
is_meta(uint64_t type)
{
	return type == PXAR_XATTR || type == PXAR_FCAPS || type == PXAR_QUOTA_PROJID ||
	    type == PXAR_ACL_USER || type == PXAR_ACL_GROUP || type == PXAR_ACL_GROUP_OBJ ||
	    type == PXAR_ACL_DEFAULT || type == PXAR_ACL_DEFAULT_USER || type == PXAR_ACL_DEFAULT_GROUP;
}

int
pxar_meta(const struct pxar *p, const struct pxar_stat *st,
    int (*fn)(void *, uint64_t, uint64_t, uint64_t), void *ctx)
{
	uint64_t at = st->meta;
	struct item x;
	int rc, n;

	for (n = 0; at < st->limit; at = x.at + x.len) {
		if ((rc = get_item(p, at, st->limit, &x)) < 0)
			return rc;
		if (!is_meta(x.type))
			return 0;
		if (++n > META_MAX)
			return -EBADMSG;
		if (fn && (rc = fn(ctx, x.type, x.at, x.len)) != 0)
			return rc;
	}
	return 0;
}

/* The item after the metadata: what a file, a link or a device is made of. */
static int
get_content(const struct pxar *p, struct pxar_stat *st)
{
	uint64_t at = st->meta, kind = st->mode & S_IFMT;
	struct item x;
	uint8_t b[16];
	int rc, n;

	for (n = 0; (rc = get_item(p, at, st->limit, &x)) == 0 && is_meta(x.type); at = x.at + x.len)
		if (++n > META_MAX)
			return -EBADMSG;
	if (rc < 0)
		return rc;
	st->size = x.len;
	st->data = x.at;
	if (x.type == PAYLOAD && kind == S_IFREG)
		return 0;
	if (x.type == SYMLINK && kind == S_IFLNK) {
		st->size--;		/* its NUL */
		return x.len < 2 || x.len > PXAR_TARGET ? -EBADMSG : 0;
	}
	st->size = 0;
	if (x.len != 16 || !(x.type == PAYLOAD_REF ? kind == S_IFREG :
	    x.type == DEVICE && (kind == S_IFBLK || kind == S_IFCHR)))
		return -EBADMSG;
	if ((rc = get(p, x.at, x.at + 16, b, 16)) < 0)
		return rc;
	if (kind != S_IFREG) {
		/* What does not fit a device number is none. */
		st->major = get32le(b);
		st->minor = get32le(b + 8);
		return get32le(b + 4) || get32le(b + 12) ? -EBADMSG : 0;
	}
	st->data = get64le(b);
	st->size = get64le(b + 8);
	if (st->data > p->payload_size || p->payload_size - st->data < HEAD ||
	    st->size > p->payload_size - st->data - HEAD)
		return -EBADMSG;
	st->data += HEAD;
	st->payload = 1;
	return 0;
}

/* The node whose ENTRY is at `at`; everything of it is before limit. */
static int
get_node(const struct pxar *p, uint64_t at, uint64_t limit, struct pxar_stat *st)
{
	struct item x;
	int rc;

	memset(st, 0, sizeof(*st));
	if ((rc = get_item(p, at, limit, &x)) < 0 || (rc = get_entry(p, &x, st)) < 0)
		return rc;
	st->id = at * 2;
	st->meta = x.at + x.len;
	st->limit = limit;
	switch (st->mode & S_IFMT) {
	case S_IFDIR: case S_IFIFO: case S_IFSOCK:
		return 0;
	case S_IFREG: case S_IFLNK: case S_IFBLK: case S_IFCHR:
		return get_content(p, st);
	}
	return -EBADMSG;
}

int
pxar_stat(const struct pxar *p, uint64_t id, struct pxar_stat *st)
{
	struct pxar_dir d = { id / 2, p->size, 0 };
	int rc;

	if (PXAR_IS_DIR(id) && (rc = pxar_dir(p, id, &d)) < 0)
		return rc;
	if ((rc = get_node(p, d.entry, d.goodbye, st)) < 0)
		return rc;
	st->id = id;
	return S_ISDIR(st->mode) == PXAR_IS_DIR(id) ? 0 : -EBADMSG;
}

int
pxar_target(const struct pxar *p, const struct pxar_stat *st, char out[PXAR_TARGET])
{
	int rc;

	if (!S_ISLNK(st->mode))
		return -EINVAL;
	if ((rc = get(p, st->data, st->limit, out, (uint32_t)st->size + 1)) < 0)
		return rc;
	return strnlen(out, st->size + 1) == st->size ? 0 : -EBADMSG;
}

int
pxar_check_data(const struct pxar *p, const struct pxar_stat *st)
{
	uint8_t b[HEAD];
	int rc;

	if (!st->payload)
		return 0;
	if ((rc = p->read(p->ctx, 1, st->data - HEAD, b, HEAD)) < 0)
		return rc;
	return get64le(b) == PAYLOAD && get64le(b + 8) == st->size + HEAD ? 0 : -EBADMSG;
}

/* ---- directories ---- */

int
pxar_dir(const struct pxar *p, uint64_t id, struct pxar_dir *d)
{
	uint64_t end = id / 2, size, back;
	struct item x;
	uint8_t b[ROW];
	int rc;

	if (end < ROW || !PXAR_IS_DIR(id))
		return -EBADMSG;
	if ((rc = get(p, end - ROW, end, b, ROW)) < 0)
		return rc;
	back = get64le(b + 8);
	size = get64le(b + 16);
	if (get64le(b) != TAIL || size < HEAD + ROW || (size - HEAD) % ROW != 0 || size > end)
		return -EBADMSG;
	d->goodbye = end - size;
	if (back > d->goodbye)
		return -EBADMSG;
	/* Of the root it leads to the archive's first byte, a version's item perhaps. */
	d->entry = id == p->root && back == d->goodbye ? p->entry : d->goodbye - back;
	if (d->entry > d->goodbye || d->goodbye - d->entry < ENTRY_MIN)
		return -EBADMSG;
	d->count = (size - HEAD) / ROW - 1;
	if ((rc = get_item(p, d->goodbye, end, &x)) < 0)
		return rc;
	return x.type == GOODBYE && x.len == size - HEAD ? 0 : -EBADMSG;
}

int
pxar_child(const struct pxar *p, const struct pxar_dir *d, uint64_t i, uint64_t *hash, struct pxar_child *c)
{
	uint64_t at = d->goodbye + HEAD + i * ROW, back, size;
	uint8_t b[ROW];
	int rc;

	if (i >= d->count)
		return -EBADMSG;
	if ((rc = get(p, at, at + ROW, b, ROW)) < 0)
		return rc;
	*hash = get64le(b);
	back = get64le(b + 8);
	size = get64le(b + 16);
	/* The official writer adds the data's size to a file's also where the data is elsewhere; only a
	 * directory's end is looked for by it. */
	if (size > back && p->payload_size)
		size = back;
	if (size > back || back > d->goodbye - d->entry - ENTRY_MIN)
		return -EBADMSG;
	c->start = d->goodbye - back;
	c->end = c->start + size;
	c->at = 0;
	return 0;
}

int
pxar_name(const struct pxar *p, struct pxar_child *c, char name[PXAR_NAME])
{
	struct item x;
	int rc;

	if ((rc = get_item(p, c->start, c->end, &x)) < 0)
		return rc;
	if (x.type != FILENAME || x.len < 2 || x.len > PXAR_NAME)
		return -EBADMSG;
	if ((rc = get(p, x.at, c->end, name, (uint32_t)x.len)) < 0)
		return rc;
	if (strnlen(name, x.len) != x.len - 1 || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EBADMSG;
	c->at = x.at + x.len;
	return 0;
}

/* A hard link leads back to a name before it, that of a node and no directory. */
static int
get_linked(const struct pxar *p, const struct pxar_child *c, const struct item *x, struct pxar_stat *st)
{
	struct pxar_child target = { .end = c->start };
	char name[PXAR_NAME];
	uint8_t b[8];
	int rc;

	if (x->len < 8)
		return -EBADMSG;
	if ((rc = get(p, x->at, c->end, b, 8)) < 0)
		return rc;
	if (get64le(b) > c->start)
		return -EBADMSG;
	target.start = c->start - get64le(b);
	if ((rc = pxar_name(p, &target, name)) < 0 || (rc = get_node(p, target.at, target.end, st)) < 0)
		return rc;
	st->linked = 1;
	/* As it is when it comes by its id. */
	st->limit = p->size;
	return S_ISDIR(st->mode) ? -EBADMSG : 0;
}

int
pxar_link_path(const struct pxar *p, const struct pxar_child *c, char out[PXAR_TARGET])
{
	struct item x;
	int rc;

	if ((rc = get_item(p, c->at, c->end, &x)) < 0)
		return rc;
	if (x.type != HARDLINK || x.len < 8 + 2 || x.len - 8 > PXAR_TARGET)
		return -EBADMSG;
	if ((rc = get(p, x.at + 8, c->end, out, (uint32_t)(x.len - 8))) < 0)
		return rc;
	return strnlen(out, x.len - 8) == x.len - 9 ? 0 : -EBADMSG;
}

int
pxar_resolve(const struct pxar *p, const struct pxar_child *c, struct pxar_stat *st)
{
	struct pxar_dir d;
	struct item x;
	int rc;

	if ((rc = get_item(p, c->at, c->end, &x)) < 0)
		return rc;
	if (x.type == HARDLINK)
		return get_linked(p, c, &x, st);
	if ((rc = get_node(p, c->at, c->end, st)) < 0 || !S_ISDIR(st->mode))
		return rc;
	/* A directory is found from its end: that must lead to this very one. */
	st->id = c->end * 2 + 1;
	if ((rc = pxar_dir(p, st->id, &d)) < 0)
		return rc;
	st->limit = d.goodbye;
	return d.entry == c->at ? 0 : -EBADMSG;
}

int
pxar_find(const struct pxar *p, const struct pxar_dir *d, const char *name, struct pxar_child *c)
{
	uint64_t hash = siphash24(HASH_0, HASH_1, name, strlen(name)), h = hash, i = 0;
	uint64_t least = 0, most = ~0ull;	/* what hashes may be in the subtree of i: else it is no tree */
	uint64_t later[64];		/* subtrees to be looked at too: at most one a level */
	char other[PXAR_NAME];
	int n = 0, same = 0, rc;

	for (;;) {
		if (i >= d->count) {
			if (n == 0)
				return -ENOENT;
			i = later[--n];
			least = hash;
			most = ~0ull;
			continue;
		}
		/* A row that makes no sense, but for its hash, does not hide others. */
		rc = pxar_child(p, d, i, &h, c);
		if (rc < 0 && (rc != -EBADMSG || h == hash))
			return rc;
		if (h < least || h > most)
			return -EBADMSG;
		if (hash == h) {
			if (++same > SAME_MAX)
				return -EBADMSG;
			if ((rc = pxar_name(p, c, other)) < 0 || strcmp(name, other) == 0)
				return rc;
			later[n++] = i * 2 + 2;
		}
		if (hash > h)
			least = h;
		else
			most = h;
		i = i * 2 + 1 + (hash > h);
	}
}

int
pxar_path(const struct pxar *p, uint64_t id, const char *path, struct pxar_stat *st)
{
	struct pxar_child c;
	struct pxar_dir d;
	char name[PXAR_NAME];
	size_t n;
	int rc = pxar_stat(p, id, st);

	for (; rc == 0; path += n) {
		path += strspn(path, "/");
		if ((n = strcspn(path, "/")) == 0)
			break;
		if (n == 1 && *path == '.')
			continue;
		if (n == 2 && path[0] == '.' && path[1] == '.')
			return -EINVAL;
		if (!S_ISDIR(st->mode))
			return -ENOTDIR;
		if (n >= PXAR_NAME)
			return -ENOENT;
		memcpy(name, path, n);
		name[n] = 0;
		if ((rc = pxar_dir(p, st->id, &d)) == 0 && (rc = pxar_find(p, &d, name, &c)) == 0)
			rc = pxar_resolve(p, &c, st);
	}
	return rc;
}

/* ---- the whole ---- */

int
pxar_open(struct pxar *p)
{
	struct pxar_dir d;
	struct item x;
	uint64_t at = 0;
	uint8_t b[8];
	int rc;

	/* Ids are twice an offset. */
	if (p->size >= 1ull << 62)
		return -EBADMSG;
	if ((rc = get_item(p, 0, p->size, &x)) < 0)
		return rc;
	if (x.type == FORMAT_VERSION) {
		if (x.len != 8)
			return -EBADMSG;
		if ((rc = get(p, x.at, p->size, b, 8)) < 0)
			return rc;
		if (get64le(b) > 2)
			return -ENOTSUP;
		at = x.at + x.len;
		if ((rc = get_item(p, at, p->size, &x)) < 0)
			return rc;
		if (x.type == PRELUDE)
			at = x.at + x.len;
	}
	p->root = p->size * 2 + 1;
	p->entry = at;
	if ((rc = pxar_dir(p, p->root, &d)) < 0)
		return rc;
	return d.entry == at ? 0 : -EBADMSG;
}
