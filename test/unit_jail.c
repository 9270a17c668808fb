/*
 * What a process that was taken over can still do: each role is entered in a child, which then tries what an attacker would. What is refused gives
 * EPERM, and ends the process when that is asked for.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>

#include "jail.h"
#include "log.h"
#include "t.h"

#ifdef __GLIBC__
#define FILTERED 0			/* the list is about musl */
#else
#define FILTERED 1
#endif

static struct jail jail;

/* Runs it in a child that has entered the jail: its result, or 256 and the signal that ended it. */
static int
jailed(int (*fn)(void))
{
	int status = 0, null;
	struct err e;
	pid_t pid = fork();

	if (pid == 0) {
		null = open("/dev/null", O_WRONLY);
		dup2(null, 2);		/* "system call 59 was refused" */
		if (jail_enter(&jail, &e) < 0)
			_exit(200);
		_exit(fn() & 0xff);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The errno of what must fail. */
#define TRY(name, expression) static int name(void) { errno = 0; return (expression) == -1 ? errno : 0; }

static char *const no_args[] = { NULL };
static const struct sockaddr_in nobody = { .sin_family = AF_INET };

TRY(try_mount, mount("none", "/proc", "tmpfs", 0, NULL))
TRY(try_umount, umount2("/nowhere", MNT_DETACH))
TRY(try_exec, execve("/bin/true", no_args, no_args))
/* not by libc, which blocks the signal that tells */
TRY(try_fork, (int)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL))
TRY(try_ptrace, ptrace(PTRACE_ATTACH, getppid(), 0, 0))
TRY(try_kill, kill(getppid(), 0))
TRY(try_open, open("/etc/passwd", O_RDONLY))
TRY(try_openat, openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY))
TRY(try_write, open("/dev/null", O_WRONLY))
TRY(try_create, open("/tmp/unit_jail", O_WRONLY | O_CREAT, 0600))
TRY(try_unlink, unlink("/tmp/unit_jail"))
TRY(try_unix, socket(AF_UNIX, SOCK_STREAM, 0))
TRY(try_inet, socket(AF_INET, SOCK_STREAM, 0))
TRY(try_netlink, socket(AF_NETLINK, SOCK_RAW, 0))
TRY(try_raw, socket(AF_INET, SOCK_RAW, 1))
TRY(try_listen, listen(0, 1))
TRY(try_setuid, (int)syscall(SYS_setuid, 0))
TRY(try_ioctl, (int)syscall(SYS_ioctl, 0, 0x5401, NULL))
TRY(try_module, (int)syscall(SYS_init_module, NULL, 0, ""))
TRY(try_bpf, (int)syscall(SYS_bpf, 0, NULL, 0))
TRY(try_dumpable, (int)syscall(SYS_prctl, 4 /* PR_SET_DUMPABLE */, 1, 0, 0, 0))
TRY(try_code, syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? -1 : 0)
TRY(try_memory, mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0)

static int
try_connect(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in to = nobody;

	to.sin_port = htons(2);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0 ? errno : 0;
}

static void *
nothing(void *arg)
{
	return arg;
}

static int
try_thread(void)
{
	pthread_t t;

	return pthread_create(&t, NULL, nothing, NULL) || pthread_join(t, NULL);
}

static int
has_landlock(void)
{
	return syscall(444, NULL, 0, 1) >= 1;
}

/* What a worker and a broker both may not; and what they may. */
static void
refused_to_all(void)
{
	check_int(jailed(try_mount), EPERM);
	check_int(jailed(try_exec), FILTERED || has_landlock() ? FILTERED ? EPERM : EACCES : 0);
	check_int(jailed(try_memory), 0);
	if (!FILTERED)
		return;
	check_int(jailed(try_fork), EPERM);
	check_int(jailed(try_ptrace), EPERM);
	check_int(jailed(try_create), EPERM);
	check_int(jailed(try_netlink), EPERM);
	check_int(jailed(try_listen), EPERM);
	check_int(jailed(try_setuid), EPERM);
	check_int(jailed(try_module), EPERM);
	check_int(jailed(try_bpf), EPERM);
	check_int(jailed(try_dumpable), EPERM);
	check_int(jailed(try_code), EPERM);
}

static void
test_worker(void)
{
	jail = (struct jail){ .role = JAIL_WORKER };
	refused_to_all();
	if (!FILTERED)
		return;
	check_int(jailed(try_umount), EPERM);
	check_int(jailed(try_open), EPERM);
	check_int(jailed(try_openat), EPERM);
	check_int(jailed(try_unlink), EPERM);
	check_int(jailed(try_unix), EPERM);
	check_int(jailed(try_inet), EPERM);
	check_int(jailed(try_kill), EPERM);
	check_int(jailed(try_ioctl), EPERM);
	check_int(jailed(try_thread), 0);
}

