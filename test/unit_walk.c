/* Every chunk once, all its places, what is left out, failures, the rate; with a source that obeys the test. */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "../clock.h"
#include "../pace.h"
#include "../walk.h"
#include "fake.h"
#include "t.h"

#define CHUNKS 60
#define SIZE (1u << 16)

static struct fake fake;
static struct snap snap;
static struct opts opts;
static struct archive archives[2];
static struct walk *walk;
static struct walk_conf conf;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int used[CHUNKS], right, ended[CHUNKS], failures, stop_at;
static int stop_pipe[2];

static int
use(void *ctx, uint32_t place, const uint8_t *data, struct err *e)
{
	(void)e;
	check(ctx == &conf);
	pthread_mutex_lock(&lock);
	used[place % CHUNKS]++;
	right += memcmp(data, fake.image + (uint64_t)(place % CHUNKS) * SIZE, SIZE) == 0;
	pthread_mutex_unlock(&lock);
	return (int)place == stop_at ? err_set(e, ST_FAIL, -ENOSPC, "full") : 0;
}

static int
done(void *ctx, uint32_t place, int rc, const struct err *e)
{
	(void)ctx;
	ended[place % CHUNKS]++;
	failures += rc < 0;
	check((rc < 0) == (e != NULL));
	return (int)place == stop_at ? rc : 0;
}

static void
setup(void)
{
	memset(used, 0, sizeof(used));
	memset(ended, 0, sizeof(ended));
	right = failures = 0;
	stop_at = -1;
	memset(&opts, 0, sizeof(opts));
	opts.timeout = 1;
	opts.workers = 2;
	fake_init(&fake, CHUNKS * SIZE, SIZE);
	fake.src.depth = 6;
	fake.at_once = 1;
	memset(&snap, 0, sizeof(snap));
	snap.source = &fake.src;
	memset(archives, 0, sizeof(archives));
	archives[0].index = fake.index;
	conf = (struct walk_conf){ .o = &opts, .snap = &snap, .archives = archives, .count = 1, .ctx = &conf, .use = use, .done = done };
}

/* Chunk `to` becomes the same as chunk `from`. */
static void
repeat(int from, int to)
{
	memcpy(fake.image + to * (int)SIZE, fake.image + from * (int)SIZE, SIZE);
	memcpy(fake.index_file + to * 32, fake.index_file + from * 32, 32);
}

static int
go(int stop)
{
	struct err e = { ST_FAIL, "" };
	int rc = -ENOMEM;

	if ((walk = walk_new(&conf, &e)) != NULL)
		rc = walk_run(walk, stop, &e);
	return rc;
}

static void
teardown(void)
{
	if (walk)
		walk_free(walk);
	walk = NULL;
	fake_free(&fake);
}

static void
test_each_once(void)
{
	int i, n = 0;

	setup();
	check_int(go(-1), 0);
	for (i = 0; i < CHUNKS; i++)
		n += used[i] == 1 && ended[i] == 1;
	check_int(n, CHUNKS);
	check_int(right, CHUNKS);
	check_int(fake.total, CHUNKS);
	check_int(walk_chunks(walk), CHUNKS);
	teardown();
}

static void
test_repeated(void)
{
	uint32_t p;
	char text[64] = "";

	setup();
	repeat(3, 10);
	repeat(3, 50);
	repeat(59, 0);
	check_int(go(-1), 0);
	check_int(fake.total, CHUNKS - 3);
	check_int(walk_chunks(walk), CHUNKS - 3);
	check_int(used[3], 1);
	check_int(used[10] + used[50] + used[59], 0);
	check_int(used[0], 1);
	for (p = 3; p != WALK_NONE; p = walk_next(walk, p))
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%lu ", (unsigned long)p);
	check_str(text, "3 10 50 ");
	check_int(walk_next(walk, 0), 59);
	check(walk_next(walk, 1) == WALK_NONE);
	check_int(walk_first(walk, 10), 11);
	check(walk_first(walk, 59) == WALK_NONE);
	teardown();
}

static void
test_left_out(void)
{
	uint8_t skip[CHUNKS / 8 + 1] = { 0 };

	setup();
	repeat(2, 9);
	repeat(4, 20);
	repeat(4, 21);
	memcpy(fake.index.zero[0], fake.index_file + 7 * 32, 32);	/* as if chunk 7 were zeros */
	fake.index.has_zero = 1;
	archives[0].index = fake.index;
	bit_set(skip, 2);
	bit_set(skip, 20);
	bit_set(skip, 30);
	conf.skip = skip;
	conf.skip_zero = 1;
	check_int(go(-1), 0);
	/* 2 is there, 9 not; 4 and 21 are not; 7 is zero, 30 there. */
	check_int(used[2] + used[7] + used[30], 0);
	check_int(used[9], 1);
	check_int(walk_next(walk, 4), 21);
	check_int(fake.total, CHUNKS - 5);
	teardown();
}

