/*
 * What store.c (a directory as a source) and store_list.c (its lists) share; nobody else includes it.
 */
#ifndef STORE_PARTS_H
#define STORE_PARTS_H

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>

#include "source.h"

/* A namespace's directory, "" or "ns/a/ns/b/"; its length, or -ENAMETOOLONG. */
int store_ns_path(const char *ns, char *out, size_t cap);
/* "ns/a/ns/b/vm/100[/TIME]"; 0, or -ENAMETOOLONG. */
int store_path(const struct snapshot *s, char *out, size_t cap);
/* readdir(); an error goes to *rc, which the end does not touch. */
struct dirent *store_entry(DIR *d, int *rc);
/* Has the snapshot in this group's directory a manifest? 1, 0, or a negative errno. */
int store_is_finished(int group, const char *time);
/* As source_ops.file, of a file in this directory. */
int store_read(int dir, const char *name, uint64_t max, uint8_t **out, size_t *len, struct err *e);

/* Opens a chunk's file (name NULL) or one of that name (no path) for reading: itself, when broker is -1, else by asking the one at
 * this socket. A descriptor and its size; -EBADMSG: it is no regular file; else -errno. */
int store_file_open(int broker, int dir, const uint8_t *digest, const char *name, int64_t *size);
/* Starts a broker that has these directories; sockets to it, each for one thread, in sock[]. */
int store_broker(int chunks, int snapshot, int *sock, int n, struct err *e);

/* As source_ops.list; path is for messages. */
int store_list(int dir, const char *path, enum list_what what, const struct snapshot *at, list_fn fn, void *ctx,
    struct err *e);

#endif
