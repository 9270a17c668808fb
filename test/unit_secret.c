/* Secrets: each form of the environment, credentials, and a terminal (a pty) with signals. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "secret.h"
#include "t.h"

static char dir[] = "/tmp/unit_secret.XXXXXX", path[64];
static char buf[16];
static struct err e;

static void
clear(void)
{
	unsetenv("X");
	unsetenv("X_FD");
	unsetenv("X_FILE");
	unsetenv("X_CMD");
	unsetenv("CREDENTIALS_DIRECTORY");
}

static int
look(void)
{
	memset(buf, '#', sizeof buf);
	strcpy(e.text, "untouched");
	return secret_lookup("X", "cred", buf, sizeof buf, &e);
}

static void
is_secret(const char *want)
{
	check_int(look(), strlen(want));
	check_str(buf, want);
	check_str(e.text, "untouched");
}

/* Refused, with nothing of the secret in buffer or message. */
static void
refused(int rc, const char *says)
{
	check_int(look(), rc);
	if (!check(strstr(e.text, says) != NULL && strstr(e.text, "hush") == NULL))
		printf("# %s\n", e.text);
	for (size_t i = 0; i + 3 < sizeof buf; i++)
		check(memcmp(buf + i, "hush", 4) != 0);
}

static void
write_file(const char *text, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	check(fd >= 0 && write(fd, text, n) == (ssize_t)n);
	close(fd);
}

static void
test_plain(void)
{
	clear();
	check_int(look(), -ENOENT);
	check_str(e.text, "untouched");
	setenv("X", "hush", 1);
	is_secret("hush");
	setenv("X", "a b\r\nhush", 1);
	is_secret("a b");
	setenv("X", "123456789012345", 1);
	is_secret("123456789012345");
	setenv("X", "hush6789012345hush", 1);
	refused(-E2BIG, "X: ");
	setenv("X", "\nhush", 1);
	refused(-EINVAL, "X: it is empty");
	setenv("X", "", 1);
	check_int(look(), -ENOENT);
}

static void
test_order(void)
{
	clear();
	write_file("credential\n", 11);
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	is_secret("credential");
	setenv("X_CMD", "echo command", 1);
	is_secret("command");
	write_file("file", 4);
	setenv("X_FILE", path, 1);
	is_secret("file");
	setenv("X_FD", "99", 1);
	refused(-EBADF, "X_FD: ");
	setenv("X", "plain", 1);
	is_secret("plain");
	setenv("X", "", 1);
	setenv("X_FD", "", 1);
	is_secret("file");
}

static void
test_file(void)
{
	clear();
	setenv("X_FILE", path, 1);
	write_file("hush\r\nsecond", 12);
	is_secret("hush");
	write_file("a\rb", 3);
	is_secret("a\rb");
	write_file("", 0);
	refused(-EINVAL, "X_FILE: it is empty");
	write_file("\r\nhush", 6);
	refused(-EINVAL, "X_FILE: it is empty");
	write_file("hush\0hush\n", 10);
	refused(-EINVAL, "NUL");
	write_file("1\n\0", 3);
	is_secret("1");
	write_file("hush567890123456", 16);
	refused(-E2BIG, "more than 15");
	write_file("123456789012345\r\n", 17);
	refused(-E2BIG, "more than 15");
	setenv("X_FILE", "/nonexistent/file", 1);
	refused(-EINVAL, "X_FILE: cannot open '/nonexistent/file'");
	setenv("X_FILE", dir, 1);
	refused(-EISDIR, "X_FILE: cannot read");
}

static void
test_credential(void)
{
	clear();
	setenv("CREDENTIALS_DIRECTORY", "/nonexistent", 1);
	check_int(look(), -ENOENT);
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	write_file("hush\n", 5);
	is_secret("hush");
	check_int(secret_lookup("X", NULL, buf, sizeof buf, &e), -ENOENT);
	write_file("", 0);
	refused(-EINVAL, "cred: it is empty");
}

/* Two secrets in one stream: each call takes its line and no more. */
static void
test_fd(void)
{
	char number[16];
	int p[2];

	clear();
	if (!check(pipe(p) == 0 && write(p[1], "one\ntwo", 7) == 7))
		return;
	close(p[1]);
	snprintf(number, sizeof number, "%d", p[0]);
	setenv("X_FD", number, 1);
	is_secret("one");
	is_secret("two");
	refused(-EINVAL, "X_FD: it is empty");
	close(p[0]);
	refused(-EBADF, "X_FD: cannot read");
	setenv("X_FD", "-1", 1);
	refused(-EINVAL, "'-1' is no number");
	setenv("X_FD", "3x", 1);
	refused(-EINVAL, "'3x' is no number");
	setenv("X_FD", " 3", 1);
	refused(-EINVAL, "is no number");
	setenv("X_FD", "4294967296", 1);
	refused(-EINVAL, "is no number");
	setenv("X_FD", "99999999999999999999", 1);
	refused(-EINVAL, "is no number");
}

