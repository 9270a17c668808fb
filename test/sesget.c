/*
 * sesget [-f FINGERPRINT] [-n NS] [-i INFLIGHT] [-c CONNECTIONS] [-s STALL] [-t TIMEOUT] [-r ROUNDS] [-w MS] [-x] [-a] [-q] [-b]
 *	REPOSITORY SNAPSHOT [FILE]
 *
 * Reads a snapshot from a server as pbsmap's session does, without mapping it; for test_session.py. Without FILE: lists the
 * group. With an index: reads its chunks, all at once, and checks each digest; -r again, after -w MS of silence; -x: half of it as
 * read-ahead, some raised, some taken back; -a: all of it as read-ahead, but for one chunk in 32. Prints "chunk HEX: ERRNO TEXT" for
 * what failed, "round N: …" with the time it took and the longest wait of a demand, and at the end "status N errno: TEXT" if so.
 * -q: does not decode (for speed). -g BYTES: connections are made by themselves, when one has so many bytes on the way. -b: closes in the middle of a round.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blob.h"
#include "bytes.h"
#include "clock.h"
#include "config.h"
#include "log.h"
#include "session.h"

#define AT_ONCE 64

struct load {
	struct chunk_req req;		/* first */
	int busy;
	int64_t asked;
};

static struct {
	int rounds, pause, mixed, ahead, quick, interrupt;
} opt = { .rounds = 1 };
static struct source *src;
static struct load load[AT_ONCE];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static struct load *done[AT_ONCE];
static int done_count;
static int64_t slowest;			/* ms, of the demands */
static unsigned long long bytes, good, bad, given_up;

static void
arrived(struct chunk_req *r)
{
	pthread_mutex_lock(&lock);
	done[done_count++] = (struct load *)r;
	pthread_cond_signal(&some);
	pthread_mutex_unlock(&lock);
}

static void
judge(struct load *l, struct blob_worker *w, uint8_t *out)
{
	uint8_t digest[32];
	struct err e = l->req.err;
	char hex[65];
	size_t len;
	int rc = l->req.rc;

	if (l->req.demand && clock_ms() - l->asked > slowest)
		slowest = clock_ms() - l->asked;
	if (rc == 0 && !opt.quick) {
		rc = blob_decode(w, NULL, l->req.raw, l->req.len, out, CHUNK_MAX, &len, NULL, &e);
		if (rc == 0) {
			chunk_digest(digest, out, len, NULL);
			if (memcmp(digest, l->req.digest, 32) != 0)
				rc = err_set(&e, ST_DAMAGED, -EBADMSG, "wrong digest");
		}
	}
	if (rc == 0) {
		good++;
		bytes += l->req.len;
		return;
	}
	bad++;
	hex_encode(hex, l->req.digest, 32);
	printf("chunk %s: %d %s\n", hex, -rc, e.text);
}

static void
start(struct load *l, const uint8_t *digest)
{
	struct chunk_req *r = &l->req;

	memcpy(r->digest, digest, 32);
	r->demand = opt.ahead ? rand() % 32 == 0 : !opt.mixed || rand() % 2;
	l->asked = clock_ms();
	r->raw = r->buf;
	r->len = 0;
	r->done = arrived;
	l->busy = 1;
	src->ops->ask(src, r);
}

/* Meddles with what is under way, as a reader who jumps about would. */
static void
meddle(void)
{
	struct load *l = &load[rand() % AT_ONCE];

	if (l->busy && rand() % 2)
		src->ops->raise(src, &l->req);
	else if (l->busy && src->ops->drop(src, &l->req)) {
		memset(l->req.buf, 0xee, l->req.cap);	/* nobody writes there any more */
		l->busy = 0;
		given_up++;
	}
}

static int
collect(struct blob_worker *w, uint8_t *out, int wait)
{
	struct load *l;

	pthread_mutex_lock(&lock);
	while (wait && done_count == 0)
		pthread_cond_wait(&some, &lock);
	l = done_count ? done[--done_count] : NULL;
	pthread_mutex_unlock(&lock);
	if (l) {
		judge(l, w, out);
		l->busy = 0;
	}
	return l != NULL;
}

static void
read_chunks(const uint8_t *entry, size_t count, size_t step, struct blob_worker *w, uint8_t *out)
{
	size_t i = 0;
	int k, busy;

	do {
		for (k = busy = 0; k < AT_ONCE; k++) {
			if (!load[k].busy && i < count)
				start(&load[k], entry + step * i++);
			busy += load[k].busy;
		}
		if (opt.interrupt && i > count / 2)
			return;
		if (opt.mixed && i < count)
			meddle();
		collect(w, out, busy == AT_ONCE || i == count);
		while (collect(w, out, 0))
			;
		for (k = busy = 0; k < AT_ONCE; k++)
			busy += load[k].busy;
	} while (busy || i < count);
}

