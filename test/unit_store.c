/* The datastore's directory as a source: the golden one, and what is wrong with others. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../bytes.h"
#include "../source.h"
#include "t.h"

static int done_pipe[2];

static void
done(struct chunk_req *r)
{
	if (write(done_pipe[1], &r, sizeof(r)) != sizeof(r))
		abort();
}

/* Asks for one chunk and waits for it: its rc. */
static int
load(struct source *s, struct chunk_req *r, const char *digest, uint8_t *buf, size_t cap)
{
	struct chunk_req *got;

	memset(r, 0, sizeof(*r));
	check_int(hex_decode(r->digest, 32, digest, strlen(digest)), 0);
	r->buf = r->raw = buf;
	r->cap = cap;
	r->demand = 1;
	r->done = done;
	s->ops->ask(s, r);
	check_int(read(done_pipe[0], &got, sizeof(got)), sizeof(got));
	check(got == r);
	if (r->rc == 0)
		r->rc = r->pull(r);
	return r->rc;
}

static void
test_golden(void)
{
	static uint8_t buf[1 << 16];
	const char *digest = "522104b05eb2b3bc5b555c233e184077e2ec5209a36d243757720b2f2163fe92";
	struct chunk_req r;
	struct snapshot s;
	struct source *src;
	struct err e;
	uint8_t *file;
	size_t len;

	check_int(store_open("test/golden/store", &src, &e), 0);
	check_int(snapshot_parse("vm/100", "", &s, &e), 0);
	check_int(source_resolve(src, &s, &e), 0);
	check_int(s.time, 1770091506);	/* the unfinished, newer one does not count */
	check_int(src->ops->open(src, &s, &e), 0);
	check_int(src->ops->file(src, "index.json.blob", 1 << 20, &file, &len, &e), 0);
	check(len > 12);
	free(file);
	check_int(src->ops->file(src, "index.json.blob", 100, &file, &len, &e), -EFBIG);
	check_int(src->ops->file(src, "nosuch.blob", 100, &file, &len, &e), -ENOENT);
	check_int(load(src, &r, digest, buf, sizeof(buf)), 0);
	check_int(r.len, 249);
	check_int(load(src, &r, digest, buf, 100), -EBADMSG);
	memset(buf, 0, sizeof(buf));
	check_int(load(src, &r, "0000000000000000000000000000000000000000000000000000000000000000",
	    buf, sizeof(buf)), -ENOENT);
	check(strstr(r.err.text, "missing") != NULL);
	src->ops->close(src);
}

static void
test_namespace(void)
{
	struct source *src;
	struct snapshot s;
	struct err e;

	check_int(store_open("test/golden/store", &src, &e), 0);
	check_int(snapshot_parse("host/nested", "a/b", &s, &e), 0);
	check_int(source_resolve(src, &s, &e), 0);
	check_int(s.time, 1767323045);
	check_int(src->ops->open(src, &s, &e), 0);
	check_int(snapshot_parse("host/nested", "a", &s, &e), 0);
	check_int(source_resolve(src, &s, &e), -ENOENT);
	check_int(snapshot_parse("host/chunk64k", "", &s, &e), 0);
	check_int(source_resolve(src, &s, &e), -ENOENT);
	check(strstr(e.text, "no snapshot") != NULL);
	check_int(snapshot_parse("vm/100/2020-01-01T00:00:00Z", "", &s, &e), 0);
	check_int(src->ops->open(src, &s, &e), -ENOENT);
	src->ops->close(src);
}

static void
test_no_store(void)
{
	struct source *src;
	struct err e;

	check_int(store_open("test/golden/nosuch", &src, &e), -ENOENT);
	check_int(store_open("test/golden/keys", &src, &e), -ENOENT);
	check(strstr(e.text, "no datastore") != NULL);
	check_int(store_open("test/golden/README.md", &src, &e), -ENOTDIR);
}

/* Requests that nobody has begun can be taken back and put first. */
static void
test_many(void)
{
	static struct chunk_req r[500];
	static uint8_t buf[500][512];
	struct chunk_req *got;
	struct snapshot snap;
	struct source *src;
	struct err e;
	int i, dropped = 0;

	check_int(store_open("test/golden/store", &src, &e), 0);
	check_int(snapshot_parse("vm/100/2026-01-02T03:04:05Z", "", &snap, &e), 0);
	check_int(src->ops->open(src, &snap, &e), 0);
	for (i = 0; i < 500; i++) {
		hex_decode(r[i].digest, 32,
		    "522104b05eb2b3bc5b555c233e184077e2ec5209a36d243757720b2f2163fe92", 64);
		r[i].buf = r[i].raw = buf[i];
		r[i].cap = sizeof(buf[i]);
		r[i].done = done;
		src->ops->ask(src, &r[i]);
		src->ops->raise(src, &r[i / 2]);
	}
	for (i = 0; i < 500; i++)
		dropped += src->ops->drop(src, &r[i]);
	for (i = dropped; i < 500; i++) {
		check_int(read(done_pipe[0], &got, sizeof(got)), sizeof(got));
		check(got->rc == 0 && got->pull(got) == 0 && got->len == 249);
	}
	src->ops->close(src);
}

int
main(void)
{
	if (pipe(done_pipe) < 0)
		return 1;
	run(test_golden);
	run(test_namespace);
	run(test_no_store);
	run(test_many);
	return t_end();
}
