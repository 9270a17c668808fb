/*
 * --config FILE: lines KEY=VALUE with the environment's names, as a layer
 * below the environment. For initramfs scripts.
 */
#ifndef CONF_H
#define CONF_H

#include <stddef.h>

#include "err.h"

#define CONF_MAX (64u << 10)		/* bytes of the file */

/* Puts into the environment what the file says and the environment does not. A secret or the repository set there in any form
 * hides all its forms in the file. Before there are threads. Warnings by say(). -EINVAL, ST_USAGE with the line's number; a file that cannot be
 * read: its errno, ST_USAGE. */
int conf_load(const char *path, struct err *e);

/* Takes the file's secrets out of the environment again and wipes them: after they were looked up, before
 * other programs are run. */
void conf_forget(void);

/* A secret that was typed, as if the file had it: NAME is PBS_PASSWORD or PBS_ENCRYPTION_PASSWORD; value NULL: not any more. */
void conf_secret(const char *name, const char *value);

/* Parsing alone: calls set(ctx, key, value) for each assignment of text[len], which is overwritten and has a NUL behind it. As
 * systemd's EnvironmentFile: comments by '#' and ';', blanks around key and value dropped, quotes '...' and "..." (with \ escapes),
 * a backslash at the end of a line joins it with the next. "export " before a key is forgiven. */
int conf_parse(char *text, size_t len, const char *name,
    int (*set)(void *ctx, const char *key, const char *value), void *ctx, struct err *e);

#endif
