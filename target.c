/*
 * What an archive is restored to. Everything that may refuse a target is here and in disk.c, before its first
 * byte is changed; a block device is held exclusively from then on, so that nobody mounts it meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "hold.h"
#include "human.h"
#include "secret.h"
#include "target.h"

#define PAGE 4096u
#define HOLE (64u << 10)		/* bytes: zeros shorter than this are written */

/* ---- opening ---- */

/* Nothing is overwritten without a word from somebody who has seen what it is. */
static int
confirm(const struct target *t, const char *what, const char *content, struct err *e)
{
	char answer[4096];
	int n;

	fprintf(stderr, "%s (%s) holds: %s\n", t->path, what, content);
	n = prompt_line("It will be overwritten. Type its name to go on: ", answer, sizeof(answer), e);
	if (n == -ENOTTY)
		return err_set(e, ST_BUSY, -EBUSY, "%s: is not empty (%s); to overwrite it, say --yes", t->path, content);
	if (n < 0)
		return n;
	return strcmp(answer, t->path) == 0 ? 0 : err_set(e, ST_BUSY, -ECANCELED, "%s: left as it is", t->path);
}

static int
open_error(const struct target *t, struct err *e)
{
	int rc = -errno;

	return err_set(e, rc == -EBUSY ? ST_BUSY : rc == -EACCES || rc == -EPERM ? ST_TRUST : ST_FAIL, rc, "%s: %s%s", t->path,
	    strerror(-rc), rc == -EBUSY ? " (something in the kernel uses it, or a part of it)" : "");
}

/* The name may have gone to another disk since it was looked at. */
static int
open_disk(const char *path, int flags, dev_t no)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | flags);
	struct stat st;

	if (fd < 0 || (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == no))
		return fd;
	close(fd);
	errno = ESTALE;
	return -1;
}

static int
open_device(struct target *t, const struct target_conf *c, dev_t no, struct err *e)
{
	char content[64], model[96], need[10], has[10];
	unsigned long long room;
	off_t end;
	int rc;

	t->kind = TARGET_DEVICE;
	t->fresh = c->sparse;
	if ((rc = disk_free(no, c->path, e)) < 0)
		return rc;
	if ((t->fd = open_disk(c->path, O_EXCL, no)) < 0)
		return open_error(t, e);
	if ((end = lseek(t->fd, 0, SEEK_END)) < 0)
		return open_error(t, e);
	t->room = room = (uint64_t)end;
	if (room < c->size)
		return err_set(e, ST_BUSY, -ENOSPC, "%s: too small: it has %s (%llu bytes), the archive %s (%llu)", c->path,
		    human_size(room, has), room, human_size(c->size, need), (unsigned long long)c->size);
	disk_content(t->fd, room, content, sizeof(content));
	disk_model(no, room, model, sizeof(model));
	if (content[0] && !c->yes && (rc = confirm(t, model, content, e)) < 0)
		return rc;
	/* With the exclusive descriptor's consent. */
	t->direct = open_disk(c->path, O_DIRECT, no);
	return 0;
}

static int
open_file(struct target *t, const struct target_conf *c, int there, uint64_t size, struct err *e)
{
	char text[10], list[4096];
	int rc;

	t->kind = TARGET_FILE;
	if (there && hold_list_file(c->path, list, sizeof(list)) > 0) {
		fputs(list, stderr);
		return err_set(e, ST_BUSY, -EBUSY, "%s: it is in use; end who uses it, then try again", c->path);
	}
	if (size > 0 && !c->yes && (rc = confirm(t, "a file", human_size(size, text), e)) < 0)
		return rc;
	/* Disk images are nobody else's business. */
	t->fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC | (there ? 0 : O_EXCL), 0600);
	if (t->fd < 0)
		return open_error(t, e);
	t->made = !there;
	t->fresh = c->sparse || !there || size == 0;
	/* What is too long is cut by target_sync(), when it is known that data can be had. */
	return size >= c->size || ftruncate(t->fd, (off_t)c->size) == 0 ? 0 : open_error(t, e);
}

