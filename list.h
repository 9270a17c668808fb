/* `list`: what can be mapped or restored. */
#ifndef LIST_H
#define LIST_H

#include "err.h"
#include "listing.h"
#include "opt.h"

/* Negative errno: *e says why. */
int list_run(const struct opts *o, struct err *e);

/* For people: how a snapshot's archives are encrypted ("mixed" when they differ), how one is, what commands take it. */
const char *list_crypt(const struct list_row *r);
const char *list_crypt_word(int crypt);
const char *list_use(const struct list_file *file);

#endif
