/* The scanner: any text, whole and a byte at a time, must give the same tokens. */
#include <stdlib.h>
#include <string.h>

#include "../json.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct sum {
	uint64_t h;
};

static int
on_token(void *ctx, const struct json_token *t)
{
	struct sum *s = ctx;
	size_t i;

	if (t->text[t->len] != '\0' || t->len >= JSON_TEXT_MAX || t->depth > JSON_DEPTH ||
	    strlen(t->path) >= JSON_PATH_MAX)
		abort();
	s->h = s->h * 31 + (uint64_t)t->type;
	for (i = 0; i < t->len; i++)
		s->h = s->h * 31 + (unsigned char)t->text[i];
	for (i = 0; t->path[i] != '\0'; i++)
		s->h = s->h * 31 + (unsigned char)t->path[i];
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct sum whole = { 0 }, bytes = { 0 };
	struct json j;
	size_t i;
	int rc;

	rc = json_parse((const char *)p, n, on_token, &whole, NULL);
	json_init(&j, on_token, &bytes, NULL);
	for (i = 0; i < n; i++)
		json_feed(&j, (const char *)p + i, 1);
	if (json_end(&j) != rc || whole.h != bytes.h)
		abort();
	return 0;
}
