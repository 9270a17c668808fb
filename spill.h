/* Bytes that are kept for long and are many: better on a disk than in memory. */
#ifndef SPILL_H
#define SPILL_H

#include <stddef.h>
#include <stdint.h>

/* An unlinked file in the first of n directories (NULL ones are skipped) that is on a disk with room for so many. -1: there
 * is no such directory. */
int spill_open(size_t len, const char *const *dirs, int n);
/* Copies them to that file (-1: NULL is returned) and maps it, to be read. NULL: the disk took less. Closes fd. */
uint8_t *spill(int fd, const uint8_t *p, size_t len);
void spill_free(uint8_t *p, size_t len);

#endif
