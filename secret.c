/*
 * Where secrets come from: the environment in its four forms, systemd
 * credentials, a person at the terminal.  Must not know what they are for.
 * No secret is in a stdio buffer, a message or, after a failure, in the
 * caller's buffer; and the terminal is left as it was found, whatever signal
 * comes.
 */
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "bytes.h"

extern char **environ;

/* --- a line --- */

/* The first line of what comes, a byte at a time. */
struct line {
	char *buf;
	size_t cap, len;
	int whole;			/* its end has come */
	int bad;			/* a negative errno: too long, or with a NUL */
};

static void
line_add(struct line *l, char c)
{
	if (l->whole)
		return;
	if (c == '\n')
		l->whole = 1;
	else if (c == '\0')
		l->bad = -EINVAL;
	else if (l->len + 1 < l->cap)
		l->buf[l->len++] = c;
	else if (l->bad == 0)
		l->bad = -E2BIG;
}

/* Ends the line: its length, or a negative errno and an empty buffer. */
static int
line_end(struct line *l, const char *what, struct err *e)
{
	/* Files written elsewhere end their lines with CR LF. */
	if (l->len > 0 && l->buf[l->len - 1] == '\r')
		l->len--;
	if (l->bad == 0) {
		l->buf[l->len] = '\0';
		return (int)l->len;
	}
	wipe(l->buf, l->cap);
	if (l->bad == -E2BIG)
		return err_set(e, ST_TRUST, l->bad, "%s: the line has more than %zu characters", what, l->cap - 1);
	return err_set(e, ST_TRUST, l->bad, "%s: there is a NUL byte in it", what);
}

/* As line_end(), for what was configured: there an empty line is a mistake. */
static int
secret_end(struct line *l, const char *what, struct err *e)
{
	int n = line_end(l, what, e);

	return n == 0 ? err_set(e, ST_TRUST, -EINVAL, "%s: it is empty", what) : n;
}

/* --- the environment --- */

/* No byte more than the line is taken: other secrets may follow in the same
 * stream, for the next call. */
static int
from_fd(int fd, const char *what, char *buf, size_t cap, struct err *e)
{
	struct line l = { .buf = buf, .cap = cap };
	ssize_t n;
	char c;

	while (!l.whole) {
		n = read(fd, &c, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			n = -errno;
			wipe(buf, cap);
			return err_set(e, ST_TRUST, (int)n, "%s: cannot read: %s", what, strerror((int)-n));
		}
		if (n == 0)
			break;
		line_add(&l, c);
	}
	return secret_end(&l, what, e);
}

static int
from_number(const char *text, const char *what, char *buf, size_t cap, struct err *e)
{
	char *end;
	long fd;

	errno = 0;
	fd = strtol(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || fd > INT_MAX)
		return err_set(e, ST_USAGE, -EINVAL, "%s: '%.40s' is no number of a descriptor", what, text);
	return from_fd((int)fd, what, buf, cap, e);
}

static int
from_file(const char *path, const char *what, char *buf, size_t cap, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0) {
		rc = -errno;
		return err_set(e, ST_TRUST, rc, "%s: cannot open '%.256s': %s", what, path, strerror(-rc));
	}
	rc = from_fd(fd, what, buf, cap, e);
	close(fd);
	return rc;
}

/* sh -c command, its output in *fd. It has no stdin, which may be a list that
 * a shell loop reads from; its messages go where ours go. Signals are as a
 * command expects them, whatever thread this is. 0 or a negative errno. */
