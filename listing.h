/*
 * Lists of what a repository holds: namespaces, groups, snapshots. What a row is, and
 * the two kinds of JSON it is made from, a server's lists and a snapshot's manifest.
 */
#ifndef LISTING_H
#define LISTING_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "json.h"
#include "manifest.h"
#include "repo.h"

enum list_what {
	LIST_NAMESPACES,		/* at->ns and all below it */
	LIST_GROUPS,			/* of at->ns */
	LIST_SNAPSHOTS,			/* of the group *at; with a time that one alone */
};

#define CRYPT_UNKNOWN (-1)		/* of a file that the manifest does not have */

struct list_file {
	char *name;			/* as stored; a safe file name */
	int crypt;			/* enum crypt_mode or CRYPT_UNKNOWN */
	int64_t size;			/* bytes as the manifest says; -1: unknown */
};

/* Texts for people may hold any UTF-8. */
struct list_row {
	struct snapshot name;		/* as far as a namespace, a group, a snapshot has one */
	char owner[ID_MAX];
	/* A group: */
	int64_t last;			/* its newest finished snapshot; 0: none */
	uint64_t count;			/* of finished ones */
	/* A snapshot; what it has besides is unknown when it is unfinished or its manifest cannot be read: */
	int finished;			/* has a manifest */
	int64_t size;			/* bytes of all files; -1: the manifest cannot be read */
	int is_protected;
	char verify[16];		/* "ok", "failed", empty: not verified */
	char comment[256];		/* the notes' first line */
	char fingerprint[96];		/* of the key; empty: none */
	struct list_file *files;	/* the manifest's, itself, then what lies there besides */
	size_t count_files;
};

/* Gets each row, valid until it returns; not 0 ends the list, which returns it. */
typedef int (*list_fn)(void *ctx, const struct list_row *row);

/* Rows out of JSON. */
struct listing {
	struct list_row row;		/* the last one */
	struct list_parse {		/* ours: */
		enum list_what what;
		const struct snapshot *at;
		list_fn fn;
		void *ctx;
		int stopped;		/* fn's result that ended it */
		struct api_row {
			char ns[NS_MAX], type[8], id[ID_MAX], owner[ID_MAX];
			int64_t time, last, size;
			uint64_t count;
			int is_protected;
			char signature[4];	/* its start */
			char verify[16], comment[256], fingerprint[96];
		} api;
		struct file_row {
			char name[256], crypt[16];
			int64_t size;
		} file;
		size_t room;		/* in row.files */
		struct err *e;
		struct json_rows rows, files;
		struct json json;
	} p;
};

/* A server's answer, as it comes: feed l->p.json. Rows that are not asked for are left out. listing_end() tells the result
 * and must be called, once; *e has the reason alone. */
void listing_begin(struct listing *l, enum list_what what, const struct snapshot *at, list_fn fn, void *ctx, struct err *e);
int listing_end(struct listing *l);

/* A manifest's text: fills the row's size, verify, comment, fingerprint and files; raw is the length of its blob. */
int listing_manifest(struct listing *l, const char *json, size_t len, uint64_t raw, struct err *e);
/* For a snapshot's directory: makes the row that of this one; adds a file, unless it is there. 0 or -ENOMEM. */
void listing_clear(struct listing *l);
int listing_add(struct listing *l, const char *name, int crypt, int64_t size);
void listing_free(struct listing *l);

#endif
