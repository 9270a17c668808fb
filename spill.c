/*
 * Bytes on a disk. What only looks like one (tmpfs, a live system's overlay) would be memory again. Nobody but us
 * can reach the file: what was checked before it was written stays so.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "spill.h"

#define TMPFS 0x01021994
#define RAMFS 0x858458f6
#define OVERLAY 0x794c7630

/* A file without a name; -1. */
static int
make(const char *dir)
{
	char name[4096];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (size_t)snprintf(name, sizeof(name), "%s/pbsmap.XXXXXX", dir) >= sizeof(name))
		return fd;
	if ((fd = mkostemp(name, O_CLOEXEC)) >= 0)
		unlink(name);
	return fd;
}

static int
fits(int fd, size_t len)
{
	struct statfs s;

	if (fstatfs(fd, &s) < 0)
		return 0;
	switch ((uint32_t)s.f_type) {
	case TMPFS:
	case RAMFS:
	case OVERLAY:
		return 0;
	}
	/* Twice: others need some too. */
	return (uint64_t)s.f_bavail * (uint64_t)s.f_bsize > 2 * (uint64_t)len;
}

static int
fill(int fd, const uint8_t *p, size_t len)
{
	ssize_t n;

	for (; len; p += n, len -= (size_t)n) {
		n = write(fd, p, len < 1u << 30 ? len : 1u << 30);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return -1;
	}
	return 0;
}

int
spill_open(size_t len, const char *const *dirs, int n)
{
	int i, fd;

	for (i = 0; i < n; i++) {
		if (dirs[i] == NULL || (fd = make(dirs[i])) < 0)
			continue;
		if (fits(fd, len))
			return fd;
		close(fd);
	}
	return -1;
}

uint8_t *
spill(int fd, const uint8_t *p, size_t len)
{
	void *map = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (fill(fd, p, len) == 0)
		map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	return map == MAP_FAILED ? NULL : map;
}

void
spill_free(uint8_t *p, size_t len)
{
	munmap(p, len);
}
