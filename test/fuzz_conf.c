/* A configuration file: any text, at its end and within a larger one. Every key is a name, and what was read as a value,
 * written down in single quotes, is read as the same again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *again;			/* the same assignments in another form */
static size_t again_len;
static uint32_t sum;

static void
note(const char *key, const char *value)
{
	for (; *key; key++)
		sum = sum * 31 + (unsigned char)*key;
	for (; *value; value++)
		sum = sum * 31 + (unsigned char)*value;
}

static int
take(void *ctx, const char *key, const char *value)
{
	char *p = again + again_len;

	(void)ctx;
	if (!*key || strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != strlen(key))
		abort();
	note(key, value);
	p += sprintf(p, "%s='", key);
	for (; *value; value++)
		p += *value == '\'' ? sprintf(p, "'\"'\"'") : sprintf(p, "%c", *value);
	p += sprintf(p, "'\n");
	again_len = (size_t)(p - again);
	return 0;
}

static int
check(void *ctx, const char *key, const char *value)
{
	(void)ctx;
	note(key, value);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct err e;
	uint32_t first;
	int rc;

	if (size)
		memcpy(text, data, size);
	text[size] = 0;
	again = malloc(size * 5 + 16);
	again_len = 0;
	sum = 1;
	rc = conf_parse(text, size, "F", take, NULL, &e);
	first = sum;
	sum = 1;
	if (rc == 0 && (conf_parse(again, again_len, "F", check, NULL, &e) < 0 || sum != first))
		abort();
	free(again);
	free(text);
	return 0;
}