static int
start(const char *command, pid_t *pid, int *fd)
{
	char sh[] = "sh", c[] = "-c", *copy = strdup(command);
	char *argv[] = { sh, c, copy, NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t set;
	int out[2], rc;

	if (!copy)
		return -ENOMEM;
	if (pipe2(out, O_CLOEXEC) < 0) {
		rc = -errno;
		free(copy);
		return rc;
	}
	posix_spawnattr_init(&attr);
	sigemptyset(&set);
	posix_spawnattr_setsigmask(&attr, &set);
	sigaddset(&set, SIGPIPE);
	posix_spawnattr_setsigdefault(&attr, &set);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, out[1], 1);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	rc = posix_spawn(pid, "/bin/sh", &fa, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	close(out[1]);
	free(copy);
	*fd = out[0];
	if (rc != 0)
		close(out[0]);
	return -rc;
}

/* Takes the first line of the output, and the rest as well, so that no command
 * fails for writing it; until the command is gone, not until the end of file:
 * an agent that it has started may keep the pipe for ever. Returns its status. */
static int
collect(pid_t pid, int fd, struct line *l)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int status = -1, gone = 0, ready;
	char some[512];
	ssize_t n;

	for (;;) {
		gone = gone || waitpid(pid, &status, WNOHANG) == pid;
		ready = poll(&p, 1, gone ? 0 : 50);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready == 0 && !gone)
			continue;
		n = ready > 0 ? read(fd, some, sizeof some) : 0;
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			line_add(l, some[i]);
	}
	wipe(some, sizeof some);
	while (!gone && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int
from_command(const char *command, const char *what, char *buf, size_t cap, struct err *e)
{
	struct line l = { .buf = buf, .cap = cap };
	pid_t pid = -1;
	int fd = -1, status, rc;

	signal(SIGCHLD, SIG_DFL);	/* ignored by our parent, it would hide the status */
	rc = start(command, &pid, &fd);
	if (rc < 0)
		return err_set(e, ST_TRUST, rc, "%s: cannot run /bin/sh: %s", what, strerror(-rc));
	status = collect(pid, fd, &l);
	close(fd);
	if (status == 0)
		return secret_end(&l, what, e);
	wipe(buf, cap);
	if (WIFSIGNALED(status))
		return err_set(e, ST_TRUST, -EIO, "%s: the command was killed by signal %d", what, WTERMSIG(status));
	return err_set(e, ST_TRUST, -EIO, "%s: the command failed with exit status %d", what, WEXITSTATUS(status));
}

static int
from_credential(const char *cred, char *buf, size_t cap, struct err *e)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	char path[PATH_MAX];

	if (!cred || !dir || dir[0] == '\0' ||
	    snprintf(path, sizeof path, "%s/%s", dir, cred) >= (int)sizeof path ||
	    access(path, F_OK) < 0)
		return -ENOENT;
	return from_file(path, cred, buf, cap, e);
}

int
secret_lookup(const char *name, const char *cred, char *buf, size_t cap, struct err *e)
{
	static const struct {
		const char *suffix;
		int (*get)(const char *value, const char *what, char *buf, size_t cap, struct err *e);
	} forms[] = { { "_FD", from_number }, { "_FILE", from_file }, { "_CMD", from_command } };
	struct line l = { .buf = buf, .cap = cap };
	const char *value = getenv(name);
	char what[80];
	int rc;

	/* Set but empty is how scripts switch a variable off. */
	if (value && *value) {
		while (*value && !l.whole)
			line_add(&l, *value++);
		return secret_end(&l, name, e);
	}
	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		snprintf(what, sizeof what, "%s%s", name, forms[i].suffix);
		value = getenv(what);
		if (!value || !*value)
			continue;
		rc = forms[i].get(value, what, buf, cap, e);
		return rc == -ENOENT ? -EINVAL : rc;	/* -ENOENT says that nothing is set */
	}
	return from_credential(cred, buf, cap, e);
}

/* --- the terminal --- */

static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP };
#define SIGNALS (sizeof signals / sizeof signals[0])

static volatile sig_atomic_t caught;

static void
on_signal(int sig)
{
	caught = sig;
}

struct terminal {
	int in, out;
	int opened;			/* `in` is ours to close */
	int changed;			/* modes are to be put back */
	struct termios modes;
	sigset_t mask;			/* as it was; */
	sigset_t waiting;		/*   with our signals let in */
	struct sigaction action[SIGNALS];
};

/* 0, or -ENOTTY. Without job control (an initramfs) there is no /dev/tty. */
static int
terminal_open(struct terminal *t)
{
	t->in = t->out = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	t->opened = t->in >= 0;
	if (t->opened)
		return 0;
	t->in = STDIN_FILENO;
	t->out = STDERR_FILENO;
	return isatty(t->in) && isatty(t->out) ? 0 : -ENOTTY;
}

