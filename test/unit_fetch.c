/* Merging, order, retries, failures, cancelling: with a source that obeys the test. */
#include <errno.h>
#include <poll.h>

#include "../config.h"
#include "../fetch.h"
#include "fake.h"
#include "t.h"

static struct fake fake;
static struct fetch *fetch;

struct reader {
	struct fetch_wait wait;		/* first */
	int calls, rc, right;
};

static void
ready(struct fetch_wait *w, const uint8_t *data, int rc)
{
	struct reader *r = (struct reader *)w;

	r->calls++;
	r->rc = rc;
	r->right = data && memcmp(data, fake.image + w->offset, w->want.len) == 0;
}

static void
setup(int slots, int loads)
{
	struct fetch_conf c = { .source = &fake.src, .cache = (uint64_t)slots << 16,
		.chunk_max = 1 << 16, .loads = loads, .workers = 2 };

	fake_init(&fake, 40 << 16, 1 << 16);
	fetch = fetch_new(&c, NULL);
	check(fetch != NULL);
}

static void
teardown(void)
{
	fetch_free(fetch);
	fake_free(&fake);
}

/* Asks for chunk c: 1 when it is there and right. */
static int
get(struct reader *r, uint64_t c)
{
	const uint8_t *data;

	memset(r, 0, sizeof(*r));
	index_chunk(&fake.index, c, &r->wait.want);
	r->wait.offset = c << 16;
	r->wait.ready = ready;
	data = fetch_get(fetch, &r->wait);
	return data && memcmp(data, fake.image + r->wait.offset, r->wait.want.len) == 0;
}

static int
ahead(uint64_t c)
{
	struct chunk_want w;

	index_chunk(&fake.index, c, &w);
	return fetch_ahead(fetch, &w, c << 16);
}

/* Turns until n loads have ended, or nothing came for a second. */
static void
turn(int n)
{
	struct pollfd p = { .fd = fetch_fd(fetch), .events = POLLIN };

	while (n-- > 0 && poll(&p, 1, 1000) > 0)
		fetch_turn(fetch);
}

static void
settle(struct reader *r)
{
	struct pollfd p = { .fd = fetch_fd(fetch), .events = POLLIN };

	while (r->calls == 0 && poll(&p, 1, 1000) > 0)
		fetch_turn(fetch);
}

static void
test_merged(void)
{
	struct reader a, b, c;

	setup(4, 4);
	check(!get(&a, 3) && !get(&b, 3) && !get(&c, 3));
	check_int(fake.total, 1);
	fake_answer(&fake, 0, 0);
	settle(&c);
	settle(&a);
	check(a.right && b.right && c.right);
	check(a.calls == 1 && b.calls == 1 && c.calls == 1);
	check(get(&a, 3));
	check_int(fake.total, 1);
	teardown();
}

static void
test_damaged_asked_once_more(void)
{
	struct reader a;

	setup(4, 4);
	check(!get(&a, 3));
	fake_answer(&fake, 0, 1);
	turn(1);
	check_int(a.calls, 0);
	check_int(fake.total, 2);
	fake_answer(&fake, 0, 0);
	settle(&a);
	check(a.right);
	check(!get(&a, 4));
	fake_answer(&fake, 0, -EIO);		/* a server's 503, a disk's error */
	turn(1);
	check_int(a.calls, 0);
	check_int(fake.total, 4);
	fake_answer(&fake, 0, 0);
	settle(&a);
	check(a.right);
	teardown();
}

static void
test_failure_is_not_kept(void)
{
	struct reader a, b;
	struct fetch_stats st;

	setup(4, 4);
	check(!get(&a, 3) && !get(&b, 3));
	fake_answer(&fake, 0, 1);
	turn(1);
	fake_answer(&fake, 0, 1);
	settle(&a);
	check(a.rc == -EIO && b.rc == -EIO && a.calls == 1 && b.calls == 1);
	check(!get(&a, 3));
	check_int(fake.total, 3);
	fake_answer(&fake, 0, -ENOENT);		/* final: not asked again */
	settle(&a);
	check(a.rc == -EIO);
	check_int(fake.total, 3);
	check(!get(&a, 3));
	fake_answer(&fake, 0, 0);
	settle(&a);
	check(a.right);
	fetch_stats(fetch, &st);
	check_int(st.failed, 2);
	teardown();
}

static void
test_pending_in_order(void)
{
	struct reader r[8];
	int i;

	setup(2, 2);
	for (i = 0; i < 8; i++)
		check(!get(&r[i], (uint64_t)(i / 2)));
	check_int(fake.total, 2);		/* two slots: chunks 0 and 1 */
	fake_answer(&fake, 1, 0);		/* the second comes first */
	settle(&r[2]);
	check(r[2].right && r[3].right && r[0].calls == 0);
	check_int(fake.total, 3);
	while (fake.count) {
		fake_answer(&fake, 0, 0);
		turn(1);
	}
	for (i = 0; i < 8; i++)
		check(r[i].right && r[i].calls == 1);
	check_int(fake.total, 4);
	teardown();
}

