/* Reads of every shape, answered in any order, compared with the image. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "../config.h"
#include "../image.h"
#include "fake.h"
#include "t.h"

struct request {
	uint64_t offset;
	uint32_t len;
	int calls, rc, right;
};

static struct fake fake;
static struct fetch *fetch;
static struct image *image;
static uint64_t size;			/* padded */
static uint64_t seed;

static uint64_t
rnd(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

static void
answer(void *tag, const struct iovec *iov, int n, int rc)
{
	struct request *r = tag;
	uint64_t at = r->offset, j;
	int i;

	r->calls++;
	r->rc = rc;
	r->right = rc == 0;
	for (i = 0; i < n; i++)
		for (j = 0; j < iov[i].iov_len; j++, at++)
			if (((uint8_t *)iov[i].iov_base)[j] != (at < fake.size ? fake.image[at] : 0))
				r->right = 0;
	if (rc == 0 && at - r->offset != (r->offset >= size ? 0 :
	    r->len < size - r->offset ? r->len : size - r->offset))
		r->right = 0;
}

static void
setup(uint64_t bytes, uint32_t chunk, int slots, unsigned ahead)
{
	struct fetch_conf fc = { .source = &fake.src, .cache = (uint64_t)slots * chunk,
		.chunk_max = chunk, .loads = 16, .workers = 2 };
	struct image_conf ic = { .index = &fake.index, .timeout = 1, .ahead = ahead, .answer = answer };

	fake_init(&fake, bytes, chunk);
	size = (bytes + 511) / 512 * 512;
	fetch = fetch_new(&fc, NULL);
	ic.fetch = fetch;
	ic.size = size;
	image = image_new(&ic, NULL);
	check(fetch != NULL && image != NULL);
}

static void
teardown(void)
{
	image_free(image);
	fetch_free(fetch);
	fake_free(&fake);
}

/* Answers what was asked for in random order until nothing is left to do. */
static void
work(int damage)
{
	struct pollfd p = { .fd = fetch_fd(fetch), .events = POLLIN };

	do {
		while (fake.count)
			fake_answer(&fake, (int)rnd((uint64_t)fake.count), damage && rnd(100) < 30);
		if (poll(&p, 1, fake.count == 0 && fetch_idle(fetch) ? 0 : 10000) <= 0)
			break;
		fetch_turn(fetch);
		image_ahead(image);
	} while (1);
}

static void
read_at(struct request *r, uint64_t offset, uint32_t len)
{
	memset(r, 0, sizeof(*r));
	r->offset = offset;
	r->len = len;
	image_read(image, offset, len, r);
}

static void
random_reads(uint64_t bytes, uint32_t chunk, int slots, unsigned ahead)
{
	static struct request r[300];
	int i, round;

	setup(bytes, chunk, slots, ahead);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 300; i++)
			read_at(&r[i], rnd(size + 1000), (uint32_t)rnd(i % 2 ? READ_MAX : 5000) + 1);
		work(0);
		for (i = 0; i < 300; i++)
			if (!check(r[i].calls == 1 && r[i].right))
				printf("# read %d: %llu+%u\n", i, (unsigned long long)r[i].offset, r[i].len);
	}
	check(!image_full(image));
	check_int(image_expire(image), -1);
	teardown();
}

static void
test_random_64k(void)
{
	random_reads((5 << 20) + 12345, 65536, 40, 16);
}

static void
test_random_4m(void)
{
	random_reads((17 << 20) + 1, 4 << 20, 3, 2);
}

static void
test_random_two_slots(void)
{
	random_reads((3 << 20) + 511, 65536, 2, 16);
}

static void
test_tiny(void)
{
	random_reads(1, 65536, 2, 16);
	random_reads(513, 65536, 2, 0);
}

/* Equal chunks are one: several pieces of one read wait for the same load. */
static void
test_same_chunk_twice(void)
{
	struct request r;
	int i;

	setup(8 * 65536, 65536, 16, 0);
	for (i = 1; i < 8; i++) {
		memcpy(fake.image + i * 65536, fake.image, 65536);
		memcpy(fake.index_file + i * 32, fake.index_file, 32);
	}
	read_at(&r, 100, 7 * 65536);
	check_int(fake.count, 1);
	fake_answer(&fake, 0, -ENOENT);
	work(0);
	check(r.calls == 1 && r.rc == -EIO);
	read_at(&r, 100, 7 * 65536);
	work(0);
	check(r.calls == 1 && r.right);
	teardown();
}