static long
ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void
test_command(void)
{
	int in = dup(0), p[2];
	long t;

	clear();
	setenv("X_CMD", "printf 'hush\\nmore\\n'", 1);
	is_secret("hush");
	setenv("X_CMD", "printf hush", 1);
	is_secret("hush");
	/* More than a pipe holds: all of it is taken. */
	setenv("X_CMD", "echo hush; head -c 200000 /dev/zero", 1);
	is_secret("hush");
	setenv("X_CMD", "echo hush; exit 3", 1);
	refused(-EIO, "X_CMD: the command failed with exit status 3");
	setenv("X_CMD", "/nonexistent/hush 2>/dev/null", 1);
	refused(-EIO, "exit status 127");
	setenv("X_CMD", "echo hush; kill -9 $$", 1);
	refused(-EIO, "killed by signal 9");
	setenv("X_CMD", "true", 1);
	refused(-EINVAL, "X_CMD: it is empty");
	setenv("X_CMD", "echo hush567890123456789", 1);
	refused(-E2BIG, "more than 15");
	/* Somebody else keeps the pipe: not waited for. */
	setenv("X_CMD", "sleep 8 2>/dev/null & echo hush", 1);
	t = ms();
	is_secret("hush");
	check(ms() - t < 5000);
	/* stdin is not the command's. */
	check(in >= 0 && pipe(p) == 0 && write(p[1], "list\n", 5) == 5 && dup2(p[0], 0) == 0);
	close(p[1]);
	setenv("X_CMD", "read x; echo got:$x", 1);
	is_secret("got:");
	dup2(in, 0);
	close(in);
	close(p[0]);
}

/* As in a thread with signals blocked, of a daemon that ignores SIGPIPE, below a
 * parent that ignores SIGCHLD. */
