/*
 * The official client's file of known fingerprints: lines "HOST FINGERPRINT",
 * one for each host, in $XDG_CONFIG_HOME or ~/.config.
 */
#ifndef KNOWN_H
#define KNOWN_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* The file's path. 0, or -ENOENT where there is no home. */
int known_path(char *out, size_t cap);

/* 0, or -ENOENT (e untouched) when file or line is not there. A file that cannot be read and a line that has no
 * fingerprint are errors, ST_TRUST. */
int known_find(const char *path, const char *host, uint8_t fingerprint[32], struct err *e);

/* Writes the host's line, in place of the one it had; other lines are kept. Makes the directories. Another
 * reader sees the old file or the new one. */
int known_add(const char *path, const char *host, const uint8_t fingerprint[32], struct err *e);

#endif
