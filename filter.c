/*
 * Which system calls each part of a daemon may make: a list, tried in its order by a program of the kernel's. What is not in it
 * is refused with EPERM and logged once, and with PBSMAP_SECCOMP=kill in the environment, as tests have it, ends the process.
 *
 * The list was made from what strace showed in all tests. It is about musl: another libc, which sanitizers need, makes other
 * calls. PBSMAP_SECCOMP=off is for valgrind.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <fcntl.h>

#include "jail.h"
#include "log.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define SET_RESULT(u, value) ((u)->uc_mcontext.gregs[REG_RAX] = (value))
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define SET_RESULT(u, value) ((u)->uc_mcontext.regs[0] = (unsigned long)(value))
#endif

#ifdef __GLIBC__
#define IS_MUSL 0
#else
#define IS_MUSL 1
#endif
#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif

/* Bits of roles. N: a worker with a network. */
#define M (1 << JAIL_MONITOR)
#define W (1 << JAIL_WORKER)
#define F (1 << JAIL_FILES)
#define R (1 << JAIL_NAMES)
#define N 16
#define ALL (M | W | F | R)
#define THREADS (CLONE_VM | CLONE_THREAD)
#define WRITES (O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND)

/* What is looked at in a call: allowed when these bits of that argument have this value. */
enum look { NOTHING, NO_CODE, THREAD, INET, INET6, UNIX, READ_2, READ_1, PARENT, SPACE };
static const struct {
	uint32_t arg, mask, value;
} looks[] = {
	[NO_CODE] = { 2, PROT_EXEC, 0 }, [THREAD] = { 0, THREADS, THREADS },
	[INET] = { 0, ~0u, AF_INET }, [INET6] = { 0, ~0u, AF_INET6 }, [UNIX] = { 0, ~0u, AF_UNIX },
	[READ_2] = { 2, WRITES, 0 }, [READ_1] = { 1, WRITES, 0 }, [PARENT] = { 0, ~0u, PR_SET_PDEATHSIG }, [SPACE] = { 0, ~0u, CLONE_FS },
};

struct rule {
	uint16_t nr;
	uint8_t roles, look;
};

#define ANY(name, roles) { SYS_##name, roles, NOTHING }

/* The most frequent first. */
static const struct rule rules[] = {
	ANY(read, ALL), ANY(writev, M | W | R), ANY(futex, ALL),
#ifdef SYS_poll
	ANY(poll, ALL),
#endif
	ANY(ppoll, ALL), ANY(recvfrom, N | R), ANY(sendto, M | N | R), ANY(write, ALL), ANY(recvmsg, ALL), ANY(sendmsg, ALL),
	ANY(close, ALL), ANY(readv, ALL), ANY(clock_gettime, ALL), ANY(madvise, ALL), ANY(fadvise64, W), ANY(brk, ALL),
	/* no code but the program's */
	{ SYS_mmap, ALL, NO_CODE }, { SYS_mprotect, ALL, NO_CODE }, ANY(munmap, ALL), ANY(mremap, ALL),
	ANY(mlock, W),
	/* threads, but no processes */
	{ SYS_clone, M | W | F, THREAD }, ANY(set_robust_list, ALL), ANY(rt_sigprocmask, ALL), ANY(rt_sigaction, M | W),
	ANY(rt_sigreturn, ALL), ANY(set_tid_address, ALL), ANY(gettid, ALL), ANY(getpid, ALL), ANY(geteuid, ALL), ANY(getuid, ALL), ANY(getgid, ALL), ANY(exit, ALL), ANY(exit_group, ALL),
	ANY(nanosleep, ALL), ANY(clock_nanosleep, ALL), ANY(restart_syscall, ALL), ANY(sched_yield, ALL), ANY(sched_getaffinity, W),
	ANY(setpriority, W), ANY(sysinfo, W), ANY(getrandom, W | R), ANY(eventfd2, M | W), ANY(fcntl, M | W | R), ANY(lseek, ALL),
	ANY(fstat, M | F | R | W),
	/* a server */
	{ SYS_socket, N | R, INET }, { SYS_socket, N | R, INET6 }, ANY(connect, N | R), ANY(getsockopt, N),
	ANY(setsockopt, N | R), ANY(bind, R), ANY(getsockname, R),
	/* the log */
	{ SYS_socket, M, UNIX },
	/* files that are there */
	{ SYS_openat, F | R, READ_2 },
#ifdef SYS_open
	{ SYS_open, F | R, READ_1 },
	ANY(open, M), ANY(stat, M), ANY(lstat, M), ANY(access, M), ANY(unlink, M), ANY(mknod, M), ANY(readlink, M),
	ANY(dup2, M),
#endif
	ANY(openat, M), ANY(newfstatat, M | F | R), ANY(faccessat, M), ANY(unlinkat, M), ANY(mknodat, M), ANY(readlinkat, M), ANY(getdents64, M),
	ANY(dup3, M), ANY(flock, M), ANY(ioctl, M), ANY(umount2, M),
	/* the system has changed its root */
	{ SYS_unshare, M, SPACE }, ANY(setns, M),
#ifdef SYS_pidfd_open
	ANY(pidfd_open, M),
#endif
	{ SYS_prctl, M, PARENT },
	/* its end, and a worker's */
	ANY(kill, M), ANY(wait4, M), ANY(setsid, M),
};

