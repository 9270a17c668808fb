/*
 * Lines for people: "pbsmap: TEXT\n" on stderr, and once log_detach() was
 * called to syslog (/dev/log) or, where nobody listens there, /dev/kmsg.
 * Callable from any thread.  Never pass a secret.  Bytes outside printable
 * ASCII come out as '?', a line is cut after 960 bytes.
 */
#ifndef LOG_H
#define LOG_H

extern int log_verbose;		/* 0: say() only; 1: also note() */

__attribute__((format(printf, 1, 2)))
void say(const char *fmt, ...);		/* warnings and errors */
__attribute__((format(printf, 1, 2)))
void note(const char *fmt, ...);	/* what --verbose shows */

/* Holds a descriptor on /dev/kmsg from here on: call it after inherited
 * descriptors were closed. */
void log_detach(void);

#endif
