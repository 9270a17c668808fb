/* HTTP/1.1 answers: whole and in pieces must tell the same, and never more than was there. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct told {
	uint32_t sum;			/* of fields and body, in order */
	size_t body, used;
	int rc, status;
};

static void
add(struct told *t, const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n--)
		t->sum = t->sum * 31 + *b++;
}

static int
on_field(void *ctx, const char *name, const char *value)
{
	add(ctx, name, strlen(name));
	add(ctx, value, strlen(value));
	return 0;
}

static int
on_body(void *ctx, const uint8_t *p, size_t n)
{
	struct told *t = ctx;

	if (n == 0)
		abort();
	add(t, p, n);
	t->body += n;
	return 0;
}

static const struct http_events events = { on_field, on_body };

/* step 0: whole; else in pieces, the first of `step` bytes and each a byte longer, up to 7. */
static struct told
run(const uint8_t *data, size_t size, size_t step, int upgrade)
{
	static struct http h;
	struct told t = { .sum = 1 };
	size_t i, k, used;

	http_init(&h, &events, &t);
	h.upgrade = upgrade;
	for (i = 0; i < size && t.rc == 0; i += used) {
		k = step ? 1 + (step++ % 7) : size;
		if (k > size - i)
			k = size - i;
		t.rc = http_push(&h, data + i, k, &used, NULL);
		if (used > k || (t.rc == 0 && used != k))
			abort();
		t.used += used;
	}
	if (t.rc == 0)
		t.rc = http_eof(&h, NULL);
	t.status = h.status;
	if (t.body > size || t.rc == 0)
		abort();
	return t;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct told a, b;
	int upgrade, step;

	if (size == 0)
		return 0;
	upgrade = data[0] & 1;
	step = 1 + data[0] % 7;
	a = run(data + 1, size - 1, 0, upgrade);
	b = run(data + 1, size - 1, (size_t)step, upgrade);
	/* Where it failed, the piece it failed in may be larger or smaller. */
	if (a.rc != b.rc || a.sum != b.sum || a.body != b.body || a.status != b.status || (a.rc > 0 && a.used != b.used))
		abort();
	return 0;
}
