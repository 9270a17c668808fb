/*
 * A device-mapper device without dmsetup, for machines that have nothing.
 *
 *	dmset rw|ro NAME <TABLE	makes it, and its node /dev/NAME; lines are: start length target parameters
 *	dmset rm NAME		removes it
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CONTROL_MINOR 236
#define ROOM 4096

static int control, read_only;
static union {
	struct dm_ioctl io;
	char bytes[ROOM];
} u;

static void
call(unsigned long request, const char *name, unsigned targets, unsigned end)
{
	u.io.version[0] = DM_VERSION_MAJOR;
	u.io.data_size = end;
	u.io.data_start = sizeof(u.io);
	u.io.target_count = targets;
	u.io.flags = read_only ? DM_READONLY_FLAG : 0;
	u.io.dev = 0;
	snprintf(u.io.name, sizeof(u.io.name), "%s", name);
	if (ioctl(control, (int)request, &u) < 0) {
		fprintf(stderr, "dmset: %s: %s\n", name, strerror(errno));
		exit(1);
	}
}

/* Returns where the targets end; *n: how many there are. */
static unsigned
read_table(unsigned *n)
{
	unsigned at = sizeof(u.io), length;
	struct dm_target_spec *t;
	char line[512], *p;

	for (*n = 0; fgets(line, sizeof(line), stdin) && at + sizeof(*t) + sizeof(line) < ROOM; ++*n) {
		t = (struct dm_target_spec *)(void *)(u.bytes + at);
		line[strcspn(line, "\n")] = 0;
		t->sector_start = strtoull(line, &p, 10);
		t->length = strtoull(p, &p, 10);
		p = strtok(p, " ");
		snprintf(t->target_type, sizeof(t->target_type), "%s", p ? p : "");
		p = strtok(NULL, "");
		length = (unsigned)snprintf((char *)(t + 1), sizeof(line), "%s", p ? p : "") + 1;
		t->next = (unsigned)((sizeof(*t) + length + 7) / 8 * 8);
		at += t->next;
	}
	return at;
}

int
main(int argc, char **argv)
{
	const char *name;
	unsigned n, end;
	char path[300];

	if (argc != 3)
		return 2;
	name = argv[2];
	read_only = strcmp(argv[1], "ro") == 0;
	mkdir("/dev/mapper", 0755);
	mknod("/dev/mapper/control", S_IFCHR | 0600, makedev(10, CONTROL_MINOR));
	control = open("/dev/mapper/control", O_RDWR);
	snprintf(path, sizeof(path), "/dev/%s", name);
	if (strcmp(argv[1], "rm") == 0) {
		unlink(path);
		call(DM_DEV_REMOVE, name, 0, sizeof(u));
		return 0;
	}
	call(DM_DEV_CREATE, name, 0, sizeof(u));
	memset(&u, 0, sizeof(u));
	end = read_table(&n);
	call(DM_TABLE_LOAD, name, n, end);
	call(DM_DEV_SUSPEND, name, 0, sizeof(u));	/* without its flag: resumes */
	return mknod(path, S_IFBLK | 0600, makedev(major((dev_t)u.io.dev), minor((dev_t)u.io.dev))) < 0;
}
