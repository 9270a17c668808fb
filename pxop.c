/*
 * Operations of a file system, from request to answer: see pxop.h. Knows nothing of what they
 * do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "pxop.h"

#define MEM_MAX (256u << 10)		/* bytes that one step of an op reads, at most: an attribute of 64 KiB and its way */

static void
op_free(struct op *op)
{
	struct pxfs *fs = op->fs;

	if (op->waiting)
		fetch_cancel(fs->conf.fetch, &op->wait);
	free(op->file);
	/* Most ops read little; what a large one had goes back. */
	if (op->cap > 4096) {
		free(op->mem);
		op->mem = NULL;
		op->cap = 0;
	}
	op->next->prev = op->prev;
	op->prev->next = op->next;
	op->next = fs->idle;
	fs->idle = op;
}

int
op_first(struct pxfs *fs, uint64_t place)
{
	uint32_t used = fs->told.used;

	pxlinks_add(&fs->told, place + 1, 0);	/* 0 is no place there */
	return fs->told.used > used;
}

void
op_fail(struct op *op, int rc)
{
	struct pxfs *fs = op->fs;

	/* Of a chunk that could not be had (-EIO) the fetcher has told. */
	if (rc == -EBADMSG && op_first(fs, op->place))
		say("the archive is damaged at byte %llu%s%s", (unsigned long long)op->place, op->named ? ": " : "",
		    op->named ? op->name : "");
	fuse_reply_err(op->req, rc == -EBADMSG ? EIO : -rc);
	op_free(op);
}

/* To the front: it is to fail before those that merely wait. */
static void
hasten(struct op *op)
{
	struct op *ring = &op->fs->ring;

	if (op->interrupted)
		return;
	op->interrupted = 1;
	op->deadline = clock_ms() + INTERRUPT_MS;
	op->next->prev = op->prev;
	op->prev->next = op->next;
	op->prev = ring;
	op->next = ring->next;
	op->next->prev = ring->next = op;
}

void
op_run(struct op *op)
{
	int rc;

	op->pos = 0;
	rc = op->run(op);
	if (rc == -EAGAIN && fuse_req_interrupted(op->req))
		hasten(op);
	if (rc < 0 && rc != -EAGAIN)
		op_fail(op, rc);
	else if (rc == 0)
		op_free(op);
}

static void
ready(struct fetch_wait *w, const uint8_t *data, int rc)
{
	struct op *op = (struct op *)w;

	(void)data;
	op->waiting = 0;
	op->failed = rc < 0;
	op_run(op);
}

static void
interrupt(fuse_req_t req, void *data)
{
	struct op *op = data;

	(void)req;
	if (op->waiting)
		hasten(op);
}

void
op_step(struct op *op)
{
	op->have -= op->pos;
	memmove(op->mem, op->mem + op->pos, op->have);
	op->pos = 0;
}

static int
grow(struct op *op, size_t need)
{
	size_t cap = op->cap ? op->cap : 1024;
	uint8_t *mem;

	if (need > MEM_MAX)
		return -EBADMSG;
	while (cap < need)
		cap *= 2;
	if (cap == op->cap)
		return 0;
	if ((mem = realloc(op->mem, cap)) == NULL)
		return -ENOMEM;
	op->mem = mem;
	op->cap = cap;
	return 0;
}

/* struct pxar's read(). */
static int
op_read(void *ctx, int payload, uint64_t offset, void *buf, uint32_t len)
{
	struct op *op = ctx;
	size_t end = op->pos + len;
	int n, rc;

	if ((rc = grow(op, end)) < 0)
		return rc;
	while (op->have < end) {
		if (op->failed) {
			op->failed = 0;
			return -EIO;
		}
		op->wait.ready = ready;
		n = image_peek(op->fs->conf.image[payload], offset + (op->have - op->pos), op->mem + op->have,
		    (uint32_t)(end - op->have), &op->wait);
		if (n < 0)
			return n;
		if (n == 0) {
			op->waiting = 1;
			return -EAGAIN;
		}
		op->have += (size_t)n;
	}
	memcpy(buf, op->mem + op->pos, len);
	op->pos = end;
	return 0;
}

struct op *
op_new(fuse_req_t req, fuse_ino_t ino, int (*run)(struct op *))
{
	struct pxfs *fs = fuse_req_userdata(req);
	struct op *op = fs->idle;

	fs->idle = op->next;
	op->req = req;
	op->run = run;
	op->id = ino == FUSE_ROOT_ID ? fs->conf.root : ino;
	op->place = op->id / 2;
	op->named = 0;
	op->interrupted = op->waiting = op->failed = 0;
	op->have = op->pos = 0;
	op->file = NULL;
	op->mark = 0;
	op->deadline = clock_ms() + fs->conf.timeout * 1000ll;
	op->next = &fs->ring;
	op->prev = fs->ring.prev;
	op->prev->next = fs->ring.prev = op;
	/* Now, not when it waits: libfuse might call back at once, and would not bear an answer there. */
	fuse_req_interrupt_func(req, interrupt, op);
	return op;
}

struct pxar
op_archive(struct op *op)
{
	struct pxar p = op->fs->conf.px;

	p.read = op_read;
	p.ctx = op;
	return p;
}
