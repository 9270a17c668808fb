/*
 * Faults from outside: runs a command and traces it and all that it starts, processes and threads, for as long as one
 * of them lives; returns when the command itself ends, with its status (128 + the signal that killed it).
 *
 *	inject LOG count COMMAND...		only counts
 *	inject LOG fail KIND N ERRNO COMMAND...	the Nth call of this kind fails and is not done; KIND any: of all kinds
 *	inject LOG lasting KIND N ERRNO COMMAND...	that one and all later ones of this kind
 *	inject LOG kill N COMMAND...		at the Nth call of all: SIGKILL to everything
 *	inject LOG killone N COMMAND...		... to the process that makes it
 *	inject LOG short EVERY COMMAND...	each so many-th read or write transfers one byte
 *	inject LOG eintr EVERY COMMAND...	each so many-th call of a kind that may be interrupted is
 *
 * LOG gets a line "hit KIND N" for each fault (one line for the last two), and at the end "KIND COUNT" of what was
 * called.  A KIND is a system call's name with what tells its uses apart: ioctl:4c82, read:fuse, openat:/proc.
 * Knows nothing of pbsmap.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <linux/ptrace.h>
#include <unistd.h>

#define TRACEES_MAX 256
#define KINDS_MAX 512
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | \
    PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

/* How the first argument tells the uses of a call apart. */
enum by { BY_NAME, BY_FD, BY_COMMAND, BY_PATH, BY_PATH2 };

