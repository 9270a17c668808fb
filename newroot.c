/*
 * After a switch_root (initramfs to the real system) a process that was there before still has the old root: an empty
 * directory below the new one, with no /dev and no /sys. Entering its own mount namespace once more takes a thread to
 * what is mounted on top of everything, which is the new root.
 */
#include "newroot.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"

static int space = -1;			/* our mount namespace */

void
newroot_keep(void)
{
	if (space < 0)
		space = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
#ifdef SYS_pidfd_open
	if (space < 0)			/* without /proc, since Linux 5.8 */
		space = (int)syscall(SYS_pidfd_open, getpid(), 0);
#endif
}

void
newroot_follow(const char *path)
{
	if (space < 0 || access(path, F_OK) == 0 || errno != ENOENT)
		return;
	/* Who shares its root with other threads may not enter. */
	if (unshare(CLONE_FS) < 0 || setns(space, CLONE_NEWNS) < 0)
		note("the system's new root: %s", strerror(errno));
}
