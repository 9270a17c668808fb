/* Which chunks of an archive a target has already: by digest, on all CPUs. */
#ifndef SCAN_H
#define SCAN_H

#include <stdint.h>

#include "err.h"
#include "index.h"
#include "progress.h"
#include "target.h"

struct scan_conf {
	const struct target *target;
	const struct index *index;
	const struct key *key;		/* the snapshot's; NULL: none */
	int workers;
	int stop;			/* ends it when readable */
	const uint8_t *skip;		/* NULL, or bits: chunks that are not looked at */
	struct progress *progress;	/* shown meanwhile; NULL: none */
};

/* Sets the bits of chunks that are there; what cannot be read is not there. 0 or -EINTR, or why threads cannot be started. */
int scan_run(const struct scan_conf *c, uint8_t *same, struct err *e);

#endif
