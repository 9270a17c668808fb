/*
 * Kernel modules, see modules.h. modprobe is asked first: it knows options, aliases and lists of what must not be
 * loaded. Without one the file is given to the kernel as it lies there, compressed or not; both modules that are
 * wanted here need no others, and have been at the same place since there is a directory of modules.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "modules.h"

#define COMPRESSED_FILE 4		/* MODULE_INIT_COMPRESSED_FILE, Linux 5.17: it unpacks by itself */
#define MISC_MAJOR 10

/* Its messages are left alone: stderr is ours, and our own line says what is missing. */
static int
modprobe(const char *module)
{
	static const char *const paths[] = { "/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe" };
	static char *const env[] = { NULL };
	char *argv[] = { (char[]){ "modprobe" }, (char[]){ "-q" }, (char[16]){ "" }, NULL };
	int i, null, status;
	pid_t pid;

	snprintf(argv[2], 16, "%s", module);
	if ((pid = fork()) < 0)
		return -errno;
	if (pid == 0) {
		if ((null = open("/dev/null", O_RDWR)) >= 0)
			for (i = 0; i < 3; i++)
				dup2(null, i);
		for (i = 0; i < 3; i++)
			execve(paths[i], argv, env);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOENT;
}

static int
insert(const char *path, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = syscall(SYS_finit_module, fd, "", flags) < 0 ? -errno : 0;
	close(fd);
	return rc == -EEXIST ? 0 : rc;
}

static int
load_file(const char *module)
{
	static const char *const ends[] = { "", ".zst", ".xz", ".gz" };
	struct utsname u;
	char path[256];
	size_t i;
	int rc;

	if (uname(&u) < 0)
		return -errno;
	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		snprintf(path, sizeof(path), "/lib/modules/%s/kernel/%s/%s.ko%s", u.release,
		    strcmp(module, "fuse") == 0 ? "fs/fuse" : "drivers/block", module, ends[i]);
		rc = insert(path, i ? COMPRESSED_FILE : 0);
		if (rc == 0)
			return 0;
		if (rc != -ENOENT)
			say("%s: %s", path, strerror(-rc));
	}
	return -ENOENT;
}

/* The kernel makes the node where it cares for /dev, else we do. */
static int
open_node(const char *path, unsigned minor)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), rc;

	if (fd >= 0 || errno != ENOENT)
		return fd < 0 ? -errno : fd;
	if (mknod(path, S_IFCHR | 0600, makedev(MISC_MAJOR, minor)) < 0)
		return -ENOENT;
	if ((fd = open(path, O_RDWR | O_CLOEXEC)) < 0) {
		rc = -errno;
		unlink(path);
		return rc;
	}
	return fd;
}

int
modules_open(const char *module, const char *name, unsigned minor)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open_node(path, minor);
	if ((fd == -ENOENT || fd == -ENODEV || fd == -ENXIO) &&
	    (modprobe(module) == 0 || load_file(module) == 0))
		fd = open_node(path, minor);
	return fd;
}