static int
rounds(const uint8_t *file, size_t len, size_t step)
{
	struct blob_worker *w = blob_worker_new();
	uint8_t *out = malloc(CHUNK_MAX);
	int i;

	if (w == NULL || out == NULL || len < 4096)
		return -1;
	for (i = 0; i < AT_ONCE; i++) {
		load[i].req.cap = (4u << 20) + BLOB_HEAD_ENC;
		load[i].req.buf = malloc(load[i].req.cap);
	}
	for (i = 0; i < opt.rounds; i++) {
		int64_t begin = clock_ms();

		bytes = good = bad = given_up = 0;
		slowest = 0;
		read_chunks(file + 4096 + (step - 32), (len - 4096) / step, step, w, out);
		printf("round %d: %llu chunks, %llu bytes, %llu failed, %llu taken back, %lld ms, demands %lld ms\n", i, good, bytes, bad,
		    given_up, (long long)(clock_ms() - begin), (long long)slowest);
		fflush(stdout);
		if (opt.pause)
			poll(NULL, 0, opt.pause);
	}
	blob_worker_free(w);
	free(out);
	return 0;
}

static int
show(void *ctx, const struct snapshot_info *info)
{
	char name[ID_MAX + 64];

	(void)ctx;
	snapshot_print(&info->name, name, sizeof(name));
	printf("%s%s\n", name, info->finished ? "" : " unfinished");
	return 0;
}

static int
read_file(struct snapshot *snap, const char *name, struct err *e)
{
	size_t len, step = strstr(name, ".didx") ? 40 : 32;
	int64_t begin = clock_ms();
	uint8_t *file;
	int rc;

	rc = source_resolve(src, snap, e);
	if (rc == 0)
		rc = src->ops->open(src, snap, e);
	if (rc == 0)
		rc = src->ops->file(src, name, 1 << 30, &file, &len, e);
	if (rc < 0)
		return rc;
	printf("opened: %lld ms, %zu bytes\n", (long long)(clock_ms() - begin), len);
	fflush(stdout);
	if (strstr(name, "idx"))
		rounds(file, len, step);
	free(file);
	return 0;
}

int
main(int argc, char **argv)
{
	struct session_conf c = { .secret = getenv("PBS_PASSWORD"), .stop_fd = -1, .connections = 1 };
	const char *fingerprint = getenv("PBS_FINGERPRINT"), *ns = "";
	int64_t begin;
	struct snapshot snap;
	struct trust trust;
	struct repo repo;
	struct err e = { .text = "" };
	int o, rc, i;

	log_verbose = 1;
	while ((o = getopt(argc, argv, "f:n:i:c:s:t:r:w:g:xaqb")) >= 0) {
		switch (o) {
		case 'f': fingerprint = optarg; break;
		case 'n': ns = optarg; break;
		case 'i': c.inflight = atoi(optarg); break;
		case 'c': c.connections = atoi(optarg); break;
		case 's': c.stall = atoi(optarg); break;
		case 't': c.timeout = atoi(optarg); break;
		case 'r': opt.rounds = atoi(optarg); break;
		case 'w': opt.pause = atoi(optarg); break;
		case 'g': c.full = (unsigned)atoi(optarg); c.connections = 0; break;
		case 'x': opt.mixed = 1; break;
		case 'a': opt.ahead = 1; break;
		case 'q': opt.quick = 1; break;
		case 'b': opt.interrupt = 1; break;
		default: return 2;
		}
	}
	if (argc - optind < 2 || c.secret == NULL)
		return 2;
	c.repo = &repo;
	c.trust = &trust;
	rc = repo_parse(argv[optind], &repo, &e);
	if (rc == 0)
		rc = snapshot_parse(argv[optind + 1], ns, &snap, &e);
	if (rc == 0)
		rc = trust_init(&trust, repo.host, fingerprint, NULL, &e);
	if (rc == 0)
		rc = session_open(&c, &src, &e);
	if (rc == 0) {
		if (argc - optind == 2)
			rc = src->ops->snapshots(src, &snap, show, NULL, &e);
		else
			rc = read_file(&snap, argv[optind + 2], &e);
		begin = clock_ms();
		src->ops->close(src);
		printf("closed: %lld ms\n", (long long)(clock_ms() - begin));
		trust_free(&trust);
	}
	for (i = 0; i < AT_ONCE; i++)
		free(load[i].req.buf);
	if (rc < 0)
		printf("status %d %d: %s\n", e.status, -rc, e.text);
	return rc < 0 ? (int)e.status : 0;
}
