/*
 * A file archive as a POSIX tar (pax): what the old header has no room for stands in records before it, with
 * extended attributes and ACLs as GNU tar and others read them.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bytes.h"
#include "pxattr.h"
#include "pxlist.h"
#include "pxrestore.h"

#define BLOCK 512u

static struct {
	char *text;			/* pax records of the entry under way */
	size_t len, cap;
	uint8_t value[PXATTR_VALUE];
} pax;

static int
put(const void *p, size_t n)
{
	return fwrite(p, 1, n, stdout) == n ? 0 : -EPIPE;
}

static int
pad(uint64_t n)
{
	static const uint8_t zeros[BLOCK];

	return put(zeros, (size_t)(-n & (BLOCK - 1)));
}

/* ---- records ---- */

/* "LENGTH KEY=VALUE\n", whose length counts its own digits. */
static int
record(const char *key, const void *value, size_t len)
{
	size_t rest = strlen(key) + len + 3, total = rest, need;
	char digits[24], *p;

	do
		need = total;
	while ((total = rest + (size_t)snprintf(digits, sizeof(digits), "%zu", need)) != need);
	if (pax.len + total > pax.cap) {
		if ((p = realloc(pax.text, (pax.len + total) * 2)) == NULL)
			return -ENOMEM;
		pax.text = p;
		pax.cap = (pax.len + total) * 2;
	}
	p = pax.text + pax.len;
	p += sprintf(p, "%s %s=", digits, key);
	memcpy(p, value, len);
	p[len] = '\n';
	pax.len += total;
	return 0;
}

static int
record_text(const char *key, const char *value)
{
	return record(key, value, strlen(value));
}

/* The kernel's ACL as text, ids as numbers. */
static int
record_acl(const char *key, const uint8_t *v, uint32_t len)
{
	char *text = malloc((size_t)len * 4 + 1), *p = text;
	uint32_t i, tag, id;
	int rc;

	if (text == NULL)
		return -ENOMEM;
	for (i = 4; i + 8 <= len; i += 8) {
		tag = get16le(v + i);
		id = get32le(v + i + 4);
		p += sprintf(p, "%s%s:", p == text ? "" : ",", tag < 4 ? "user" : tag < 16 ? "group" :
		    tag == 16 ? "mask" : "other");
		if (tag == 2 || tag == 8)
			p += sprintf(p, "%u", id);
		p += sprintf(p, ":%c%c%c", v[i + 2] & 4 ? 'r' : '-', v[i + 2] & 2 ? 'w' : '-', v[i + 2] & 1 ? 'x' : '-');
	}
	rc = record(key, text, (size_t)(p - text));
	free(text);
	return rc;
}

static int
record_xattr(void *ctx, const struct pxattr *a)
{
	struct pxar *p = ctx;
	char key[PXATTR_NAME + 20];
	int rc;

	if (a->data)
		return record_acl(strstr(a->name, "default") ? "SCHILY.acl.default" : "SCHILY.acl.access", a->data, a->len);
	if (a->len && (rc = p->read(p->ctx, 0, a->offset, pax.value, a->len)) < 0)
		return rc;
	snprintf(key, sizeof(key), "SCHILY.xattr.%s", a->name);
	return strchr(a->name, '=') ? 0 : record(key, pax.value, a->len);
}

static int
records(struct pxout *x, const struct pxar_stat *st, const char *path, const char *link, uint64_t size)
{
	char text[48];
	int rc = 0;

	pax.len = 0;
	/* A time before 1970: both parts count down. */
	if (st->mtime < 0 && st->nsec)
		snprintf(text, sizeof(text), "-%lld.%09u", -(long long)(st->mtime + 1), 1000000000 - st->nsec);
	else
		snprintf(text, sizeof(text), "%lld.%09u", (long long)st->mtime, st->nsec);
	if (st->mtime < 0 || st->mtime >> 33 || st->nsec)
		rc = record_text("mtime", text);
	if (rc == 0 && strlen(path) > 100)
		rc = record_text("path", path);
	if (rc == 0 && strlen(link) > 100)
		rc = record_text("linkpath", link);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	if (rc == 0 && size >> 33)
		rc = record_text("size", text);
	snprintf(text, sizeof(text), "%u", st->uid);
	if (rc == 0 && st->uid >> 21)
		rc = record_text("uid", text);
	snprintf(text, sizeof(text), "%u", st->gid);
	if (rc == 0 && st->gid >> 21)
		rc = record_text("gid", text);
	return rc ? rc : pxattr_each(&x->view.px, st, record_xattr, &x->view.px);
}

