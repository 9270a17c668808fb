/* The reader protocol: what a request for a file or a chunk gets. */
#ifndef PBSD_READER_H
#define PBSD_READER_H

#include <stdint.h>

#include "pbsd_fault.h"

struct reader;

struct reply {
	int status;
	int typed;			/* has a content-type */
	int kind;			/* enum request_kind; 0: neither */
	char name[128];			/* digest or file name */
	int fd;				/* the body, or -1: */
	char *mem;			/*   malloc'ed */
	int64_t len;
	int with_length;		/* a content-length is given */
	int64_t wait;			/* ms before it is given */
};

struct reader *reader_new(const char *snapshot, int conn);
void reader_free(struct reader *r);
/* path: with its query, as the client sent it. */
void reader_answer(struct reader *r, const char *path, int64_t auth_delay, struct reply *a);
void reply_text(struct reply *a, int status, const char *text);

#endif
