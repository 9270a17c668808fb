/*
 * What /proc tells: processes, their descriptors, mounts.  And signals to a
 * process that cannot hit another one which got its number since.
 */
#ifndef PROC_H
#define PROC_H

#include <stddef.h>
#include <sys/types.h>

struct proc_mount {
	dev_t dev;			/* of the file system */
	const char *point, *type, *source;	/* unescaped */
};

/* Each calls fn until it returns other than 0, and returns that; 0 at the end; a negative errno
 * (-ENOENT: no such process, or no /proc). */
int proc_mounts(pid_t pid, int (*fn)(void *ctx, const struct proc_mount *m), void *ctx);	/* pid 0: own */
int proc_each(int (*fn)(void *ctx, pid_t pid), void *ctx);
int proc_fds(pid_t pid, int (*fn)(void *ctx, pid_t pid, const char *fd, const char *link), void *ctx);

/* A small file as text, cut to cap - 1 bytes; its length or a negative errno. */
ssize_t proc_read(int fd, char *out, size_t cap);
ssize_t proc_text(const char *path, char *out, size_t cap);

/* "MAJOR:MINOR", or with a blank between them: the first character behind it, or NULL. */
char *proc_devno(const char *text, dev_t *dev);

/* The name (comm) of a process, "?" when unknown. */
void proc_name(pid_t pid, char *out, size_t cap);

/* Is it the process of a mapping: alive (no zombie), root's, called pbsmap or proxmox-backup-…? What
 * cannot be known without /proc is believed. A negative errno: /proc is there, and cannot be read. */
int proc_is_mapper(pid_t pid);
/* Does it hold /dev/fuse for this connection (minor number of the mount; 0: any)? 0: no; 1: it holds one,
 * or may not be looked at; 2: just this one (newer kernels tell). */
int proc_has_fuse(pid_t pid, unsigned connection);

/* A handle on a process that stays its own: a pidfd, or -1 on kernels without them. -ESRCH: gone. */
int proc_open(pid_t pid);
int proc_signal(int pidfd, pid_t pid, int sig);		/* 0 or a negative errno */
int proc_wait(int pidfd, pid_t pid, int timeout_ms);	/* 0: it is gone (or a zombie); -ETIMEDOUT */

#endif
