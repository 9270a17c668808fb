/*
 * Entries to files. Every name is used relative to a descriptor of its directory, and none is followed when
 * it is a symbolic link: so nothing is written outside of the target, whatever lies there already and
 * whoever changes it meanwhile.
 *
 * A directory is ours alone (0700) until everything is in it; then it gets its owner, mode, attributes and times.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "pxattr.h"
#include "pxextract.h"

#define HOLE 4096u			/* zeros that are left out: whole blocks of these bytes */

static struct {
	int root, here;			/* the target; the directory that is being filled */
	int replace;			/* what is in the way goes */
} t = { .root = -1, .here = -1 };

static uint8_t value[PXATTR_VALUE];

/* ---- the target ---- */

static int
is_empty(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n <= 2;
}

int
extract_begin(const char *dir, int yes, struct err *e)
{
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_set(e, ST_FAIL, -errno, "%s: %s", dir, strerror(errno));
	if ((t.root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return err_set(e, ST_FAIL, -errno, "%s: %s", dir, strerror(errno));
	t.replace = yes;
	if (!yes && !is_empty(t.root))
		return err_set(e, ST_BUSY, -ENOTEMPTY, "%s is not empty: with --yes what is in the way is replaced", dir);
	umask(0);
	return 0;
}

void
extract_end(void)
{
	if (t.here >= 0)
		close(t.here);
	if (t.root >= 0)
		close(t.root);
	t.here = t.root = -1;
}

/* A directory below the target by steps that follow no link; -1, errno. n bytes of path. */
static int
open_dir(const char *path, size_t n)
{
	int fd = dup(t.root), next;
	char name[PXAR_NAME];
	size_t part;

	for (; fd >= 0 && n > 0; path += part, n -= part) {
		part = strcspn(path, "/");
		if (part > n)
			part = n;
		if (part == 0) {
			part = 1;
			continue;
		}
		snprintf(name, sizeof(name), "%.*s", (int)part, path);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	return fd;
}

static int
go_to(const char *path, size_t n)
{
	int fd = open_dir(path, n);

	if (t.here >= 0)
		close(t.here);
	t.here = fd;
	return fd < 0 ? -errno : 0;
}

static size_t
parent_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) : 0;
}

/* ---- what a node has ---- */

struct attrs {
	struct pxout *x;
	const char *path, *name;
	int fd;				/* -1: a link, reached by its name */
};

static int
give_xattr(void *ctx, const struct pxattr *a)
{
	struct attrs *at = ctx;
	struct pxar *p = &at->x->view.px;
	int rc = 0, acl = strncmp(a->name, "system.", 7) == 0;
	char path[PXAR_NAME + 40];

	if (a->data)
		memcpy(value, a->data, a->len);
	else if (a->len)
		rc = p->read(p->ctx, 0, a->offset, value, a->len);
	if (rc < 0)
		return rc;
	if (at->fd >= 0) {
		rc = fsetxattr(at->fd, a->name, value, a->len, 0);
	} else {
		snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", t.here, at->name);
		rc = lsetxattr(path, a->name, value, a->len, 0);
	}
	if (rc < 0)
		pxout_lack(at->x, acl ? LACK_ACL : LACK_XATTR, at->path, errno);
	return 0;
}

/* Owner first, since changing it takes set-id bits and capabilities away; times last. */
static int
give_meta(struct pxout *x, const struct pxwalk_entry *ent, int fd)
{
	const struct pxar_stat *st = ent->st;
	struct attrs at = { x, ent->path, ent->name, fd };
	const struct timespec times[2] = {
		{ (time_t)st->mtime, (long)st->nsec }, { (time_t)st->mtime, (long)st->nsec } };
	int rc;

	if ((fd >= 0 ? fchown(fd, st->uid, st->gid) :
	    fchownat(t.here, ent->name, st->uid, st->gid, AT_SYMLINK_NOFOLLOW)) < 0)
		pxout_lack(x, LACK_OWNER, ent->path, errno);
	if (fd >= 0 && fchmod(fd, st->mode & 07777) < 0)
		pxout_lack(x, LACK_MODE, ent->path, errno);
	if ((rc = pxattr_each(&x->view.px, st, give_xattr, &at)) < 0)
		return rc;
	if ((fd >= 0 ? futimens(fd, times) : utimensat(t.here, ent->name, times, AT_SYMLINK_NOFOLLOW)) < 0)
		pxout_lack(x, LACK_TIME, ent->path, errno);
	return 0;
}

/* ---- files ---- */

struct writing {
	int fd, err;
};

static int
is_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Data and holes in turn. */
static int
write_piece(void *ctx, const uint8_t *p, size_t len)
{
	struct writing *w = ctx;
	size_t n;
	ssize_t put;

	for (; len; p += n, len -= n) {
		n = len < HOLE ? len : HOLE;
		if (n == HOLE && is_zero(p, n)) {
			if (lseek(w->fd, HOLE, SEEK_CUR) >= 0)
				continue;
			break;
		}
		while (n + HOLE <= len && !is_zero(p + n, HOLE))
			n += HOLE;
		if ((put = write(w->fd, p, n)) < 0 && errno != EINTR)
			break;
		n = put < 0 ? 0 : (size_t)put;
	}
	if (len)
		w->err = errno;
	return len ? -ECANCELED : 0;
}

static int
make_file(struct pxout *x, const struct pxwalk_entry *ent, struct err *why)
{
	struct writing w = { openat(t.here, ent->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), 0 };
	int rc;

	if (w.fd < 0)
		return err_set(why, ST_FAIL, -errno, "%s: %s", ent->path, strerror(errno));
	rc = pxout_data(x, ent->st, write_piece, &w);
	if (rc == 0 && ftruncate(w.fd, (off_t)ent->st->size) < 0) {	/* a hole at the end */
		w.err = errno;
		rc = -ECANCELED;
	}
	if (rc == 0)
		rc = give_meta(x, ent, w.fd);
	close(w.fd);
	/* A file that is half there would look like a good one. */
	if (rc < 0)
		unlinkat(t.here, ent->name, 0);
	return rc == -ECANCELED ? err_set(why, ST_FAIL, -w.err, "%s: %s", ent->path, strerror(w.err)) : rc;
}

static int
make_link(struct pxout *x, const struct pxwalk_entry *ent)
{
	char first[PXAR_TARGET];
	const char *slash;
	size_t n;
	int dir, rc;

	if (!pxout_link(x, ent, first))
		return -1;
	n = parent_len(first);
	slash = strrchr(first, '/');
	if ((dir = open_dir(first, n)) < 0)
		return -1;
	rc = linkat(dir, slash ? slash + 1 : first, t.here, ent->name, 0);
	if (rc < 0)
		pxout_lack(x, LACK_LINK, ent->path, errno);
	close(dir);
	return rc;
}

static int
make_node(struct pxout *x, const struct pxwalk_entry *ent, struct err *why)
{
	const struct pxar_stat *st = ent->st;
	char target[PXAR_TARGET];
	int rc;

	if (st->linked && make_link(x, ent) == 0)
		return 0;
	if (S_ISREG(st->mode))
		return make_file(x, ent, why);
	if (S_ISLNK(st->mode)) {
		if ((rc = pxar_target(&x->view.px, st, target)) < 0)
			return rc;
		rc = symlinkat(target, t.here, ent->name);
	} else {
		rc = mknodat(t.here, ent->name, st->mode, makedev(st->major, st->minor));
	}
	if (rc < 0) {
		pxout_lack(x, LACK_NODE, ent->path, errno);
		return 0;
	}
	return give_meta(x, ent, -1);
}

/* ---- directories ---- */

static int
enter(const struct pxwalk_entry *ent, struct err *why)
{
	struct stat st;
	int fd = -1;

	/* One that is there is kept, when it is a directory. */
	if (mkdirat(t.here, ent->name, 0700) < 0 && errno == EEXIST && t.replace &&
	    fstatat(t.here, ent->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode)) {
		unlinkat(t.here, ent->name, 0);
		mkdirat(t.here, ent->name, 0700);
	}
	if ((fd = openat(t.here, ent->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return err_set(why, ST_FAIL, -errno, "%s: %s", ent->path, strerror(errno));
	close(t.here);
	t.here = fd;
	return 0;
}

int
extract_entry(void *ctx, const struct pxwalk_entry *ent)
{
	struct pxout *x = ctx;
	struct err why = { ST_FAIL, "" };
	struct stat st;
	int rc = 0;

	if (ent->what == PXWALK_BAD) {
		pxout_bad(x, ent, ent->rc);
		return 0;
	}
	if (ent->what == PXWALK_LEAVE) {
		rc = give_meta(x, ent, t.here);
		if (*ent->path && rc != -EINTR && go_to(ent->path, parent_len(ent->path)) < 0)
			rc = -ENOENT;
	} else if (S_ISDIR(ent->st->mode)) {
		rc = *ent->path ? enter(ent, &why) : go_to("", 0);
	} else {
		if (t.replace && fstatat(t.here, ent->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
			unlinkat(t.here, ent->name, 0);
		rc = make_node(x, ent, &why);
	}
	if (rc == -EBADMSG || (rc == -EIO && x->view.failed)) {
		pxout_bad(x, ent, rc);
		return 0;
	}
	/* The target's own failure (full, read-only) ends it. */
	if (rc < 0 && rc != -EINTR && why.text[0]) {
		x->view.err = why;
		x->view.failed = 2;
	}
	return rc;
}
