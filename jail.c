/*
 * Giving up rights: capabilities, ids, files, and with filter.c system calls. Knows nothing of what is done with
 * those that are left.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config.h"
#include "jail.h"
#include "log.h"

#define BIT(cap) (UINT64_C(1) << (cap))

/* What each needs, as measured: see the manual. */
static const uint64_t kept[] = {
	/* unmounting and partitions; ending a worker, who has another id; a device's node that is gone; newroot.c */
	[JAIL_MONITOR] = BIT(CAP_SYS_ADMIN) | BIT(CAP_KILL) | BIT(CAP_MKNOD) | BIT(CAP_SYS_CHROOT),
	/* a datastore belongs to its server's user, and it alone may read it */
	[JAIL_FILES] = BIT(CAP_DAC_READ_SEARCH),
	[JAIL_WORKER] = 0,
	[JAIL_NAMES] = 0,
};

/* ---- who we are ---- */

/* By bare system calls: there are no other threads, which the library would tell. Another id than nobody's, who may have other processes. Where there are not so many ids, nobody's. */
static int
change_id(void)
{
	const unsigned id[] = { PART_ID, 65534 };
	int i;

	if (syscall(SYS_setgroups, 0, NULL) < 0)
		return -errno;
	for (i = 0; i < 2; i++)
		if (syscall(SYS_setresgid, id[i], id[i], id[i]) == 0 && syscall(SYS_setresuid, id[i], id[i], id[i]) == 0)
			return 0;
	return -errno;
}

static int
keep_caps(uint64_t caps)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	int i;

	/* Less may be there: in a container, under a service manager. */
	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	for (i = 0; i < 2; i++, caps >>= 32) {
		data[i].effective = data[i].permitted &= (uint32_t)caps;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static int
drop(const struct jail *j)
{
	const struct rlimit none = { 0, 0 }, all = { RLIM_INFINITY, RLIM_INFINITY };
	int rc = 0, cap;

	prlimit(0, RLIMIT_CORE, &none, NULL);
	prlimit(0, RLIMIT_NPROC, &all, NULL);	/* root's does not count; the new id's would */
	if (geteuid() == 0) {
		for (cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
			;
		if (j->role == JAIL_WORKER || (j->role == JAIL_NAMES && !j->stay))
			rc = change_id();
		if (rc == 0)
			rc = keep_caps(kept[j->role]);
	}
	if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		rc = -errno;
	/* Last: a change of ids undoes it. Then no other process of the same id may look into this one. */
	if (rc == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		rc = -errno;
	if (j->role == JAIL_WORKER)	/* the same; the monitor's end is its own */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return rc;
}

/* ---- files and the network: Landlock, by its numbers, since headers are older than kernels ---- */

#define LL_CREATE 444
#define LL_ADD 445
#define LL_RESTRICT 446
#define LL_READ (1u << 2 | 1u << 3)	/* files and directories */
#define LL_CONNECT 2u

struct ll_rules {
	uint64_t fs, net, scoped;
};
struct ll_path {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));
struct ll_port {
	uint64_t access, port;
};

static int
landlock(const struct jail *j)
{
	/* by version: rights of the file system that it knows, bytes of its struct */
	static const uint8_t bits[] = { 13, 14, 15, 15, 16, 16 }, size[] = { 8, 8, 8, 16, 16, 24 };
	struct ll_rules r = { .net = 3, .scoped = 3 };
	long abi = syscall(LL_CREATE, NULL, 0, 1);
	int fd, i, root = -1, rc = 0;

	if (abi < 1)
		return -ENOSYS;
	abi = abi > 6 ? 6 : abi;
	r.fs = (1u << bits[abi - 1]) - 1;
	if (j->role == JAIL_NAMES || (j->network && j->port == 0))
		r.net = 0;
	if ((fd = (int)syscall(LL_CREATE, &r, size[abi - 1], 0)) < 0)
		return -errno;
	if (j->dirs < 0)
		root = open("/", O_PATH | O_CLOEXEC);
	for (i = 0; rc == 0 && i < (j->dirs < 0 ? 1 : j->dirs); i++) {
		struct ll_path p = { LL_READ, root >= 0 ? root : j->dir[i] };

		rc = (int)syscall(LL_ADD, fd, 1, &p, 0);
	}
	if (rc == 0 && j->network && r.net && size[abi - 1] > 8) {
		struct ll_port p = { LL_CONNECT, j->port };

		rc = (int)syscall(LL_ADD, fd, 2, &p, 0);
	}
	if (rc == 0)
		rc = (int)syscall(LL_RESTRICT, fd, 0);
	rc = rc < 0 ? -errno : 0;
	close(fd);
	if (root >= 0)
		close(root);
	return rc;
}

/* ---- all of it ---- */

int
jail_enter(const struct jail *j, struct err *e)
{
	int rc = drop(j);

	if (rc < 0)
		return err_set(e, ST_FAIL, rc, "cannot give up root's rights: %s", strerror(-rc));
	/* Under Landlock nothing can be unmounted. */
	if (j->role != JAIL_MONITOR && (rc = landlock(j)) < 0)
		note("without Landlock: %s", strerror(-rc));
	if ((rc = filter_install(j->role, j->network)) < 0)
		note("without a filter of system calls: %s", strerror(-rc));
	return 0;
}

void
jail_keep(void *secret, unsigned long n)
{
	unsigned long page = (unsigned long)sysconf(_SC_PAGESIZE);
	unsigned long from = (unsigned long)secret & ~(page - 1), to = ((unsigned long)secret + n + page - 1) & ~(page - 1);

	/* Each is done where it is allowed: a limit may be small. */
	mlock((void *)from, to - from);
	madvise((void *)from, to - from, MADV_DONTDUMP);
}
