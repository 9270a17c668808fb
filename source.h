/*
 * Where snapshots, their files and their chunks come from: a datastore directory
 * (store.c) or a server (session.c). Nothing above this interface knows which.
 */
#ifndef SOURCE_H
#define SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "listing.h"
#include "repo.h"

/* A chunk on its way. The fetcher's; the source's between ask() and done(). */
struct chunk_req {
	uint8_t digest[32];
	int demand;			/* a reader waits for it (else read-ahead) */
	uint8_t *buf;			/* the raw blob goes here (not yet there in ask() of a source that pulls) */
	size_t cap, len;		/* bytes of room, bytes that came */
	uint8_t *slot;			/* room for cap bytes of data, with BLOB_HEAD_ENC bytes before it: */
	uint8_t *raw;			/*   where the raw blob is: buf (preset), or what req_place() said */
	int rc;				/* 0 or a negative errno: then */
	struct err err;			/*   why, without the chunk's name */
	void (*done)(struct chunk_req *);	/* exactly once, from any thread */
	struct chunk_req *next;		/* the source's queue */
	int stream;			/* the source's: a stream, a descriptor */
	/* A source that pulls: done() tells that the blob can be read, and a worker reads it with this (0, or as rc
	 * above), just before it decodes it: so there are as many raw blobs in memory as workers. Others: NULL. */
	int (*pull)(struct chunk_req *);
};

struct snapshot_info {
	struct snapshot name;
	int finished;			/* has a manifest */
};

struct source;

struct source_ops {
	/* Calls fn for each snapshot of the group (s->ns, type, id), in no order; fn returns 0 to go on.
	 * Blocks. -ENOENT: no such namespace or group. */
	int (*snapshots)(struct source *, const struct snapshot *group,
	    int (*fn)(void *ctx, const struct snapshot_info *), void *ctx, struct err *e);
	/* Calls fn for each row, in no order, from any thread but one at a time; its result other than 0 ends the list and is
	 * returned. Blocks. What does not exist: no rows, or -ENOENT. May not be seen: -EACCES, ST_TRUST. */
	int (*list)(struct source *, enum list_what what, const struct snapshot *at, list_fn fn, void *ctx, struct err *e);
	/* Makes this snapshot the one that file() and ask() read. Blocks. */
	int (*open)(struct source *, const struct snapshot *, struct err *e);
	/* Reads a whole file of the snapshot (stored name), at most max bytes: *out is malloc'ed. Blocks; not for the serving thread.
	 * An index must have been read here before its chunks are asked for. -ENOENT: not there. */
	int (*file)(struct source *, const char *name, uint64_t max, uint8_t **out, size_t *len, struct err *e);
	/* Asks for a raw chunk; never blocks. Any number may be outstanding, answers come in any order. */
	void (*ask)(struct source *, struct chunk_req *);
	/* Takes a request back: 1 if done() will not be called, 0 if it is too late. */
	int (*drop)(struct source *, struct chunk_req *);
	/* A read-ahead has become a demand. */
	void (*raise)(struct source *, struct chunk_req *);
	/* Ends it; requests still outstanding are not answered. NULL is not passed. */
	void (*close)(struct source *);
};

struct source {
	const struct source_ops *ops;
	int depth;			/* requests worth having outstanding */
	int pulls;			/* its requests get their buf only when they are pulled */
};

/* Where a raw blob that begins with these 8 bytes is best put (its first byte): uncompressed kinds lie so that
 * their data is in the slot at once, others in buf. Sets and returns req->raw. */
uint8_t *req_place(struct chunk_req *, const uint8_t magic[8]);

/* store.c */
int store_open(const char *path, struct source **out, struct err *e);
/* From here on files of this snapshot and chunks, nothing else, are opened by another process. open() for the same snapshot still has to come. */
int store_give_away(struct source *, const struct snapshot *snap, struct err *e);

/* The newest finished snapshot of s's group becomes s (when it has no time); says what to do when there is none. */
int source_resolve(struct source *src, struct snapshot *s, struct err *e);

#endif
