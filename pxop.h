/*
 * Operations that may have to wait for the bytes they need: each is tried again, from its start, when they have
 * come. For pxfs.c.
 *
 * What an op has read it keeps (`mem`), and reads again from there: the second run takes the
 * same way as the first, so every run gets further, however small the cache is. Long ways are cut into
 * steps: op_step() forgets what was read so far.
 */
#ifndef PXOP_H
#define PXOP_H

#include "fetch.h"
#include "pxdir.h"
#include "pxfs.h"

/* Every signal interrupts a request, also one that only stops a program for a while; and no program expects EINTR
 * of a file. So who is interrupted gets it when he would have waited for so long still. */
#define INTERRUPT_MS 1000

struct op {
	struct fetch_wait wait;		/* first: the fetcher hands it back */
	struct pxfs *fs;
	fuse_req_t req;
	int (*run)(struct op *);	/* answers, or a negative errno */
	uint64_t id;
	uint64_t place;			/* byte of the archive that is to blame when it is damaged; */
	int named;			/*   `name` is of what is there */
	size_t size;			/* of the answer, at most */
	uint64_t off;
	int plus;
	char name[PXAR_NAME];
	struct pxdir *dir;		/* the open directory's, */
	uint64_t mark;			/*   and how far its table had come when this step began */
	struct file *file;		/* one that is being opened */
	int interrupted;
	int waiting, failed;		/* for a chunk; which could not be had */
	uint8_t *mem;			/* what this step has read: */
	size_t cap, have, pos;		/*   room, bytes, those read again in this run */
	int64_t deadline;		/* ms */
	struct op *next, *prev;		/* ring of those under way, oldest first; or the idle list */
};

struct file {
	struct image *image;
	uint64_t data, size;
};

struct pxfs {
	struct pxfs_conf conf;
	struct op *ops, *idle, ring;
	struct pxlinks links;
	struct pxlinks parents;		/* directories and what they are in */
	struct pxlinks told;		/* places of damage, each logged once; as many as there is room for */
};

/* A request's op: there must be an idle one. run is called by op_run(). */
struct op *op_new(fuse_req_t req, fuse_ino_t ino, int (*run)(struct op *));
/* Afterwards there may be no op any more. */
void op_run(struct op *op);
void op_fail(struct op *op, int rc);
/* Is it the first time that damage is met there? */
int op_first(struct pxfs *fs, uint64_t place);
/* The next step need not read again what this one has read. */
void op_step(struct op *op);
/* The archive, whose reads are this op's. */
struct pxar op_archive(struct op *op);

#endif