static void
test_ahead_and_raise(void)
{
	struct reader a;

	setup(8, 8);
	check(ahead(5));
	check(ahead(5));			/* already on its way */
	check_int(fake.total, 1);
	check_int(fake.asked[0]->demand, 0);
	check(!get(&a, 5));
	check_int(fake.raised, 1);
	check_int(fake.asked[0]->demand, 1);
	fake_answer(&fake, 0, 0);
	settle(&a);
	check(a.right);
	check(ahead(6) && ahead(7) && ahead(8) && ahead(9));
	check(!ahead(10));			/* half of the slots */
	check(!get(&a, 20));			/* demand finds its slot all the same */
	check_int(fake.total, 6);
	teardown();
}

/* A reader comes to n chunks from c on, that were read ahead: before they are there, or after. */
static void
follow(uint64_t c, int n, int late)
{
	struct reader r;

	for (; n-- > 0; c++) {
		check(ahead(c % 40));
		if (!late) {
			fake_answer(&fake, 0, 0);
			turn(1);
		}
		check(get(&r, c % 40) == !late);
		if (late) {
			fake_answer(&fake, 0, 0);
			settle(&r);
		}
	}
}

/* How many chunks, from c on and none of them there, can be read ahead now; they are, and read. */
static int
room_ahead(uint64_t c)
{
	struct reader r;
	int n, i;

	for (n = 0; n < 8 && ahead(c + (uint64_t)n); n++)
		;
	check_int(fake.count, n);
	for (i = 0; i < n && fake.count; i++)
		fake_answer(&fake, 0, 0);
	turn(n);
	for (i = 0; i < n; i++)
		check(get(&r, c + (uint64_t)i));
	return n;
}

/* Of 8 slots read-ahead gets 4; where it often comes too late 6, until it has not done so for long, or others want the room. */
static void
test_far_source(void)
{
	struct reader other, r;
	uint64_t i;

	setup(8, 12);
	follow(0, LATE_MANY / LATE_COUNTS, 1);
	check_int(room_ahead(20), 4);
	follow(16, 1, 1);
	check_int(room_ahead(28), 6);
	follow(0, LATE_LONG - LATE_MANY - 6, 0);
	check_int(room_ahead(20), 4);
	follow(12, 2, 1);
	check_int(room_ahead(28), 6);
	check(!get(&other, 39));
	for (i = 0; i < LATE_LONG / LATE_COUNTS; i++) {
		check(ahead(i % 10) && !get(&r, i % 10));
		fake_answer(&fake, fake.count - 1, 0);
		settle(&r);
	}
	fake_answer(&fake, 0, 0);
	settle(&other);
	check_int(room_ahead(20), 4);
	teardown();
}

static void
test_cancel(void)
{
	struct reader a, b, c, d;

	setup(2, 2);
	check(!get(&a, 0) && !get(&b, 0) && !get(&c, 1) && !get(&d, 2));
	fetch_cancel(fetch, &a.wait);
	fetch_cancel(fetch, &d.wait);		/* pending */
	fake_answer(&fake, 0, 0);
	fake_answer(&fake, 0, 0);
	settle(&b);
	settle(&c);
	check(b.right && c.right && a.calls == 0 && d.calls == 0);
	check_int(fake.total, 2);
	teardown();
}

static void
test_first(void)
{
	struct reader a;
	struct err e;

	setup(2, 2);
	fake.at_once = 1;
	memset(&a, 0, sizeof(a));
	index_chunk(&fake.index, 1, &a.wait.want);
	a.wait.offset = 1 << 16;
	check_int(fetch_first(fetch, &a.wait, -1, &e), 0);
	check(fetch_peek(fetch, &a.wait.want) != NULL);
	memset(a.wait.want.digest, 7, 32);	/* nobody has that: the image's index does not */
	fake.at_once = 0;
	teardown();
}

static int
damaged_ask(struct fake *f, int times)
{
	int n = 0;

	while (n < times && f->count) {
		fake_answer(f, 0, 1);
		turn(1);
		n++;
	}
	return n;
}

static void
test_wrong_length_is_damage(void)
{
	struct reader a;

	setup(4, 4);
	memset(&a, 0, sizeof(a));
	index_chunk(&fake.index, 2, &a.wait.want);
	a.wait.want.len = 1000;			/* a hostile index */
	a.wait.offset = 2 << 16;
	a.wait.ready = ready;
	check(fetch_get(fetch, &a.wait) == NULL);
	fake_answer(&fake, 0, 0);
	turn(1);
	fake_answer(&fake, 0, 0);
	settle(&a);
	check_int(a.rc, -EIO);
	check_int(damaged_ask(&fake, 1), 0);
	teardown();
}

int
main(void)
{
	run(test_merged);
	run(test_damaged_asked_once_more);
	run(test_failure_is_not_kept);
	run(test_pending_in_order);
	run(test_ahead_and_raise);
	run(test_far_source);
	run(test_cancel);
	run(test_first);
	run(test_wrong_length_is_damage);
	return t_end();
}
