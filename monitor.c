/*
 * The part of a daemon that has rights: starting and ending a worker, and what it may ask for whatever it serves.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "conf.h"
#include "daemon.h"
#include "jail.h"
#include "log.h"
#include "monitor.h"
#include "relay.h"
#include "secret.h"
#include "snap.h"

#define YEAR_9999 253402300799		/* its end; names have no more digits */
#define END_MS 1000			/* from the word to the worker's end */

static void
child(const struct monitor *m, int chan, int stop, pid_t parent, int (*work)(const struct opts *, struct err *))
{
	struct err e = { ST_FAIL, "" };

	origin_preset(&m->origin);
	relay_start(chan);
	daemon_part(stop);
	prctl(PR_SET_NAME, "pbsmap-worker");
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent && work(m->o, &e) < 0)
		relay_failed(&e);
	_exit(0);
}

int
monitor_start(struct monitor *m, const struct opts *o, int (*work)(const struct opts *, struct err *), struct err *e)
{
	pid_t self = getpid();
	int pair[2], end[2], rc;

	m->o = o;
	m->pid = 0;
	m->chan = m->stop = -1;
	if ((rc = origin_name(&m->origin, o, e)) < 0)
		return rc;
	if ((rc = chan_pair(pair)) < 0 || pipe2(end, O_CLOEXEC) < 0)
		return err_set(e, ST_FAIL, rc ? rc : -errno, "no descriptors: %s", strerror(errno));
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	fflush(stdout);
	if ((m->pid = fork()) == 0) {
		close(pair[0]);
		close(end[1]);
		child(m, pair[1], end[0], self, work);
	}
	close(pair[1]);
	close(end[0]);
	m->chan = pair[0];
	m->stop = end[1];
	if (m->pid > 0)
		return 0;
	m->pid = 0;
	return err_set(e, ST_FAIL, -errno, "fork: %s", strerror(errno));
}

/* ---- what it asks for ---- */

static void
answer(struct monitor *m, int fd)
{
	m->msg.kind = CHAN_ANSWER;
	if (chan_send(m->chan, &m->msg, fd) < 0)
		kill(m->pid, SIGKILL);	/* it has asked and does not listen */
	wipe(&m->msg, sizeof(m->msg));
	if (fd >= 0)
		close(fd);
}

int
monitor_snapshot(struct monitor *m, struct snapshot *s, struct err *e)
{
	int rc = snapshot_parse(m->o->operand[0], m->origin.ns, s, e);

	if (rc < 0)
		return rc;
	if (!s->has_time)
		s->time = m->msg.ready.time;
	s->has_time = 1;
	return s->time >= 0 && s->time <= YEAR_9999 ? 0 : err_set(e, ST_FAIL, -EPROTO, "the worker process tells nonsense");
}

void
monitor_answer(struct monitor *m, int rc, int fd)
{
	memset(&m->msg, 0, sizeof(m->msg));
	m->msg.answer.rc = rc;
	answer(m, fd < 0 ? -1 : dup(fd));
}

static void
give_key(struct monitor *m)
{
	struct chan_answer *a = &m->msg.answer;
	int needed = m->msg.number != 0;

	memset(a, 0, sizeof(*a));
	a->rc = snap_key_file(m->o, needed, &a->key, &a->has_key, &a->err);
	answer(m, -1);
}

static void
ask_trust(struct monitor *m)
{
	struct trust t = { .ask = prompt_line };
	struct chan_trust q = m->msg.trust;
	struct chan_answer *a = &m->msg.answer;

	memset(a, 0, sizeof(*a));
	snprintf(t.host, sizeof(t.host), "%s", m->origin.repo.host);
	q.why[sizeof(q.why) - 1] = 0;
	err_printable(q.why);
	a->rc = trust_confirm(&t, q.fingerprint, q.why, &a->err);
	answer(m, -1);
}

static void
give_file(struct monitor *m)
{
	int fd = m->msg.number > SIZE_MAX / 4 ? -1 : snap_spill_file((size_t)m->msg.number);

	memset(&m->msg, 0, sizeof(m->msg));
	m->msg.answer.rc = fd < 0 ? -ENOSPC : 0;
	answer(m, fd);
}

static void
log_line(struct chan_text *t)
{
	t->text[sizeof(t->text) - 1] = 0;
	if (t->status)
		say("%s", t->text);
	else
		note("%s", t->text);
}

/* Waits a while for a child's end (-1: all children's); 1 when that has come, with the status. */
static int
reap(pid_t pid, int ms, int *status)
{
	const struct timespec nap = { 0, 1000000 };
	pid_t got;

	while ((got = waitpid(pid, status, WNOHANG)) == 0 || (pid < 0 && got > 0)) {
		if (ms-- <= 0)
			return 0;
		if (got == 0)
			nanosleep(&nap, NULL);
	}
	return 1;
}

static int
gone(struct monitor *m)
{
	int status = 0;

	close(m->chan);
	m->chan = -1;
	if (reap(m->pid, END_MS, &status))
		m->pid = 0;
	if (m->pid || !WIFSIGNALED(status))
		return err_set(&m->err, ST_FAIL, -EPIPE, "the worker process ended");
	return err_set(&m->err, ST_FAIL, -EPIPE, "the worker process died (signal %d%s)", WTERMSIG(status),
	    WTERMSIG(status) == SIGKILL ? ": killed, perhaps for want of memory" : "");
}

static int
failed(struct monitor *m)
{
	struct chan_text *t = &m->msg.text;
	enum status st = t->status > ST_DONE && t->status <= ST_DAMAGED ? (enum status)t->status : ST_FAIL;

	t->text[sizeof(t->text) - 1] = 0;
	return err_set(&m->err, st, -EIO, "%s", t->text);
}

int
monitor_turn(struct monitor *m)
{
	int rc = chan_receive(m->chan, &m->msg, NULL);

	/* Questions belong to the start. */
	if (rc == 0 && m->started && m->msg.kind != CHAN_LOG && m->msg.kind != CHAN_CLOSED && m->msg.kind != CHAN_GONE)
		rc = -EPROTO;
	if (rc == -EPROTO)
		kill(m->pid, SIGKILL);
	if (rc < 0)
		return gone(m);
	switch (m->msg.kind) {
	case CHAN_LOG:
		log_line(&m->msg.text);
		return 0;
	case CHAN_FAILED:
		return failed(m);
	case CHAN_KEY:
		give_key(m);
		return 0;
	case CHAN_TRUST:
		ask_trust(m);
		return 0;
	case CHAN_SPILL:
		give_file(m);
		return 0;
	default:
		return (int)m->msg.kind;
	}
}

/* ---- the rest of its life ---- */

void
monitor_tell_end(struct monitor *m)
{
	if (m->stop >= 0 && m->chan >= 0 && write(m->stop, "", 1) < 0)
		return;			/* it is gone, as will be heard */
}

int
monitor_jail(struct monitor *m, struct err *e)
{
	const struct jail j = { .role = JAIL_MONITOR };

	m->started = 1;
	conf_forget();
	return geteuid() == 0 ? jail_enter(&j, e) : 0;
}

void
monitor_end(struct monitor *m)
{
	int status;

	if (m->chan >= 0)
		close(m->chan);
	if (m->stop >= 0)
		close(m->stop);
	m->chan = m->stop = -1;
	if (m->pid && !reap(m->pid, END_MS, &status))
		kill(m->pid, SIGKILL);
	m->pid = 0;
	/* The worker's broker, too. Who waits for a disk ends when that answers. */
	reap(-1, END_MS, &status);
}
