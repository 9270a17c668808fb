/*
 * Becoming a daemon. Knows nothing of what the daemon does.
 *
 * The child does everything, also asking for passphrases: it is in the terminal's foreground group
 * until it detaches. Signals reach the parent as well, which passes on what only it got.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif
#define FD_SCAN 4096			/* inherited descriptors above this are not looked for */

static int stop_pipe[2] = { -1, -1 };
static int word = -1;			/* the child's end of the pipe to the parent */
static volatile sig_atomic_t child;
static int locked;			/* memory, which a fork undoes */
static unsigned char inherited[FD_SCAN / 8];

static void
on_signal(int sig)
{
	int keep = errno;
	ssize_t n;

	(void)sig;
	/* A full pipe is no error: it has been said already. */
	if (child > 0)
		kill(child, SIGTERM);
	else
		do
			n = write(stop_pipe[1], "", 1);
		while (n < 0 && errno == EINTR);
	errno = keep;
}

void
daemon_stop(void)
{
	on_signal(0);
}

int
daemon_stop_fd(void)
{
	return stop_pipe[0];
}

static void
catch_signals(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_signal;
	sa.sa_flags = SA_RESTART;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* $(pbsmap …), ssh and flock wait until every copy of their descriptors is closed. */
static void
remember_inherited(void)
{
	int fd;

	for (fd = 3; fd < FD_SCAN; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			inherited[fd / 8] |= (unsigned char)(1 << fd % 8);
}

static void
close_inherited(void)
{
	int fd;

	for (fd = 3; fd < FD_SCAN; fd++)
		if (inherited[fd / 8] & 1 << fd % 8)
			close(fd);
}

static int
wait_for_word(int fd)
{
	unsigned char st;
	ssize_t n;
	int status;

	do
		n = read(fd, &st, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return st;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	say("the mapping's process died%s", WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ?
	    " (killed; perhaps for want of memory)" : "");
	return ST_FAIL;
}

static int
lock_memory(void)
{
	return mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

/* Reads wait for this process: it must not wait for memory that is freed by such reads, nor be the first to be killed
 * when there is none. Each is done where it is allowed. */
void
daemon_protect(int lock)
{
	static const char score[] = "-900";
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);	/* threads inherit it */
	if (fd >= 0 && write(fd, score, sizeof(score) - 1) < 0)
		note("oom_score_adj: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	/* What is locked under a limit would fail later, at an allocation. */
	if (lock && (prlimit(0, RLIMIT_MEMLOCK, &all, NULL) < 0 || lock_memory() < 0))
		say("memory is not locked: %s", strerror(errno));
	else
		locked = lock;
}

int
daemon_start(int foreground, int *stop)
{
	int p[2], st;
	pid_t pid;

	remember_inherited();
	if (pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(p, O_CLOEXEC) < 0) {
		say("pipe: %s", strerror(errno));
		return ST_FAIL;
	}
	catch_signals();
	*stop = stop_pipe[0];
	prctl(PR_SET_NAME, "pbsmap");	/* by which others know that a pid is a mapping's */
	if (foreground) {
		close(p[0]);
		close(p[1]);
		return -1;
	}
	if ((pid = fork()) < 0) {
		say("fork: %s", strerror(errno));
		return ST_FAIL;
	}
	if (pid == 0) {
		/* Whoever kills the parent wants no mapping; say_word() sees what was too early for this. */
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		close(p[0]);
		word = p[1];
		return -1;
	}
	child = pid;
	close(p[1]);
	st = wait_for_word(p[0]);
	close(p[0]);
	return st;
}

static void
say_word(unsigned char st)
{
	ssize_t n;

	if (word < 0)
		return;
	do
		n = write(word, &st, 1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		daemon_stop();		/* nobody is there who would know of the device */
	close(word);
	word = -1;
}

static void
leave_terminal(void)
{
	int fd;

	setsid();
	prctl(PR_SET_PDEATHSIG, 0);
	signal(SIGHUP, SIG_IGN);
	if ((fd = open("/dev/null", O_RDWR)) < 0)
		fd = open("/", O_PATH);	/* anything harmless to hold 0, 1 and 2 */
	/* Whoever waits for their end must not wait for us. */
	for (int i = 0; i < 3; i++)
		if (dup2(fd, i) < 0)
			close(i);
	if (fd > 2)
		close(fd);
	close_inherited();
}

void
daemon_detach(void)
{
	fflush(stdout);
	if (word < 0)
		return;			/* in the foreground */
	leave_terminal();
	log_detach();
	say_word(ST_DONE);
}

void
daemon_part(int stop)
{
	if (word >= 0)
		close(word);
	word = -1;
	close(stop_pipe[0]);
	stop_pipe[0] = stop;
	if (locked && lock_memory() < 0)
		say("memory is not locked: %s", strerror(errno));
}

void
daemon_part_detach(void)
{
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	leave_terminal();
	close(stop_pipe[1]);
	if (chdir("/") < 0)
		note("/: %s", strerror(errno));
}

void
daemon_failed(enum status st)
{
	say_word((unsigned char)st);
}
