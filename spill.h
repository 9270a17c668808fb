/* Bytes that are kept for long and are many: better on a disk than in memory. */
#ifndef SPILL_H
#define SPILL_H

#include <stddef.h>
#include <stdint.h>

/* Copies them to an unlinked file in the first of n directories (NULL ones are skipped) that is on a disk with room for
 * them, and maps that file, to be read. NULL: there is no such directory. */
uint8_t *spill(const uint8_t *p, size_t len, const char *const *dirs, int n);
void spill_free(uint8_t *p, size_t len);

#endif
