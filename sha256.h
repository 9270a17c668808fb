/*
 * SHA-256, by the CPU's own instructions where it has them.  What hashes
 * little (HMAC, certificates) may use BearSSL's; this is for image data.
 */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
	uint32_t state[8];
	uint64_t len;			/* bytes so far */
	uint8_t block[64];		/* the last len % 64 of them */
};

void sha256_init(struct sha256 *c);
void sha256_update(struct sha256 *c, const void *p, size_t n);
void sha256_final(struct sha256 *c, uint8_t digest[32]);	/* wipes *c */
void sha256(uint8_t digest[32], const void *p, size_t n);

/* For tests and benchmarks, with no other thread hashing: takes this path ("sha-ni", "armv8", "plain"; NULL: the best) from now on.
 * Returns its name, or NULL, and changes nothing, where this machine does not have it. */
const char *sha256_use(const char *path);

#endif
