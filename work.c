/*
 * Worker threads with a queue for each level. The threads for all levels work at a low priority, so that who
 * answers and who reads get their turn; one more has a normal one and only does what a reader has been waiting
 * for from the beginning. He waits for one chunk, and would wait for a busy worker first; a sequential reader
 * has its next ones read already. Where there are many such readers all threads serve them, but never more than
 * BEFORE_SOON times in a row before a sequential one.
 *
 * Knows nothing of chunks. The blob_workers are made at the start, so that no
 * thread can fail later for want of memory.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "config.h"
#include "thread.h"
#include "work.h"

#define NICE 10
#define BEFORE_SOON 2			/* jobs of level NOW that may go before one of level SOON */

struct queue {
	struct job *head, **tail;
};

struct thread {
	pthread_t id;
	struct work *pool;
	struct blob_worker *blob;
	int express;			/* the one for level NOW */
};

struct work {
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct queue queue[WORK_LEVELS];
	int before;			/* jobs that went before one of level SOON */
	int express_busy;
	int quit;
	int n;				/* threads that run */
	struct thread thread[WORKERS_MAX + 1];
};

static void
put(struct queue *q, struct job *j)
{
	j->next = NULL;
	*q->tail = j;
	q->tail = &j->next;
}

static struct job *
take(struct queue *q)
{
	struct job *j = q->head;

	if (j && (q->head = j->next) == NULL)
		q->tail = &q->head;
	return j;
}

static struct job *
next_job(struct work *w)
{
	struct job *j = NULL;
	int level = w->express_busy ? WORK_NOW : WORK_SOON;

	if (w->before >= BEFORE_SOON)
		j = take(&w->queue[WORK_SOON]);
	for (; j == NULL && level >= 0; level--)
		j = take(&w->queue[level]);
	if (j)
		w->before = j->level == WORK_NOW && w->queue[WORK_SOON].head ? w->before + 1 : 0;
	return j;
}

static struct job *
next_express(struct work *w)
{
	struct job *j = take(&w->queue[WORK_NOW]);

	w->express_busy = j != NULL;
	if (j && w->queue[WORK_NOW].head)
		pthread_cond_broadcast(&w->some);	/* the others had left it to this thread */
	return j;
}

static void *
worker(void *arg)
{
	struct thread *t = arg;
	struct work *w = t->pool;
	struct job *j;

	if (!t->express)
		setpriority(PRIO_PROCESS, 0, NICE);	/* 0: this thread */
	pthread_mutex_lock(&w->lock);
	while (!w->quit) {
		if ((j = t->express ? next_express(w) : next_job(w)) == NULL) {
			pthread_cond_wait(&w->some, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		j->run(j, t->blob);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static int
start(struct work *w, struct thread *t)
{
	int rc;

	t->pool = w;
	t->express = w->n == 0;
	if ((t->blob = blob_worker_new()) == NULL)
		return -ENOMEM;
	if ((rc = thread_new(&t->id, 0, worker, t)) < 0)
		blob_worker_free(t->blob);
	return rc;
}

struct work *
work_new(int n, struct err *e)
{
	struct work *w = calloc(1, sizeof(*w));
	int rc = w ? 0 : -ENOMEM, i;

	if (w) {
		pthread_mutex_init(&w->lock, NULL);
		pthread_cond_init(&w->some, NULL);
		for (i = 0; i < WORK_LEVELS; i++)
			w->queue[i].tail = &w->queue[i].head;
		while (rc == 0 && w->n < n + 1 && w->n < WORKERS_MAX + 1)
			if ((rc = start(w, &w->thread[w->n])) == 0)
				w->n++;
	}
	if (rc < 0) {
		err_set(e, ST_FAIL, rc, "cannot start worker threads: %s", strerror(-rc));
		if (w)
			work_free(w);
		return NULL;
	}
	return w;
}

void
work_push(struct work *w, struct job *j)
{
	pthread_mutex_lock(&w->lock);
	put(&w->queue[j->level], j);
	pthread_cond_broadcast(&w->some);	/* not all may do it */
	pthread_mutex_unlock(&w->lock);
}

void
work_hurry(struct work *w, struct job *j)
{
	struct queue *q = &w->queue[WORK_LATER];
	struct job **p;

	pthread_mutex_lock(&w->lock);
	for (p = &q->head; *p && *p != j; p = &(*p)->next)
		;
	if (*p) {
		if ((*p = j->next) == NULL)
			q->tail = p;
		j->level = WORK_SOON;
		put(&w->queue[WORK_SOON], j);
	}
	pthread_mutex_unlock(&w->lock);
}

void
work_free(struct work *w)
{
	int i;

	pthread_mutex_lock(&w->lock);
	w->quit = 1;
	pthread_cond_broadcast(&w->some);
	pthread_mutex_unlock(&w->lock);
	for (i = 0; i < w->n; i++) {
		pthread_join(w->thread[i].id, NULL);
		blob_worker_free(w->thread[i].blob);
	}
	pthread_cond_destroy(&w->some);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
