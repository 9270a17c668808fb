/*
 * pbsmap with a fault in it: the linker puts these functions before the C library's, and one call of them fails.
 * Every WRAP below names one; the Makefile reads the names here.
 *
 *	FAULT=N		the Nth call fails, with an error that this call may have
 *	FAULT=N+	that one and all after it
 *	FAULT=short	of all reads and writes half, by no pattern, transfer one byte
 *	FAULT=eintr	of the calls that a signal may interrupt half, by no pattern, are
 *	FAULT_LOG=FILE	gets "hit NAME" for the first fault, and at the end "total N", the number of calls
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int pbsmap_main(int argc, char **argv);
#define main pbsmap_main
#include "../pbsmap.c"
#undef main

/* glibc's names of what takes 64-bit offsets */
#ifdef __GLIBC__
#define LFS(name) name##64
#else
#define LFS(name) name
#endif
#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define REAL(name) PASTE(__real_, name)
#define WRAPPED(name) PASTE(__wrap_, name)
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

#define FDS 256

static atomic_char bell[FDS];			/* is it an eventfd? These neither fail nor are cut short. */
static atomic_long calls, first = -1;
static long at;
static int lasting, shorten, interrupt, logfd = -1;

int REAL(LFS(open))(const char *path, int flags, ...);
ssize_t __real_write(int fd, const void *buf, size_t len);

static void
logline(const char *format, const char *name, long n)
{
	char text[96];
	int len = snprintf(text, sizeof(text), format, name, n);

	if (logfd >= 0 && __real_write(logfd, text, (size_t)len) != len)
		abort();
}