/* Signals are let in by ppoll() alone, so none is missed between looking and
 * waiting. One that was ignored stays ignored. */
static void
signals_take(struct terminal *t)
{
	struct sigaction sa;
	sigset_t ours;

	caught = 0;
	sigemptyset(&ours);
	for (size_t i = 0; i < SIGNALS; i++)
		sigaddset(&ours, signals[i]);
	pthread_sigmask(SIG_BLOCK, &ours, &t->mask);
	t->waiting = t->mask;
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = on_signal;
	sigfillset(&sa.sa_mask);
	for (size_t i = 0; i < SIGNALS; i++) {
		sigdelset(&t->waiting, signals[i]);
		sigaction(signals[i], NULL, &t->action[i]);
		if (t->action[i].sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
	}
}

static void
signals_give_back(struct terminal *t)
{
	for (size_t i = 0; i < SIGNALS; i++)
		sigaction(signals[i], &t->action[i], NULL);
	/* Now it does what it would have done: ends us, stops us, or is seen by
	 * whoever waits for it. */
	if (caught)
		kill(getpid(), caught);
	pthread_sigmask(SIG_SETMASK, &t->mask, NULL);
}

/* A serial line may have been left in any mode. */
static void
modes_set(struct terminal *t, int echo)
{
	struct termios m;

	t->changed = tcgetattr(t->in, &t->modes) == 0;
	if (!t->changed)
		return;
	m = t->modes;
	m.c_iflag |= ICRNL;
	m.c_lflag |= ICANON | ISIG;
	m.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	if (echo)
		m.c_lflag |= ECHO;
	tcsetattr(t->in, echo ? TCSADRAIN : TCSAFLUSH, &m);
}

static int
terminal_read(const struct terminal *t, struct line *l)
{
	struct pollfd p = { .fd = t->in, .events = POLLIN };
	/* Another thread may be the one that gets the signal: look each second. */
	const struct timespec second = { .tv_sec = 1 };
	ssize_t n;
	char c;

	while (!l->whole) {
		int ready = ppoll(&p, 1, &second, &t->waiting);

		if (caught)
			return -EINTR;
		if (ready <= 0)
			continue;
		n = read(t->in, &c, 1);
		if (n == 0)
			return -ECANCELED;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n > 0)
			line_add(l, c);
	}
	return 0;
}

static void
put(const struct terminal *t, const char *text)
{
	while (*text) {
		ssize_t n = write(t->out, text, strlen(text));

		if (n < 0 && errno != EINTR)
			return;
		text += n > 0 ? n : 0;
	}
}

static int
ask(const char *prompt, int echo, char *buf, size_t cap, struct err *e)
{
	struct terminal t;
	struct line l;
	int rc = terminal_open(&t);

	if (rc < 0)
		return rc;
	do {
		l = (struct line){ .buf = buf, .cap = cap };
		signals_take(&t);
		/* The modes first: what is typed at the prompt must not show. */
		modes_set(&t, echo);
		put(&t, prompt);
		rc = terminal_read(&t, &l);
		if (!echo || rc < 0)
			put(&t, "\n");
		if (rc < 0)
			wipe(buf, cap);
		if (t.changed)
			tcsetattr(t.in, TCSADRAIN, &t.modes);
		signals_give_back(&t);
	} while (rc == -EINTR && caught == SIGTSTP);	/* stopped, and goes on */
	if (t.opened)
		close(t.in);
	if (rc == 0)
		return line_end(&l, "answer", e);
	if (rc == -EINTR)
		return err_set(e, ST_FAIL, -ECANCELED, "interrupted");
	if (rc == -ECANCELED)
		return err_set(e, ST_FAIL, rc, "no answer at the terminal (end of file)");
	return err_set(e, ST_FAIL, rc, "cannot read from the terminal: %s", strerror(-rc));
}

int
secret_ask(const char *prompt, char *buf, size_t cap, struct err *e)
{
	return ask(prompt, 0, buf, cap, e);
}

int
prompt_line(const char *prompt, char *buf, size_t cap, struct err *e)
{
	return ask(prompt, 1, buf, cap, e);
}
