/*
 * PBKDF2 and scrypt.  Knows nothing of key files; keeps nothing: what was
 * derived on the way is wiped.  scrypt's blocks are held with their words in
 * the order in which Salsa20 takes them four at a time, so that the compiler
 * makes vector instructions of it wherever there are some.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "bytes.h"
#include "config.h"
#include "scrypt.h"
#include "sha256.h"

/* --- PBKDF2 --- */

/* HMAC with the key's two blocks already hashed: an iteration costs two
 * compressions instead of four. */
struct hmac {
	struct sha256 inner, outer;
};

static void
hmac_key(struct hmac *h, const void *key, size_t len)
{
	uint8_t block[64] = { 0 };

	if (len > sizeof block)
		sha256(block, key, len);
	else if (len > 0)
		memcpy(block, key, len);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] ^= 0x36;
	sha256_init(&h->inner);
	sha256_update(&h->inner, block, sizeof block);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] ^= 0x36 ^ 0x5c;
	sha256_init(&h->outer);
	sha256_update(&h->outer, block, sizeof block);
	wipe(block, sizeof block);
}

/* mac = HMAC(a || b); a may be mac. */
static void
hmac(const struct hmac *h, const void *a, size_t alen, const void *b, size_t blen, uint8_t mac[32])
{
	struct sha256 c = h->inner;

	sha256_update(&c, a, alen);
	sha256_update(&c, b, blen);
	sha256_final(&c, mac);
	c = h->outer;
	sha256_update(&c, mac, 32);
	sha256_final(&c, mac);
}

void
pbkdf2(const void *pass, size_t passlen, const void *salt, size_t saltlen, uint32_t iter,
    uint8_t *out, size_t outlen)
{
	struct hmac h;
	uint8_t u[32], sum[32], number[4];

	hmac_key(&h, pass, passlen);
	for (uint32_t block = 1; outlen > 0; block++) {
		size_t n = outlen < sizeof sum ? outlen : sizeof sum;

		put32be(number, block);
		hmac(&h, salt, saltlen, number, sizeof number, u);
		memcpy(sum, u, sizeof sum);
		for (uint32_t i = 1; i < iter; i++) {
			hmac(&h, u, sizeof u, NULL, 0, u);
			for (size_t k = 0; k < sizeof sum; k++)
				sum[k] ^= u[k];
		}
		memcpy(out, sum, n);
		out += n;
		outlen -= n;
	}
	wipe(&h, sizeof h);
	wipe(u, sizeof u);
	wipe(sum, sizeof sum);
}

/* --- scrypt --- */

#define VEC uint32_t __attribute__((vector_size(16)))

/* 16 words; lane j of row i is word (4i + 5j) mod 16: the rows are then the
 * matrix's diagonals, and a quarter round is the same operation on each lane. */
struct block {
	VEC row[4];
};

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LANES(v, a, b, c, d) __builtin_shufflevector(v, v, a, b, c, d)
#endif
#endif
#ifndef LANES				/* gcc before 12 */
#define LANES(v, a, b, c, d) __builtin_shuffle(v, (VEC){ a, b, c, d })
#endif

#define ROTATE(v, n) (((v) << (n)) | ((v) >> (32 - (n))))

/* Salsa20/8 of x. */
static inline __attribute__((always_inline)) void
salsa(struct block *x)
{
	VEC a = x->row[0], b = x->row[1], c = x->row[2], d = x->row[3];

	for (int i = 0; i < 4; i++) {
		b ^= ROTATE(a + d, 7);
		c ^= ROTATE(b + a, 9);
		d ^= ROTATE(c + b, 13);
		a ^= ROTATE(d + c, 18);
		b = LANES(b, 3, 0, 1, 2);	/* columns become rows */
		c = LANES(c, 2, 3, 0, 1);
		d = LANES(d, 1, 2, 3, 0);
		d ^= ROTATE(a + b, 7);
		c ^= ROTATE(d + a, 9);
		b ^= ROTATE(c + d, 13);
		a ^= ROTATE(b + c, 18);
		b = LANES(b, 1, 2, 3, 0);
		c = LANES(c, 2, 3, 0, 1);
		d = LANES(d, 3, 0, 1, 2);
	}
	x->row[0] += a;
	x->row[1] += b;
	x->row[2] += c;
	x->row[3] += d;
}

static inline __attribute__((always_inline)) void
xor(struct block *x, const struct block *y)
{
	for (int i = 0; i < 4; i++)
		x->row[i] ^= y->row[i];
}

