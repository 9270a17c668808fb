/*
 * The registry of mappings: files in /run/pbs-loopdev, shared with the
 * official client, which knows no locks: ours (flock on the directory) keeps
 * pbsmap's processes apart, O_EXCL the two programs.
 *
 * The pid file is written before the mount point is made and removed after
 * it, so whoever sees a name finds its process.
 */
#include "run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "look.h"
#include "loop.h"
#include "part.h"
#include "proc.h"

#define LOCK_MS 10000			/* longer than any clean-up under the lock */
#define STOP_MS 10000			/* as the official client waits */
#define DETACH_MS 2000			/* udev and blkid hold devices for a moment */
#define MOUNTS_MAX 16			/* stacked on one name */

static void
nap(int ms)
{
	const struct timespec t = { 0, ms * 1000000L };

	nanosleep(&t, NULL);
}

/* ---- the directory ---- */

int
run_dir(int make, struct err *e)
{
	int fd, rc, made = 0;
	struct stat st;

	/* Whether they were there is seen below. */
	if (make) {
		mkdir("/run", 0755);
		made = mkdir(RUN_DIR, 0755) < 0 ? -errno : 0;
		/* A root that is read-only: /run is what everybody expects to be memory there. */
		if (made == -EROFS && mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") == 0)
			made = mkdir(RUN_DIR, 0755) < 0 ? -errno : 0;
	}
	fd = open(RUN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		if (rc == -ELOOP || rc == -ENOTDIR)
			return err_set(e, ST_FAIL, rc, "%s is no directory (a link?): remove it",
			    RUN_DIR);
		return err_set(e, ST_FAIL, rc, "cannot %s %s: %s", made ? "make" : "open", RUN_DIR, strerror(made ? -made : -rc));
	}
	if (fstat(fd, &st) == 0 && st.st_uid == 0 &&
	    (st.st_mode & (st.st_gid == 0 ? 002 : 022)) == 0)
		return fd;
	close(fd);
	return err_set(e, ST_FAIL, -EPERM, "%s: others than root may write there: not used",
	    RUN_DIR);
}

/* 0 or a negative errno. A process that was stopped while it has the lock shall not stop all others. */
static int
lock(int dirfd, int how, int timeout_ms, struct err *e)
{
	while (flock(dirfd, how | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_set(e, ST_FAIL, -errno, "cannot lock %s: %s", RUN_DIR,
			    strerror(errno));
		if ((timeout_ms -= 10) < 0)
			return err_set(e, ST_BUSY, -EBUSY, "%s is locked by another process",
			    RUN_DIR);
		nap(10);
	}
	return 0;
}

static void
unlock(int dirfd)
{
	flock(dirfd, LOCK_UN);
}

int
run_again(int dirfd, struct run_entry *ent)
{
	struct look k;

	return look_at(dirfd, ent, &k);
}

/* ---- all of them ---- */

static int
is_pid_name(const char *name)
{
	size_t n = strlen(name);

	return n >= 4 && strcmp(name + n - 4, ".pid") == 0;
}

/* The name a lone pid file belongs to: images end in .img. 0 when it is not alone. */
static int
name_of_pid(const struct run_entry *all, int count, const char *file, char name[RUN_NAME])
{
	char pid_name[RUN_NAME + 4];

	for (int i = 0; i < count; i++) {
		run_pid_name(all[i].name, pid_name);
		if (strcmp(pid_name, file) == 0)
			return 0;
	}
	snprintf(name, RUN_NAME, "%.*s.img", (int)(strlen(file) - 4), file);
	return 1;
}

/* Reads the directory's names: mount points (pids 0) or pid files without one (1). */
static int
collect(int dirfd, int pids, struct run_entry *out, int count, int max)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *ent;
	struct look k;

	if (d == NULL) {
		int rc = -errno;

		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (count < max && (ent = readdir(d)) != NULL) {
		struct run_entry *new = &out[count];

		memset(new, 0, sizeof *new);
		if (ent->d_name[0] == '.' || is_pid_name(ent->d_name) != pids ||
		    (ent->d_type != DT_REG && ent->d_type != DT_UNKNOWN) ||
		    strlen(ent->d_name) >= RUN_NAME)
			continue;
		if (!pids)
			snprintf(new->name, sizeof new->name, "%.*s", RUN_NAME - 1, ent->d_name);
		else if (!name_of_pid(out, count, ent->d_name, new->name))
			continue;
		count += look_at(dirfd, new, &k);
	}
	closedir(d);
	return count;
}

int
run_list(int dirfd, struct run_entry *out, int max, struct err *e)
{
	int count, locked = lock(dirfd, LOCK_SH, LOCK_MS, e);

	/* Without the lock a name that is just being taken may look half made. */
	if (locked < 0)
		return locked;
	count = collect(dirfd, 0, out, 0, max);
	if (count >= 0)
		count = collect(dirfd, 1, out, count, max);
	unlock(dirfd);
	if (count < 0)
		return err_set(e, ST_FAIL, count, "cannot read %s: %s", RUN_DIR, strerror(-count));
	return count;
}

/* ---- ending and cleaning ---- */

int
run_stop(int dirfd, const struct run_entry *ent, int sig, int timeout_ms, struct err *e)
{
	struct run_entry now = *ent;
	int pidfd, rc;

	if (ent->pid == 0)
		return 0;
	pidfd = proc_open(ent->pid);
	if (pidfd == -ESRCH)
		return 0;
	/* The number may have gone to another process before it was opened: look
	 * again. From here on it cannot. */
	if (!run_again(dirfd, &now) || now.pid != ent->pid || now.state == RUN_DEAD ||
	    (ent->state == RUN_LOST && now.state == RUN_ALIVE))
		rc = 0;
	else if (now.state == RUN_UNKNOWN)
		rc = -EAGAIN;
	else if ((rc = proc_signal(pidfd, ent->pid, sig)) == 0)
		rc = proc_wait(pidfd, ent->pid, timeout_ms);
	if (pidfd >= 0)
		close(pidfd);
	if (rc == -ESRCH)
		rc = 0;
	if (rc == -ETIMEDOUT)
		return err_set(e, ST_FAIL, rc, "process %ld has not ended within %d s",
		    (long)ent->pid, timeout_ms / 1000);
	return rc == 0 ? 0 : err_set(e, ST_FAIL, rc, "cannot signal process %ld: %s",
	    (long)ent->pid, strerror(-rc));
}

/* Detaches a dead mapping's loop device. Another mount namespace may have a mapping of the same name:
 * where the mount tells which file system is ours, only devices on that one are touched. */
static int
clean_loop(const struct look *k, int nr, struct err *e)
{
	struct loop l;
	dev_t dev;
	int rc;

	if (k->connection != 0 && loop_backing_dev(nr, &dev) == 0 &&
	    dev != makedev(0, k->connection))
		return 0;
	rc = loop_open(nr, &l, e);
	if (rc < 0)
		return rc;
	part_del(l.fd, nr, NULL);
	return loop_detach(&l, DETACH_MS, e);
}

static int
clean(const struct look *k, const struct run_entry *ent, struct err *e)
{
	char pid_name[RUN_NAME + 4];
	int rc = 0;

	if (ent->loop_nr >= 0)
		rc = clean_loop(k, ent->loop_nr, e);
	/* Never waits, and never follows a link; EINVAL: nothing is mounted there. */
	for (int i = 0; i < MOUNTS_MAX; i++)
		if (umount2(k->path, MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
			break;
	if (k->has_file && unlinkat(k->dirfd, ent->name, 0) != 0 && errno != ENOENT)
		return rc < 0 ? rc : err_set(e, ST_FAIL, -errno, "cannot remove %s: %s", k->path, strerror(errno));
	run_pid_name(ent->name, pid_name);
	/* Last: as long as it stands, the rest can be found again. */
	if (k->has_pid_file)
		unlinkat(k->dirfd, pid_name, 0);
	return rc;
}

int
run_clean(int dirfd, const struct run_entry *ent, struct err *e)
{
	struct run_entry now = *ent;
	struct look k;
	int rc = lock(dirfd, LOCK_EX, LOCK_MS, e);

	if (rc < 0)
		return rc;
	if (look_at(dirfd, &now, &k) && now.state == RUN_DEAD)
		rc = clean(&k, &now, e);
	unlock(dirfd);
	return rc;
}

/* ---- taking a name ---- */

/* Creates both files; the directory is locked. */
static int
create(int dirfd, const char *name, struct err *e)
{
	char pid_name[RUN_NAME + 4], text[16];
	const char *what = pid_name;
	int fd, rc = 0, n;

	run_pid_name(name, pid_name);
	n = snprintf(text, sizeof text, "%ld", (long)getpid());
	fd = openat(dirfd, pid_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd >= 0) {
		errno = EIO;
		if (write(fd, text, (size_t)n) == n) {
			close(fd);
			what = name;
			fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
			if (fd >= 0) {
				close(fd);
				return 0;
			}
		} else {
			close(fd);
		}
		rc = -errno;
		unlinkat(dirfd, pid_name, 0);
	} else {
		rc = -errno;
	}
	if (rc == -EEXIST)
		return err_set(e, ST_BUSY, rc, "%s/%s is in the way, and no mapping: remove it",
		    RUN_DIR, what);
	return err_set(e, ST_FAIL, rc, "cannot create %s/%s: %s", RUN_DIR, what, strerror(-rc));
}

/* Makes way for a new mapping; the directory is locked, and again locked afterwards. 0: look again; else a
 * negative errno: the name is taken. */
static int
make_way(const struct look *k, const struct run_entry *ent, struct err *e)
{
	char plain[RUN_NAME];
	int rc;

	switch (ent->state) {
	case RUN_ALIVE:
		return err_set(e, ST_BUSY, -EEXIST, "already mapped on /dev/loop%d", ent->loop_nr);
	case RUN_STARTING:
		return err_set(e, ST_BUSY, -EEXIST, "already being mapped, by process %ld",
		    (long)ent->pid);
	case RUN_UNKNOWN:
		return err_set(e, ST_BUSY, -EEXIST, "perhaps already mapped: /proc cannot be read");
	case RUN_DEAD:
		rc = clean(k, ent, e);
		/* A device that is still held goes away by itself. */
		if (rc < 0 && rc != -EBUSY)
			return rc;
		run_unescape(ent->name, plain, sizeof plain);
		say("removed what was left of %s", plain);
		return 0;
	case RUN_LOST:
		break;
	}
	/* It needs the lock to leave. */
	unlock(k->dirfd);
	rc = run_stop(k->dirfd, ent, SIGINT, STOP_MS, e);
	run_unescape(ent->name, plain, sizeof plain);
	if (rc == 0)
		say("ended process %ld: %s had lost its device", (long)ent->pid, plain);
	return rc < 0 ? rc : lock(k->dirfd, LOCK_EX, LOCK_MS, e);
}

int
run_claim(int dirfd, const char *name, struct err *e)
{
	struct run_entry ent;
	struct look k;
	int rc = lock(dirfd, LOCK_EX, LOCK_MS, e), tries = 3;

	if (rc < 0)
		return rc;
	memset(&ent, 0, sizeof ent);
	snprintf(ent.name, sizeof ent.name, "%s", name);
	while (rc == 0 && tries-- > 0 && look_at(dirfd, &ent, &k))
		rc = make_way(&k, &ent, e);
	if (rc == 0)
		rc = create(dirfd, name, e);
	unlock(dirfd);
	return rc;
}

void
run_release(int dirfd, const char *name)
{
	char pid_name[RUN_NAME + 4];
	struct look k = { .dirfd = dirfd };
	int locked = lock(dirfd, LOCK_EX, DETACH_MS, NULL);

	/* Without the lock all the same: nobody else touches a living process's
	 * files. A pid file that somebody has removed leaves a name that is ours. */
	if (look_pid(&k, name) == getpid() || !k.has_pid_file) {
		run_pid_name(name, pid_name);
		/* Without its pid file a name that stays would be nobody's. */
		if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
			unlinkat(dirfd, pid_name, 0);
	}
	if (locked == 0)
		unlock(dirfd);
}
