/* Key derivation from a passphrase: PBKDF2-HMAC-SHA256 (RFC 8018) and scrypt (RFC 7914). */
#ifndef SCRYPT_H
#define SCRYPT_H

#include <stddef.h>
#include <stdint.h>

/* iter >= 1; any lengths. Takes about 0.25 us an iteration and 32 bytes of output, with SHA instructions. */
void pbkdf2(const void *pass, size_t passlen, const void *salt, size_t saltlen, uint32_t iter,
    uint8_t *out, size_t outlen);

/* Parameters as in the RFC. 0; -EINVAL: it allows no such; -E2BIG: more than SCRYPT_MEM_MAX bytes or SCRYPT_WORK_MAX steps. */
int scrypt_check(uint64_t n, uint64_t r, uint64_t p);
/* Checks, too. -ENOMEM: so much memory is not there now. The memory is wiped and given back. */
int scrypt(const void *pass, size_t passlen, const void *salt, size_t saltlen,
    uint64_t n, uint64_t r, uint64_t p, uint8_t *out, size_t outlen);
/* Bytes that scrypt() takes with these; UINT64_MAX when that is no 64-bit number. */
uint64_t scrypt_memory(uint64_t n, uint64_t r, uint64_t p);

#endif
