/*
 * A file archive as a file system. Each request is an `op` (pxop.h); its run() goes the straight way
 * through the archive with a read() that answers -EAGAIN when a chunk is not there. Then the op
 * waits for that chunk, and runs again.
 *
 * Nodes have no memory here: their numbers say where they are in the archive (pxar.h). Knows
 * no snapshots and no mount points.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "clock.h"
#include "config.h"
#include "fuse.h"
#include "log.h"
#include "pxattr.h"
#include "pxop.h"

#define OPS_MAX 256			/* requests that wait for chunks of metadata, at most */
#define COUNTED_MAX (1u << 16)		/* hard links that are counted */
#define PARENTS_MAX (1u << 18)		/* directories whose place is remembered: 4 MiB */
#define SOON 8				/* children of a directory that are fetched ahead of the one that is listed */
#define TOLD_MAX 256			/* places of damage that are logged */

/* ---- what is known of a node ---- */

static void
fill(struct pxfs *fs, const struct pxar_stat *px, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = px->id == fs->conf.root ? FUSE_ROOT_ID : px->id;
	st->st_mode = px->mode;
	/* Of a directory 1 says that its subdirectories were not counted. */
	st->st_nlink = 1 + (PXAR_IS_DIR(px->id) ? 0 : pxlinks_count(&fs->links, px->id));
	st->st_uid = px->uid;
	st->st_gid = px->gid;
	st->st_rdev = makedev(px->major, px->minor);
	st->st_size = (off_t)px->size;
	st->st_blocks = (blkcnt_t)((px->size + 511) / 512);
	st->st_blksize = 4096;
	st->st_mtim.tv_sec = (time_t)px->mtime;
	st->st_mtim.tv_nsec = (long)px->nsec;
	st->st_atim = st->st_ctim = st->st_mtim;
}

static void
fill_entry(struct pxfs *fs, const struct pxar_child *c, const struct pxar_stat *px, struct fuse_entry_param *ent)
{
	if (px->linked)
		pxlinks_add(&fs->links, px->id, c->start);
	memset(ent, 0, sizeof(*ent));
	fill(fs, px, &ent->attr);
	ent->ino = ent->attr.st_ino;
	ent->attr_timeout = ent->entry_timeout = FUSE_FOREVER;
}

/* What is behind a child's name. A directory is where it was met first, and nowhere else: the kernel wants it so, and
 * walks would grow without end in directories that have each other. */
static int
resolve(struct op *op, const struct pxar *p, const struct pxar_child *c, struct pxar_stat *px)
{
	int rc = pxar_resolve(p, c, px);

	return rc == 0 && PXAR_IS_DIR(px->id) && !pxlinks_only(&op->fs->parents, px->id, op->id) ? -EBADMSG : rc;
}

static int
run_lookup(struct op *op)
{
	struct pxar p = op_archive(op);
	struct fuse_entry_param ent;
	struct pxar_child c;
	struct pxar_stat px;
	struct pxar_dir d;
	int rc;

	if ((rc = pxar_dir(&p, op->id, &d)) == 0 && (rc = pxar_find(&p, &d, op->name, &c)) == 0) {
		op->place = c.start;
		op->named = 1;
		rc = resolve(op, &p, &c, &px);
	}
	if (rc == -ENOENT)		/* what is not there will never be */
		ent = (struct fuse_entry_param){ .entry_timeout = FUSE_FOREVER };
	else if (rc < 0)
		return rc;
	else
		fill_entry(op->fs, &c, &px, &ent);
	fuse_reply_entry(op->req, &ent);
	return 0;
}

static int
run_getattr(struct op *op)
{
	struct pxar p = op_archive(op);
	struct pxar_stat px;
	struct stat st;
	int rc;

	if ((rc = pxar_stat(&p, op->id, &px)) < 0)
		return rc;
	fill(op->fs, &px, &st);
	fuse_reply_attr(op->req, &st, FUSE_FOREVER);
	return 0;
}