static const struct {
	long nr;
	const char *name;
	enum by by;
	int transfer;			/* the third argument is a length */
	int interruptible;
} calls[] = {
#define CALL(n, ...) { SYS_##n, #n, __VA_ARGS__ }
	CALL(read, BY_FD, 1, 1), CALL(write, BY_FD, 1, 1), CALL(pread64, BY_FD, 1, 1), CALL(pwrite64, BY_FD, 1, 1),
	CALL(readv, BY_FD, 0, 0), CALL(writev, BY_FD, 0, 0), CALL(recvfrom, BY_FD, 1, 1), CALL(sendto, BY_FD, 1, 1),
	CALL(recvmsg, BY_FD, 0, 1), CALL(sendmsg, BY_FD, 0, 1), CALL(ioctl, BY_COMMAND, 0, 0), CALL(fcntl, BY_COMMAND, 0, 0),
	CALL(openat, BY_PATH2, 0, 0), CALL(close, BY_FD, 0, 0), CALL(fstat, BY_FD, 0, 0), CALL(lseek, BY_FD, 0, 0),
	CALL(getdents64, BY_FD, 0, 0), CALL(flock, BY_COMMAND, 0, 1), CALL(wait4, BY_NAME, 0, 1), CALL(connect, BY_NAME, 0, 1),
	CALL(ppoll, BY_NAME, 0, 1), CALL(fsync, BY_NAME, 0, 0), CALL(ftruncate, BY_NAME, 0, 0), CALL(mmap, BY_NAME, 0, 0),
	CALL(mprotect, BY_NAME, 0, 0), CALL(madvise, BY_NAME, 0, 0), CALL(munmap, BY_NAME, 0, 0), CALL(brk, BY_NAME, 0, 0),
	CALL(mremap, BY_NAME, 0, 0), CALL(mlockall, BY_NAME, 0, 0), CALL(socket, BY_NAME, 0, 0), CALL(setsockopt, BY_NAME, 0, 0),
	CALL(getsockopt, BY_NAME, 0, 0), CALL(bind, BY_NAME, 0, 0), CALL(getsockname, BY_NAME, 0, 0),
	CALL(socketpair, BY_NAME, 0, 0), CALL(shutdown, BY_NAME, 0, 0), CALL(eventfd2, BY_NAME, 0, 0), CALL(pipe2, BY_NAME, 0, 0),
	CALL(clone, BY_NAME, 0, 0), CALL(clone3, BY_NAME, 0, 0), CALL(execve, BY_NAME, 0, 0), CALL(mount, BY_NAME, 0, 0),
	CALL(umount2, BY_NAME, 0, 0), CALL(unlinkat, BY_NAME, 0, 0), CALL(mkdirat, BY_NAME, 0, 0), CALL(mknodat, BY_NAME, 0, 0),
	CALL(readlinkat, BY_PATH2, 0, 0), CALL(faccessat, BY_PATH2, 0, 0), CALL(newfstatat, BY_PATH2, 0, 0),
	CALL(chdir, BY_NAME, 0, 0), CALL(fchdir, BY_NAME, 0, 0), CALL(getcwd, BY_NAME, 0, 0), CALL(setsid, BY_NAME, 0, 0),
	CALL(prctl, BY_COMMAND, 0, 0), CALL(prlimit64, BY_NAME, 0, 0), CALL(capset, BY_NAME, 0, 0), CALL(capget, BY_NAME, 0, 0),
	CALL(seccomp, BY_NAME, 0, 0), CALL(setresuid, BY_NAME, 0, 0), CALL(setresgid, BY_NAME, 0, 0), CALL(setgroups, BY_NAME, 0, 0),
	CALL(getpid, BY_NAME, 0, 0), CALL(getppid, BY_NAME, 0, 0), CALL(mlock, BY_NAME, 0, 0), CALL(munlock, BY_NAME, 0, 0),
	CALL(setgid, BY_NAME, 0, 0), CALL(setuid, BY_NAME, 0, 0), CALL(unshare, BY_NAME, 0, 0), CALL(setns, BY_NAME, 0, 0),
	CALL(chroot, BY_NAME, 0, 0), CALL(pivot_root, BY_NAME, 0, 0), CALL(getrlimit, BY_NAME, 0, 0), CALL(setrlimit, BY_NAME, 0, 0), CALL(gettid, BY_NAME, 0, 0), CALL(getuid, BY_NAME, 0, 0), CALL(geteuid, BY_NAME, 0, 0),
	CALL(getgid, BY_NAME, 0, 0), CALL(getegid, BY_NAME, 0, 0), CALL(kill, BY_NAME, 0, 0), CALL(tkill, BY_NAME, 0, 0),
	CALL(pidfd_open, BY_NAME, 0, 0), CALL(pidfd_send_signal, BY_NAME, 0, 0), CALL(nanosleep, BY_NAME, 0, 0),
	CALL(clock_nanosleep, BY_NAME, 0, 0), CALL(futex, BY_NAME, 0, 0), CALL(exit, BY_NAME, 0, 0), CALL(exit_group, BY_NAME, 0, 0),
	CALL(rt_sigaction, BY_NAME, 0, 0), CALL(rt_sigprocmask, BY_NAME, 0, 0), CALL(rt_sigreturn, BY_NAME, 0, 0),
	CALL(restart_syscall, BY_NAME, 0, 0), CALL(set_tid_address, BY_NAME, 0, 0), CALL(sysinfo, BY_NAME, 0, 0),
	CALL(setpriority, BY_NAME, 0, 0), CALL(getpriority, BY_NAME, 0, 0), CALL(sched_getaffinity, BY_NAME, 0, 0),
	CALL(sched_yield, BY_NAME, 0, 0), CALL(fadvise64, BY_NAME, 0, 0), CALL(dup, BY_NAME, 0, 0), CALL(dup3, BY_NAME, 0, 0),
	CALL(statfs, BY_NAME, 0, 0), CALL(uname, BY_NAME, 0, 0), CALL(clock_gettime, BY_NAME, 0, 0), CALL(getrandom, BY_NAME, 0, 0),
	CALL(landlock_create_ruleset, BY_NAME, 0, 0), CALL(landlock_add_rule, BY_NAME, 0, 0),
	CALL(landlock_restrict_self, BY_NAME, 0, 0), CALL(close_range, BY_NAME, 0, 0),
#ifdef __x86_64__
	CALL(open, BY_PATH, 0, 0), CALL(poll, BY_NAME, 0, 1), CALL(fork, BY_NAME, 0, 0), CALL(vfork, BY_NAME, 0, 0),
	CALL(mkdir, BY_NAME, 0, 0), CALL(mknod, BY_NAME, 0, 0), CALL(unlink, BY_NAME, 0, 0), CALL(stat, BY_PATH, 0, 0),
	CALL(lstat, BY_PATH, 0, 0), CALL(access, BY_PATH, 0, 0), CALL(readlink, BY_PATH, 0, 0), CALL(pipe, BY_NAME, 0, 0),
	CALL(dup2, BY_NAME, 0, 0), CALL(arch_prctl, BY_NAME, 0, 0), CALL(rmdir, BY_NAME, 0, 0), CALL(rename, BY_NAME, 0, 0),
#endif
};

