/* What a monitor makes of a worker that says what it likes. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chan.h"
#include "daemon.h"
#include "monitor.h"
#include "relay.h"
#include "t.h"

static struct opts opts = { .repository = "/tmp/store", .keyfd = -1, .operand = { "vm/100", "a.img" }, .operands = 2 };
static struct monitor mon;
static struct chan_msg msg;

/* The worker's end, which relay.c has and does not give away: the highest socket. */
static int
my_chan(void)
{
	int fd, found = -1;
	struct stat st;

	for (fd = 3; fd < 64; fd++)
		if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
			found = fd;
	return found;
}

/* Starts it and returns the first result that is not 0. */
static int
hear(int (*work)(const struct opts *, struct err *))
{
	struct err e;
	int rc;

	memset(&mon, 0, sizeof(mon));
	check_int(monitor_start(&mon, &opts, work, &e), 0);
	while ((rc = monitor_turn(&mon)) == 0)
		;
	return rc;
}

static int
fails(const struct opts *o, struct err *e)
{
	(void)o;
	return err_set(e, ST_DAMAGED, -EIO, "a reason");
}

static int
ends(const struct opts *o, struct err *e)
{
	(void)o, (void)e;
	return 0;
}

static int
dies(const struct opts *o, struct err *e)
{
	(void)o, (void)e;
	raise(SIGKILL);
	return 0;
}

static void
test_ends(void)
{
	check_int(hear(fails), -EIO);
	check_int(mon.err.status, ST_DAMAGED);
	check_str(mon.err.text, "a reason");
	monitor_end(&mon);
	check_int(hear(ends), -EPIPE);
	check_str(mon.err.text, "the worker process ended");
	monitor_end(&mon);
	check_int(hear(dies), -EPIPE);
	check_str(mon.err.text, "the worker process died (signal 9: killed, perhaps for want of memory)");
	monitor_end(&mon);
}

static int
says_too_little(const struct opts *o, struct err *e)
{
	(void)o, (void)e;
	chan_put(my_chan(), "12345", 5, -1);
	pause();
	return 0;
}

static int
says_too_much(const struct opts *o, struct err *e)
{
	(void)o, (void)e;
	msg.kind = CHAN_CLOSED;
	chan_put(my_chan(), &msg, sizeof(msg), -1);
	pause();
	return 0;
}

static int
says_no_kind(const struct opts *o, struct err *e)
{
	(void)o, (void)e;
	msg.kind = 1ull << 32 | CHAN_LOG;
	chan_put(my_chan(), &msg, sizeof(msg), -1);
	pause();
	return 0;
}

/* What makes no sense ends it. */
static void
test_nonsense(void)
{
	check_int(hear(says_too_little), -EPIPE);
	check(strstr(mon.err.text, "signal 9") != NULL);
	monitor_end(&mon);
	check_int(hear(says_too_much), -EPIPE);
	monitor_end(&mon);
	check_int(hear(says_no_kind), -EPIPE);
	monitor_end(&mon);
}

/* Texts without an end, statuses that are none, characters that a terminal obeys. */
static int
says_long(const struct opts *o, struct err *e)
{
	(void)o, (void)e;
	memset(&msg, 0x1b, sizeof(msg));
	msg.kind = CHAN_FAILED;
	msg.text.status = 77;
	chan_send(my_chan(), &msg, -1);
	return 0;
}

static void
test_texts(void)
{
	check_int(hear(says_long), -EIO);
	check_int(mon.err.status, ST_FAIL);
	check_int((int)strlen(mon.err.text), (int)sizeof(mon.err.text) - 1);
	check(strspn(mon.err.text, "?") == strlen(mon.err.text));
	monitor_end(&mon);
}

static int
asks_late(const struct opts *o, struct err *e)
{
	struct key k;
	int has = 0;

	(void)o;
	relay_tell(CHAN_CLOSED);
	usleep(100000);			/* the monitor has started meanwhile */
	return relay_key(1, &k, &has, e);
}

/* Questions belong to the start. */
static void
test_late(void)
{
	check_int(hear(asks_late), CHAN_CLOSED);
	mon.started = 1;
	check_int(monitor_turn(&mon), -EPIPE);
	check(strstr(mon.err.text, "signal 9") != NULL);
	monitor_end(&mon);
}

static int
asks_for_a_key(const struct opts *o, struct err *e)
{
	struct key k;
	int has = 0, rc = relay_key(0, &k, &has, e);

	(void)o;
	return rc == 0 && !has ? err_set(e, ST_USAGE, -ENOKEY, "no key") : rc;
}

static int
is_ready(const struct opts *o, struct err *e)
{
	static struct chan_ready r = { .time = -5 };
	int fd = relay_ready(&r, e);

	(void)o;
	return fd < 0 ? err_set(e, ST_BUSY, fd, "refused: %d", fd) : write(fd, "x", 1) == 1 ? err_set(e, ST_TRUST, -EIO, "written") : 0;
}

static void
test_questions(void)
{
	struct snapshot s;
	struct err e;
	int p[2];
	char c = 0;

	check_int(hear(asks_for_a_key), -EIO);
	check_str(mon.err.text, "no key");
	monitor_end(&mon);
	check_int(hear(is_ready), CHAN_READY);
	check_int(monitor_snapshot(&mon, &s, &e), -EPROTO);	/* a time that is none */
	check(pipe(p) == 0);
	monitor_answer(&mon, 0, p[1]);
	check_int(monitor_turn(&mon), -EIO);
	check_str(mon.err.text, "written");
	check(read(p[0], &c, 1) == 1 && c == 'x');
	monitor_end(&mon);
	close(p[0]);
	close(p[1]);
}

/* A worker ends when it is told, when the pipe closes, and when it does not listen. */
static int
waits(const struct opts *o, struct err *e)
{
	struct pollfd p = { daemon_stop_fd(), POLLIN, 0 };
	char c;

	(void)o;
	poll(&p, 1, 5000);
	return err_set(e, ST_FAIL, -EIO, read(p.fd, &c, 1) == 1 ? "told" : "closed");
}

static int
sleeps(const struct opts *o, struct err *e)
{
	(void)o, (void)e;
	relay_tell(CHAN_GONE);
	pause();
	return 0;
}

static void
test_end(void)
{
	struct err e;

	memset(&mon, 0, sizeof(mon));
	check_int(monitor_start(&mon, &opts, waits, &e), 0);
	monitor_tell_end(&mon);
	check_int(monitor_turn(&mon), -EIO);
	check_str(mon.err.text, "told");
	monitor_end(&mon);
	check_int(hear(sleeps), CHAN_GONE);
	monitor_end(&mon);
	check_int(mon.pid, 0);
	monitor_end(&mon);			/* once more does no harm */
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	run(test_ends);
	run(test_nonsense);
	run(test_texts);
	run(test_late);
	run(test_questions);
	run(test_end);
	return t_end();
}
