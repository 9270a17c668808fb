/*
 * Messages between the parts of a daemon: of fixed sizes, over a pair of sockets, perhaps with a descriptor. The monitor, which has
 * rights, believes none of what a worker says, so it gets no text or number that it does not check.
 */
#ifndef CHAN_H
#define CHAN_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "key.h"
#include "part.h"

enum chan_kind {
	/* a worker says: */
	CHAN_LOG,			/* chan_text; no answer */
	CHAN_FAILED,			/* chan_text: it cannot go on */
	CHAN_CLOSED, CHAN_GONE,		/* nothing more; fuse.h's closed(), the connection has ended */
	/* a worker asks, and gets a CHAN_ANSWER: */
	CHAN_KEY,			/* chan_number, is it needed? The answer has a key, or not */
	CHAN_TRUST,			/* chan_trust */
	CHAN_SPILL,			/* chan_number, of bytes; a descriptor comes back */
	CHAN_READY,			/* chan_ready; /dev/fuse comes back */
	CHAN_ANSWER,			/* chan_answer; all that the monitor ever says */
	CHAN_KINDS
};

struct chan_text {
	int status;			/* LOG: is it a warning? FAILED: enum status */
	char text[964];			/* so many that nothing is behind it */
};

struct chan_trust {
	uint8_t fingerprint[32];
	char why[400];
};

/* What a worker has found out, and the monitor is to publish. */
struct chan_ready {
	int64_t time;			/* of the snapshot */
	uint64_t image_size, size;	/* bytes: of the image, of the device; a mount has neither these */
	struct part_table table;	/* nor this */
};

struct chan_answer {
	int rc;
	int has_key;
	struct key key;
	struct err err;			/* when rc < 0 */
};

struct chan_msg {
	uint64_t kind;			/* enum chan_kind */
	union {
		struct chan_text text;
		struct chan_trust trust;
		struct chan_ready ready;
		struct chan_answer answer;
		uint64_t number;
	};
};

/* Two ends, each for one part; -errno. */
int chan_pair(int fd[2]);

/* One message of n bytes, with a descriptor (pass; -1: none). Never waits: -EAGAIN when the other does not read. */
int chan_put(int fd, const void *p, size_t n, int pass);
/* Waits for one, of at most n bytes; *got (may be NULL: none is taken) is the descriptor or -1. Its length; -EPIPE: the other is gone. */
int chan_get(int fd, void *p, size_t n, int *got);

/* The same for messages of the kinds above: 0, or as above; -EPROTO: it is none. */
int chan_send(int fd, const struct chan_msg *m, int pass);
int chan_receive(int fd, struct chan_msg *m, int *got);

#endif