enum mode { COUNT, FAIL, LASTING, KILL, KILLONE, SHORT, EINTRS };
static const char *const modes[] = { "count", "fail", "lasting", "kill", "killone", "short", "eintr", NULL };

static struct tracee {
	pid_t tid, tgid;		/* tid 0: free */
	int error;			/* to be returned from the call it is in, or 0 */
	int shortened;			/* its length was changed: put it back */
	unsigned long length;
} tracees[TRACEES_MAX];

static struct kind {
	char name[64];
	long count;
} kinds[KINDS_MAX];

static enum mode mode;
static const char *want;		/* the kind to fail */
static long at, every;			/* which call */
static int with;			/* errno */
static long total, transfers;
static int kind_count, hits, started, logfd;

static void
die(const char *what)
{
	fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
	exit(127);
}

static void
logline(const char *format, const char *name, long n)
{
	char text[128];
	int len = snprintf(text, sizeof(text), format, name, n);

	if (write(logfd, text, (size_t)len) != len)
		die("log");
}

/* ---- what is in a stopped tracee ---- */

static void
peek_text(pid_t tid, unsigned long address, char *out, size_t cap)
{
	struct iovec here = { out, cap - 1 }, there = { (void *)address, cap - 1 };
	ssize_t n = process_vm_readv(tid, &here, 1, &there, 1, 0);

	if (n < 0 && address % 4096) {	/* the next page may be none */
		here.iov_len = there.iov_len = 4096 - address % 4096 < cap - 1 ? 4096 - address % 4096 : cap - 1;
		n = process_vm_readv(tid, &here, 1, &there, 1, 0);
	}
	out[n < 0 ? 0 : n] = 0;
}

#ifdef __x86_64__
static void
set_reg(pid_t tid, size_t offset, unsigned long value)
{
	if (ptrace(PTRACE_POKEUSER, tid, offset, value) < 0 && errno != ESRCH)
		die("POKEUSER");
}
#define set_call(tid, nr) set_reg(tid, offsetof(struct user_regs_struct, orig_rax), (unsigned long)(nr))
#define set_result(tid, v) set_reg(tid, offsetof(struct user_regs_struct, rax), (unsigned long)(v))
#define set_length(tid, v) set_reg(tid, offsetof(struct user_regs_struct, rdx), v)
#else
static void
set_call(pid_t tid, int nr)
{
	struct iovec v = { &nr, sizeof(nr) };

	ptrace(PTRACE_SETREGSET, tid, (void *)NT_ARM_SYSTEM_CALL, &v);
}

static void
set_reg(pid_t tid, int n, unsigned long value)
{
	struct user_regs_struct r;
	struct iovec v = { &r, sizeof(r) };

	ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &v);
	r.regs[n] = value;
	ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &v);
}
#define set_result(tid, v) set_reg(tid, 0, (unsigned long)(v))
#define set_length(tid, v) set_reg(tid, 2, v)
#endif

/* "/proc", "/sys", "/run", "/dev/fuse", "/dev/loop", or "file". */
static const char *
place(const char *path)
{
	static const char *const known[] = { "/proc", "/sys", "/run", "/dev/fuse", "/dev/loop", "/dev/null", "socket", "pipe",
	    "anon_inode:[eventfd]", "anon_inode:[pidfd]", NULL };

	for (int i = 0; known[i]; i++)
		if (strncmp(path, known[i], strlen(known[i])) == 0)
			return known[i][0] == 'a' ? (i == 8 ? "eventfd" : "pidfd") : known[i];
	return "file";
}

