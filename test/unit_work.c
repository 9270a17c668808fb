/* Worker threads: the order of jobs. */
#include <pthread.h>

#include "t.h"
#include "work.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static int held, done;
static char order[64];

struct gate {
	struct job job;			/* first */
	int open;
};

struct named {
	struct job job;			/* first */
	char name;
};

/* Holds the thread that takes it. */
static void
gate(struct job *j, struct blob_worker *w)
{
	(void)w;
	pthread_mutex_lock(&lock);
	held++;
	pthread_cond_broadcast(&some);
	while (!((struct gate *)j)->open)
		pthread_cond_wait(&some, &lock);
	pthread_mutex_unlock(&lock);
}

static void
hold(struct work *w, struct gate *g, enum work_level level)
{
	int n = held + 1;

	*g = (struct gate){ { .run = gate, .level = level }, 0 };
	work_push(w, &g->job);
	pthread_mutex_lock(&lock);
	while (held < n)
		pthread_cond_wait(&some, &lock);
	pthread_mutex_unlock(&lock);
}

static void
let_go(struct gate *g)
{
	pthread_mutex_lock(&lock);
	g->open = 1;
	pthread_cond_broadcast(&some);
	pthread_mutex_unlock(&lock);
}

static void
wait_done(int n)
{
	pthread_mutex_lock(&lock);
	while (done < n)
		pthread_cond_wait(&some, &lock);
	pthread_mutex_unlock(&lock);
}

static void
write_down(struct job *j, struct blob_worker *w)
{
	(void)w;
	pthread_mutex_lock(&lock);
	order[done++] = ((struct named *)j)->name;
	order[done] = 0;
	pthread_cond_broadcast(&some);
	pthread_mutex_unlock(&lock);
}

/* The order in which one thread does them, the express one being busy. names: lower case LATER, digits SOON, upper case NOW. Hurries the one called `hurry` before the worker is free. */
static const char *
order_of(const char *names, char hurry)
{
	struct gate express, worker;
	struct named job[64];
	struct work *w;
	struct err e;
	int i, n = (int)strlen(names);

	held = done = 0;
	if ((w = work_new(1, &e)) == NULL)
		return "no workers";
	hold(w, &worker, WORK_LATER);
	hold(w, &express, WORK_NOW);
	for (i = 0; i < n; i++) {
		job[i].name = names[i];
		job[i].job.run = write_down;
		job[i].job.level = names[i] >= 'a' ? WORK_LATER : names[i] >= 'A' ? WORK_NOW : WORK_SOON;
		work_push(w, &job[i].job);
	}
	for (i = 0; i < n; i++)
		if (names[i] == hurry)
			work_hurry(w, &job[i].job);
	let_go(&worker);
	wait_done(n);
	let_go(&express);
	work_free(w);
	return order;
}

static void
test_levels(void)
{
	check_str(order_of("abc", 0), "abc");
	check_str(order_of("a1A", 0), "A1a");
	check_str(order_of("ab1A2B", 0), "AB12ab");
}

/* However many random readers there are, a sequential one gets on. */
static void
test_soon_has_its_turn(void)
{
	check_str(order_of("ABCDEFG12", 0), "AB1CD2EFG");
	/* Without one that waits there is no debt. */
	check_str(order_of("ABCDEFa", 0), "ABCDEFa");
}

static void
test_hurry(void)
{
	check_str(order_of("abc", 'b'), "bac");
	check_str(order_of("abc", 'c'), "cab");
	check_str(order_of("abA1", 'b'), "A1ba");
	/* What waits for a reader already stays where it is. */
	check_str(order_of("AB1", 'A'), "AB1");
}

/* While the workers are busy with what nobody waits for, a reader's chunk is decoded all the same; nothing else is. */
static void
test_express(void)
{
	struct named now = { { .run = write_down, .level = WORK_NOW }, 'A' };
	struct named soon = { { .run = write_down, .level = WORK_SOON }, '1' };
	struct gate worker;
	struct work *w;
	struct err e;

	held = done = 0;
	if (!check((w = work_new(1, &e)) != NULL))
		return;
	hold(w, &worker, WORK_LATER);
	work_push(w, &soon.job);
	work_push(w, &now.job);
	wait_done(1);
	check_str(order, "A");
	let_go(&worker);
	wait_done(2);
	check_str(order, "A1");
	work_free(w);
}

/* Several at once: all threads take part. */
static void
test_many(void)
{
	struct gate g[3];
	struct work *w;
	struct err e;
	int i;

	held = done = 0;
	if (!check((w = work_new(2, &e)) != NULL))
		return;
	for (i = 0; i < 3; i++)
		hold(w, &g[i], WORK_NOW);	/* returns when a thread has it */
	for (i = 0; i < 3; i++)
		let_go(&g[i]);
	work_free(w);
	check_int(held, 3);
}

/* Jobs not begun are forgotten; none runs twice. */
static void
test_end(void)
{
	struct named job[3];
	struct work *w;
	struct err e;
	int i;

	done = 0;
	w = work_new(2, &e);
	if (!check(w != NULL))
		return;
	for (i = 0; i < 3; i++) {
		job[i] = (struct named){ { .run = write_down, .level = WORK_LATER }, 'x' };
		work_push(w, &job[i].job);
	}
	work_free(w);
	check(done <= 3);
}

int
main(void)
{
	run(test_levels);
	run(test_soon_has_its_turn);
	run(test_hurry);
	run(test_express);
	run(test_many);
	run(test_end);
	return t_end();
}