/* A pipe is opened for ourselves, so that it can be waited for: for its reader to come, and to read. What others share
 * with us keeps its flags. */
static int
open_pipe(struct target *t, const char *path, struct err *e)
{
	struct pollfd p = { .fd = t->stop, .events = POLLIN };

	while ((t->fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0 && errno == ENXIO)
		if (poll(&p, 1, 100) > 0)
			return err_set(e, ST_FAIL, -EINTR, "interrupted");
	return t->fd < 0 ? open_error(t, e) : 0;
}

/* A file is its shell's business, and cut already; a disk that nobody has looked at is not written. */
static int
open_stdout(struct target *t, int text, struct err *e)
{
	struct stat st = { .st_mode = 0 };

	t->path = "standard output";
	fstat(1, &st);
	if (S_ISBLK(st.st_mode))
		return err_set(e, ST_BUSY, -EBUSY, "standard output is a disk: give its name as TARGET instead, so that it can be "
		    "checked");
	if (isatty(1) && !text)
		return err_set(e, ST_BUSY, -EBUSY, "standard output is a terminal: send it to a file or a pipe");
	/* Without /proc, writing may block until the reader goes. */
	if (!S_ISFIFO(st.st_mode) || open_pipe(t, "/proc/self/fd/1", NULL) < 0)
		t->fd = 1;
	return 0;
}

int
target_open(struct target *t, const struct target_conf *c, struct err *e)
{
	struct stat st;
	int there;

	*t = (struct target){ .path = c->path, .fd = -1, .direct = -1, .size = c->size, .stop = c->stop };
	if (strcmp(c->path, "-") == 0)
		return open_stdout(t, c->text, e);
	there = stat(c->path, &st) == 0;
	if (!there && errno != ENOENT)
		return open_error(t, e);
	if (there && S_ISBLK(st.st_mode))
		return open_device(t, c, st.st_rdev, e);
	if (!there && strncmp(c->path, "/dev/", 5) == 0 && strncmp(c->path, "/dev/shm/", 9) != 0)
		return err_set(e, ST_BUSY, -ENOENT, "%s: no such device", c->path);
	if (!there || S_ISREG(st.st_mode))
		return open_file(t, c, there, there ? (uint64_t)st.st_size : 0, e);
	if (S_ISDIR(st.st_mode))
		return err_set(e, ST_USAGE, -EISDIR, "%s: is a directory; give a file's name in it", c->path);
	if (S_ISFIFO(st.st_mode))
		return open_pipe(t, c->path, e);
	t->fd = open(c->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	return t->fd < 0 ? open_error(t, e) : 0;
}

void
target_close(struct target *t)
{
	if (t->direct >= 0)
		close(t->direct);
	if (t->fd > 2)
		close(t->fd);
	t->fd = t->direct = -1;
}

/* ---- writing ---- */

static int
write_at(int fd, uint64_t offset, const uint8_t *p, size_t len)
{
	ssize_t n;

	while (len > 0) {
		n = pwrite(fd, p, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int
target_write(const struct target *t, uint64_t offset, const uint8_t *p, size_t len)
{
	size_t whole = len / PAGE * PAGE;
	int rc = -EINVAL;

	/* The odd tail goes through the page cache, which reads what is around it. */
	if (t->direct >= 0 && offset % PAGE == 0 && (uintptr_t)p % PAGE == 0 && whole > 0)
		rc = write_at(t->direct, offset, p, whole);
	if (rc == -EINVAL)
		whole = 0;
	else if (rc < 0)
		return rc;
	if (rc != -EINVAL && whole == len)
		return 0;
	rc = write_at(t->fd, offset + whole, p + whole, len - whole);
	/* Begun now, or the sync at the end would take as long as all the rest, unseen. */
	if (rc == 0 && t->kind == TARGET_FILE)
		sync_file_range(t->fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
	return rc;
}

/* musl's memcmp goes byte by byte; this is vectorised. */
static int
is_zero(const uint8_t *p, size_t len)
{
	uint64_t any = 0, word;
	size_t i;

	for (; any == 0 && len >= 256; p += 256, len -= 256)
		for (i = 0; i < 256; i += 8) {
			memcpy(&word, p + i, 8);
			any |= word;
		}
	for (i = 0; any == 0 && i < len; i++)
		any |= p[i];
	return any == 0;
}

int
target_write_sparse(const struct target *t, uint64_t offset, const uint8_t *p, size_t len)
{
	size_t from = 0, to = 0, n;
	int rc = 0;

	if (!t->fresh)
		return target_write(t, offset, p, len);
	/* [from, to) is not zero and not written yet. */
	for (; rc == 0 && to < len; to += n) {
		n = len - to < HOLE ? len - to : HOLE;
		if (!is_zero(p + to, n))
			continue;
		if (to > from)
			rc = target_write(t, offset + from, p + from, to - from);
		from = to + n;
	}
	return rc == 0 && to > from ? target_write(t, offset + from, p + from, to - from) : rc;
}

static int
write_zeros(const struct target *t, uint64_t offset, uint64_t len)
{
	size_t room = 1u << 20, n;
	void *zeros = NULL;
	int rc = 0;

	if (posix_memalign(&zeros, PAGE, room) != 0)
		return -ENOMEM;
	memset(zeros, 0, room);
	for (; rc == 0 && len > 0; offset += n, len -= n) {
		n = len < room ? (size_t)len : room;
		rc = target_write(t, offset, zeros, n);
	}
	free(zeros);
	return rc;
}

int
target_zero(const struct target *t, uint64_t offset, uint64_t len)
{
	uint64_t whole = t->kind == TARGET_DEVICE ? len / PAGE * PAGE : len, range[2] = { offset, whole };

	if (t->fresh || len == 0)
		return 0;
	/* A hole reads as zeros, on devices too: the kernel refuses where it cannot promise that. */
	if (whole > 0 && fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)whole) < 0 &&
	    (t->kind != TARGET_DEVICE || ioctl(t->fd, BLKZEROOUT, range) < 0))
		whole = 0;
	return write_zeros(t, offset + whole, len - whole);
}

int
target_put(const struct target *t, const uint8_t *p, size_t len)
{
	struct pollfd fds[2] = { { .fd = t->fd, .events = POLLOUT }, { .fd = t->stop, .events = POLLIN } };
	ssize_t n;

	while (len > 0) {
		if (poll(fds, 2, -1) > 0 && fds[1].revents)
			return -EINTR;
		n = write(t->fd, p, len);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* ---- reading back ---- */

static int
read_at(int fd, uint64_t offset, uint8_t *buf, size_t len, size_t least)
{
	size_t done = 0;
	ssize_t n;

	while (done < least) {
		n = pread(fd, buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int
target_read(const struct target *t, uint64_t offset, uint8_t *buf, size_t len)
{
	int rc = -EINVAL;

	if (t->direct >= 0 && offset % PAGE == 0)
		rc = read_at(t->direct, offset, buf, (len + PAGE - 1) / PAGE * PAGE, len);
	return rc == -EINVAL ? read_at(t->fd, offset, buf, len, len) : rc;
}

int
target_sync(const struct target *t)
{
	struct stat st;

	if (t->kind == TARGET_FILE && fstat(t->fd, &st) == 0 && (uint64_t)st.st_size > t->size &&
	    ftruncate(t->fd, (off_t)t->size) < 0)
		return -errno;
	/* A pipe has nothing to bring to a disk. */
	return fsync(t->fd) == 0 || (t->kind == TARGET_STREAM && (errno == EINVAL || errno == EROFS)) ? 0 : -errno;
}

void
target_forget(const struct target *t)
{
	if (t->kind == TARGET_DEVICE)
		ioctl(t->fd, BLKFLSBUF, 0);
	posix_fadvise(t->fd, 0, 0, POSIX_FADV_DONTNEED);
}

int
target_reread(const struct target *t)
{
	return ioctl(t->fd, BLKRRPART) < 0 ? -errno : 0;
}
