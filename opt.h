/*
 * The command line: one table of commands and one of options, from which parsing and
 * the usage texts are made.
 */
#ifndef OPT_H
#define OPT_H

#include <stdint.h>

#include "err.h"

enum command {
	CMD_MAP = 1 << 0,
	CMD_UNMAP = 1 << 1,
	CMD_STATUS = 1 << 2,
	CMD_RESTORE = 1 << 3,
	CMD_VERIFY = 1 << 4,
	CMD_LIST = 1 << 5,
	CMD_COMPLETION = 1 << 6,
	CMD_MOUNT = 1 << 7,
	CMD_KEY = 1 << 8,
	CMD_CHECK = 1 << 9,
	CMD_RESCUE = 1 << 10,
};

#define OPERANDS_MAX 64

struct opts {
	enum command command;
	int help, version;
	const char *repository, *ns, *keyfile;
	const char *server, *port, *datastore, *auth_id;	/* the repository in parts */
	const char *fingerprint, *ca, *config;
	int stall;			/* s; 0: the default */
	int connections;		/* 0: the default */
	int keyfd;			/* -1: none */
	uint64_t cache;			/* bytes; 0: by the machine's memory */
	int timeout;			/* s */
	int verbose, json, force, all, recursive;
	int no_direct;			/* loop without direct I/O */
	int no_ahead;			/* no read-ahead of any kind */
	int no_async, no_background, no_large;	/* FUSE without these: see fuse.h */
	int storage_daemon;		/* serves the running system's root */
	int workers;			/* 0: one a CPU */
	int yes, sparse, compare, delta, quiet, progress_json;	/* restore, verify */
	const char *master;		/* the master key's file */
	const char *resume;		/* a state file */
	uint64_t limit;			/* bytes a second; 0: none */
	int tar, strict, is_long;		/* file archives */
	const char *subdir, *mount_options;	/* mount */
	const char *operand[OPERANDS_MAX];
	int operands;
};

/* Fills *o from the arguments. -EINVAL, ST_USAGE: what is wrong; -ENODATA: the last option lacks its value. With o->help or o->version set nothing else is checked. */
int opt_parse(int argc, char **argv, struct opts *o, struct err *e);

/* Hands out the options ("--name") of a command, or of none (0), or the commands. */
void opt_names(enum command cmd, int are_options, void (*fn)(void *ctx, const char *name), void *ctx);

/* Prints the usage of one command, or of all (0), to stdout. */
void opt_usage(enum command cmd);

#endif
