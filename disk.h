/*
 * A block device that is to be overwritten: is it in use, is it the running system's, what is on it.
 * Looks only, writes nothing.
 */
#ifndef DISK_H
#define DISK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* Its name in /sys ("sda"); where /sys is not there, that of the path. */
void disk_name(dev_t no, const char *path, char *out, size_t cap);

/* The line in its file in /sys, without blanks at the end; a negative errno and empty when there is none. */
int disk_sys(dev_t no, const char *name, char *out, size_t cap);

/* -EBUSY, ST_BUSY when it, or a part of it, is in use by anything, or under the running root. Lists who, on stderr. */
int disk_free(dev_t no, const char *path, struct err *e);
/* Would that be 0? Says nothing. */
int disk_idle(dev_t no, const char *path);

/* What is on fd, for people: "ext4", "GPT with 3 partitions", "unknown data"; "" when its beginning and end are zero. */
void disk_content(int fd, uint64_t size, char *out, size_t cap);

/* "QEMU HARDDISK, 30.0 GiB"; the size alone when no model is known. */
void disk_model(dev_t no, uint64_t size, char *out, size_t cap);

#endif
