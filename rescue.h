/*
 * `rescue`: asks what is missing, step by step, and ends in one of the other commands. Its command line is printed
 * before, so that a script can do the same.
 */
#ifndef RESCUE_H
#define RESCUE_H

#include "opt.h"

/* Is there somebody to ask? */
int rescue_terminal(void);

/* run: does what a command line says. Returns an exit status. */
int rescue_run(const struct opts *o, int (*run)(const struct opts *o, struct err *e), struct err *e);

/* Writes a word as a shell reads it, in quotes where it needs them; returns what snprintf() would. */
int rescue_quote(const char *word, char *out, size_t cap);

#endif
