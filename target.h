/*
 * What an archive is restored to: a block device, a file, a stream. Opening it is where it is refused;
 * writing is for many threads at once.
 */
#ifndef TARGET_H
#define TARGET_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

enum target_kind { TARGET_STREAM, TARGET_FILE, TARGET_DEVICE };

struct target {
	const char *path;
	enum target_kind kind;
	int fd;				/* through the page cache; readable, but for streams; -1: none */
	int direct;			/* past it; -1: none */
	int fresh;			/* is zero where nothing was written */
	int made;			/* the file was not there */
	int stop;			/* a stream gives up when this is readable; -1: never */
	uint64_t size;			/* bytes: of the archive */
	uint64_t room;			/* bytes: of the device */
};

struct target_conf {
	const char *path;		/* "-": standard output */
	uint64_t size;
	int yes;			/* do not ask */
	int sparse;			/* known to be zero */
	int stop;			/* readable: the user wants no more; -1: none */
	int text;			/* fit for a terminal */
};

/* Opens it for writing. Refused (ST_BUSY): in use, under the running root, too small, a disk as standard output, not empty and
 * nobody who says that it may be overwritten. Asks at the terminal. target_close() in any case. */
int target_open(struct target *t, const struct target_conf *c, struct err *e);
void target_close(struct target *t);

/* Any thread; not streams. len bytes of p (page aligned: then a device is written without a copy). 0 or a negative errno. */
int target_write(const struct target *t, uint64_t offset, const uint8_t *p, size_t len);
/* The same, but leaves out what is zero where the target is known to be. */
int target_write_sparse(const struct target *t, uint64_t offset, const uint8_t *p, size_t len);
/* Makes a range zero, by discarding where that gives zeros, else by writing. */
int target_zero(const struct target *t, uint64_t offset, uint64_t len);
/* Reads len bytes; past the caches when the device can. buf is page aligned and has room for whole pages. -EIO when there are less. */
int target_read(const struct target *t, uint64_t offset, uint8_t *buf, size_t len);
/* A stream's next bytes. -EINTR: it was stopped. */
int target_put(const struct target *t, const uint8_t *p, size_t len);

/* Everything that was written is on the disk, and a file is as long as the archive. */
int target_sync(const struct target *t);
/* The caches forget what was written: target_read() sees the disk. */
void target_forget(const struct target *t);
/* The kernel reads a device's partition table anew; 0 or a negative errno. */
int target_reread(const struct target *t);

#endif
