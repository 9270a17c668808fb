/*
 * The part of a daemon that has rights. It forks a worker that has none, does what that one asks for, and is still there to
 * clean up when it dies. What comes from it has fixed sizes, and every field is checked.
 */
#ifndef MONITOR_H
#define MONITOR_H

#include <sys/types.h>

#include "chan.h"
#include "err.h"
#include "opt.h"
#include "origin.h"

struct monitor {
	const struct opts *o;
	struct origin origin;		/* its names alone */
	pid_t pid;			/* the worker's; 0: there is none */
	int started;
	int stop;			/* the end of a pipe that tells it to end: by a byte, at once by its closing */
	int chan;			/* poll it for reading; -1: the worker is gone */
	struct err err;			/* why */
	struct chan_msg msg;		/* what it said last */
};

/* Forks. The child runs work(o), which opens its snapshot by snap_open() and asks for the rest; it never returns. monitor_end() in any case. */
int monitor_start(struct monitor *m, const struct opts *o, int (*work)(const struct opts *o, struct err *e), struct err *e);

/* Takes a message; what is the same for all is done here, and 0 returned. CHAN_READY, CHAN_CLOSED, CHAN_GONE: with m->msg, for the caller.
 * A negative errno: the worker is gone or has failed, m->err says why and with which status. */
int monitor_turn(struct monitor *m);

/* The snapshot of a CHAN_READY: the user's words, and the worker's for the time when these have none. */
int monitor_snapshot(struct monitor *m, struct snapshot *s, struct err *e);
/* Answers CHAN_READY with a descriptor (-1: it failed). */
void monitor_answer(struct monitor *m, int rc, int fd);
/* Tells it that reads fail from now on. */
void monitor_tell_end(struct monitor *m);
/* All is started: fewer rights of its own from here on, and no more questions. Before it has threads. */
int monitor_jail(struct monitor *m, struct err *e);
/* The worker's end: it is told, and made to. */
void monitor_end(struct monitor *m);

#endif