static void __attribute__((constructor))
start(void)
{
	const char *how = getenv("FAULT"), *log = getenv("FAULT_LOG");

	if (log)
		logfd = REAL(LFS(open))(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	if (logfd >= 0)
		logfd = fcntl(logfd, F_DUPFD_CLOEXEC, 200);	/* out of the way */
	if (how == NULL)
		return;
	shorten = strcmp(how, "short") == 0;
	interrupt = strcmp(how, "eintr") == 0;
	at = atol(how);
	lasting = strchr(how, '+') != NULL;
}

static void __attribute__((destructor))
end(void)
{
	logline("%s %ld\n", "total", calls);
}

static int
hit(const char *name)
{
	long none = -1;

	if (atomic_compare_exchange_strong(&first, &none, 1))
		logline("hit %s\n", name, 0);
	return 1;
}

/* Every other one, by no pattern that a loop of two calls could fall into. */
static int
chance(long n)
{
	return n * 2654435761 >> 16 & 1;
}

/* Does this call fail? interruptible: EINTR may be its error. */
static int
fails(const char *name, int error, int interruptible)
{
	long n = ++calls;

	if (interrupt && interruptible && chance(n))
		error = EINTR;
	else if (at == 0 || (n != at && !(lasting && n > at)))
		return 0;
	errno = error;
	return hit(name);
}

/* name, its type, its value when it fails, errno then, may it be interrupted, its parameters, its arguments */
#define WRAP(name, type, failed, error, interruptible, params, args) \
type REAL(name) params; \
type WRAPPED(name) params; \
type WRAPPED(name) params \
{ \
	return fails(TEXT(name), error, interruptible) ? failed : REAL(name) args; \
}
/* returns its error */
#define WRAPE(name, error, params, args) \
int REAL(name) params; \
int WRAPPED(name) params; \
int WRAPPED(name) params \
{ \
	return fails(TEXT(name), error, 0) ? error : REAL(name) args; \
}
/* reads or writes len bytes */
#define IS_BELL(fd) ((fd) >= 0 && (fd) < FDS && bell[fd])
#define WRAPT(name, error, params, args) \
ssize_t REAL(name) params; \
ssize_t WRAPPED(name) params; \
ssize_t WRAPPED(name) params \
{ \
	if (IS_BELL(fd)) \
		return REAL(name) args; \
	if (fails(TEXT(name), error, 1)) \
		return -1; \
	if (shorten && len > 1 && chance(calls) && hit(TEXT(name))) \
		len = 1; \
	return REAL(name) args; \
}
/* with a mode behind the flags */
#define WRAPO(name, params, args) \
int REAL(name) params; \
int WRAPPED(name) params; \
int WRAPPED(name) params \
{ \
	mode_t mode = 0; \
	va_list ap; \
\
	if (flags & (O_CREAT | O_TMPFILE)) { \
		va_start(ap, flags); \
		mode = va_arg(ap, mode_t); \
		va_end(ap); \
	} \
	return fails(TEXT(name), EMFILE, 0) ? -1 : REAL(name) args; \
}

WRAP(malloc, void *, NULL, ENOMEM, 0, (size_t n), (n))
WRAP(calloc, void *, NULL, ENOMEM, 0, (size_t n, size_t size), (n, size))
WRAP(realloc, void *, NULL, ENOMEM, 0, (void *p, size_t n), (p, n))
WRAPE(posix_memalign, ENOMEM, (void **p, size_t align, size_t n), (p, align, n))
WRAP(LFS(mmap), void *, MAP_FAILED, ENOMEM, 0, (void *p, size_t n, int prot, int flags, int fd, off_t o), (p, n, prot, flags, fd, o))
WRAPO(LFS(open), (const char *path, int flags, ...), (path, flags, mode))
WRAPO(LFS(openat), (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
WRAP(LFS(fopen), FILE *, NULL, EMFILE, 0, (const char *path, const char *mode), (path, mode))
WRAP(opendir, DIR *, NULL, EMFILE, 0, (const char *path), (path))
WRAP(fdopendir, DIR *, NULL, ENOMEM, 0, (int fd), (fd))
WRAP(LFS(readdir), struct dirent *, NULL, EIO, 0, (DIR *d), (d))
WRAPT(read, EIO, (int fd, void *buf, size_t len), (fd, buf, len))
WRAPT(write, ENOSPC, (int fd, const void *buf, size_t len), (fd, buf, len))
WRAPT(LFS(pread), EIO, (int fd, void *buf, size_t len, off_t o), (fd, buf, len, o))
WRAPT(LFS(pwrite), ENOSPC, (int fd, const void *buf, size_t len, off_t o), (fd, buf, len, o))
WRAPT(send, ECONNRESET, (int fd, const void *buf, size_t len, int flags), (fd, buf, len, flags))
WRAPT(recv, ECONNRESET, (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags))
WRAP(LFS(lseek), off_t, -1, EIO, 0, (int fd, off_t o, int whence), (fd, o, whence))
WRAP(LFS(fstat), int, -1, EIO, 0, (int fd, struct stat *st), (fd, st))
WRAP(LFS(stat), int, -1, EACCES, 0, (const char *path, struct stat *st), (path, st))
WRAP(LFS(lstat), int, -1, EACCES, 0, (const char *path, struct stat *st), (path, st))
WRAP(LFS(fstatat), int, -1, EIO, 0, (int fd, const char *path, struct stat *st, int flags), (fd, path, st, flags))
WRAP(LFS(ftruncate), int, -1, EIO, 0, (int fd, off_t n), (fd, n))
WRAP(LFS(fallocate), int, -1, ENOSPC, 1, (int fd, int mode, off_t o, off_t n), (fd, mode, o, n))
WRAP(fsync, int, -1, EIO, 0, (int fd), (fd))
WRAP(fdatasync, int, -1, EIO, 0, (int fd), (fd))
WRAP(mkdir, int, -1, ENOSPC, 0, (const char *path, mode_t mode), (path, mode))
WRAP(mkdirat, int, -1, ENOSPC, 0, (int fd, const char *path, mode_t mode), (fd, path, mode))
WRAP(mknodat, int, -1, ENOSPC, 0, (int fd, const char *path, mode_t mode, dev_t dev), (fd, path, mode, dev))
WRAP(symlinkat, int, -1, ENOSPC, 0, (const char *to, int fd, const char *path), (to, fd, path))
WRAP(linkat, int, -1, EMLINK, 0, (int fd, const char *old, int to, const char *path, int flags), (fd, old, to, path, flags))
WRAP(rename, int, -1, ENOSPC, 0, (const char *old, const char *path), (old, path))
WRAP(unlink, int, -1, EROFS, 0, (const char *path), (path))
WRAP(fchmod, int, -1, EROFS, 0, (int fd, mode_t mode), (fd, mode))
WRAP(fchown, int, -1, EROFS, 0, (int fd, uid_t u, gid_t g), (fd, u, g))
WRAP(futimens, int, -1, EROFS, 0, (int fd, const struct timespec *t), (fd, t))
WRAP(utimensat, int, -1, EROFS, 0, (int fd, const char *path, const struct timespec *t, int flags), (fd, path, t, flags))
WRAP(realpath, char *, NULL, EACCES, 0, (const char *path, char *out), (path, out))
WRAP(dup, int, -1, EMFILE, 0, (int fd), (fd))
WRAP(flock, int, -1, ENOLCK, 1, (int fd, int how), (fd, how))
WRAP(pipe2, int, -1, EMFILE, 0, (int *fd, int flags), (fd, flags))
WRAP(socket, int, -1, EMFILE, 0, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(connect, int, -1, ECONNREFUSED, 1, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
WRAP(setsockopt, int, -1, ENOPROTOOPT, 0, (int fd, int l, int o, const void *v, socklen_t n), (fd, l, o, v, n))
WRAP(getsockopt, int, -1, ENOPROTOOPT, 0, (int fd, int l, int o, void *v, socklen_t *n), (fd, l, o, v, n))
WRAP(poll, int, -1, EINTR, 1, (struct pollfd *p, nfds_t n, int wait), (p, n, wait))
WRAP(fork, pid_t, -1, EAGAIN, 0, (void), ())
WRAP(getrandom, ssize_t, -1, ENOSYS, 1, (void *buf, size_t n, unsigned flags), (buf, n, flags))
/* The number may come back as a file's. */
int __real_close(int fd);
int __wrap_close(int fd);
int
__wrap_close(int fd)
{
	int failed = fails("close", EIO, 0), rc;

	if (fd >= 0 && fd < FDS)
		bell[fd] = 0;
	rc = __real_close(fd);
	return failed ? (errno = EIO, -1) : rc;
}
WRAPE(pthread_create, EAGAIN, (pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg), (t, a, f, arg))

/* Remembers what it made. */
int __real_eventfd(unsigned n, int flags);
int __wrap_eventfd(unsigned n, int flags);
int
__wrap_eventfd(unsigned n, int flags)
{
	int fd = fails("eventfd", EMFILE, 0) ? -1 : __real_eventfd(n, flags);

	if (fd >= 0 && fd < FDS)
		bell[fd] = 1;
	return fd;
}

int
main(int argc, char **argv)
{
	return pbsmap_main(argc, argv);
}
