/*
 * Partition tables: GPT (primary, else backup header, CRCs checked) and MBR with
 * logical partitions. Parsing does its reads through a callback.
 */
#ifndef PART_H
#define PART_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define PARTS_MAX 128

enum part_table_kind { PART_NONE, PART_MBR, PART_GPT };

struct part {
	unsigned nr;			/* as the kernel counts: logical ones from 5 */
	uint64_t start, size;		/* bytes */
	char type[40];			/* "Linux filesystem", "0x83 Linux", or the GUID / 0xNN when not known */
	char name[112];			/* GPT only: UTF-8 with control characters as '?'; else "" */
};

struct part_table {
	enum part_table_kind kind;
	unsigned sector;		/* 512 or 4096 */
	int from_backup;		/* the primary GPT header was damaged */
	int count;
	struct part part[PARTS_MAX];
};

/* 0 or a negative errno; exactly len bytes. */
typedef int (*part_read)(void *ctx, uint64_t offset, void *buf, size_t len);

/* No table: 0 with kind PART_NONE. A read that fails: its errno. Hostile tables (loops, overlaps with the table's end, counts) are cut, not errors. */
int part_scan(part_read rd, void *ctx, uint64_t size, struct part_table *t, struct err *e);

/* A table that somebody else says he has found on a device of that many bytes: made harmless texts, and 0; or -EINVAL. */
int part_check(struct part_table *t, uint64_t size);

/* Makes the partitions known to the kernel for the attached loop device (fd, number) with BLKPG where it has not done so itself (EBUSY: it has),
 * and makes device nodes where nobody does. Blocks; not from the serving thread. */
int part_add(int fd, int loop_nr, const struct part_table *t, struct err *e);
/* Of any disk, as far as the kernel lets it: after it has read a table that it may have no parser for. */
void part_tell(int fd, const struct part_table *t);
/* Removes all partitions of the loop device. */
int part_del(int fd, int loop_nr, struct err *e);

#endif