static int
run_readlink(struct op *op)
{
	struct pxar p = op_archive(op);
	char target[PXAR_TARGET];
	struct pxar_stat px;
	int rc;

	if ((rc = pxar_stat(&p, op->id, &px)) < 0 || (rc = pxar_target(&p, &px, target)) < 0)
		return rc;
	fuse_reply_readlink(op->req, target);
	return 0;
}

/* ---- attributes ---- */

static int
run_getxattr(struct op *op)
{
	struct pxar p = op_archive(op);
	struct pxar_stat px;
	uint8_t *value = NULL;
	int rc;

	if (op->size && (value = malloc(PXATTR_VALUE)) == NULL)
		return -ENOMEM;
	if ((rc = pxar_stat(&p, op->id, &px)) == 0)
		rc = pxattr_get(&p, &px, op->name, value,
		    op->size > PXATTR_VALUE ? PXATTR_VALUE : (uint32_t)op->size);
	if (rc >= 0 && op->size)
		fuse_reply_buf(op->req, (const char *)value, (size_t)rc);
	else if (rc >= 0)
		fuse_reply_xattr(op->req, (size_t)rc);
	free(value);
	return rc > 0 ? 0 : rc;
}

struct names {
	char text[PXATTR_VALUE];	/* the kernel's limit of a list */
	size_t len;
};

static int
add_name(void *ctx, const struct pxattr *a)
{
	struct names *l = ctx;
	size_t n = strlen(a->name) + 1;

	if (n > sizeof(l->text) - l->len)
		return -E2BIG;
	memcpy(l->text + l->len, a->name, n);
	l->len += n;
	return 0;
}

static int
run_listxattr(struct op *op)
{
	struct names *l = malloc(sizeof(*l));
	struct pxar p = op_archive(op);
	struct pxar_stat px;
	int rc;

	if (l == NULL)
		return -ENOMEM;
	l->len = 0;
	if ((rc = pxar_stat(&p, op->id, &px)) == 0)
		rc = pxattr_each(&p, &px, add_name, l);
	if (rc == 0 && op->size && l->len > op->size)
		rc = -ERANGE;
	if (rc == 0 && op->size)
		fuse_reply_buf(op->req, l->text, l->len);
	else if (rc == 0)
		fuse_reply_xattr(op->req, l->len);
	free(l);
	return rc;
}

/* ---- directories ---- */

/* Adds one entry to the answer: 0 when it does not fit any more. */
static int
add(struct op *op, char *out, size_t *len, const char *name, const struct fuse_entry_param *ent)
{
	size_t room = op->size - *len, n;

	n = op->plus ? fuse_add_direntry_plus(op->req, out + *len, room, name, ent, (off_t)op->off + 1) :
	    fuse_add_direntry(op->req, out + *len, room, name, &ent->attr, (off_t)op->off + 1);
	if (n > room)
		return 0;
	*len += n;
	op->off++;
	op_step(op);
	return 1;
}

/* The entry at op->off: 1, 0 when it does not fit, or a negative errno (-EAGAIN). */
static int
add_child(struct op *op, struct pxar *p, char *out, size_t *len)
{
	struct fuse_entry_param ent = { .attr = { .st_ino = 0xffffffff } };	/* "not known" */
	struct pxar_child c;
	struct pxar_stat px;
	char name[PXAR_NAME];
	uint64_t i;
	int rc;

	if (op->off < 2) {
		ent.attr.st_mode = S_IFDIR;
		return add(op, out, len, op->off ? ".." : ".", &ent);
	}
	/* Large children lie chunks apart: each would be waited for. */
	for (i = op->off > 2 ? op->off + SOON : 2; i < op->off + SOON + 1; i++)
		if (i - 2 < op->dir->d.count)
			image_soon(op->fs->conf.image[0], op->dir->row[i - 2].start);
	if ((rc = pxdir_child(op->dir, op->off - 2, &c)) == 0)
		rc = pxar_name(p, &c, name);
	if (rc == -EBADMSG || rc == -EIO) {	/* not even a name */
		op->dir->bad++;
		op->off++;
		op_step(op);
		return 1;
	}
	if (rc == 0 && (rc = resolve(op, p, &c, &px)) == 0)
		fill_entry(op->fs, &c, &px, &ent);
	/* Without a number the kernel asks for it, and is told what is wrong. */
	return rc == 0 || rc == -EBADMSG || rc == -EIO ? add(op, out, len, name, &ent) : rc;
}

