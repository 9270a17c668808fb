/* What check.c (this machine, the repository), check_net.c (the way to a server) and check_speed.c share. */
#ifndef CHECK_PARTS_H
#define CHECK_PARTS_H

#include <stdint.h>

#include "err.h"
#include "opt.h"
#include "snap.h"

enum verdict { CHECK_OK, CHECK_WARN, CHECK_FAIL };

struct check {
	const struct opts *o;
	int lines;
	enum status status;		/* of the first failure */
	struct snap snap;
	const struct manifest_file *file;	/* whose chunks are looked at */
	struct archive archive;
	uint64_t rate;			/* bytes/s to be expected; 0: unknown */
};

/* Prints a line. */
__attribute__((format(printf, 4, 5)))
void check_say(struct check *c, enum verdict v, const char *name, const char *fmt, ...);
/* A failure, and its exit status. Returns -1. */
int check_fail(struct check *c, const char *name, const struct err *e);

/* ms until what does not come is given up: --timeout, and no more than a map waits for a connection. */
int check_patience(const struct check *c);

/* Name, TCP, TLS, certificate; opens c->snap.origin on the way. 0 or -1: there is no way on. */
int check_net(struct check *c);
/* Who we are to the server, by its version. 0 or -1. */
int check_login(struct check *c);
/* The reader protocol is spoken; its round trip is measured when files can be read. */
void check_upgraded(struct check *c, int readable);
/* It is not: says what to do. Returns -1. */
int check_not_upgraded(struct check *c, int rc, const struct err *e);

/* Some chunks of c->archive, how fast they come and are decoded. */
void check_speed(struct check *c);

#endif
