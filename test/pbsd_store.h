/* A datastore's directory: what is in it, as the API shows it. */
#ifndef PBSD_STORE_H
#define PBSD_STORE_H

#include <stddef.h>
#include <stdint.h>
#include <jansson.h>

/* Directory of a namespace, of a snapshot. 0, or -1 when the name is none that could be there. */
int store_ns_dir(const char *ns, char *out, size_t cap);
int store_snapshot_dir(const char *ns, const char *type, const char *id, int64_t t, char *out, size_t cap);
void store_chunk_path(const char *hex, char *out, size_t cap);

/* The lists; type and id may be "" (any). NULL: there is no such namespace. */
json_t *store_snapshots(const char *ns, const char *type, const char *id);
json_t *store_groups(const char *ns);
json_t *store_namespaces(const char *parent, int64_t depth);
/* The files of one snapshot; NULL: it has no manifest that can be read. */
json_t *store_files(const char *dir);

/* Is this a file name the server takes? */
int store_file_name(const char *name);
/* Calls fn for each digest of an index file. 0, or -1 when it is none. */
int store_index(const char *path, void (*fn)(void *ctx, const uint8_t digest[32]), void *ctx);

#endif