static int
run_readdir(struct op *op)
{
	struct pxar p = op_archive(op);
	struct pxdir *d = op->dir;
	size_t len = 0;
	char *out;
	int rc;

	/* Another op may have taken the table further than this one had read for. */
	if (op->mark != d->progress)
		op->have = 0;
	while ((rc = pxdir_load(d, &p)) > 0)
		op_step(op);
	op->mark = d->progress;
	if (rc < 0)
		return rc;
	if ((out = malloc(op->size)) == NULL)
		return -ENOMEM;
	while (op->off < d->d.count + 2 && (rc = add_child(op, &p, out, &len)) > 0)
		;
	/* What is there is answered at once; the rest is on its way meanwhile. */
	if (rc >= 0 || len) {
		rc = 0;
		if (len == 0 && d->bad && !d->told) {
			if (op_first(op->fs, op->place))
				say("%u names are damaged in the directory whose end is at byte %llu",
				    d->bad, (unsigned long long)op->place);
			d->told = 1;
			rc = -EIO;
		} else {
			fuse_reply_buf(op->req, out, len);
		}
	}
	free(out);
	return rc;
}

/* ---- files ---- */

static int
run_open(struct op *op)
{
	struct fuse_file_info fi = { .flags = O_RDONLY, .keep_cache = 1, .noflush = 1 };
	struct pxar p = op_archive(op);
	struct pxar_stat px;
	struct file *f = op->file;
	int rc;

	if ((rc = pxar_stat(&p, op->id, &px)) < 0 || (rc = pxar_check_data(&p, &px)) < 0)
		return rc;
	f->image = op->fs->conf.image[px.payload];
	f->data = px.data;
	f->size = S_ISREG(px.mode) ? px.size : 0;
	fi.fh = (uintptr_t)f;
	if (fuse_reply_open(op->req, &fi) == 0)
		op->file = NULL;	/* it is release()'s now */
	return 0;
}

/* ---- requests ---- */

static void
do_init(void *ctx, struct fuse_conn_info *conn)
{
	struct pxfs *fs = ctx;

	fusedev_background(conn, fs->conf.background);
	conn->want |= conn->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS);
	/* Attributes with every name: they were read anyway. */
	conn->want &= ~(unsigned)FUSE_CAP_READDIRPLUS_AUTO;
}

static void
do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct op *op;

	if (strlen(name) >= PXAR_NAME) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	op = op_new(req, parent, run_lookup);
	strcpy(op->name, name);
	op_run(op);
}

static void
do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	op_run(op_new(req, ino, run_getattr));
}

static void
do_readlink(fuse_req_t req, fuse_ino_t ino)
{
	op_run(op_new(req, ino, run_readlink));
}

static void
do_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct op *op;

	if (strlen(name) >= PXAR_NAME) {
		fuse_reply_err(req, ENODATA);
		return;
	}
	op = op_new(req, ino, run_getxattr);
	strcpy(op->name, name);
	op->size = size;
	op_run(op);
}

static void
do_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct op *op = op_new(req, ino, run_listxattr);

	op->size = size;
	op_run(op);
}

static void
do_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct pxfs *fs = fuse_req_userdata(req);
	struct pxdir *d = pxdir_new(ino == FUSE_ROOT_ID ? fs->conf.root : ino);

	if (d == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)d;
	fi->cache_readdir = fi->keep_cache = 1;
	if (fuse_reply_open(req, fi) != 0)
		pxdir_free(d);
}

static void
readdir_of(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi, int plus)
{
	struct op *op = op_new(req, ino, run_readdir);

	op->dir = (struct pxdir *)(uintptr_t)fi->fh;
	op->size = size > READ_MAX ? READ_MAX : size;
	op->off = off < 0 ? UINT64_MAX : (uint64_t)off;
	op->plus = plus;
	op_run(op);
}

