/* SipHash-2-4 (Aumasson, Bernstein): the hash of names in file archives. */
#ifndef SIPHASH_H
#define SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash24(uint64_t k0, uint64_t k1, const void *data, size_t len);

#endif
