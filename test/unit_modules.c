/* Which file is given to the kernel, in which way, and what is said when it cannot take it. Kernel, /lib/modules and fork() are stubs. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../log.h"
#include "t.h"

static char dir[] = "/tmp/unit_modulesXXXXXX";
static const char plain[] = "a module, which no kernel would take, a module, a module, a module";
static int finit_answer, init_answer;	/* errno; 0: taken */
static int finits, finit_flags, inits;
static char said[1024];

/* Files of /lib/modules lie flat in dir. */
static int
test_open(const char *path, int flags)
{
	char name[300];
	struct utsname u;

	uname(&u);
	if (strncmp(path, "/lib/modules/", 13) != 0 || strncmp(path + 13, u.release, strlen(u.release)) != 0) {
		errno = ENOENT;
		return -1;
	}
	snprintf(name, sizeof(name), "%s/%s", dir, strrchr(path, '/') + 1);
	return open(name, flags);
}

static long
test_syscall(long number, ...)
{
	va_list ap;
	int rc;

	va_start(ap, number);
	if (number == SYS_finit_module) {
		(void)va_arg(ap, int);
		(void)va_arg(ap, const char *);
		finit_flags = va_arg(ap, int);
		finits++;
		rc = finit_answer;
	} else {
		const char *image = va_arg(ap, const char *);
		size_t len = va_arg(ap, size_t);

		check(number == SYS_init_module && len == sizeof(plain) && memcmp(image, plain, len) == 0);
		inits++;
		rc = init_answer;
	}
	va_end(ap);
	errno = rc;
	return rc ? -1 : 0;
}

__attribute__((format(printf, 1, 2)))
static void
test_say(const char *fmt, ...)
{
	size_t n = strlen(said);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(said + n, sizeof(said) - n, fmt, ap);
	va_end(ap);
}

static int
test_mknod(const char *path, mode_t mode, dev_t dev)
{
	check(strcmp(path, "/dev/fuse") == 0 && S_ISCHR(mode) && dev != 0);
	errno = EROFS;
	return -1;
}

#define open test_open
#define syscall test_syscall
#define say test_say
#define mknod test_mknod
#define fork() (-1)
#define modules_open stubbed_open
#include "../modules.c"
#undef open

/* With this file alone; NULL: none. */
static int
with(const char *name, const void *data, size_t len)
{
	char path[300];
	FILE *f;
	int rc;

	finits = inits = 0;
	finit_flags = -1;
	said[0] = 0;
	snprintf(path, sizeof(path), "%s/%s", dir, name ? name : "other");
	f = fopen(path, "w");
	fwrite(data, 1, len, f);
	fclose(f);
	rc = load_file("fuse");
	unlink(path);
	return rc;
}

static void
test_plain(void)
{
	finit_answer = 0;
	check_int(with("fuse.ko", plain, sizeof(plain)), 0);
	check(finits == 1 && finit_flags == 0 && inits == 0 && said[0] == 0);
	finit_answer = EEXIST;		/* somebody was faster */
	check_int(with("fuse.ko", plain, sizeof(plain)), 0);
	finit_answer = ENOEXEC;
	check_int(with("fuse.ko", plain, sizeof(plain)), -ENOENT);
	check(strstr(said, "fs/fuse/fuse.ko: Exec format error") != NULL);
}

static void
test_kernel_unpacks(void)
{
	static const char *const names[] = { "fuse.ko.zst", "fuse.ko.xz", "fuse.ko.gz" };

	finit_answer = 0;
	for (int i = 0; i < 3; i++) {
		check_int(with(names[i], "x", 1), 0);
		check(finits == 1 && finit_flags == 4 && inits == 0);
	}
}

/* Linux before 5.17 does not know the flag, later ones may be built without. */
static void
test_kernel_cannot_unpack(void)
{
	static const int answers[] = { EINVAL, EOPNOTSUPP };
	/* magic, one segment with its length, one raw block that is the last */
	unsigned char packed[9 + sizeof(plain)] = { 0x28, 0xb5, 0x2f, 0xfd, 0x20, sizeof(plain),
		(unsigned char)(sizeof(plain) << 3 | 1), sizeof(plain) >> 5, 0 };
	size_t n = sizeof(packed);

	memcpy(packed + 9, plain, sizeof(plain));

	for (int i = 0; i < 2; i++) {
		finit_answer = answers[i];
		init_answer = 0;
		check_int(with("fuse.ko.zst", packed, n), 0);
		check(finits == 1 && inits == 1 && said[0] == 0);
		init_answer = EEXIST;
		check_int(with("fuse.ko.zst", packed, n), 0);
		init_answer = ENOEXEC;
		check_int(with("fuse.ko.zst", packed, n), -ENOENT);
		check(strstr(said, "Exec format error") != NULL);
		check_int(with("fuse.ko.xz", "x", 1), -ENOENT);
		check(inits == 0 && strstr(said, "fuse.ko.xz: this kernel cannot unpack it") && strstr(said, "modprobe fuse"));
		check_int(with("fuse.ko.gz", "x", 1), -ENOENT);
		check(inits == 0 && strstr(said, "fuse.ko.gz: this kernel") != NULL);
		/* Damaged, empty. */
		packed[5] ^= 1;
		check_int(with("fuse.ko.zst", packed, n), -ENOENT);
		check(inits == 0 && said[0]);
		packed[5] ^= 1;
		check_int(with("fuse.ko.zst", "", 0), -ENOENT);
		check(inits == 0 && said[0]);
	}
}

static void
test_nothing_there(void)
{
	check_int(with(NULL, "", 0), -ENOENT);
	check(finits == 0 && said[0] == 0);
	check_int(stubbed_open("fuse", "fuse", 229), -ENOENT);
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 1;
	run(test_plain);
	run(test_kernel_unpacks);
	run(test_kernel_cannot_unpack);
	run(test_nothing_there);
	rmdir(dir);
	return t_end();
}
