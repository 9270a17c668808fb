/*
 * A whole HTTP/2 session. The first byte says how the rest is read: as the server's bytes, which are fed whole and
 * in pieces and must tell the same; or as a play of both sides: requests, cancellations and credit of the client, and
 * frames of the server whose heads are right, so that mutations reach what lies behind them.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../bytes.h"
#include "../h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define USERS 256

static struct h2 h;
static uint32_t sum;			/* of all events, in order */
static int alive[USERS];		/* requests under way, by number */
static uintptr_t asked;
static int mood;			/* when callbacks cancel */

static void
note(uint32_t v)
{
	sum = sum * 31 + v;
}

static void
on_head(void *ctx, void *user, int status, int64_t length)
{
	(void)ctx;
	if (!alive[(uintptr_t)user] || status < 200 || status > 999)
		abort();
	note((uint32_t)status);
	note((uint32_t)length);
}

static int
on_data(void *ctx, void *user, const uint8_t *p, size_t n)
{
	(void)ctx;
	if (!alive[(uintptr_t)user] || n == 0)
		abort();
	while (n--)
		note(*p++);
	if (mood && sum % 16 == 0) {
		alive[(uintptr_t)user] = 0;
		return -1;
	}
	return 0;
}

static void
on_end(void *ctx, void *user, enum h2_end why, uint32_t code)
{
	(void)ctx;
	if (!alive[(uintptr_t)user])
		abort();
	alive[(uintptr_t)user] = 0;
	note(0xe0 + (uint32_t)why);
	note(code);
}

static void
on_field(void *ctx, void *user, const char *name, const char *value)
{
	(void)ctx;
	if (!alive[(uintptr_t)user])
		abort();
	while (*name)
		note((uint8_t)*name++);
	while (*value)
		note((uint8_t)*value++);
}

static const struct h2_events events = { on_head, on_data, on_end, on_field };

static void
check(void)
{
	unsigned i, n = 0, k = 0;

	for (i = 0; i < H2_STREAMS_MAX; i++)
		if (h.stream[i].id) {
			n++;
			if (!alive[(uintptr_t)h.stream[i].user] || h.stream[i].window < 0 ||
			    (h.stream[i].length >= 0 && h.stream[i].got > h.stream[i].length))
				abort();
		}
	for (i = 0; i < USERS; i++)
		k += alive[i] != 0;
	if (n != h.active || n != k || h.out_len > H2_OUT_MAX || h.conn_window < 0)
		abort();
}

static void
ask(void)
{
	if (asked < USERS && h2_get(&h, "/chunk?digest=0", (void *)asked))
		alive[asked++] = 1;
}

static void
start(int mode)
{
	static const struct h2_conf conf = { .authority = "h", .frame_max = 65536, .stream_window = 65536 };

	memset(alive, 0, sizeof(alive));
	asked = 0;
	sum = 1;
	mood = mode;
	h2_init(&h, &conf, &events, NULL);
}

static void
flush(void)
{
	const uint8_t *p;

	h2_sent(&h, h2_output(&h, &p));
}

static int
feed(const uint8_t *p, size_t n, size_t step)
{
	size_t i, k;
	int rc = 0;

	for (i = 0; i < n && rc == 0; i += k) {
		k = step && step < n - i ? step : n - i;
		rc = h2_push(&h, p + i, k, NULL);
		flush();
		if ((rc < 0) != h.dead)
			abort();
	}
	check();
	return rc;
}

static uint32_t
raw(const uint8_t *p, size_t n, size_t step)
{
	int i;

	start(0);
	for (i = 0; i < 12; i++)
		ask();
	note((uint32_t)feed(p, n, step));
	return sum;
}

/* One frame: type, flags, stream, length, payload. The head's length is always that of the payload. */
static size_t
frame(const uint8_t *p, size_t n, int *rc)
{
	uint8_t buf[9 + 1024];
	size_t len, have;

	if (n < 4)
		return n;
	len = p[3] < 200 ? p[3] : (size_t)(p[3] - 199) * 18;
	have = len < n - 4 ? len : n - 4;
	put32be(buf, (uint32_t)len << 8 | p[0] % 12);
	buf[4] = p[1];
	put32be(buf + 5, p[2]);
	memset(buf + 9, 0, len);
	memcpy(buf + 9, p + 4, have);
	*rc = feed(buf, len + 9, p[1] & 0x80 ? 1 : 0);
	return 4 + have;
}

static void
play(const uint8_t *p, size_t n)
{
	size_t i = 0;
	int rc = 0;

	start(1);
	while (i < n && rc == 0) {
		uint8_t op = p[i++];
		struct h2_stream *s = &h.stream[(op >> 3) % H2_STREAMS_MAX];

		switch (op & 7) {
		case 0:
			ask();
			break;
		case 1:
			if (s->id) {
				alive[(uintptr_t)s->user] = 0;
				h2_cancel(&h, s);
			}
			break;
		case 2:
			if (s->id)
				h2_credit(&h, s, op & 0x80 ? UINT32_MAX : 1000);
			break;
		case 3:
			h2_ping(&h);
			h2_tick(&h);
			break;
		default:
			i += frame(p + i, n - i, &rc);
		}
		check();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t whole;

	if (size == 0)
		return 0;
	if (data[0] & 1) {
		play(data + 1, size - 1);
		return 0;
	}
	whole = raw(data + 1, size - 1, 0);
	if (h.jammed)			/* the queue is emptied between pieces: there it went on */
		return 0;
	if (raw(data + 1, size - 1, 1 + data[0] % 16) != whole)
		abort();
	return 0;
}
