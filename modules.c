/*
 * Kernel modules, see modules.h. modprobe is asked first: it knows options, aliases and lists of what must not be
 * loaded. Without one the file is given to the kernel as it lies there, compressed or not; zstd's, which few kernels
 * unpack, is unpacked here. Both modules that are wanted need no others, and have been at the same place since there
 * is a directory of modules.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include "log.h"
#include "modules.h"

#define COMPRESSED_FILE 4		/* MODULE_INIT_COMPRESSED_FILE, Linux 5.17: it unpacks by itself */
#define UNPACKED_MAX (64u << 20)	/* bytes of a module; fuse has 1 MiB, with debug information 10 */
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
unpack(int fd)
{
	struct stat st;
	size_t len = fstat(fd, &st) == 0 && st.st_size > 0 ? (size_t)st.st_size : 1;
	void *from = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	ZSTD_DCtx *z = ZSTD_createDCtx();
	char *to = malloc(UNPACKED_MAX);	/* touched only as far as it is filled */
	int rc = -ENOMEM;

	if (from != MAP_FAILED && z && to) {
		size_t n = ZSTD_decompressDCtx(z, to, UNPACKED_MAX, from, len);

		rc = ZSTD_isError(n) ? -EBADMSG : syscall(SYS_init_module, to, n, "") < 0 ? -errno : 0;
	}
	if (from != MAP_FAILED)
		munmap(from, len);
	ZSTD_freeDCtx(z);
	free(to);
	return rc;
}

/* packed: 0 not; 1 in a way that only a kernel may know; 2 by zstd. */
static int
insert(const char *path, int packed)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = syscall(SYS_finit_module, fd, "", packed ? COMPRESSED_FILE : 0) < 0 ? -errno : 0;
	if (packed == 2 && (rc == -EOPNOTSUPP || rc == -EINVAL))
		rc = unpack(fd);
	close(fd);
	return rc == -EEXIST ? 0 : rc;
}

static int
load_file(const char *module)
{
	static const struct { char end[5]; int packed; } forms[] = { { "", 0 }, { ".zst", 2 }, { ".xz", 1 }, { ".gz", 1 } };
	struct utsname u;
	char path[256];
	size_t i;
	int rc;

	if (uname(&u) < 0)
		return -errno;
	for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		snprintf(path, sizeof(path), "/lib/modules/%s/kernel/%s/%s.ko%s", u.release,
		    strcmp(module, "fuse") == 0 ? "fs/fuse" : "drivers/block", module, forms[i].end);
		rc = insert(path, forms[i].packed);
		if (rc == 0)
			return 0;
		if (forms[i].packed && (rc == -EOPNOTSUPP || rc == -EINVAL))
			say("%s: this kernel cannot unpack it; unpack the file, or load it by modprobe %s", path, module);
		else if (rc != -ENOENT)
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
