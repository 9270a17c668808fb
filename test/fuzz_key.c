/* Key files. Nobody tells a passphrase: deriving would only cost time. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "config.h"
#include "key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
ask(void *ctx, char *buf, size_t cap, struct err *e)
{
	(void)ctx;
	memset(buf, 'x', cap);
	return err_set(e, ST_TRUST, -ENOTTY, "nobody to ask");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct key zero;
	struct key k, again;
	struct err e = { 0 };
	int rc = key_parse(data, size, "FILE", ask, NULL, &k, &e);

	if (rc < 0) {
		if (memcmp(&k, &zero, sizeof k) != 0 || strncmp(e.text, rc == -ENOTTY ? "nobody" : "key file FILE: ",
		    rc == -ENOTTY ? 6 : 15) != 0)
			abort();
		return 0;
	}
	again = k;
	key_derive(&again);
	if (memcmp(&k, &again, sizeof k) != 0)
		abort();
	return 0;
}
