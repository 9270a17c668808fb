/*
 * What /proc tells.  Knows nothing of mappings but the names their processes
 * have.  Everything in /proc may vanish between two looks, and much of it is
 * written by strangers (process names, paths): a line that makes no sense is
 * passed over.
 */
#include "proc.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define FUSE_MAJOR 10			/* /dev/fuse, whatever path it has */
#define FUSE_MINOR 229

ssize_t
proc_read(int fd, char *out, size_t cap)
{
	ssize_t n = 1, len = 0;

	while (n && (size_t)len < cap - 1) {
		n = read(fd, out + len, cap - 1 - (size_t)len);
		if (n < 0 && errno != EINTR) {
			out[0] = '\0';
			return -errno;
		}
		len += n > 0 ? n : 0;
	}
	out[len] = '\0';
	return len;
}

ssize_t
proc_text(const char *path, char *out, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = proc_read(fd, out, cap);
	close(fd);
	return n;
}

/* Undoes \ooo in place: the kernel writes blanks and backslashes so. */
static void
unescape_octal(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

char *
proc_devno(const char *text, dev_t *dev)
{
	char *end;
	unsigned long major = strtoul(text, &end, 10), minor;

	if (end == text || (*end != ':' && *end != ' '))
		return NULL;
	text = end + 1;
	minor = strtoul(text, &end, 10);
	*dev = makedev((unsigned)major, (unsigned)minor);
	return end == text ? NULL : end;
}

/* "ID PARENT MAJ:MIN ROOT POINT OPTIONS TAGS... - TYPE SOURCE OPTIONS" */
static int
parse_mount(char *line, struct proc_mount *m)
{
	char *save = NULL, *field[5], *source, *tail = strstr(line, " - ");

	/* Blanks within fields are escaped, so this is the separator. */
	if (tail == NULL)
		return -1;
	*tail = '\0';
	for (int i = 0; i < 5; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (field[i] == NULL)
			return -1;
	}
	if (proc_devno(field[2], &m->dev) == NULL)
		return -1;
	m->point = field[4];
	m->type = strtok_r(tail + 3, " \n", &save);
	source = strtok_r(NULL, " \n", &save);
	if (m->type == NULL)
		return -1;
	if (source != NULL)
		unescape_octal(source);
	m->source = source ? source : "";
	unescape_octal(field[4]);
	return 0;
}

int
proc_mounts(pid_t pid, int (*fn)(void *ctx, const struct proc_mount *m), void *ctx)
{
	char path[64], *line = NULL;
	struct proc_mount m;
	size_t cap = 0;
	FILE *f;
	int rc = 0;

	snprintf(path, sizeof path, pid ? "/proc/%ld/mountinfo" : "/proc/self/mountinfo", (long)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return -errno;
	while (rc == 0 && getline(&line, &cap, f) > 0)
		if (parse_mount(line, &m) == 0)
			rc = fn(ctx, &m);
	free(line);
	fclose(f);
	return rc;
}

int
proc_each(int (*fn)(void *ctx, pid_t pid), void *ctx)
{
	DIR *d = opendir("/proc");
	struct dirent *ent;
	int rc = 0;

	if (d == NULL)
		return -errno;
	/* Processes that end meanwhile are the callee's business: it finds nothing. */
	while (rc == 0 && (ent = readdir(d)) != NULL)
		if (isdigit((unsigned char)ent->d_name[0]))
			rc = fn(ctx, (pid_t)strtol(ent->d_name, NULL, 10));
	closedir(d);
	return rc;
}

int
proc_fds(pid_t pid, int (*fn)(void *ctx, pid_t pid, const char *fd, const char *link), void *ctx)
{
	char path[64], link[512];
	struct dirent *ent;
	DIR *d;
	int rc = 0;

	snprintf(path, sizeof path, "/proc/%ld/fd", (long)pid);
	d = opendir(path);
	if (d == NULL)
		return -errno;
	while (rc == 0 && (ent = readdir(d)) != NULL) {
		ssize_t n = readlinkat(dirfd(d), ent->d_name, link, sizeof link - 1);

		if (n <= 0)
			continue;
		link[n] = '\0';
		rc = fn(ctx, pid, ent->d_name, link);
	}
	closedir(d);
	return rc;
}

void
proc_name(pid_t pid, char *out, size_t cap)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%ld/comm", (long)pid);
	n = proc_text(path, out, cap);
	if (n <= 0)
		snprintf(out, cap, "?");
	else if (out[n - 1] == '\n')	/* a name may hold others */
		out[n - 1] = '\0';
}

/* The value of a line "KEY:\tVALUE" of text, or NULL. */
static const char *
value_of(const char *text, const char *key)
{
	size_t n = strlen(key);

	while (text != NULL) {
		if (strncmp(text, key, n) == 0 && text[n] == ':')
			return text + n + 1 + strspn(text + n + 1, " \t");
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return NULL;
}

/* Without /proc. */
static int
is_alive(pid_t pid)
{
	int fd = proc_open(pid), rc;

	if (fd == -ESRCH)
		return 0;
	rc = proc_wait(fd, pid, 0);
	if (fd >= 0)
		close(fd);
	return rc != 0;
}

int
proc_is_mapper(pid_t pid)
{
	char path[64], text[4096];
	const char *name, *state, *uid;
	ssize_t n;

	/* init never is one, and must not be signalled whatever a file says. */
	if (pid <= 1)
		return 0;
	snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
	if ((n = proc_text(path, text, sizeof text)) < 0) {
		/* No such process, unless there is no /proc at all. */
		if (n == -ENOENT || n == -ESRCH)
			return access("/proc/self", F_OK) != 0 && is_alive(pid);
		return (int)n;
	}
	name = value_of(text, "Name");
	state = value_of(text, "State");
	uid = value_of(text, "Uid");
	if (name == NULL || state == NULL || uid == NULL)
		return 0;
	/* The kernel cuts names to 15 bytes. */
	return *state != 'Z' && *state != 'X' && strtol(uid, NULL, 10) == 0 &&
	    (strncmp(name, "pbsmap\n", 7) == 0 || strncmp(name, "proxmox-backup-", 15) == 0);
}

static int
is_fuse_fd(void *ctx, pid_t pid, const char *fd, const char *link)
{
	const char *base = strrchr(link, '/'), *line;
	unsigned connection = *(unsigned *)ctx;
	char path[320], text[512];
	struct stat st;

	/* Only what looks right is touched: a stat may hang on a dead server's file. */
	if (base == NULL || strncmp(base, "/fuse", 5) != 0)
		return 0;
	snprintf(path, sizeof path, "/proc/%ld/fd/%s", (long)pid, fd);
	if (stat(path, &st) != 0 || !S_ISCHR(st.st_mode) ||
	    st.st_rdev != makedev(FUSE_MAJOR, FUSE_MINOR))
		return 0;
	snprintf(path, sizeof path, "/proc/%ld/fdinfo/%s", (long)pid, fd);
	if (connection == 0 || proc_text(path, text, sizeof text) < 0)
		return 1;
	line = value_of(text, "fuse_connection");
	if (line == NULL)
		return 1;
	return strtoul(line, NULL, 10) == connection ? 2 : 0;
}

int
proc_has_fuse(pid_t pid, unsigned connection)
{
	/* No /proc, or it cannot be looked at: believed. A process that is gone has no descriptors. */
	int rc = proc_fds(pid, is_fuse_fd, &connection);

	if (rc >= 0)
		return rc;
	return (rc != -ENOENT && rc != -ESRCH) || access("/proc/self", F_OK) != 0;
}

int
proc_open(pid_t pid)
{
	/* Linux 5.3; before, the number alone has to do. */
#ifdef SYS_pidfd_open
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd >= 0)
		return fd;
	if (errno == ESRCH)
		return -ESRCH;
#endif
	return kill(pid, 0) != 0 && errno == ESRCH ? -ESRCH : -1;
}

int
proc_signal(int pidfd, pid_t pid, int sig)
{
#ifdef SYS_pidfd_send_signal
	if (pidfd >= 0)
		return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) != 0 ? -errno : 0;
#endif
	(void)pidfd;
	return kill(pid, sig) != 0 ? -errno : 0;
}

/* Gone or a zombie, without a pidfd? */
static int
is_gone(pid_t pid)
{
	char path[64], text[512], *p;

	if (kill(pid, 0) != 0 && errno == ESRCH)
		return 1;
	snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
	if (proc_text(path, text, sizeof text) <= 0)
		return 0;
	/* The name in parentheses may hold anything, parentheses too. */
	p = strrchr(text, ')');
	return p != NULL && p[1] == ' ' && (p[2] == 'Z' || p[2] == 'X');
}

int
proc_wait(int pidfd, pid_t pid, int timeout_ms)
{
	const struct timespec nap = { 0, 20000000 };
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (pidfd >= 0) {
		/* Readable once the last thread is gone. */
		int rc = poll(&p, 1, timeout_ms);

		return rc > 0 ? 0 : -ETIMEDOUT;
	}
	for (;;) {
		if (is_gone(pid))
			return 0;
		if (timeout_ms <= 0)
			return -ETIMEDOUT;
		nanosleep(&nap, NULL);
		timeout_ms -= 20;
	}
}
