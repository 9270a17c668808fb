/* A bundle of authorities. */
#include <stdint.h>
#include <stdlib.h>

#include "../ca.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct ca ca = { 0 };
	const br_x509_trust_anchor *a;
	size_t i, j;
	unsigned sum = 0;

	if (ca_add(&ca, p, n))
		abort();
	for (i = 0; i < ca.count; i++) {	/* every byte of it is ours */
		a = &ca.anchor[i];
		for (j = 0; j < a->dn.len; j++)
			sum += a->dn.data[j];
		if (a->pkey.key_type == BR_KEYTYPE_RSA)
			sum += a->pkey.key.rsa.n[a->pkey.key.rsa.nlen - 1] + a->pkey.key.rsa.e[a->pkey.key.rsa.elen - 1];
		else
			sum += a->pkey.key.ec.q[a->pkey.key.ec.qlen - 1];
	}
	ca_free(&ca);
	(void)*(volatile unsigned *)&sum;
	return 0;
}
