/* What this machine has: disks that could be overwritten, directories that are datastores. Looks only. */
#ifndef NEARBY_H
#define NEARBY_H

#include <stdint.h>

/* Calls fn for each whole disk of at least that many bytes that `restore` would not refuse. text: "QEMU HARDDISK, 30.0 GiB:
 * GPT with 3 partitions". In no order; fn returns 0 to go on. */
int nearby_disks(uint64_t least, int (*fn)(void *ctx, const char *path, const char *text), void *ctx);

/* Calls fn for each datastore on a mounted disk, not deeper than two directories there. text: "on /dev/sdb1 (ext4)". */
int nearby_stores(int (*fn)(void *ctx, const char *path, const char *text), void *ctx);

#endif
