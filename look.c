/*
 * What there is of a mapping's name, and what that means.  Changes nothing.
 *
 * What a mount point answers depends on its server, which may be dead or
 * stopped: files are opened by O_PATH and never asked.  A process's number
 * may be another's by now: it is believed only with what else it must have.
 */
#include "look.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "proc.h"

static int
is_recent(const struct stat *st)
{
	time_t age = time(NULL) - st->st_mtime;

	return age > -LOOK_YOUNG && age < LOOK_YOUNG;
}

pid_t
look_pid(struct look *k, const char *name)
{
	char file[RUN_NAME + 4], text[16];
	struct stat st;
	long pid = 0;
	ssize_t n;
	int fd;

	run_pid_name(name, file);
	fd = openat(k->dirfd, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = proc_read(fd, text, sizeof text);
	if (n >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0) {
		text[strcspn(text, "\n")] = '\0';
		if (strspn(text, "0123456789") == strlen(text)) {
			pid = strtol(text, NULL, 10);
			k->has_pid_file = 1;
			k->is_young |= is_recent(&st);
		}
	}
	close(fd);
	return pid > 1 && pid < 1 << 30 ? (pid_t)pid : 0;
}

static int
look_mount(void *ctx, const struct proc_mount *m)
{
	struct look *k = ctx;

	if (strcmp(m->point, k->path) == 0) {
		k->is_mounted = 1;
		if (strncmp(m->type, "fuse", 4) == 0)
			k->connection = minor(m->dev);
	}
	return 0;
}

/* The device of what is seen there, from what the kernel remembers: without a
 * question to its server. 0 or -1. (musl has no statx yet.) */
static int
cached_dev(int fd, dev_t *dev)
{
#ifdef SYS_statx
	uint32_t x[64] = { 0 };		/* struct statx; the device is at bytes 136 and 140 */

	if (syscall(SYS_statx, fd, "", 0x5000 /* AT_EMPTY_PATH | AT_STATX_DONT_SYNC */, 1, x) == 0) {
		*dev = makedev(x[34], x[35]);
		return 0;
	}
#endif
	return -1;
}

/* The same as look_mount() without /proc. */
static void
look_dev(struct look *k, const char *name)
{
	int fd = openat(k->dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	dev_t here, there;

	if (fd >= 0 && cached_dev(fd, &there) == 0 && cached_dev(k->dirfd, &here) == 0 &&
	    here != there) {
		k->is_mounted = 1;
		k->connection = major(there) == 0 ? minor(there) : 0;
	}
	if (fd >= 0)
		close(fd);
}

/* The mount point: covered by its mount, or an empty file of root's. */
static void
look_file(struct look *k, const char *name)
{
	struct stat st;
	int fd;

	if (proc_mounts(0, look_mount, k) < 0)
		look_dev(k, name);
	if (k->is_mounted) {
		k->has_file = 1;
		return;
	}
	fd = openat(k->dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 && st.st_size == 0) {
		k->has_file = 1;
		k->is_young |= is_recent(&st);
	}
	close(fd);
}

/* Normally the path tells. Without /sys, and when the mount was taken away
 * lazily, only its first bytes are known: then the file system decides. */
static int
look_loop(void *ctx, int nr, const char *backing)
{
	const struct look *k = ctx;
	dev_t dev;

	if (strcmp(backing, k->path) == 0)
		return 1;
	if (strlen(backing) < sizeof RUN_DIR || strncmp(k->path, backing, strlen(backing)) != 0 ||
	    loop_backing_dev(nr, &dev) != 0)
		return 0;
	if (k->connection != 0)
		return dev == makedev(0, k->connection);
	return k->pid != 0 && proc_has_fuse(k->pid, minor(dev)) == 2;
}

/* A process that serves this mount, found without a pid file. */
static int
look_owner(void *ctx, pid_t pid)
{
	const struct look *k = ctx;

	int rc = proc_is_mapper(pid);

	return rc <= 0 ? rc : proc_has_fuse(pid, k->connection) == 2 ? (int)pid : 0;
}

static int
look_any(void *ctx, pid_t pid)
{
	const struct look *k = ctx;

	int rc = proc_is_mapper(pid);

	return rc <= 0 ? rc : proc_has_fuse(pid, k->connection);
}

/* No pid file: the official client writes it after it has mounted. A kernel
 * that does not tell whose a mount is leaves only patience. */
static enum run_state
judge_nameless(struct look *k, struct run_entry *ent)
{
	int pid;

	if (!k->is_mounted)
		return k->is_young && ent->loop_nr < 0 ? RUN_STARTING : RUN_DEAD;
	pid = proc_each(look_owner, k);
	if (pid == 0)
		pid = proc_each(look_any, k) ? -EAGAIN : 0;
	/* No /proc: then nobody is there. */
	if (pid <= 0)
		return pid == -EAGAIN ? RUN_STARTING : pid == 0 || pid == -ENOENT ? RUN_DEAD : RUN_UNKNOWN;
	ent->pid = pid;
	return ent->loop_nr >= 0 ? RUN_ALIVE : RUN_STARTING;
}

static int
look_other(void *ctx, const struct proc_mount *m)
{
	const struct look *k = ctx;

	return strncmp(m->type, "fuse", 4) == 0 && strcmp(m->point, k->path) != 0 &&
	    strncmp(m->point, RUN_DIR "/", sizeof RUN_DIR) == 0 &&
	    proc_has_fuse(k->pid, minor(m->dev)) == 2;
}

/* A living process may have got a dead one's number, and be another mapping's:
 * it is believed only as far as nothing speaks against it. */
static enum run_state
judge(struct look *k, struct run_entry *ent)
{
	int fuse, mapper;

	if (ent->pid == 0)
		return judge_nameless(k, ent);
	if (ent->pid == getpid() || (mapper = proc_is_mapper(ent->pid)) == 0)
		return RUN_DEAD;
	if (mapper < 0)
		return RUN_UNKNOWN;
	fuse = proc_has_fuse(ent->pid, k->connection);
	if (fuse && !k->is_mounted && proc_mounts(0, look_other, k) > 0)
		return RUN_DEAD;
	if (fuse && ent->loop_nr >= 0)
		return RUN_ALIVE;
	if (k->is_young && ent->loop_nr < 0 && (fuse || !k->is_mounted))
		return RUN_STARTING;
	/* With neither mount nor device there is nothing but files to clean. */
	return fuse && k->is_mounted && ent->loop_nr < 0 ? RUN_LOST : RUN_DEAD;
}

int
look_at(int dirfd, struct run_entry *ent, struct look *k)
{
	memset(k, 0, sizeof *k);
	k->dirfd = dirfd;
	snprintf(k->path, sizeof k->path, "%s/%s", RUN_DIR, ent->name);
	ent->pid = look_pid(k, ent->name);
	look_file(k, ent->name);
	ent->loop_nr = -1;
	ent->size = 0;
	if (!k->has_pid_file && !k->has_file)
		return 0;
	k->pid = ent->pid;
	ent->loop_nr = loop_find(look_loop, k);
	if (ent->loop_nr >= 0)
		ent->size = loop_size(ent->loop_nr);
	ent->state = judge(k, ent);
	return 1;
}