static void
test_command_signals(void)
{
	sigset_t all, old;

	clear();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	setenv("X_CMD", "sh -c 'kill -PIPE $$; exit 0'; test $? = 141 && sh -c 'kill -TERM $$' 2>/dev/null; echo $?", 1);
	is_secret("143");
	setenv("X_CMD", "exit 4", 1);
	refused(-EIO, "exit status 4");
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/* --- terminal --- */

struct seat {
	int master, result;		/* result: rc and answer, written by the child */
	pid_t pid;
	char screen[512];
	size_t len;
};

static void
handle(int sig)
{
	(void)sig;
}

/* A child whose terminal is the pty, or (detached) has it as stdin and stderr only. */
static int
sit(struct seat *s, int echo, int detached)
{
	int p[2], slave, rc;
	struct err err = { 0 };
	struct termios m;
	char answer[64];

	memset(s, 0, sizeof *s);
	s->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (!check(s->master >= 0 && grantpt(s->master) == 0 && unlockpt(s->master) == 0 && pipe(p) == 0))
		return -1;
	s->pid = fork();
	if (s->pid == 0) {
		setsid();
		slave = open(ptsname(s->master), O_RDWR | O_NOCTTY);
		if (!detached)
			ioctl(slave, TIOCSCTTY, 0);
		dup2(slave, 0);
		dup2(slave, 2);
		tcgetattr(slave, &m);	/* a raw line, as a boot loader leaves it */
		m.c_lflag &= ~(tcflag_t)(ICANON | ISIG);
		m.c_iflag &= ~(tcflag_t)ICRNL;
		tcsetattr(slave, TCSANOW, &m);
		signal(SIGINT, SIG_DFL);	/* ignored in what a script runs with & */
		signal(SIGQUIT, SIG_IGN);
		signal(SIGTERM, handle);
		rc = echo ? prompt_line("Name: ", answer, 16, &err) : secret_ask("Pass: ", answer, 16, &err);
		dprintf(p[1], "%d %s %s", rc, rc >= 0 ? answer : "", err.text);
		m.c_lflag = 0;
		tcgetattr(slave, &m);
		_exit((m.c_lflag & (ICANON | ISIG | ECHO)) == ECHO && !(m.c_iflag & ICRNL) ? 0 : 9);
	}
	close(p[1]);
	s->result = p[0];
	return 0;
}

/* Reads the screen until it shows `text`; 0 after 5 s without it. */
static int
shows(struct seat *s, const char *text)
{
	struct pollfd p = { .fd = s->master, .events = POLLIN };

	while (strstr(s->screen, text) == NULL) {
		ssize_t n;

		if (s->len + 1 >= sizeof s->screen || poll(&p, 1, 5000) <= 0)
			return 0;
		n = read(s->master, s->screen + s->len, sizeof s->screen - 1 - s->len);
		if (n <= 0)
			return 0;
		s->len += (size_t)n;
	}
	return 1;
}

static void
type(struct seat *s, const char *text)
{
	check(write(s->master, text, strlen(text)) == (ssize_t)strlen(text));
}

/* The child's end: its result, its exit status with the modes put back. */
static void
leaves(struct seat *s, const char *result, int status)
{
	char text[256];
	size_t len = 0;
	ssize_t n;
	int st = -1;

	while ((n = read(s->result, text + len, sizeof text - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	check_str(text, result);
	check(waitpid(s->pid, &st, 0) == s->pid);
	check_int(st, status);
	close(s->result);
	close(s->master);
}

static void
test_ask(void)
{
	struct seat s;

	for (int detached = 0; detached < 2; detached++) {
		if (sit(&s, 0, detached) < 0)
			return;
		check(shows(&s, "Pass: "));
		type(&s, "hushx\x7f\r");
		check(shows(&s, "\n"));
		check(strstr(s.screen, "hush") == NULL);
		leaves(&s, "4 hush ", 0);
	}
}

static void
test_prompt(void)
{
	struct seat s;

	if (sit(&s, 1, 0) < 0)
		return;
	check(shows(&s, "Name: "));
	type(&s, "yes\n");
	check(shows(&s, "yes\r\n"));
	leaves(&s, "3 yes ", 0);
	if (sit(&s, 0, 0) < 0)
		return;
	check(shows(&s, "Pass: "));
	type(&s, "\n");
	leaves(&s, "0  ", 0);
	/* SIGQUIT is ignored here and stays so. */
	if (sit(&s, 0, 0) < 0)
		return;
	check(shows(&s, "Pass: "));
	kill(s.pid, SIGQUIT);
	usleep(100000);			/* so that it comes before the answer */
	type(&s, "hush\n");
	leaves(&s, "4 hush ", 0);
}

static void
test_ask_refused(void)
{
	struct seat s;
	char text[80];

	if (sit(&s, 0, 0) < 0)
		return;
	check(shows(&s, "Pass: "));
	type(&s, "hush567890123456\nrest\n");
	snprintf(text, sizeof text, "%d  answer: the line has more than 15 characters", -E2BIG);
	leaves(&s, text, 0);
	if (sit(&s, 0, 0) < 0)
		return;
	check(shows(&s, "Pass: "));
	type(&s, "hu\x04\x04");
	snprintf(text, sizeof text, "%d  no answer at the terminal (end of file)", -ECANCELED);
	leaves(&s, text, 0);
}

/* The parent looks at the modes itself when the child is dead. */
static int
modes_are_back(const struct seat *s)
{
	struct termios m;

	return tcgetattr(s->master, &m) == 0 && (m.c_lflag & (ICANON | ISIG | ECHO)) == ECHO;
}

static void
test_signals(void)
{
	struct seat s;
	char text[80];
	int slave;

	if (sit(&s, 0, 0) < 0)
		return;
	slave = open(ptsname(s.master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	check(shows(&s, "Pass: "));
	check(!modes_are_back(&s));
	type(&s, "hu\x03");
	check(shows(&s, "\n"));
	leaves(&s, "", SIGINT);
	if (sit(&s, 0, 0) < 0)
		return;
	close(slave);
	slave = open(ptsname(s.master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	check(shows(&s, "Pass: "));
	kill(s.pid, SIGHUP);
	check(shows(&s, "\n"));
	for (int i = 0; i < 500 && !modes_are_back(&s); i++)
		usleep(10000);
	check(modes_are_back(&s));
	leaves(&s, "", SIGHUP);
	close(slave);
	/* One that is handled: then it is an answer that did not come. */
	if (sit(&s, 0, 0) < 0)
		return;
	check(shows(&s, "Pass: "));
	kill(s.pid, SIGTERM);
	snprintf(text, sizeof text, "%d  interrupted", -ECANCELED);
	leaves(&s, text, 0);
}

/* Stopped with the terminal as it was, and asking again when it goes on. */
static void
test_stop(void)
{
	struct seat s;
	int st = 0;

	if (sit(&s, 0, 0) < 0)
		return;
	check(shows(&s, "Pass: "));
	/* SIGTSTP would be thrown away in an orphaned process group such as this:
	 * only the way through it is seen, the prompt comes again. */
	type(&s, "hu\x1a");
	check(shows(&s, "Pass: \r\nPass: "));
	check(waitpid(s.pid, &st, WNOHANG | WUNTRACED) == 0);
	type(&s, "hush\n");
	leaves(&s, "4 hush ", 0);
}

static void
test_no_terminal(void)
{
	pid_t pid = fork();
	int st = -1;

	if (pid == 0) {
		setsid();
		dup2(open("/dev/null", O_RDWR), 0);
		strcpy(e.text, "untouched");
		_exit(secret_ask("x", buf, sizeof buf, &e) == -ENOTTY && strcmp(e.text, "untouched") == 0 ? 0 : 1);
	}
	check(waitpid(pid, &st, 0) == pid);
	check_int(st, 0);
}

int
main(void)
{
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof path, "%s/cred", dir);
	run(test_plain);
	run(test_order);
	run(test_file);
	run(test_credential);
	run(test_fd);
	run(test_command);
	run(test_command_signals);
	run(test_ask);
	run(test_prompt);
	run(test_ask_refused);
	run(test_signals);
	run(test_stop);
	run(test_no_terminal);
	unlink(path);
	rmdir(dir);
	return t_end();
}
