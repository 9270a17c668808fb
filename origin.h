/*
 * From options and environment to a source: which repository, who we are, whom we trust.
 * May ask at the terminal.
 */
#ifndef ORIGIN_H
#define ORIGIN_H

#include "err.h"
#include "opt.h"
#include "repo.h"
#include "source.h"
#include "trust.h"

struct origin {
	struct repo repo;
	char ns[NS_MAX];		/* of --ns or PBS_NAMESPACE; empty: root */
	struct source *source;
	struct trust trust;		/* a server's: lives as long as the source */
};

/* The repository and namespace alone: nothing is read or asked. -EINVAL, ST_USAGE: what is missing. */
int origin_name(struct origin *g, const struct opts *o, struct err *e);

/* For a worker: its monitor has found this out, by what may be there but once (a descriptor). Borrowed. */
void origin_preset(const struct origin *g);

/* Both, and opens the source; a server is not spoken to yet. origin_close() in any case. */
int origin_open(struct origin *g, const struct opts *o, struct err *e);
void origin_close(struct origin *g);

#endif
