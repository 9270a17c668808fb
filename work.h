/*
 * Worker threads: they take jobs that need a CPU (decoding) and nothing else.
 */
#ifndef WORK_H
#define WORK_H

#include "blob.h"
#include "err.h"

enum work_level {
	WORK_LATER,			/* nobody waits for it */
	WORK_SOON,			/* nobody did when it was begun: a sequential reader has come to it */
	WORK_NOW,			/* a reader waits from the beginning: a random one, mostly */
	WORK_LEVELS,
};

struct job {
	void (*run)(struct job *, struct blob_worker *);	/* on a worker thread */
	enum work_level level;		/* the highest first, but SOON has its turn between NOWs */
	struct job *next;
};

struct work;

/* Starts n threads and one more for level NOW, each with its own blob_worker. NULL: *e says why. */
struct work *work_new(int n, struct err *e);
/* Callable from any thread. The job belongs to the pool until run() is called. */
void work_push(struct work *w, struct job *j);
/* A job of level LATER that has not begun gets level SOON. */
void work_hurry(struct work *w, struct job *j);
/* Ends the threads after the job each is at; jobs not begun are forgotten. */
void work_free(struct work *w);

#endif
