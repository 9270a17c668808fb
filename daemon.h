/*
 * Becoming a daemon whose start the shell can rely on: the parent stays until the
 * child says how it went, and takes that as its exit status.
 */
#ifndef DAEMON_H
#define DAEMON_H

#include "err.h"

/* Forks. In the parent: waits for the child's word and returns it (an exit status, 0 or more). In the child: -1.
 * `stop` is readable in the child from the first SIGINT, SIGTERM (or SIGHUP before it is detached) on; so it is after
 * daemon_stop(). With `foreground` there is no fork: returns -1 at once. */
int daemon_start(int foreground, int *stop);
/* The same `stop`; -1 before daemon_start(). */
int daemon_stop_fd(void);

/* For what serves block devices, before it has threads: IO_FLUSHER, a lower OOM score, and with `lock` all memory
 * locked as it comes into use. */
void daemon_protect(int lock);

/* The child's word of success: lets go of terminal, session and inherited descriptors, then the parent exits 0. */
void daemon_detach(void);
/* The child's word of failure; the parent exits with it. (Dying without a word is a failure too.) */
void daemon_failed(enum status st);

/* In a process that the child has forked, one of its parts: it has no word to say, and ends when `stop` is readable. */
void daemon_part(int stop);
/* The part lets go of the terminal and inherited descriptors, and signals are the first one's alone. */
void daemon_part_detach(void);

/* As if SIGTERM had come. From any thread. */
void daemon_stop(void);

#endif