/* What the call is: an index of calls[], or -1; its kind as text. */
static int
classify(pid_t tid, const struct ptrace_syscall_info *s, char *out, size_t cap)
{
	const unsigned long long *a = s->entry.args;
	char path[64], link[64];
	ssize_t n;
	size_t i;

	for (i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (calls[i].nr == (long)s->entry.nr)
			break;
	if (i == sizeof(calls) / sizeof(*calls)) {
		snprintf(out, cap, "call:%llu", (unsigned long long)s->entry.nr);
		return -1;
	}
	switch (calls[i].by) {
	case BY_NAME:
		snprintf(out, cap, "%s", calls[i].name);
		break;
	case BY_COMMAND:
		snprintf(out, cap, "%s:%llx", calls[i].name, (calls[i].nr == SYS_prctl ? a[0] : a[1]) & 0xffffffff);
		break;
	case BY_FD:
		snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)tid, (int)a[0]);
		n = readlink(link, path, sizeof(path) - 1);
		path[n < 0 ? 0 : n] = 0;
		snprintf(out, cap, "%s:%s", calls[i].name, n < 0 ? "none" : place(path));
		break;
	default:
		peek_text(tid, (unsigned long)a[calls[i].by == BY_PATH2], path, sizeof(path));
		snprintf(out, cap, "%s:%s", calls[i].name, place(path));
	}
	return (int)i;
}

/* ---- counting and deciding ---- */

static long
count(const char *name)
{
	int i;

	for (i = 0; i < kind_count; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return ++kinds[i].count;
	if (kind_count == KINDS_MAX) {
		errno = E2BIG;
		die("kinds");
	}
	snprintf(kinds[kind_count].name, sizeof(kinds[0].name), "%s", name);
	return ++kinds[kind_count++].count;
}

static void
kill_all(void)
{
	for (int i = 0; i < TRACEES_MAX; i++)
		if (tracees[i].tid)
			kill(tracees[i].tgid, SIGKILL);
}

/* Some calls have an effect also when they fail: a descriptor is closed, an answer is the last one. */
static int
is_done(const char *kind)
{
	return strncmp(kind, "close:", 6) == 0 || strcmp(kind, "writev:/dev/fuse") == 0 || strcmp(kind, "write:/dev/fuse") == 0;
}

static void
fail(struct tracee *t, int error, int done)
{
	t->error = error;
	if (!done)
		set_call(t->tid, -1);
}

static int
may_shorten(const char *kind, const struct ptrace_syscall_info *s)
{
	return s->entry.args[2] > 1 && (strstr(kind, ":file") || strstr(kind, ":socket") || strstr(kind, ":pipe") ||
	    strstr(kind, ":/proc") || strstr(kind, ":/sys") || strstr(kind, ":/run"));
}

static void
on_entry(struct tracee *t, const struct ptrace_syscall_info *s)
{
	char name[64];
	int c = classify(t->tid, s, name, sizeof(name));
	long n;

	/* What asks for all descriptors there may be, or closes them, is no thousand points. */
	if ((s->entry.nr == SYS_fcntl && s->entry.args[1] == F_GETFD) || strcmp(name, "close:none") == 0)
		return;
	n = count(name);
	total++;
	if ((mode == KILL || mode == KILLONE) && total == at) {
		logline("hit %s %ld\n", name, n);
		if (mode == KILL)
			kill_all();
		else
			kill(t->tgid, SIGKILL);
	} else if (mode == FAIL || mode == LASTING) {
		if (strcmp(want, "any") == 0)
			n = total;
		else if (strcmp(want, name) != 0)
			return;
		if (n == at || (mode == LASTING && n > at)) {
			if (n == at)
				logline("hit %s %ld\n", name, n);
			fail(t, with, is_done(name));
		}
	} else if (mode == SHORT && c >= 0 && calls[c].transfer && may_shorten(name, s) && ++transfers % every == 0) {
		t->shortened = 1;
		t->length = (unsigned long)s->entry.args[2];
		set_length(t->tid, 1);
		hits++;
	} else if (mode == EINTRS && c >= 0 && calls[c].interruptible && n % every == 0) {
		fail(t, EINTR, is_done(name));
		hits++;
	}
}

static void
on_exit_(struct tracee *t)
{
	if (t->error)
		set_result(t->tid, -t->error);
	if (t->shortened)
		set_length(t->tid, t->length);
	t->error = t->shortened = 0;
}

/* ---- tracing ---- */

static pid_t
tgid_of(pid_t tid)
{
	char path[64], line[256];
	pid_t tgid = tid;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	if ((f = fopen(path, "r")) == NULL)
		return tid;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Tgid: %d", &tgid) == 1)
			break;
	fclose(f);
	return tgid;
}

static struct tracee *
tracee(pid_t tid)
{
	struct tracee *free_one = NULL;

	for (int i = 0; i < TRACEES_MAX; i++)
		if (tracees[i].tid == tid)
			return &tracees[i];
		else if (tracees[i].tid == 0 && !free_one)
			free_one = &tracees[i];
	if (!free_one) {
		errno = EMFILE;
		die("tracees");
	}
	*free_one = (struct tracee){ .tid = tid, .tgid = tgid_of(tid) };
	return free_one;
}

static void
on_stop(pid_t tid, int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;
	struct ptrace_syscall_info s;
	struct tracee *t = tracee(tid);

	if (event == PTRACE_EVENT_STOP && sig != SIGTRAP) {	/* stopped, and stays so until it is continued */
		ptrace(PTRACE_LISTEN, tid, 0, 0);
		return;
	}
	if (event == PTRACE_EVENT_EXEC)
		started = 1;
	if (event == 0 && sig == (SIGTRAP | 0x80)) {
		if (started && ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(s), &s) > 0) {
			if (s.op == PTRACE_SYSCALL_INFO_ENTRY)
				on_entry(t, &s);
			else if (s.op == PTRACE_SYSCALL_INFO_EXIT)
				on_exit_(t);
		}
		sig = 0;
	} else if (event != 0) {
		sig = 0;
	}
	ptrace(PTRACE_SYSCALL, tid, 0, sig);
}

