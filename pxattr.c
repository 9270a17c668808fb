/*
 * Extended attributes of a node. Knows the kernel's binary form of ACLs, and nothing of who
 * wants to have it.
 */
#include "pxattr.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"

#define ACL_MAX 500			/* users and groups each; ext4 and xfs have room for about as many */

/* The kernel's tags. */
enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct acl {
	int any, mask;			/* is there one? Does it have a mask? */
	uint8_t obj[4];			/* permissions: owner, group, others, mask */
	int users, groups;
	uint8_t user[ACL_MAX][8], group[ACL_MAX][8];	/* as they stand in the attribute */
};

struct each {
	const struct pxar *p;
	const struct pxar_stat *st;
	int (*fn)(void *, const struct pxattr *);
	void *ctx;
	int acls;			/* there are items of them: looked at in a second round */
	struct acl acl;
	int second;			/* 1: access ACL, 2: default ACL */
	struct pxattr a;
};

/* name, NUL, value */
static int
take_xattr(struct each *x, uint64_t offset, uint64_t len)
{
	uint32_t n = len < PXATTR_NAME ? (uint32_t)len : PXATTR_NAME;
	size_t name;
	int rc = x->p->read(x->p->ctx, 0, offset, x->a.name, n);

	if (rc < 0)
		return rc;
	name = strnlen(x->a.name, n);
	if (name == 0 || name == n || len - name - 1 > PXATTR_VALUE)
		return -EBADMSG;
	/* These are made of their own items; stored ones would be a second truth. */
	if (strncmp(x->a.name, "system.", 7) == 0)
		return 0;
	x->a.data = NULL;
	x->a.offset = offset + name + 1;
	x->a.len = (uint32_t)(len - name - 1);
	return x->fn(x->ctx, &x->a);
}

static int
first_round(void *ctx, uint64_t type, uint64_t offset, uint64_t len)
{
	struct each *x = ctx;

	if (type == PXAR_XATTR)
		return take_xattr(x, offset, len);
	if (type != PXAR_FCAPS) {
		x->acls |= type != PXAR_QUOTA_PROJID;
		return 0;
	}
	if (len > PXATTR_VALUE)
		return -EBADMSG;
	snprintf(x->a.name, sizeof(x->a.name), "security.capability");
	x->a.data = NULL;
	x->a.offset = offset;
	x->a.len = (uint32_t)len;
	return x->fn(x->ctx, &x->a);
}

static void
put_entry(uint8_t *out, unsigned tag, unsigned perm, uint32_t id)
{
	const uint8_t b[8] = { (uint8_t)tag, 0, (uint8_t)(perm & 7), 0, (uint8_t)id, (uint8_t)(id >> 8),
		(uint8_t)(id >> 16), (uint8_t)(id >> 24) };

	memcpy(out, b, sizeof(b));
}

/* u64 id, u64 permissions */
static int
take_id(struct acl *acl, unsigned tag, const uint8_t b[16])
{
	int *n = tag == USER ? &acl->users : &acl->groups;

	if (*n == ACL_MAX || get32le(b + 4) != 0)
		return -EBADMSG;
	put_entry(tag == USER ? acl->user[*n] : acl->group[*n], tag, b[8], get32le(b));
	(*n)++;
	return 0;
}

