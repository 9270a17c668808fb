/*
 * AES-256-GCM decryption from BearSSL's parts, since its own GCM interface
 * takes no AES-CTR of choice with a key prepared once.  Two passes: nothing
 * is decrypted before the tag was found right, so there is nothing to take back.
 */
#include "gcm.h"

#include <pthread.h>
#include <string.h>

#include "bytes.h"
#include "cpu.h"

static const br_block_ctr_class *aes;
static br_ghash ghash;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const br_block_ctr_class *
aes_hardware(void)
{
	const br_block_ctr_class *c = br_aes_x86ni_ctr_get_vtable();

	return c != NULL ? c : br_aes_pwr8_ctr_get_vtable();
}

static br_ghash
ghash_hardware(void)
{
	br_ghash g = br_ghash_pclmul_get();

	return g != 0 ? g : br_ghash_pwr8_get();
}

/* Either alone would still be as slow as the other's plain form. */
static int
has_hardware(void)
{
	return aes_hardware() != NULL && ghash_hardware() != 0;
}

static const struct cpu_path paths[] = { { "hardware", has_hardware }, { "plain", NULL } };

static void
take(int path)
{
	aes = path == 0 ? aes_hardware() : &br_aes_ct64_ctr_vtable;
	ghash = path == 0 ? ghash_hardware() : br_ghash_ctmul64;
}

static void
choose(void)
{
	take(cpu_choose(paths, 2, NULL));
}

const char *
gcm_use(const char *name)
{
	int i;

	pthread_once(&once, choose);
	i = cpu_choose(paths, 2, name);
	if (i < 0)
		return NULL;
	take(i);
	return paths[i].name;
}

/* data ^= AES(iv, counter), AES(iv, counter + 1), … */
static void
ctr(const struct gcm_key *k, const uint8_t iv[12], uint32_t counter, uint8_t *data, size_t len)
{
	k->aes.vtable->run(&k->aes.vtable, iv, counter, data, len);
}

void
gcm_key_init(struct gcm_key *k, const uint8_t key[32])
{
	static const uint8_t zero[12];

	pthread_once(&once, choose);
	aes->init(&k->aes.vtable, key, 32);
	k->ghash = ghash;
	memset(k->h, 0, sizeof(k->h));
	/* H is the encryption of zero. */
	ctr(k, zero, 0, k->h, sizeof(k->h));
}

/* GHASH of p[n], zeros up to a whole block, and the lengths' block. */
static void
hash(const struct gcm_key *k, const uint8_t *p, size_t n, uint8_t out[16])
{
	uint64_t bits = (uint64_t)n * 8;
	uint8_t end[16] = { 0 };

	put32be(end + 8, (uint32_t)(bits >> 32));
	put32be(end + 12, (uint32_t)bits);
	memset(out, 0, 16);
	k->ghash(out, k->h, p, n);
	k->ghash(out, k->h, end, sizeof(end));
}

int
gcm_open(const struct gcm_key *k, const uint8_t iv[16], const uint8_t tag[16],
    uint8_t *data, size_t len)
{
	uint8_t start[16], want[16];
	uint32_t counter;

	/* An IV that has not 12 bytes is hashed to the first counter block. */
	hash(k, iv, 16, start);
	counter = get32be(start + 12);
	hash(k, data, len, want);
	/* The first block is the tag's, the data's begin after it. */
	ctr(k, start, counter, want, sizeof(want));
	if (!equal_ct(want, tag, 16))
		return -1;
	ctr(k, start, counter + 1, data, len);
	return 0;
}
