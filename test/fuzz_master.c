/* Master keys: any text, with a passphrase; a key that is taken decrypts any bytes without harm. */
#include <string.h>

#include "bytes.h"
#include "pem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
ask(void *ctx, char *buf, size_t cap, struct err *e)
{
	(void)ctx;
	(void)e;
	(void)cap;
	memcpy(buf, "hello", 5);
	return 5;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pem_key k;
	uint8_t text[RSA_MAX], *out;
	struct err e;

	if (pem_parse((const char *)data, size, "M", ask, NULL, &k, &e) == 0) {
		memset(text, 0x5a, sizeof(text));
		text[0] = 0;
		if (pem_decrypt(&k, text, &out) > (long)k.size - 11)
			__builtin_trap();
	}
	return 0;
}
