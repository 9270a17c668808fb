/*
 * The state of a restore. The file: magic, checksum of the index, its size and number of chunks, then a bit for each
 * chunk. While it is restored bits are only ever set, so a write that is torn loses some and invents none.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "resume.h"

#define HEAD 56u

static void
make_head(uint8_t head[HEAD], const struct manifest_file *f, const struct index *x)
{
	int i;

	memcpy(head, "PBSMAPr1", 8);
	memcpy(head + 8, f->csum, 32);
	for (i = 0; i < 8; i++) {
		head[40 + i] = (uint8_t)(x->size >> 8 * i);
		head[48 + i] = (uint8_t)(x->count >> 8 * i);
	}
}

static int
failed(const struct resume *r, struct err *e)
{
	return err_set(e, ST_FAIL, -errno, "%s: %s", r->path, strerror(errno));
}

int
resume_open(struct resume *r, const char *path, const struct manifest_file *f, const struct index *x, uint8_t *done,
    struct err *e)
{
	uint8_t head[HEAD], was[HEAD];
	ssize_t n;

	r->path = path;
	r->bytes = x->count / 8 + 1;
	make_head(head, f, x);
	if ((r->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0 ||
	    (n = pread(r->fd, was, HEAD, 0)) < 0)
		return failed(r, e);
	if (n == 0) {
		if (pwrite(r->fd, head, HEAD, 0) != HEAD)
			return failed(r, e);
		return 0;
	}
	if (n != HEAD || memcmp(head, was, HEAD) != 0)
		return err_set(e, ST_BUSY, -EINVAL, "%s: is no state of restoring %s of this snapshot; "
		    "remove it to begin anew", path, f->name);
	if (pread(r->fd, done, r->bytes, HEAD) < 0)
		return failed(r, e);
	return 1;
}

int
resume_save(const struct resume *r, const uint8_t *done)
{
	ssize_t n = pwrite(r->fd, done, r->bytes, HEAD);

	if (n < 0 || fdatasync(r->fd) < 0)
		return -errno;
	return (uint64_t)n == r->bytes ? 0 : -ENOSPC;
}

void
resume_close(struct resume *r, int finished)
{
	if (r->fd < 0)
		return;
	close(r->fd);
	r->fd = -1;
	if (finished)
		unlink(r->path);
}