/* Until the last has ended; the end of the command itself is told at once. */
static void
trace(pid_t command, int tell)
{
	int status, code;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (tid < 0)
			continue;
		if (WIFSTOPPED(status)) {
			on_stop(tid, status);
			continue;
		}
		tracee(tid)->tid = 0;
		if (tid == command) {
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			if (write(tell, &code, sizeof(code)) < 0)
				die("status");
			close(tell);
		}
	}
}

static void
tracer(char **argv, int tell)
{
	int go[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid;
	char c;

	prctl(PR_SET_NAME, "inject");
	if (pipe2(go, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		die("fork");
	if (pid == 0) {
		if (read(go[0], &c, 1) == 1)
			execvp(argv[0], argv);
		_exit(127);
	}
	setsid();			/* what is meant for the command's terminal is not for us */
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	if (ptrace(PTRACE_SEIZE, pid, 0, OPTIONS) < 0 || write(go[1], "", 1) != 1)
		exit(127);
	trace(pid, tell);
	if (hits)
		logline("hit %s %ld\n", modes[mode], hits);
	for (int i = 0; i < kind_count; i++)
		logline("%s %ld\n", kinds[i].name, kinds[i].count);
	logline("%s %ld\n", "total", total);
	exit(0);
}

/* The mode's own arguments; where the command begins. */
static char **
parse(int argc, char **argv)
{
	static const int args[] = { [COUNT] = 0, [FAIL] = 3, [LASTING] = 3, [KILL] = 1, [KILLONE] = 1, [SHORT] = 1, [EINTRS] = 1 };

	for (mode = 0; argc > 2 && modes[mode] && strcmp(argv[2], modes[mode]) != 0; mode++)
		;
	if (argc < 3 || !modes[mode] || argc < 4 + args[mode]) {
		fprintf(stderr, "usage: inject LOG count|fail KIND N ERRNO|lasting KIND N ERRNO|kill N|killone N|short N|eintr N "
		    "COMMAND...\n");
		exit(2);
	}
	if (args[mode] == 3) {
		want = argv[3];
		at = atol(argv[4]);
		with = atoi(argv[5]);
	} else if (args[mode] == 1) {
		at = every = atol(argv[3]);
	}
	return argv + 3 + args[mode];
}

int
main(int argc, char **argv)
{
	char **command = parse(argc, argv);
	int tell[2], code = 127;
	pid_t pid;

	if ((logfd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644)) < 0)
		die(argv[1]);
	if (pipe2(tell, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		die("fork");
	if (pid == 0) {
		close(tell[0]);
		tracer(command, tell[1]);
	}
	close(tell[1]);
	if (read(tell[0], &code, sizeof(code)) != sizeof(code))
		return 127;
	return code;
}
