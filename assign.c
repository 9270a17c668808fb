/*
 * The assignment thread. It owns the loop device; the main loop only tells it what to
 * do and polls for the result. No device descriptor is kept: an open one would turn somebody's
 * `losetup -d` into one that waits for us.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "assign.h"
#include "fuse.h"
#include "log.h"
#include "newroot.h"
#include "thread.h"

#define DETACH_MS 2000			/* then the device is left to autoclear */
#define LINGER_MS 2000			/* until a task that hangs is left alone */

struct assign {
	struct assign_conf conf;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t some, idle;
	enum assign_task task;		/* given and not yet reported */
	int busy;			/* the thread is at it */
	int quit;
	int event;			/* eventfd: the task has ended */
	int rc;
	struct err err;
	struct loop loop;		/* nr -1: none */
	int tried;			/* to detach: what is held then, stays */
};

static int
attach(struct assign *a)
{
	struct loop_conf c = {
		.backing = a->conf.path,
		.block_size = a->conf.table->sector,
		.direct = a->conf.direct,
		.read_ahead = a->conf.read_ahead,
	};
	struct err why;
	int rc;

	if (a->conf.read_ahead)
		fuse_read_ahead(a->conf.name, a->conf.read_ahead >> 10);
	if ((rc = loop_attach(&c, &a->loop, &a->err)) < 0) {
		a->loop.nr = -1;
		return rc;
	}
	/* Partitions that cannot be had do not make the device worthless. */
	if (part_add(a->loop.fd, a->loop.nr, a->conf.table, &why) < 0)
		say("%s", why.text);
	close(a->loop.fd);
	a->loop.fd = -1;
	return 0;
}

static int
check(struct assign *a)
{
	if (loop_has_backing(a->loop.nr, a->conf.path))
		return 0;
	a->loop.nr = -1;
	return -ENXIO;
}

static int
detach(struct assign *a)
{
	struct loop l;
	int rc;

	if (a->loop.nr < 0 || a->tried || check(a) < 0)
		return 0;
	a->tried = 1;
	if ((rc = loop_open(a->loop.nr, &l, &a->err)) < 0)
		return rc;
	part_del(l.fd, l.nr, NULL);	/* those that are held stay until the device goes */
	if ((rc = loop_detach(&l, DETACH_MS, &a->err)) == 0)
		a->loop.nr = -1;
	return rc;
}

static void *
main_of_thread(void *arg)
{
	struct assign *a = arg;
	enum assign_task task;
	uint64_t one = 1;
	int rc;

	pthread_mutex_lock(&a->lock);
	while (!a->quit) {
		if (!a->busy) {
			pthread_cond_wait(&a->some, &a->lock);
			continue;
		}
		task = a->task;
		pthread_mutex_unlock(&a->lock);
		if (task != ASSIGN_ATTACH)
			newroot_follow(a->loop.path);
		rc = task == ASSIGN_ATTACH ? attach(a) : task == ASSIGN_CHECK ? check(a) : detach(a);
		pthread_mutex_lock(&a->lock);
		a->rc = rc;
		a->busy = 0;
		pthread_cond_signal(&a->idle);
		while (write(a->event, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

struct assign *
assign_new(const struct assign_conf *conf, struct err *e)
{
	struct assign *a = calloc(1, sizeof(*a));
	int rc = -ENOMEM;

	if (a) {
		a->conf = *conf;
		a->loop.nr = a->loop.fd = -1;
		pthread_mutex_init(&a->lock, NULL);
		pthread_cond_init(&a->some, NULL);
		pthread_cond_init(&a->idle, NULL);
		a->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		newroot_keep();
		rc = a->event < 0 ? -errno : thread_new(&a->thread, 0, main_of_thread, a);
	}
	if (rc < 0) {
		err_set(e, ST_FAIL, rc, "cannot start the assignment thread: %s", strerror(-rc));
		if (a && a->event >= 0)
			close(a->event);
		free(a);
		return NULL;
	}
	return a;
}

void
assign_begin(struct assign *a, enum assign_task task)
{
	pthread_mutex_lock(&a->lock);
	a->task = task;
	a->busy = 1;
	a->err.text[0] = 0;
	pthread_cond_signal(&a->some);
	pthread_mutex_unlock(&a->lock);
}

int
assign_fd(const struct assign *a)
{
	return a->event;
}

enum assign_task
assign_done(struct assign *a, struct loop *l, int *rc, struct err *e)
{
	enum assign_task task = ASSIGN_NONE;
	uint64_t n;

	pthread_mutex_lock(&a->lock);
	if (read(a->event, &n, sizeof(n)) > 0 && !a->busy) {
		task = a->task;
		a->task = ASSIGN_NONE;
		*l = a->loop;
		*rc = a->rc;
		*e = a->err;
	}
	pthread_mutex_unlock(&a->lock);
	return task;
}

/* Waits for the end of the task that the thread is at, but not for long. */
static int
idle(struct assign *a)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LINGER_MS / 1000;
	while (a->busy && pthread_cond_timedwait(&a->idle, &a->lock, &until) == 0)
		;
	return !a->busy;
}

void
assign_free(struct assign *a)
{
	int ended;

	pthread_mutex_lock(&a->lock);
	ended = idle(a);
	a->quit = 1;
	pthread_cond_signal(&a->some);
	pthread_mutex_unlock(&a->lock);
	if (!ended) {
		pthread_detach(a->thread);
		return;
	}
	pthread_join(a->thread, NULL);
	/* An attach that came too late. Nobody is served any more, so this thread may wait. */
	if (detach(a) < 0)
		say("%s", a->err.text);
	close(a->event);
	free(a);
}