static void
do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_of(req, ino, size, off, fi, 0);
}

static void
do_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_of(req, ino, size, off, fi, 1);
}

static void
do_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	pxdir_free((struct pxdir *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

static void
do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct op *op;

	if ((fi->flags & O_ACCMODE) != O_RDONLY) {
		fuse_reply_err(req, EROFS);
		return;
	}
	op = op_new(req, ino, run_open);
	if ((op->file = calloc(1, sizeof(*op->file))) == NULL)
		op_fail(op, -ENOMEM);
	else
		op_run(op);
}

static void
read_interrupt(fuse_req_t req, void *image)
{
	image_interrupt(image, req, INTERRUPT_MS);
}

static void
do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	const struct file *f = (const struct file *)(uintptr_t)fi->fh;

	(void)ino;
	if (off < 0 || size > READ_MAX) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if ((uint64_t)off >= f->size) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if (size > f->size - (uint64_t)off)
		size = (size_t)(f->size - (uint64_t)off);
	fuse_req_interrupt_func(req, read_interrupt, f->image);
	image_read(f->image, f->data + (uint64_t)off, (uint32_t)size, req);
}

static void
do_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	free((struct file *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

const struct fuse_lowlevel_ops pxfs_ops = {
	.init = do_init,
	.lookup = do_lookup,
	.getattr = do_getattr,
	.readlink = do_readlink,
	.getxattr = do_getxattr,
	.listxattr = do_listxattr,
	.opendir = do_opendir,
	.readdir = do_readdir,
	.readdirplus = do_readdirplus,
	.releasedir = do_releasedir,
	.open = do_open,
	.read = do_read,
	.release = do_release,
};

/* ---- beginning and end ---- */

int
pxfs_full(void *ctx)
{
	struct pxfs *fs = ctx;

	return fs->idle == NULL || image_full(fs->conf.image[0]) ||
	    (fs->conf.image[1] && image_full(fs->conf.image[1]));
}

int
pxfs_expire(struct pxfs *fs)
{
	int64_t now;

	if (fs->ring.next == &fs->ring)
		return -1;
	now = clock_ms();
	while (fs->ring.next != &fs->ring && fs->ring.next->deadline <= now)
		op_fail(fs->ring.next, fs->ring.next->interrupted ? -EINTR : -EIO);
	return fs->ring.next == &fs->ring ? -1 : (int)(fs->ring.next->deadline - now);
}

void
pxfs_end(struct pxfs *fs)
{
	while (fs->ring.next != &fs->ring)
		op_fail(fs->ring.next, -EIO);
}

struct pxfs *
pxfs_new(const struct pxfs_conf *conf, struct err *e)
{
	struct pxfs *fs = calloc(1, sizeof(*fs));
	int i;

	if (fs == NULL || (fs->ops = calloc(OPS_MAX, sizeof(*fs->ops))) == NULL ||
	    pxlinks_init(&fs->links, COUNTED_MAX) < 0 || pxlinks_init(&fs->parents, PARENTS_MAX) < 0 ||
	    pxlinks_init(&fs->told, TOLD_MAX) < 0) {
		if (fs)
			pxfs_free(fs);
		err_set(e, ST_FAIL, -ENOMEM, "out of memory");
		return NULL;
	}
	fs->conf = *conf;
	fs->ring.next = fs->ring.prev = &fs->ring;
	for (i = OPS_MAX - 1; i >= 0; i--) {
		fs->ops[i].fs = fs;
		fs->ops[i].next = fs->idle;
		fs->idle = &fs->ops[i];
	}
	return fs;
}

void
pxfs_free(struct pxfs *fs)
{
	int i;

	for (i = 0; fs->ops && i < OPS_MAX; i++)
		free(fs->ops[i].mem);
	pxlinks_free(&fs->links);
	pxlinks_free(&fs->parents);
	pxlinks_free(&fs->told);
	free(fs->ops);
	free(fs);
}
