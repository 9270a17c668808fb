/* How far something long is, on stderr: a line rewritten at a fast terminal, a few lines elsewhere, JSON for programs. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdint.h>

enum progress_mode { PROGRESS_AUTO, PROGRESS_QUIET, PROGRESS_JSON, PROGRESS_LINE, PROGRESS_LINES };

struct progress {
	enum progress_mode mode;
	uint64_t total, done, zeros;	/* bytes; the caller adds to done and zeros (which done includes) */
	uint64_t before;		/* bytes of done that cost no time: the rate does not count them */
	int64_t began, shown;		/* ms */
	unsigned tenth;			/* PROGRESS_LINES: the last one shown */
	int width;			/* PROGRESS_LINE: of what stands there */
	const char *what;		/* "restored" */
};

/* mode AUTO: by what stderr is. */
void progress_begin(struct progress *p, enum progress_mode mode, const char *what, uint64_t total);
/* Shows what is due; returns the ms until the next look. */
int progress_tick(struct progress *p);
/* Takes the rewritten line away, before something else is printed. */
void progress_clear(struct progress *p);
/* Shows the end (JSON only) and takes the line away. */
void progress_end(struct progress *p);
/* Is fd a terminal on which rewriting a line costs nothing? */
int progress_fast(int fd);

#endif