/* ---- headers ---- */

static void
octal(uint8_t *out, int width, uint64_t v)
{
	char text[32];

	/* What does not fit stands in a record. */
	if (v >> (3 * (width - 1)))
		v = 0;
	snprintf(text, sizeof(text), "%0*llo", width - 1, (unsigned long long)v);
	memcpy(out, text, (size_t)width);
}

static int
header(const struct pxar_stat *st, const char *path, const char *link, char type, uint64_t size)
{
	uint8_t h[BLOCK] = { 0 };
	unsigned sum = 0, i;

	memcpy(h, path, strnlen(path, 100));
	octal(h + 100, 8, st->mode & 07777);
	octal(h + 108, 8, st->uid);
	octal(h + 116, 8, st->gid);
	octal(h + 124, 12, size);
	octal(h + 136, 12, st->mtime < 0 ? 0 : (uint64_t)st->mtime);
	memset(h + 148, ' ', 8);
	h[156] = (uint8_t)type;
	memcpy(h + 157, link, strnlen(link, 100));
	memcpy(h + 257, "ustar\00000", 8);
	octal(h + 329, 8, st->major);
	octal(h + 337, 8, st->minor);
	for (i = 0; i < BLOCK; i++)
		sum += h[i];
	octal(h + 148, 7, sum);
	return put(h, BLOCK);
}

static int
put_data(void *ctx, const uint8_t *data, size_t len)
{
	*(uint64_t *)ctx += len;
	return put(data, len) < 0 ? -EPIPE : 0;
}

/* The header has told the size: what cannot be read is zeros. */
static int
put_file(struct pxout *x, const struct pxwalk_entry *ent)
{
	static uint8_t zeros[PXOUT_PIECE];	/* not const: that would be in the program */
	uint64_t done = 0, n;
	int rc = pxout_data(x, ent->st, put_data, &done);

	if (rc == -EIO || rc == -EBADMSG)
		pxout_bad(x, ent, rc);
	else if (rc < 0)
		return rc;
	for (rc = 0; rc == 0 && done < ent->st->size; done += n) {
		n = ent->st->size - done < sizeof(zeros) ? ent->st->size - done : sizeof(zeros);
		rc = put(zeros, (size_t)n);
	}
	return rc ? rc : pad(ent->st->size);
}

static int
put_entry(struct pxout *x, const struct pxwalk_entry *ent, const char *link, char type)
{
	static const struct pxar_stat plain = { .mode = 0644 };
	const struct pxar_stat *st = ent->st;
	uint64_t size = type == '0' ? st->size : 0;
	char path[8192];
	int rc;

	if ((size_t)snprintf(path, sizeof(path), "%s%s", *ent->path ? ent->path : ".", type == '5' ? "/" : "") >= sizeof(path))
		return -EBADMSG;
	if ((rc = records(x, st, path, link, size)) < 0)
		return rc;
	if (pax.len && ((rc = header(&plain, "pax", "", 'x', pax.len)) < 0 ||
	    (rc = put(pax.text, pax.len)) < 0 || (rc = pad(pax.len)) < 0))
		return rc;
	if ((rc = header(st, path, link, type, size)) < 0)
		return rc;
	return type == '0' ? put_file(x, ent) : 0;
}

int
tar_entry(void *ctx, const struct pxwalk_entry *ent)
{
	static const char types[] = " 63 5 4 0 2     ";	/* by S_IFMT: FIFO, char, dir, block, file, link */
	struct pxout *x = ctx;
	char link[PXAR_TARGET] = "", type;
	int rc = 0;

	if (ent->what == PXWALK_BAD) {
		pxout_bad(x, ent, ent->rc);
		return 0;
	}
	if (ent->what == PXWALK_LEAVE || ent->above)
		return 0;
	type = types[ent->st->mode >> 12 & 15];
	if (type == ' ') {
		pxout_lack(x, LACK_SOCKET, ent->path, 0);
		return 0;
	}
	if (S_ISLNK(ent->st->mode))
		rc = pxar_target(&x->view.px, ent->st, link);
	else if (pxout_link(x, ent, link))
		type = '1';
	else
		link[0] = 0;
	if (rc == 0)
		rc = put_entry(x, ent, link, type);
	if (rc == -EBADMSG || rc == -EIO) {
		pxout_bad(x, ent, rc);
		rc = 0;
	}
	return rc;
}

int
tar_end(void)
{
	static const uint8_t zeros[2 * BLOCK];

	free(pax.text);
	return put(zeros, sizeof(zeros)) < 0 || fflush(stdout) != 0 ? -EPIPE : 0;
}