static int
second_round(void *ctx, uint64_t type, uint64_t offset, uint64_t len)
{
	struct each *x = ctx;
	struct acl *acl = &x->acl;
	uint8_t b[32] = { 0 };
	int access = type == PXAR_ACL_USER || type == PXAR_ACL_GROUP || type == PXAR_ACL_GROUP_OBJ, rc;
	uint64_t size = type == PXAR_ACL_GROUP_OBJ ? 8 : type == PXAR_ACL_DEFAULT ? 32 : 16;

	if (type == PXAR_XATTR || type == PXAR_FCAPS || type == PXAR_QUOTA_PROJID || (x->second == 1) != access)
		return 0;
	if (len != size)
		return -EBADMSG;
	if ((rc = x->p->read(x->p->ctx, 0, offset, b, (uint32_t)size)) < 0)
		return rc;
	acl->any = 1;
	if (type == PXAR_ACL_USER || type == PXAR_ACL_DEFAULT_USER)
		return take_id(acl, USER, b);
	if (type == PXAR_ACL_GROUP || type == PXAR_ACL_DEFAULT_GROUP)
		return take_id(acl, GROUP, b);
	if (type == PXAR_ACL_GROUP_OBJ) {
		acl->obj[1] = b[0];
		return 0;
	}
	acl->obj[0] = b[0];
	acl->obj[1] = b[8];
	acl->obj[2] = b[16];
	acl->obj[3] = b[24];
	acl->mask = get64le(b + 24) != ~0ull;
	return 0;
}

/* One of the two ACLs: what its items say, put in the kernel's order. */
static int
give_acl(struct each *x, int second)
{
	struct acl *acl = &x->acl;
	uint8_t out[4 + 8 * (2 * ACL_MAX + 4)] = { 2 }, *p = out + 4;
	uint32_t mode = x->st->mode;
	int rc;

	memset(acl, 0, sizeof(*acl));
	x->second = second;
	/* With an access ACL the mode's group bits are its mask. */
	acl->obj[0] = (uint8_t)(mode >> 6);
	acl->obj[1] = acl->obj[3] = (uint8_t)(mode >> 3);
	acl->obj[2] = (uint8_t)mode;
	acl->mask = second == 1;
	if ((rc = pxar_meta(x->p, x->st, second_round, x)) < 0 || !acl->any)
		return rc;
	put_entry(p, USER_OBJ, acl->obj[0], ~0u);
	p += 8;
	memcpy(p, acl->user, 8 * (size_t)acl->users);
	p += 8 * acl->users;
	put_entry(p, GROUP_OBJ, acl->obj[1], ~0u);
	p += 8;
	memcpy(p, acl->group, 8 * (size_t)acl->groups);
	p += 8 * acl->groups;
	if (acl->mask) {
		put_entry(p, MASK, acl->obj[3], ~0u);
		p += 8;
	}
	put_entry(p, OTHER, acl->obj[2], ~0u);
	p += 8;
	snprintf(x->a.name, sizeof(x->a.name), "system.posix_acl_%s", second == 1 ? "access" : "default");
	x->a.data = out;
	x->a.len = (uint32_t)(p - out);
	return x->fn(x->ctx, &x->a);
}

int
pxattr_each(const struct pxar *p, const struct pxar_stat *st,
    int (*fn)(void *, const struct pxattr *), void *ctx)
{
	struct each x = { .p = p, .st = st, .fn = fn, .ctx = ctx };
	int rc = pxar_meta(p, st, first_round, &x);

	if (rc == 0 && x.acls && (rc = give_acl(&x, 1)) == 0)
		rc = give_acl(&x, 2);
	return rc;
}

struct want {
	const struct pxar *p;
	const char *name;
	uint8_t *out;
	uint32_t cap;
	int len;
};

static int
give_wanted(void *ctx, const struct pxattr *a)
{
	struct want *w = ctx;
	int rc = 0;

	if (strcmp(a->name, w->name) != 0)
		return 0;
	w->len = (int)a->len;
	if (w->cap && a->len > w->cap)
		return -ERANGE;
	if (w->cap && a->data)
		memcpy(w->out, a->data, a->len);
	else if (w->cap && a->len)
		rc = w->p->read(w->p->ctx, 0, a->offset, w->out, a->len);
	return rc < 0 ? rc : 1;
}

int
pxattr_get(const struct pxar *p, const struct pxar_stat *st, const char *name, uint8_t *out, uint32_t cap)
{
	struct want w = { p, name, out, cap, 0 };
	int rc = pxattr_each(p, st, give_wanted, &w);

	return rc < 0 ? rc : rc == 0 ? -ENODATA : w.len;
}
