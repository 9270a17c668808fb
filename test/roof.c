/*
 * What the machine can do at most, for `make bench`: parts of pbsmap alone.
 *
 *	roof decode STORE INDEX KEY|- THREADS SECONDS
 *		decodes chunks that lie in memory (CRC, decrypt, decompress, digest), each thread its share:
 *		prints MB of data a CPU-second
 *	roof fuse FILE MIB
 *		serves FILE, MIB long, from memory by FUSE through a loop device: prints the device, ends at the
 *		end of stdin
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "assign.h"
#include "blob.h"
#include "bytes.h"
#include "clock.h"
#include "config.h"
#include "fuse.h"
#include "fusedev.h"
#include "key.h"

#define SAMPLE 64			/* chunks a thread has: more than any CPU caches */
#define MEMORY (64u << 20)		/* bytes served by FUSE over and over, as many as the cache has */

static void
die(const char *what)
{
	fprintf(stderr, "roof: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint8_t *
read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	uint8_t *p;
	long n;

	if (f == NULL || fseek(f, 0, SEEK_END) < 0 || (n = ftell(f)) < 0)
		die(path);
	rewind(f);
	if ((p = malloc((size_t)n + 1)) == NULL || fread(p, 1, (size_t)n, f) != (size_t)n)
		die(path);
	fclose(f);
	*len = (size_t)n;
	return p;
}

/* ---- decode ---- */

struct chunk {
	struct chunk_want want;
	uint8_t *raw;
	size_t len;
};

struct decoder {
	pthread_t id;
	struct chunk chunk[SAMPLE];
	int count;
	int64_t until;			/* ms */
	double seconds;			/* spent in chunk_decode() */
	uint64_t bytes;
};

static struct key key;
static const struct key *with_key;
static uint32_t chunk_size;

static double
now(void)
{
	struct timespec t;

	/* CPU time: what others do on this machine is none of a part's cost. */
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *
decode(void *arg)
{
	struct decoder *d = arg;
	struct blob_worker *w = blob_worker_new();
	uint8_t *raw = malloc(BLOB_HEAD_ENC + chunk_size + chunk_size / 128 + 1024);
	uint8_t *out = malloc((size_t)chunk_size * 16);
	struct err e;
	double begin;
	int i = 0;

	if (w == NULL || raw == NULL || out == NULL)
		die("memory");
	memset(out, 0, (size_t)chunk_size * 16);
	while (clock_ms() < d->until) {
		struct chunk *c = &d->chunk[i++ % d->count];

		/* Decrypting is done in place; and what was just read lies in the CPU's cache. */
		memcpy(raw, c->raw, c->len);
		begin = now();
		if (chunk_decode(w, with_key, &c->want, raw, c->len, out + (size_t)(i % 16) * chunk_size, &e) < 0) {
			fprintf(stderr, "roof: %s\n", e.text);
			exit(1);
		}
		d->seconds += now() - begin;
		d->bytes += c->want.len;
	}
	blob_worker_free(w);
	free(raw);
	free(out);
	return NULL;
}

/* Chunks from the whole of the index but its zeros, which all have the last one's digest. */
static int
load(struct decoder *d, int nr, int threads, const char *store, const uint8_t *index, size_t entries)
{
	const uint8_t *last = index + 4096 + 32 * (entries - 1), *p;
	size_t step = entries / ((size_t)threads * SAMPLE) + 1, i;
	char path[4096], hex[65];

	for (i = (size_t)nr % entries; i < entries && d->count < SAMPLE; i += step) {
		struct chunk *c = &d->chunk[d->count];

		p = index + 4096 + 32 * i;
		if (entries > (size_t)threads && memcmp(p, last, 32) == 0)
			continue;
		hex_encode(hex, p, 32);
		snprintf(path, sizeof(path), "%s/.chunks/%.4s/%s", store, hex, hex);
		c->raw = read_file(path, &c->len);
		memcpy(c->want.digest, p, 32);
		c->want.len = chunk_size;
		c->want.encrypted = with_key != NULL;
		d->count++;
	}
	return d->count;
}

static int
no_passphrase(void *ctx, char *buf, size_t cap, struct err *e)
{
	(void)ctx, (void)buf, (void)cap;
	return err_set(e, ST_FAIL, -ENOTTY, "a passphrase");
}

static int
run_decode(char **argv)
{
	int threads = atoi(argv[3]), i;
	struct decoder *d = calloc((size_t)threads, sizeof(*d));
	double rate = 0;
	struct err e;
	uint8_t *index, *text;
	size_t len, n;

	if (strcmp(argv[2], "-") != 0) {
		text = read_file(argv[2], &n);
		if (key_parse((char *)text, n, argv[2], no_passphrase, NULL, &key, &e) < 0) {
			fprintf(stderr, "roof: %s\n", e.text);
			return 1;
		}
		with_key = &key;
	}
	index = read_file(argv[1], &len);
	chunk_size = (uint32_t)get64le(index + 72);
	for (i = 0; i < threads; i++) {
		if (load(&d[i], i, threads, argv[0], index, (len - 4096) / 32) == 0)
			die("no chunks");
		d[i].until = clock_ms() + (int64_t)(atof(argv[4]) * 1000);
		if (pthread_create(&d[i].id, NULL, decode, &d[i]) != 0)
			die("thread");
	}
	for (i = 0; i < threads; i++) {
		pthread_join(d[i].id, NULL);
		rate += (double)d[i].bytes / d[i].seconds;
	}
	printf("%.0f\n", rate / threads / 1e6);
	return 0;
}

/* ---- FUSE and loop ---- */

static uint8_t *memory;

static void
serve_read(void *ctx, uint64_t offset, uint32_t len, void *tag)
{
	struct iovec iov = { memory + offset % MEMORY, len };

	(void)ctx;
	fuse_answer(tag, &iov, 1, 0);
}

static void
no_interrupt(void *ctx, void *tag)
{
	(void)ctx, (void)tag;
}

static void
no_close(void *ctx)
{
	(void)ctx;
}

static int
never_full(void *ctx)
{
	(void)ctx;
	return 0;
}

/* Answers reads until the assignment thread has done its task, or stdin ends. */
static int
serve(struct fuse *f, struct assign *a, struct loop *l, int wait_for_assign)
{
	struct pollfd p[2] = {
		{ .fd = fuse_fd(f), .events = POLLIN },
		{ .fd = wait_for_assign ? assign_fd(a) : 0, .events = POLLIN },
	};
	struct err e;
	int rc;

	for (;;) {
		if (poll(p, 2, -1) < 0)
			die("poll");
		if (p[0].revents && fuse_turn(f, never_full) < 0)
			return -1;
		if (p[1].revents && !wait_for_assign)
			return 0;
		if (p[1].revents && assign_done(a, l, &rc, &e) != ASSIGN_NONE) {
			if (rc < 0)
				fprintf(stderr, "roof: %s\n", e.text);
			return rc;
		}
	}
}

static int
run_fuse(char **argv)
{
	struct part_table none = { .sector = 512 };
	struct fuse_conf fc = { .size = (uint64_t)atoll(argv[1]) << 20,
		.background = FUSE_BACKGROUND, .read_max = READ_MAX,
		.read = serve_read, .interrupt = no_interrupt, .closed = no_close };
	struct assign_conf ac = { .path = argv[0], .name = argv[0], .direct = 1, .read_ahead = LOOP_READ_AHEAD,
		.table = &none };
	struct assign *a = NULL;
	struct fusedev dev;
	struct fuse *f;
	struct loop l;
	struct err e;
	int rc;

	memory = malloc(MEMORY + READ_MAX);
	if (memory == NULL)
		die("memory");
	memset(memory, 0x55, MEMORY + READ_MAX);
	if (fusedev_mount(&dev, argv[0], FUSE_OPTIONS, &e) < 0 || (fc.fd = dup(fuse_session_fd(dev.session))) < 0 ||
	    (f = fuse_open(&fc, &e)) == NULL || (a = assign_new(&ac, &e)) == NULL) {
		fprintf(stderr, "roof: %s\n", e.text);
		return 1;
	}
	assign_begin(a, ASSIGN_ATTACH);
	if ((rc = serve(f, a, &l, 1)) == 0) {
		printf("%s\n", l.path);
		fflush(stdout);
		serve(f, a, &l, 0);
		assign_begin(a, ASSIGN_DETACH);
		rc = serve(f, a, &l, 1);
	}
	fuse_close(f);
	fusedev_close(&dev);
	return rc < 0;
}

int
main(int argc, char **argv)
{
	if (argc == 7 && strcmp(argv[1], "decode") == 0)
		return run_decode(argv + 2);
	if (argc == 4 && strcmp(argv[1], "fuse") == 0)
		return run_fuse(argv + 2);
	fprintf(stderr, "usage: roof decode STORE INDEX KEY|- THREADS SECONDS | roof fuse FILE MIB\n");
	return 2;
}
