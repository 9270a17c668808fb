/*
 * Names: repositories, namespaces, groups, snapshots, archives. Pure parsing.
 * Grammar: reference "Names".
 */
#ifndef REPO_H
#define REPO_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define NS_MAX 257			/* with the NUL, as are all sizes here */
#define ID_MAX 256

struct repo {
	int is_dir;			/* a datastore's directory: */
	char path[4096];		/*   as given, without "file:" */
	char auth_id[320];		/* user@realm[!token]; default root@pam */
	char host[256];			/* no brackets; default localhost */
	uint16_t port;			/* default 8007 */
	char store[33];
	int has_auth, has_host, has_port;	/* was it given? (the mapping's name depends on it) */
};

struct snapshot {
	char ns[NS_MAX];		/* "a/b"; empty: root */
	char type[8];			/* vm, ct, host */
	char id[ID_MAX];
	int has_time;			/* else the group: its newest finished snapshot */
	int64_t time;			/* epoch seconds */
};

/* An argument that begins with '/', './', '../' or 'file:' is a directory, else a server. -EINVAL, ST_USAGE. */
int repo_parse(const char *text, struct repo *r, struct err *e);
/* auth@host:port:store, as the official client prints it (parts not given are left out). Returns its length, as snprintf. */
int repo_print(const struct repo *r, char *out, size_t cap);

int safe_id(const char *s, size_t len);		/* 1 if it is one */
int ns_check(const char *ns, struct err *e);	/* 0, or -EINVAL, ST_USAGE */

/* "vm/100" or "vm/100/2026-01-02T03:04:05Z". -EINVAL, ST_USAGE, what is wrong said. */
int snapshot_parse(const char *text, const char *ns, struct snapshot *s, struct err *e);
/* "vm/100[/TIME]", without the namespace. */
void snapshot_print(const struct snapshot *s, char *out, size_t cap);
/* "YYYY-MM-DDTHH:MM:SSZ", exactly. 0, else -1; out has 21 bytes. Proleptic Gregorian UTC without libc's timezone. */
int time_parse(const char *text, size_t len, int64_t *t);
void time_print(int64_t t, char out[21]);

enum archive_kind { ARCHIVE_IMG, ARCHIVE_PXAR, ARCHIVE_BLOB, ARCHIVE_OTHER };

/* From what a user types ("root.pxar", "drive.img", "drive.img.fidx", "qemu-server.conf") to the kind and the stored
 * name ("root.pxar.didx", "drive.img.fidx", "qemu-server.conf.blob"). -EINVAL when it is no safe file name. */
int archive_parse(const char *text, char *stored, size_t cap, enum archive_kind *kind, struct err *e);
/* The name users know ("drive.img" for "drive.img.fidx"). */
void archive_print(const char *stored, char *out, size_t cap);

#endif
