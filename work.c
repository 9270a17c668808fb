/*
 * Worker threads with two queues: what a reader waits for, and read-ahead.
 * Knows nothing of chunks. The blob_workers are made at the start, so that no
 * thread can fail later for want of memory.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "work.h"

struct queue {
	struct job *head, **tail;
};

struct thread {
	pthread_t id;
	struct work *pool;
	struct blob_worker *blob;
};

struct work {
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct queue urgent, later;
	int quit;
	int n;				/* threads that run */
	struct thread thread[WORKERS_MAX];
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

static void *
worker(void *arg)
{
	struct thread *t = arg;
	struct work *w = t->pool;
	struct job *j;

	pthread_mutex_lock(&w->lock);
	while (!w->quit) {
		if ((j = take(&w->urgent)) == NULL && (j = take(&w->later)) == NULL) {
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

/* Signals are the main thread's; a worker inherits an all-blocked mask. */
static int
start(struct work *w, struct thread *t)
{
	sigset_t all, old;
	int rc;

	t->pool = w;
	if ((t->blob = blob_worker_new()) == NULL)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&t->id, NULL, worker, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		blob_worker_free(t->blob);
	return rc;
}

struct work *
work_new(int n, struct err *e)
{
	struct work *w = calloc(1, sizeof(*w));
	int rc = w ? 0 : -ENOMEM;

	if (w) {
		pthread_mutex_init(&w->lock, NULL);
		pthread_cond_init(&w->some, NULL);
		w->urgent.tail = &w->urgent.head;
		w->later.tail = &w->later.head;
		while (rc == 0 && w->n < n && w->n < WORKERS_MAX)
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
	put(j->urgent ? &w->urgent : &w->later, j);
	pthread_cond_signal(&w->some);
	pthread_mutex_unlock(&w->lock);
}

void
work_hurry(struct work *w, struct job *j)
{
	struct job **p;

	pthread_mutex_lock(&w->lock);
	for (p = &w->later.head; *p && *p != j; p = &(*p)->next)
		;
	if (*p) {
		if ((*p = j->next) == NULL)
			w->later.tail = p;
		j->urgent = 1;
		put(&w->urgent, j);
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
