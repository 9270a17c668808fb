/*
 * What session.c (the source, its queue), link.c (a connection's thread), ask.c and ask_send.c (requests on a connection)
 * share; nobody else includes it.
 *
 * session.lock guards the queues, the list of indexes, `quit`, and of each struct ask its req, file and what these point to:
 * bytes are copied to a request's buffer with the lock held, so that drop() is sure. h2, net and the rest of a link
 * are its thread's alone (before there is one: open()'s).
 */
#ifndef SESSION_PARTS_H
#define SESSION_PARTS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"
#include "h2.h"
#include "session.h"

struct session;

/* A file asked for by file(), on its stack. */
struct file_req {
	char path[800];			/* "/download?file-name=…" */
	const char *name;
	uint64_t max;
	uint8_t *buf;			/* malloc'ed */
	size_t len, cap;
	int done, rc;
	struct err err;
	int event;			/* eventfd: done */
	struct file_req *next;
};

enum ask_state {
	ASK_FREE,
	ASK_WIRE,			/* under way */
	ASK_WAIT,			/* to be asked again once the indexes are registered anew */
};
enum ask_kind { ASK_CHUNK, ASK_FILE, ASK_INDEX };

/* A request that a connection has taken. */
struct ask {
	enum ask_state state;
	enum ask_kind kind;
	struct chunk_req *req;		/* NULL: dropped; so its stream is given up */
	struct file_req *file;		/* the same */
	int index;			/* ASK_INDEX: which */
	unsigned generation;		/* link.generation when it was asked */
	struct h2_stream *stream;
	int hurried;			/* has credit for a whole chunk */
	int status;
	size_t got;			/* bytes of body */
	int64_t moved;			/* when something came last */
	uint8_t magic[8];		/* a chunk's first bytes, until it is known where they go */
	char text[300];			/* of an error */
	size_t text_len;
};

enum index_state { INDEX_UNKNOWN, INDEX_ASKED, INDEX_READY };

struct link {
	struct session *s;
	int nr;
	int event;			/* eventfd: the queue, a raise, a drop, the end */
	pthread_t thread;
	int running;			/* there is a thread */
	struct net *net;		/* NULL: not connected */
	struct h2 h2;
	struct ask ask[H2_STREAMS_MAX];
	int on_wire;			/* asks that are not free */
	int chunks_on_wire;
	int refill;			/* look at the queue */
	int hungry;			/* a stream has used up half of its credit */
	uint8_t index[LINK_INDEXES];	/* enum index_state: what the server knows of us */
	unsigned generation;		/* how often the indexes had to be registered */
	int64_t since;			/* when we began to wait for the server, or connected */
	int64_t ticked;
	int64_t cpu;			/* ms this thread has worked until then */
	uint64_t received;		/* bytes of bodies, at the last tick */
	uint64_t rate;			/* bytes/s, lately */
	uint32_t slice;			/* credit of a read-ahead, bytes */
	int progress;			/* something was answered on this connection */
	int refused;			/* streams, since something was answered */
	int delay;			/* ms until the next try */
};

struct queue {
	struct chunk_req *head, **tail;
};

struct session {
	struct source src;		/* first */
	struct repo repo;
	struct trust *trust;
	int stop_fd;
	int stall, timeout;		/* ms */
	int inflight;
	int share;			/* chunks on the wire of each connection */
	unsigned full;			/* bytes on the way of one flow at which another connection is made; 0: never */
	struct api api;
	struct snapshot snap;
	char target[1400];		/* of the upgrade */
	pthread_mutex_t lock;
	struct queue urgent, later;
	struct file_req *files;
	char index[LINK_INDEXES][256];	/* names of the index files that were read */
	int indexes;
	int quit;
	int cancel;			/* eventfd: readable once quit is set */
	int links;
	int active;			/* that many of them are used; grows (atomic) */
	struct link *link;
};

/* --- session.c: the queue, with the lock held --- */

/* chunk_req.stream: 0 in the queue, ASK_GONE answered, else link and ask, plus ASK_AGAIN once it was asked for a second time. */
#define ASK_GONE (-1)
#define ASK_AGAIN (1 << 20)
void queue_put(struct session *s, struct chunk_req *r);
void queue_put_back(struct session *s, struct chunk_req *r);	/* to the front */
struct chunk_req *queue_take(struct session *s, int demand);
void wake_links(struct session *s);

/* --- session_list.c: these of source.h --- */

int session_list(struct source *src, enum list_what what, const struct snapshot *at, list_fn fn, void *ctx, struct err *e);
int session_snapshots(struct source *src, const struct snapshot *group, int (*fn)(void *ctx, const struct snapshot_info *),
    void *ctx, struct err *e);

/* --- link.c --- */

/* Connects, in the caller's thread. */
int link_connect(struct link *l, int cancel_fd, struct err *e);
void link_disconnect(struct link *l);	/* what was under way is back in the queue */
int link_start(struct link *l);		/* the thread */

/* --- ask.c --- */

extern const struct h2_events ask_events;	/* whose ctx is the link */
void ask_release(struct link *l, struct ask *a);	/* its place is free */
/* Gives up what has not moved for long. */
void ask_expire(struct link *l, int64_t now);
/* The connection is lost: everything goes back to the queue. */
void ask_return(struct link *l);

/* --- ask_send.c --- */

/* Gives up what was dropped, and puts on the wire what may be there. */
void ask_fill(struct link *l);
/* Gives credit: demands have theirs, read-ahead gets more as long as no demand is under way. */
void ask_credit(struct link *l, int64_t now);

#endif