#define COUNT (sizeof(rules) / sizeof(rules[0]))

/* A system call that is not in the list: this thread's, so a handler may look at it and give it a result. */
static void
refused(int sig, siginfo_t *info, void *context)
{
	static unsigned char seen[64];
	ucontext_t *u = context;
	unsigned nr = (unsigned)info->si_syscall;

	(void)sig;
	SET_RESULT(u, -EPERM);
	if (nr / 8 >= sizeof(seen) || (seen[nr / 8] & 1 << nr % 8))
		return;
	seen[nr / 8] = (unsigned char)(seen[nr / 8] | 1 << nr % 8);
	say("system call %u was refused; please report this", nr);
}

static void
handle(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = refused;
	sa.sa_flags = SA_SIGINFO | SA_RESTART;
	sigaction(SIGSYS, &sa, NULL);
}

#define DATA(field) ((uint32_t)offsetof(struct seccomp_data, field))
#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at)
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)

/* The rule as instructions, which begin and, when it does not fit, end with the call's number loaded. */
static unsigned
add(struct sock_filter *out, const struct rule *r)
{
	const struct sock_filter plain[] = { UNLESS(r->nr, 1), RETURN(SECCOMP_RET_ALLOW) };
	const struct sock_filter long_one[] = {
		UNLESS(r->nr, 5), LOAD(DATA(args) + 8 * looks[r->look].arg), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, looks[r->look].mask),
		UNLESS(looks[r->look].value, 1), RETURN(SECCOMP_RET_ALLOW), LOAD(DATA(nr)),
	};

	if (r->look == NOTHING) {
		memcpy(out, plain, sizeof(plain));
		return 2;
	}
	memcpy(out, long_one, sizeof(long_one));
	return 6;
}

int
filter_install(enum jail_role role, int network)
{
	const char *mode = getenv("PBSMAP_SECCOMP") ? getenv("PBSMAP_SECCOMP") : "";
	unsigned roles = 1u << role | (network ? N : 0), n = 6, other;
	struct sock_filter code[7 + 6 * COUNT] = {
		LOAD(DATA(arch)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0), RETURN(SECCOMP_RET_KILL), LOAD(DATA(nr)),
		/* a tracer has put no call in its place: fault injection does */
		UNLESS(~0u, 1), RETURN(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .filter = code };
	size_t i;

	if (IS_MUSL == 0 || strcmp(mode, "off") == 0)
		return -ENOSYS;
	other = strcmp(mode, "kill") == 0 ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_TRAP;
	for (i = 0; i < COUNT; i++)
		if (rules[i].roles & roles)
			n += add(code + n, &rules[i]);
	code[n++] = (struct sock_filter)RETURN(other);
	prog.len = (unsigned short)n;
	handle();
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) < 0 ? -errno : 0;
}