/* out = BlockMix(in ^ with), 2r blocks each; without `with` when it is NULL. */
static inline __attribute__((always_inline)) void
mix(struct block *out, const struct block *in, const struct block *with, size_t r)
{
	struct block x = in[2 * r - 1];

	if (with)
		xor(&x, &with[2 * r - 1]);
	for (size_t i = 0; i < 2 * r; i++) {
		xor(&x, &in[i]);
		if (with)
			xor(&x, &with[i]);
		salsa(&x);
		out[i / 2 + (i % 2) * r] = x;
	}
}

/* One of p lanes: bytes at b (128 r of them) in place. v has n * 2r blocks, t 4r. */
static void
lane(uint8_t *b, struct block *v, struct block *t, size_t n, size_t r)
{
	struct block *x = t, *y = t + 2 * r, *last, *swap;
	size_t step = 2 * r;

	for (size_t i = 0; i < step; i++)
		for (size_t k = 0; k < 16; k++)
			v[i].row[k / 4][k % 4] = get32le(b + 64 * i + 4 * ((4 * (k / 4) + 5 * (k % 4)) % 16));
	for (size_t i = 1; i < n; i++)
		mix(v + i * step, v + (i - 1) * step, NULL, r);
	mix(x, v + (n - 1) * step, NULL, r);
	for (size_t i = 0; i < n; i++) {
		/* n is a power of two below 2^32: the low word is enough. */
		last = &x[step - 1];
		mix(y, x, v + (last->row[0][0] & (n - 1)) * step, r);
		swap = x;
		x = y;
		y = swap;
	}
	for (size_t i = 0; i < step; i++) {
		for (size_t k = 0; k < 16; k++) {
			uint32_t w = x[i].row[k / 4][k % 4];
			uint8_t *to = b + 64 * i + 4 * ((4 * (k / 4) + 5 * (k % 4)) % 16);

			to[0] = (uint8_t)w;
			to[1] = (uint8_t)(w >> 8);
			to[2] = (uint8_t)(w >> 16);
			to[3] = (uint8_t)(w >> 24);
		}
	}
}

uint64_t
scrypt_memory(uint64_t n, uint64_t r, uint64_t p)
{
	uint64_t size;

	/* n blocks to go through, p lanes, 2 to work in. */
	if (__builtin_add_overflow(n, p, &size) || __builtin_add_overflow(size, 2u, &size) ||
	    __builtin_mul_overflow(size, 128u, &size) || __builtin_mul_overflow(size, r, &size))
		return UINT64_MAX;
	return size;
}

int
scrypt_check(uint64_t n, uint64_t r, uint64_t p)
{
	if (n < 2 || (n & (n - 1)) != 0 || r == 0 || p == 0 || (r < 4 && n >> (16 * r) != 0))
		return -EINVAL;
	/* The table alone may take SCRYPT_MEM_MAX; and each of n * r * p steps
	 * takes its time, so p is bounded as well. */
	if (n > SCRYPT_MEM_MAX / 128 / r || p > SCRYPT_WORK_MAX / n / r ||
	    scrypt_memory(n, r, p) > SCRYPT_MEM_MAX / 16 * 17)
		return -E2BIG;
	return 0;
}

int
scrypt(const void *pass, size_t passlen, const void *salt, size_t saltlen,
    uint64_t n, uint64_t r, uint64_t p, uint8_t *out, size_t outlen)
{
	uint64_t size = scrypt_memory(n, r, p);
	size_t lane_len = (size_t)r * 128;
	int rc = scrypt_check(n, r, p);
	uint8_t *mem, *lanes;

	if (rc < 0)
		return rc;
	mem = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return -ENOMEM;
	/* Best effort: no secrets in a core, and fewer TLB misses. */
	madvise(mem, (size_t)size, MADV_DONTDUMP);
	madvise(mem, (size_t)size, MADV_HUGEPAGE);
	lanes = mem + (n + 2) * lane_len;
	pbkdf2(pass, passlen, salt, saltlen, 1, lanes, (size_t)p * lane_len);
	for (uint64_t i = 0; i < p; i++)
		lane(lanes + i * lane_len, (struct block *)(void *)mem,
		    (struct block *)(void *)(mem + n * lane_len), (size_t)n, (size_t)r);
	pbkdf2(pass, passlen, lanes, (size_t)p * lane_len, 1, out, outlen);
	wipe(mem, (size_t)size);
	munmap(mem, (size_t)size);
	return 0;
}
