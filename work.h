/*
 * Worker threads: they take jobs that need a CPU (decoding) and nothing else.
 */
#ifndef WORK_H
#define WORK_H

#include "blob.h"
#include "err.h"

struct job {
	void (*run)(struct job *, struct blob_worker *);	/* on a worker thread */
	int urgent;			/* a reader waits: before those that nobody waits for */
	struct job *next;
};

struct work;

/* Starts n threads, each with its own blob_worker. NULL: *e says why. */
struct work *work_new(int n, struct err *e);
/* Callable from any thread. The job belongs to the pool until run() is called. */
void work_push(struct work *w, struct job *j);
/* Moves a job that has not begun before those that nobody waits for. */
void work_hurry(struct work *w, struct job *j);
/* Ends the threads after the job each is at; jobs not begun are forgotten. */
void work_free(struct work *w);

#endif
