/*
 * Where secrets come from: environment (plain, _FD, _FILE, _CMD), systemd credentials,
 * the terminal without echo.
 */
#ifndef SECRET_H
#define SECRET_H

#include <stddef.h>

#include "err.h"

/* Looks NAME, NAME_FD, NAME_FILE, NAME_CMD up in that order (empty ones count as not set), then the systemd
 * credential `cred` (NULL: none). Only the first line counts, without its newline or CR LF; of a descriptor no more
 * than that is read. May block (NAME_FD, NAME_CMD). Returns the length (> 0; NUL-terminated in buf), -ENOENT when
 * nothing is set (e untouched), else a negative errno with *e set. */
int secret_lookup(const char *name, const char *cred, char *buf, size_t cap, struct err *e);

/* Asks at /dev/tty, else at stdin/stderr when these are a terminal, without echo. Signals that end or stop the process do so
 * after the terminal is as it was; one that the program handles gives -ECANCELED, as end of file does, with *e set. Returns the length
 * (0 for an empty answer), -ENOTTY when there is no terminal (e untouched). One thread at a time. */
int secret_ask(const char *prompt, char *buf, size_t cap, struct err *e);
/* The same with echo, for questions that are no secrets. */
int prompt_line(const char *prompt, char *buf, size_t cap, struct err *e);

#endif
