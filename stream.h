/* An archive's bytes in their order, to a target that takes no others: a pipe, standard output. */
#ifndef STREAM_H
#define STREAM_H

#include "err.h"
#include "index.h"
#include "opt.h"
#include "progress.h"
#include "snap.h"
#include "target.h"

struct stream;

struct stream_conf {
	const struct opts *o;
	const struct snap *snap;
	const struct index *index;
	const struct target *target;
	int stop;			/* ends it when readable */
	struct progress *progress;
};

struct stream *stream_new(const struct stream_conf *c, struct err *e);
/* Ends at the first byte that cannot be had: ST_DAMAGED, or that cannot be written. */
int stream_run(struct stream *s, struct err *e);
/* The source must have been closed before. */
void stream_free(struct stream *s);

#endif
