/*
 * What this machine has, for somebody who is asked to choose. What hangs (a network file system whose server is
 * gone) is not looked at.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "disk.h"
#include "loop.h"
#include "nearby.h"
#include "proc.h"

#define LOOKS 500			/* directories of one file system that are looked into: disks may be slow */

struct nearby {
	int (*fn)(void *ctx, const char *path, const char *text);
	void *ctx;
	uint64_t least;
	const struct proc_mount *mount;
	dev_t dev;			/*   as its files have it */
	int looks;			/* left */
};

/* ---- disks ---- */

static int
look_at_disk(struct nearby *n, const char *name)
{
	char path[PATH_MAX], text[200], content[64], size_text[32], ro[4];
	uint64_t size;
	size_t len;
	dev_t no;
	int fd;

	if (strncmp(name, "ram", 3) == 0 || strncmp(name, "zram", 4) == 0 || loop_devno(name, &no) < 0)
		return 0;
	disk_sys(no, "size", size_text, sizeof(size_text));
	disk_sys(no, "ro", ro, sizeof(ro));
	size = strtoull(size_text, NULL, 10) * 512;
	if (size == 0 || size < n->least || ro[0] != '0')
		return 0;
	snprintf(path, sizeof(path), "/dev/%s", name);
	loop_node(name, no);
	if (!disk_idle(no, path) || (fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
		return 0;
	disk_content(fd, size, content, sizeof(content));
	close(fd);
	len = (size_t)snprintf(text, sizeof(text), "%s (", path);
	disk_model(no, size, text + len, sizeof(text) - len);
	len += strlen(text + len);
	snprintf(text + len, sizeof(text) - len, "): %s", content[0] ? content : "empty");
	return n->fn(n->ctx, path, text);
}

int
nearby_disks(uint64_t least, int (*fn)(void *ctx, const char *path, const char *text), void *ctx)
{
	struct nearby n = { .fn = fn, .ctx = ctx, .least = least };
	DIR *d = opendir("/sys/block");
	struct dirent *ent;
	int rc = 0;

	while (d && rc == 0 && (ent = readdir(d)) != NULL)
		if (ent->d_name[0] != '.')
			rc = look_at_disk(&n, ent->d_name);
	if (d)
		closedir(d);
	return rc;
}

/* ---- datastores ---- */

/* A directory and those in it, on the same file system. */
static int
look_into(struct nearby *n, const char *path, int depth)
{
	char below[PATH_MAX], text[300];
	struct dirent *ent;
	struct stat st;
	DIR *d;
	int rc = 0;

	if (n->looks-- <= 0 || stat(path, &st) < 0 || st.st_dev != n->dev)
		return 0;
	snprintf(below, sizeof(below), "%s/.chunks", strcmp(path, "/") == 0 ? "" : path);
	if (stat(below, &st) == 0 && S_ISDIR(st.st_mode)) {
		snprintf(text, sizeof(text), "%s, on %.100s (%.20s)", path, n->mount->source, n->mount->type);
		return n->fn(n->ctx, path, text);
	}
	if (depth == 0 || (d = opendir(path)) == NULL)
		return 0;
	while (rc == 0 && (ent = readdir(d)) != NULL) {
		if (ent->d_name[0] == '.' || (ent->d_type != DT_DIR && ent->d_type != DT_UNKNOWN))
			continue;
		if (snprintf(below, sizeof(below), "%s/%s", strcmp(path, "/") == 0 ? "" : path, ent->d_name) < (int)sizeof(below))
			rc = look_into(n, below, depth - 1);
	}
	closedir(d);
	return rc;
}

static int
look_at_mount(void *ctx, const struct proc_mount *m)
{
	struct nearby *n = ctx;
	struct stat st;

	if (strncmp(m->type, "fuse.", 5) == 0 || strstr("proc sysfs cgroup2 nfs4 nfs3 cifs smb3 autofs 9p ceph devpts", m->type))
		return 0;
	/* Another mount may be over it. */
	if (stat(m->point, &st) < 0 || (st.st_dev != m->dev && major(m->dev)))
		return 0;
	n->mount = m;
	n->dev = st.st_dev;
	n->looks = LOOKS;
	return look_into(n, m->point, 2);
}

int
nearby_stores(int (*fn)(void *ctx, const char *path, const char *text), void *ctx)
{
	struct nearby n = { .fn = fn, .ctx = ctx };

	return proc_mounts(0, look_at_mount, &n);
}