static void
test_worker_with_network(void)
{
	jail = (struct jail){ .role = JAIL_WORKER, .network = 1, .port = 1 };
	refused_to_all();
	if (!FILTERED)
		return;
	check_int(jailed(try_open), EPERM);
	check_int(jailed(try_unix), EPERM);
	check_int(jailed(try_inet), 0);
	if (geteuid() == 0)
		check_int(jailed(try_raw), EPERM);
	/* another port than the server's */
	check_int(jailed(try_connect), syscall(444, NULL, 0, 1) >= 4 ? EACCES : ECONNREFUSED);
	jail.port = 2;
	check_int(jailed(try_connect), ECONNREFUSED);
	jail.port = 0;
	check_int(jailed(try_connect), ECONNREFUSED);
}

static int here;

static int
read_beneath(void)
{
	return openat(here, "README.md", O_RDONLY) < 0 ? errno : 0;
}

static int
read_above(void)
{
	return openat(here, "../unit_jail.c", O_RDONLY) < 0 ? errno : 0;
}

static void
test_files(void)
{
	here = open("test/golden", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	jail = (struct jail){ .role = JAIL_FILES, .dir = &here, .dirs = 1 };
	check_int(jailed(read_beneath), 0);
	check_int(jailed(read_above), has_landlock() ? EACCES : 0);
	check_int(jailed(try_open), has_landlock() ? EACCES : 0);
	refused_to_all();
	if (FILTERED) {
		check_int(jailed(try_write), EPERM);
		check_int(jailed(try_inet), EPERM);
		check_int(jailed(try_kill), EPERM);
	}
	close(here);
}

static void
test_names(void)
{
	jail = (struct jail){ .role = JAIL_NAMES, .dirs = -1 };
	check_int(jailed(try_open), 0);
	check_int(jailed(try_inet), 0);
	refused_to_all();
	if (FILTERED) {
		check_int(jailed(try_write), EPERM);
		check_int(jailed(try_unix), EPERM);
		check_int(jailed(try_kill), EPERM);
	}
}

static void
test_monitor(void)
{
	jail = (struct jail){ .role = JAIL_MONITOR };
	if (!FILTERED)
		return;
	check_int(jailed(try_mount), EPERM);
	check_int(jailed(try_exec), EPERM);
	check_int(jailed(try_fork), EPERM);
	check_int(jailed(try_ptrace), EPERM);
	check_int(jailed(try_inet), EPERM);
	check_int(jailed(try_code), EPERM);
	check_int(jailed(try_setuid), EPERM);
	check_int(jailed(try_thread), 0);
	/* it unmounts, and cleans up */
	check_int(jailed(try_umount), geteuid() == 0 ? ENOENT : EPERM);
	check_int(jailed(try_open), 0);
}

static void
test_kill(void)
{
	setenv("PBSMAP_SECCOMP", "kill", 1);
	jail = (struct jail){ .role = JAIL_WORKER };
	if (FILTERED) {
		check_int(jailed(try_exec), 256 + SIGSYS);
		check_int(jailed(try_memory), 0);
	}
	unsetenv("PBSMAP_SECCOMP");
}

/* What /proc says of a process in the jail. */
static int
child_status(void)
{
	char buf[4096], *at;
	FILE *f = fdopen(here, "r");
	int bad = 0;

	while (f != NULL && fgets(buf, sizeof(buf), f) != NULL) {
		at = strchr(buf, '\t');
		if (strncmp(buf, "NoNewPrivs", 10) == 0)
			bad |= atoi(at) == 1 ? 0 : 1;
		if (strncmp(buf, "CapBnd", 6) == 0 || strncmp(buf, "CapEff", 6) == 0 || strncmp(buf, "CapPrm", 6) == 0)
			bad |= strtoull(at, NULL, 16) == 0 ? 0 : 2;
		if (strncmp(buf, "Seccomp:", 8) == 0)
			bad |= atoi(at) == 2 * FILTERED ? 0 : 4;
		if (strncmp(buf, "Uid", 3) == 0 || strncmp(buf, "Gid", 3) == 0)
			bad |= strtoul(at, NULL, 10) != 0 ? 0 : 8;
		if (strncmp(buf, "Groups", 6) == 0)
			bad |= at[1] == '\n' || at[1] == ' ' ? 0 : 16;
	}
	return f == NULL ? 32 : bad;
}

static void
test_status(void)
{
	/* /proc/self is each reader's own: this child's is opened before it may not. */
	jail = (struct jail){ .role = JAIL_WORKER };
	if (geteuid() != 0) {
		printf("# not root: skipped\n");
		return;
	}
	here = -1;
	{
		int status = 0;
		struct err e;
		pid_t pid = fork();

		if (pid == 0) {
			here = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
			_exit(jail_enter(&jail, &e) < 0 ? 200 : child_status());
		}
		waitpid(pid, &status, 0);
		check_int(WIFEXITED(status) ? WEXITSTATUS(status) : 999, 0);
	}
}

static void
test_keep(void)
{
	static char secret[3000];

	jail_keep(secret, sizeof(secret));
	secret[0] = 1;
	check_int(secret[0], 1);
}

int
main(void)
{
	run(test_worker);
	run(test_worker_with_network);
	run(test_files);
	run(test_names);
	run(test_monitor);
	run(test_kill);
	run(test_status);
	run(test_keep);
	return t_end();
}