static void
test_two_archives(void)
{
	const struct archive *a;
	uint64_t c;

	setup();
	archives[1].index = fake.index;
	archives[1].index.entries = fake.index_file + 40 * 32;
	archives[1].index.count = 20;
	archives[1].index.size = 20 * SIZE;
	conf.count = 2;
	check_int(go(-1), 0);
	check_int(fake.total, CHUNKS);
	check_int(walk_next(walk, 45), CHUNKS + 5);
	a = walk_archive(walk, CHUNKS + 5, &c);
	check(a == &archives[1]);
	check_int(c, 5);
	a = walk_archive(walk, CHUNKS - 1, &c);
	check(a == &archives[0]);
	check_int(c, CHUNKS - 1);
	teardown();
	/* The same digest as another kind of chunk is another chunk. */
	setup();
	archives[1].index = fake.index;
	archives[1].index.encrypted = 1;
	conf.count = 2;
	check_int(go(-1), 0);
	check_int(fake.total, 3 * CHUNKS);	/* those that are of the wrong kind are asked for twice */
	check_int(failures, CHUNKS);
	teardown();
}

/* Every third chunk, by its digest, is missing. */
static void
answer(void)
{
	while (fake.count > 0)
		fake_answer(&fake, 0, fake.asked[0]->digest[0] % 3 == 0 ? -ENOENT : 0);
}

/* What fails is told, with its reason, and the rest is walked. */
static int
note(void *ctx, uint32_t place, int rc, const struct err *e)
{
	(void)ctx;
	ended[place]++;
	check_int(rc, fake.index_file[place * 32] % 3 == 0 ? -ENOENT : 0);
	if (rc < 0)
		check_str(e->text, "made to fail");
	failures += rc < 0;
	return 0;
}

static int
tick(void *ctx)
{
	(void)ctx;
	answer();
	return 20;
}

static void
test_failures(void)
{
	int i, n = 0, bad = 0;

	setup();
	fake.at_once = 0;
	conf.done = note;
	conf.tick = tick;
	check_int(go(-1), 0);
	for (i = 0; i < CHUNKS; i++) {
		n += ended[i] == 1;
		bad += fake.index_file[i * 32] % 3 == 0;
	}
	check_int(n, CHUNKS);
	check(bad > 5);
	check_int(failures, bad);
	teardown();
}

static void
test_use_fails(void)
{
	setup();
	stop_at = 31;
	check_int(go(-1), -ENOSPC);
	check_int(used[31], 1);
	check_int(used[CHUNKS - 1], 0);		/* nothing was asked for any more */
	teardown();
}

static void
test_stopped(void)
{
	setup();
	check_int(pipe(stop_pipe), 0);
	fake.at_once = 0;
	check_int(write(stop_pipe[1], "", 1), 1);
	check_int(go(stop_pipe[0]), -EINTR);
	teardown();
}

static void
test_nothing_comes(void)
{
	int64_t began = clock_ms();

	setup();
	fake.at_once = 0;
	check_int(go(-1), -ETIMEDOUT);
	check(clock_ms() - began >= 1000 && clock_ms() - began < 3500);
	teardown();
}

static void
test_empty(void)
{
	setup();
	archives[0].index.count = 0;
	check_int(go(-1), 0);
	check_int(fake.total, 0);
	teardown();
}

static void
test_pace(void)
{
	struct pace p = { .rate = 1000 };
	struct pace none = { .rate = 0 };

	check_int(pace_wait(&none, 1 << 30, 5), 0);
	check_int(pace_wait(&p, 0, 10000), 0);
	check_int(pace_wait(&p, 500, 10000), 500);
	check_int(pace_wait(&p, 500, 10200), 300);
	check_int(pace_wait(&p, 500, 10500), 0);
	check_int(pace_wait(&p, 500, 90000), 0);	/* nothing is saved up */
	check_int(pace_wait(&p, 600, 90000), 100);
	check_int(pace_wait(&p, 100000, 90000), 1000);	/* looked at again every second */
	check_int(pace_wait(&p, 100000, 189000), 500);
}

int
main(void)
{
	run(test_each_once);
	run(test_repeated);
	run(test_left_out);
	run(test_two_archives);
	run(test_failures);
	run(test_use_fails);
	run(test_stopped);
	run(test_nothing_comes);
	run(test_empty);
	run(test_pace);
	return t_end();
}