/* A failed piece fails its read at once, and only reads of that chunk. */
static void
test_failures(void)
{
	static struct request r[200];
	int i, failed = 0, right = 0;

	setup(64 * 65536, 65536, 20, 0);
	for (i = 0; i < 200; i++)
		read_at(&r[i], rnd(size), (uint32_t)rnd(200000) + 1);
	work(1);
	for (i = 0; i < 200; i++) {
		check_int(r[i].calls, 1);
		check(r[i].right || r[i].rc == -EIO);
		failed += r[i].rc == -EIO;
		right += r[i].right;
	}
	check(failed > 0 && right > 0);
	teardown();
}

static void
test_timeout_and_recovery(void)
{
	struct request a, b;
	int left;

	setup(8 * 65536, 65536, 16, 0);
	read_at(&a, 0, 100);
	read_at(&b, 65000, 70000);
	left = image_expire(image);
	check(left > 0 && left <= 1000);
	usleep(1050 * 1000);
	check_int(image_expire(image), -1);
	check(a.calls == 1 && a.rc == -EIO && b.calls == 1 && b.rc == -EIO);
	work(0);				/* too late, and harmless */
	check(a.calls == 1 && b.calls == 1);
	read_at(&a, 0, 100);
	check(a.right);
	teardown();
}

static void
test_interrupt_and_end(void)
{
	struct request a, b, c;

	setup(8 * 65536, 65536, 16, 0);
	read_at(&a, 0, 100);
	read_at(&b, 0, 200);
	read_at(&c, 65000, 70000);
	image_interrupt(image, &b, 0);
	check(b.calls == 1 && b.rc == -EINTR && a.calls == 0);
	image_interrupt(image, &b, 0);
	check_int(b.calls, 1);
	image_end(image);
	check(a.rc == -EIO && c.rc == -EIO && a.calls == 1 && c.calls == 1);
	read_at(&b, 0, 10);
	check(b.calls == 1 && b.rc == -EIO);
	work(0);
	teardown();
}

/* A slow chunk never delays a read that the cache can answer. */
static void
test_cached_is_not_delayed(void)
{
	static struct request slow[100], quick;
	int i;

	setup(64 * 65536, 65536, 32, 0);
	read_at(&quick, 5 * 65536, 3 * 65536);
	work(0);
	for (i = 0; i < 100; i++)
		read_at(&slow[i], (uint64_t)(8 + i % 50) * 65536 + 60000, 10000);
	read_at(&quick, 5 * 65536, 3 * 65536);
	check(quick.calls == 1 && quick.right);
	work(0);
	for (i = 0; i < 100; i++)
		check(slow[i].right);
	teardown();
}

static void
test_reads_ahead(void)
{
	struct request r;
	int i;

	setup(64 * 65536, 65536, 32, 16);
	for (i = 0; i < 40; i++) {
		read_at(&r, (uint64_t)i * 65536, 65536);
		work(0);
		check(r.right);
	}
	check_int(fake.total, 40 + 16);		/* each once, and the window beyond */
	teardown();
}

static void
test_full(void)
{
	static struct request r[READS_MAX + 1];
	int i;

	setup(64 * 65536, 65536, 32, 0);
	for (i = 0; i < READS_MAX; i++) {
		check(!image_full(image));
		read_at(&r[i], (uint64_t)(i % 60) * 65536, 512);
	}
	check(image_full(image));
	work(0);
	check(!image_full(image));
	for (i = 0; i < READS_MAX; i++)
		check(r[i].right);
	teardown();
}

int
main(void)
{
	run(test_random_64k);
	run(test_random_4m);
	run(test_random_two_slots);
	run(test_tiny);
	run(test_same_chunk_twice);
	run(test_failures);
	run(test_timeout_and_recovery);
	run(test_interrupt_and_end);
	run(test_cached_is_not_delayed);
	run(test_reads_ahead);
	run(test_full);
	return t_end();
}
