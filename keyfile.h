/* Key files from disk or a descriptor, and whoever knows their passphrase. */
#ifndef KEYFILE_H
#define KEYFILE_H

#include <stddef.h>

#include "err.h"

/* Reads at most KEY_FILE_MAX bytes of a file, or, path NULL, of a descriptor. `what` ("key file ") begins the messages.
 * *text is freed and wiped by keyfile_free(). */
int keyfile_read(const char *path, int fd, const char *what, char **text, size_t *len, struct err *e);
void keyfile_free(char *text);

/* A key_passphrase (key.h): the environment's, else asks at the terminal. ctx: what is asked for; NULL: the encryption key's. */
int keyfile_passphrase(void *ctx, char *buf, size_t cap, struct err *e);

#endif
