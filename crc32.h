/* CRC-32 (IEEE, zlib's), by the CPU's own instructions where it has them. */
#ifndef CRC32_H
#define CRC32_H

#include <stddef.h>
#include <stdint.h>

/* The CRC of what had the CRC `crc` (0: nothing) followed by p[n]. */
uint32_t crc32_update(uint32_t crc, const void *p, size_t n);

/* As sha256_use(): "pclmul", "armv8", "plain". */
const char *crc32_use(const char *path);

#endif
