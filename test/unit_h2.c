/* HTTP/2: the recorded sessions in all pieces, what a server may do, and each thing it may not. */
#include <errno.h>
#include <stdlib.h>

#include "../bytes.h"
#include "../h2.h"
#include "../json.h"
#include "t.h"

#define ASKED 10

/* What came for each request, by the number given as its user pointer. */
static struct answer {
	int status, ended;
	enum h2_end why;
	uint32_t code;
	int64_t length, body;
	uint32_t sum;			/* of the body's bytes, in order */
	char fields[600];
} got[H2_STREAMS_MAX + 2];

static struct h2 h;
static struct h2_stream *cancel_in_data;
static struct err e;

static struct answer *
of(void *user)
{
	return &got[(uintptr_t)user];
}

static void
on_head(void *ctx, void *user, int status, int64_t length)
{
	(void)ctx;
	of(user)->status = status;
	of(user)->length = length;
}

static int
on_data(void *ctx, void *user, const uint8_t *p, size_t n)
{
	size_t i;

	(void)ctx;
	for (i = 0; i < n; i++)
		of(user)->sum = of(user)->sum * 31 + p[i];
	of(user)->body += (int64_t)n;
	check(n > 0);
	return cancel_in_data ? -ECANCELED : 0;
}

static void
on_end(void *ctx, void *user, enum h2_end why, uint32_t code)
{
	(void)ctx;
	of(user)->ended++;
	of(user)->why = why;
	of(user)->code = code;
}

static void
on_field(void *ctx, void *user, const char *name, const char *value)
{
	struct answer *a = of(user);
	size_t n = strlen(a->fields);

	(void)ctx;
	snprintf(a->fields + n, sizeof(a->fields) - n, "%s=%s\n", name, value);
}

static const struct h2_events events = { on_head, on_data, on_end, on_field };

static void
flush(void)
{
	const uint8_t *p;

	h2_sent(&h, h2_output(&h, &p));
}

/* A connection with n requests under way, the server's SETTINGS there if so wished. */
static void
begin(int n, int settings)
{
	static const struct h2_conf conf = { .authority = "h:8007", .stream_window = 4096, .frame_max = 16384 };
	static const uint8_t set[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 };
	int i;

	memset(got, 0, sizeof(got));
	memset(&e, 0, sizeof(e));
	cancel_in_data = NULL;
	h2_init(&h, &conf, &events, NULL);
	if (settings)
		check_int(h2_push(&h, set, sizeof(set), &e), 0);
	for (i = 0; i < n; i++)
		check(h2_get(&h, "/chunk?digest=00", (void *)(uintptr_t)i) != NULL);
	flush();
}

/* --- recorded sessions --- */

struct expect {
	char path[200], body_text[8];
	int64_t stream, body;
	char fields[600];
};
static struct expect want[ASKED];
static int wanted;

static int
session_token(void *ctx, const struct json_token *t)
{
	struct expect *w = &want[wanted];
	size_t n = strlen(w->fields);

	(void)ctx;
	if (t->type == JSON_OBJECT_END && t->depth == 1)
		wanted++;
	else if (strcmp(t->path, "[].path") == 0 && t->type == JSON_STRING)
		snprintf(w->path, sizeof(w->path), "%s", t->text);
	else if (strcmp(t->path, "[].stream") == 0 && t->type == JSON_NUMBER)
		check_int(json_i64(t, &w->stream), 0);
	else if (strcmp(t->path, "[].body") == 0 && t->type == JSON_NUMBER)
		check_int(json_i64(t, &w->body), 0);
	else if (strncmp(t->path, "[].headers.", 11) == 0 && t->type == JSON_KEY)
		snprintf(w->fields + n, sizeof(w->fields) - n, "%s=", t->text);
	else if (strncmp(t->path, "[].headers.", 11) == 0)
		snprintf(w->fields + n, sizeof(w->fields) - n, "%s\n", t->text);
	return 0;
}

static uint8_t *
slurp(const char *name, size_t *n)
{
	uint8_t *p = malloc(4 << 20);
	FILE *f = fopen(name, "rb");

	*n = f ? fread(p, 1, 4 << 20, f) : 0;
	if (f)
		fclose(f);
	return p;
}

/* The server answered one request after the other, so these may be asked at once. step: bytes a piece; 0: random. */
static void
replay(const uint8_t *p, size_t n, size_t step)
{
	static const struct h2_conf conf = { .authority = "h:8007", .stream_window = 4 << 20, .frame_max = 16384 };
	size_t i, k;
	int q;

	memset(got, 0, sizeof(got));
	h2_init(&h, &conf, &events, NULL);
	for (q = 0; q < ASKED; q++) {
		struct h2_stream *s = h2_get(&h, want[q].path, (void *)(uintptr_t)q);

		check(s && s->id == want[q].stream);
	}
	srand(1);
	for (i = 0; i < n; i += k) {
		k = step ? step : 1 + (size_t)rand() % (rand() % 8 ? 20 : 30000);
		if (k > n - i)
			k = n - i;
		if (h2_push(&h, p + i, k, &e) < 0) {
			check_str(e.text, "");
			return;
		}
		flush();
	}
	for (q = 0; q < ASKED; q++) {
		check_int(got[q].ended, 1);
		check_int(got[q].why, H2_COMPLETE);
		check_int(got[q].body, want[q].body);
		check_str(got[q].fields, want[q].fields);
		check_int(got[q].status, atoi(strchr(want[q].fields, '=') + 1));
	}
	check_int(h.active, 0);
	check_int(h.dead, 0);
}

static void
test_golden(void)
{
	static const char *const dir[] = { "3.2", "4.2" };
	char name[100];
	uint8_t *p;
	size_t n;
	int i, k;

	for (i = 0; i < 2; i++) {
		uint32_t sum[ASKED];

		snprintf(name, sizeof(name), "test/golden/wire/%s/session.json", dir[i]);
		p = slurp(name, &n);
		memset(want, 0, sizeof(want));
		wanted = 0;
		check_int(json_parse((char *)p, n, session_token, NULL, &e), 0);
		check_int(wanted, ASKED);
		free(p);
		snprintf(name, sizeof(name), "test/golden/wire/%s/session.server.bin", dir[i]);
		p = slurp(name, &n);
		replay(p, n, n);
		for (k = 0; k < ASKED; k++)
			sum[k] = got[k].sum;
		replay(p, n, 1);
		for (k = 0; k < ASKED; k++)
			check_int(got[k].sum, sum[k]);
		for (k = 0; k < 5; k++)
			replay(p, n, 0);
		check_int(got[9].sum, sum[9]);
		check_int(h.max_active, i == 0 ? H2_STREAMS_MAX : H2_STREAMS_MAX < 200 ? H2_STREAMS_MAX : 200);
		free(p);
	}
}

/* --- single frames, written in hex: "type flags stream payload" --- */

static size_t
frame(uint8_t *out, const char *text)
{
	unsigned type, flags, id;
	char hex[3000] = "";
	size_t n;

	sscanf(text, "%x %x %x %2999s", &type, &flags, &id, hex);
	n = strlen(hex) / 2;
	put32be(out, (uint32_t)n << 8 | type);
	out[4] = (uint8_t)flags;
	put32be(out + 5, id);
	check_int(hex_decode(out + 9, n, hex, 2 * n), 0);
	return n + 9;
}

/* Pushes frames, separated by ';', whole or a byte at a time. */
static int
push(const char *text, int bytes)
{
	char copy[4000], *one, *save = NULL;
	uint8_t buf[2000];
	size_t n, i;
	int rc = 0;

	snprintf(copy, sizeof(copy), "%s", text);
	for (one = strtok_r(copy, ";", &save); one && rc == 0; one = strtok_r(NULL, ";", &save)) {
		n = frame(buf, one);
		if (!bytes)
			rc = h2_push(&h, buf, n, &e);
		for (i = 0; bytes && i < n && rc == 0; i++)
			rc = h2_push(&h, buf + i, 1, &e);
	}
	return rc;
}

/* Is this frame among what is to be sent? */
static int
sends(const char *text)
{
	uint8_t buf[2000];
	const uint8_t *p;
	size_t n = frame(buf, text), len = h2_output(&h, &p);

	return memmem(p, len, buf, n) != NULL;
}

#define OK200 "1 4 1 88;"
#define LEN3 "1 4 1 885c0133;"		/* :status 200, content-length 3, indexed: before our SETTINGS are known */
#define DATE "0f0f03616263"

static void
test_legal(void)
{
	static const struct { const char *frames; int status; int64_t body; int ended; enum h2_end why; } t[] = {
		{ OK200 "0 1 1 414243", 200, 3, 1, H2_COMPLETE },
		{ OK200 "0 0 1 4142; 0 0 1; 0 1 1 43", 200, 3, 1, H2_COMPLETE },
		{ OK200 "0 8 1 02410000; 0 9 1 00; 1 5 3 88", 200, 1, 1, H2_COMPLETE },
		{ OK200 "0 9 1 024142430000", 200, 3, 1, H2_COMPLETE },
		{ LEN3 "0 1 1 414243", 200, 3, 1, H2_COMPLETE },
		{ LEN3 "0 1 1 4142", 200, 2, 1, H2_LENGTH },
		{ LEN3 "0 0 1 41424344; 0 1 1 41", 200, 3, 1, H2_LENGTH },
		{ "1 5 1 8d", 404, 0, 1, H2_COMPLETE },
		{ "1 5 1 885c0133", 200, 0, 1, H2_LENGTH },
		{ "1 4 1 4803313030; 1 5 1 88", 200, 0, 1, H2_COMPLETE },	/* 100, then 200 */
		{ "1 1 1; 9 0 1; 9 4 1 88", 200, 0, 1, H2_COMPLETE },
		{ "1 2d 1 030000000010" "88000000", 200, 0, 1, H2_COMPLETE },	/* padding and priority */
		{ OK200 "0 0 1 41; 1 5 1 0001780179", 200, 1, 1, H2_COMPLETE },	/* trailer */
		{ "3 0 1 00000007", 0, 0, 1, H2_RETRY },
		{ "3 0 1 00000002", 0, 0, 1, H2_RESET },
		{ OK200 "0 0 1 41; 3 0 1 00000000", 200, 1, 1, H2_RESET },
		{ "2 0 1 0000000010; 2 0 7f 0000000010; 5f 3 0 0102; 5f 3 9 01; 8 0 0 00000001; 8 0 1 00000001; 4 0 0 000600000000ffff00000001; 1 5 1 88",
		    200, 0, 1, H2_COMPLETE },
		{ OK200 "0 1 1; 3 0 1 00000000; 8 0 1 00000001; 2 0 1 0000000010", 200, 0, 1, H2_COMPLETE },
		{ "4 1 0; 1 5 1 2088", 200, 0, 1, H2_COMPLETE },
		{ "7 0 0 0000000100000000" "627965; 1 5 1 88", 200, 0, 1, H2_COMPLETE },
		{ "7 0 0 7fffffff00000000; 7 0 0 0000000000000000", 0, 0, 1, H2_RETRY },
	};
	size_t i, bytes;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		for (bytes = 0; bytes < 2; bytes++) {
			begin(2, 1);
			check_int(push(t[i].frames, (int)bytes), 0);
			check_str(e.text, "");
			check_int(got[0].status, t[i].status);
			check_int(got[0].body, t[i].body);
			check_int(got[0].ended, t[i].ended);
			check_int(got[0].why, t[i].why);
		}
	check_int(h.goaway, 1);
	check_int(got[1].why, H2_RETRY);
	check(h2_get(&h, "/", NULL) == NULL);
}

#define SET "4 0 0;"

static void
test_violations(void)
{
	static const struct { const char *frames, *error; } t[] = {
		{ "6 0 0 0000000000000000", "first frame" }, { "4 1 0", "first frame" },
		{ SET "0 0 0 41", "does not exist" }, { SET "0 0 2 41", "does not exist" }, { SET "0 0 7 41", "does not exist" },
		{ SET "0 0 1 41", "before its header" }, { SET OK200 "0 1 1; 0 0 1 41", "closed" }, { SET "1 5 1 88; 1 5 1 88", "closed" },
		{ SET OK200 "0 8 1", "without room" }, { SET OK200 "0 8 1 01", "padding" }, { SET OK200 "0 8 1 0341", "padding" },
		{ SET "1 8 1", "padding" }, { SET "1 8 1 0188", "" }, { SET "1 c 1 0288", "padding" }, { SET "1 20 1 00000000", "padding" },
		{ SET "1 4 2 88", "does not exist" }, { SET "1 4 0 88", "does not exist" }, { SET "1 4 9 88", "does not exist" },
		{ SET "1 0 1 88; 0 0 1 41", "within a header block" }, { SET "1 0 1 88; 9 4 3", "within" }, { SET "1 0 1 88; 5f 0 0", "within" },
		{ SET "9 4 1 88", "without HEADERS" }, { SET "5 4 1 0000000288", "PUSH_PROMISE" },
		{ SET "2 0 1 00000000", "PRIORITY" }, { SET "2 0 0 0000000000", "PRIORITY" },
		{ SET "3 0 0 00000000", "on stream 0" }, { SET "3 0 7 00000000", "on stream 7" }, { SET "3 0 1 000000", "3 bytes" },
		{ "4 0 1", "on stream 1" }, { "4 0 0 0001", "2 bytes" }, { SET "4 1 0 000100000000", "6 bytes" },
		{ "4 0 0 000200000001", "pushes" }, { "4 0 0 000480000000", "initial window" },
		{ "4 0 0 000500003fff", "frame size" }, { "4 0 0 000501000000", "frame size" },
		{ SET "8 0 1 7fff0001; 4 0 0 0004000fffff", "overflows" },
		{ SET "6 0 1 0000000000000000", "on stream 1" }, { SET "6 0 0 00", "1 bytes" },
		{ SET "7 0 1 0000000000000000", "on stream 1" }, { SET "7 0 0 00000000", "4 bytes" },
		{ SET "7 0 0 0000000100000000; 7 0 0 0000000300000000", "refused" },
		{ SET "8 0 0 00000000", "by 0" }, { SET "8 0 1 00000000", "by 0" }, { SET "8 0 0 0000", "2 bytes" }, { SET "8 0 9 00000001", "stream 9" },
		{ SET "8 0 0 7fffffff", "overflows" }, { SET "8 0 1 7fffffff", "overflows" },
		{ SET "1 4 1 80", "no table" }, { SET "4 1 0; 1 4 1 88", "no table size update" }, { SET "4 1 0; 1 4 1 2188", "allowed are 0" },
		{ SET "1 4 1 " DATE, "no status" }, { SET "1 4 1", "no status" }, { SET "1 4 1 8888", "two statuses" }, { SET "1 4 1 82", "pseudo" },
		{ SET "1 4 1 " DATE "88", "pseudo" }, { SET "1 4 1 080332" "3061", "no number" }, { SET "1 4 1 08023230", "no number" },
		{ SET "1 4 1 0803" "313031", "101" }, { SET "1 5 1 0803" "313030", "interim" },
		{ SET "1 4 1 8800014101" "61", "forbidden character" }, { SET "1 4 1 88000178010a", "forbidden" }, { SET "1 4 1 880001780100", "forbidden" },
		{ SET "1 4 1 88000000", "forbidden" }, { SET "1 4 1 880f2a0161", "connection" }, { SET "1 4 1 880007757067726164650161", "connection" },
		{ SET "1 4 1 885c0161", "no number" }, { SET "1 4 1 885c00", "empty" }, { SET "1 4 1 885c01335c0134", "two content-lengths" },
		{ SET "1 4 1 885c16" "39393939393939393939393939393939393939393939", "no number" },
		{ SET OK200 "0 0 1 41; 1 4 1 000178" "0179", "second header" }, { SET OK200 "1 5 1 88", "pseudo" },
	};
	size_t i, bytes;
	const uint8_t *p;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		for (bytes = 0; bytes < 2; bytes++) {
			begin(2, 0);
			if (!t[i].error[0]) {	/* legal: the neighbour of an offence */
				check_int(push(t[i].frames, (int)bytes), 0);
				continue;
			}
			check_int(push(t[i].frames, (int)bytes), -EPROTO);
			if (!check(strstr(e.text, t[i].error) != NULL))
				printf("# %s: \"%s\", not \"%s\"\n", t[i].frames, e.text, t[i].error);
			/* GOAWAY is the last that is sent, and nothing is taken any more. */
			check(h.dead && h2_output(&h, &p) >= 17 && p[h.out_len - 17 + 3] == 7);
			check_int(push(SET, 0), -EPROTO);
		}
	begin(1, 0);
	check_int(h2_push(&h, (const uint8_t *)"HTTP/1.1 400 Bad Request\r\n", 26, &e), -EPROTO);
	check(strstr(e.text, "proxy") != NULL);
}

static void
test_sizes(void)
{
	static uint8_t big[20000];
	size_t n;
	int i;

	begin(1, 1);
	put32be(big, 16385u << 8);
	check_int(h2_push(&h, big, 9, &e), -EPROTO);
	check(strstr(e.text, "DATA of 16385") != NULL);
	/* A header block of 16 KiB is taken, in pieces; a larger one not; nor one in many pieces. */
	for (n = 16384; n <= 16385; n++) {
		begin(1, 1);
		put32be(big, 16000u << 8 | 1);
		big[4] = 0;
		put32be(big + 5, 1);
		big[9] = 0x88;
		memset(big + 10, 0x20 | 0x80, 15999);	/* indexed field 32: cookie, empty */
		check_int(h2_push(&h, big, 16009, &e), 0);
		put32be(big, (uint32_t)(n - 16000) << 8 | 9);
		big[4] = 4;
		check_int(h2_push(&h, big, 9 + n - 16000, &e), -EPROTO);
		check(strstr(e.text, n == 16384 ? "header too large" : "larger than 16384") != NULL);
	}
	begin(1, 1);
	check_int(push("1 0 1 88", 0), 0);
	for (i = 0; i < 100 && push("9 0 1", 0) == 0; i++)
		;
	check_int(i, 64);
	/* The words of a GOAWAY longer than our buffer. */
	begin(1, 1);
	memset(big, 'x', sizeof(big));
	put32be(big, 16384u << 8 | 7);
	big[4] = 0;
	put32be(big + 5, 0);
	put32be(big + 9, 1);
	put32be(big + 13, 11);
	check_int(h2_push(&h, big, 9 + 16384, &e), 0);
	check_int(h.goaway_code, 11);
	check_int(strlen(h.goaway_text), sizeof(h.goaway_text) - 1);
	check_int(h.active, 1);
}

static void
test_flow(void)
{
	static uint8_t big[16384 + 9];
	int i;

	begin(2, 1);
	check_int(push(OK200 "1 4 3 88", 0), 0);
	put32be(big, 4096u << 8);
	put32be(big + 5, 1);
	check_int(h2_push(&h, big, 4096 + 9, &e), 0);
	check_int(h.stream[0].window, 0);
	h2_credit(&h, &h.stream[0], 10);
	check(sends("8 0 1 0000000a"));
	check_int(push("0 0 1 00010203040506070809", 0), 0);
	check_int(push("0 0 1 00", 0), -EPROTO);
	check(strstr(e.text, "window") != NULL);
	/* Padding counts. */
	begin(1, 1);
	check_int(push(OK200, 0), 0);
	put32be(big, 4097u << 8);
	big[4] = 8;
	put32be(big + 5, 1);
	big[9] = 200;
	check_int(h2_push(&h, big, 4097 + 9, &e), -EPROTO);
	/* Credit never exceeds what a window may be. */
	begin(1, 1);
	h2_credit(&h, &h.stream[0], INT32_MAX);
	check_int(h.stream[0].window, INT32_MAX);
	check(sends("8 0 1 7fffefff"));
	h2_credit(&h, &h.stream[0], 1);
	check_int(h.stream[0].window, INT32_MAX);
	/* The connection's credit is given back before it is used up. */
	check_int(push(OK200, 0), 0);
	put32be(big, 16384u << 8);
	big[4] = 0;
	put32be(big + 5, 1);
	for (i = 0; i < 40000; i++) {
		if (h2_push(&h, big, sizeof(big), &e) < 0 || sends("8 0 0 20004000"))
			break;
	}
	check_int(i, 32768);
	check_int(h.conn_window, H2_CONN_WINDOW);
}

static void
test_cancel(void)
{
	int i;

	begin(2, 1);
	check_int(push(OK200 "0 0 1 41", 0), 0);
	/* Given up in the middle of a frame, and its slot used again: the rest of the frame is nobody's. */
	check_int(h2_push(&h, (const uint8_t *)"\0\0\x04\0\0\0\0\0\x01""ab", 11, &e), 0);
	check_int(got[0].body, 3);
	h2_cancel(&h, &h.stream[0]);
	check(sends("3 0 1 00000008"));
	check(h2_get(&h, "/x", (void *)2) == &h.stream[0]);
	check_int(h2_push(&h, (const uint8_t *)"cd", 2, &e), 0);
	check_int(push("0 0 1 4142; 1 5 1 0f0f0161; 3 0 1 00000000; 8 0 1 00000001; 1 5 5 88", 0), 0);
	check_int(got[0].body, 3);
	check_int(got[0].ended, 0);
	check_int(got[2].status, 200);
	check_int(got[2].ended, 1);
	/* By a callback. */
	cancel_in_data = &h.stream[1];
	check_int(push("1 4 3 88; 0 1 3 4142", 0), 0);
	check_int(got[1].ended, 0);
	check_int(h.active, 0);
	cancel_in_data = NULL;
	/* Late frames are forgiven however many streams were reset since. */
	for (i = 0; i < 3 * H2_RESETS_KEPT; i++) {
		h2_cancel(&h, h2_get(&h, "/x", NULL));
		flush();
	}
	check_int(push("0 0 1 41; 0 0 3 41; 0 0 7 41; 0 0 1ff 41", 0), 0);
	check_int(push("0 0 7ff 41", 0), -EPROTO);
}

static void
test_ping(void)
{
	int i;

	begin(0, 1);
	check_int(push("6 0 0 0102030405060708", 1), 0);
	check(sends("6 1 0 0102030405060708"));
	h2_ping(&h);
	h2_ping(&h);
	check(sends("6 0 0 7062736d00000001"));
	check_int(push("6 1 0 7062736d00000002; 6 1 0 0000000000000000", 0), 0);
	check_int(h.pinging, 1);
	check_int(push("6 1 0 7062736d00000001", 0), 0);
	check_int(h.pinging, 0);
	/* Floods: faster than it reads, or without end. */
	begin(0, 1);
	for (i = 0; push("6 0 0 0102030405060708", 0) == 0; i++)
		;
	check(i > 1000 && i < (int)H2_OUT_MAX / 17 + 1);
	begin(0, 1);
	for (i = 0; push("4 0 0", 0) == 0; i++)
		flush();
	check_int(i, H2_CONTROL_MAX - 1);
	check(strstr(e.text, "flood") != NULL);
	begin(1, 1);
	check_int(push(OK200, 0), 0);
	for (i = 0; i < 3 * H2_CONTROL_MAX; i++) {
		if (i % 1000 == 0)
			h2_tick(&h);
		check_int(push("0 0 1", 0), 0);
	}
	check_int(push("0 0 1;0 0 1", 0), 0);
}

static void
test_limits(void)
{
	char path[5000] = "";
	int i;

	begin(0, 1);
	for (i = 0; i < 1000 && h2_get(&h, "/x", NULL); i++)
		flush();
	check_int(i, H2_STREAMS_MAX);
	check_int(h2_can_get(&h), 0);
	begin(2, 0);
	check_int(push("4 0 0 000300000002", 0), 0);
	check(h2_get(&h, "/x", NULL) == NULL);
	check_int(push("1 5 1 88", 0), 0);
	check(h2_get(&h, "/x", NULL) != NULL);
	/* Nobody empties the output. */
	begin(0, 1);
	memset(path, 'p', 4000);
	path[4000] = 0;
	for (i = 0; i < 1000 && h2_get(&h, path, NULL); i++)
		;
	check(i > 4 && i < 10 && !h.jammed);
	flush();
	memset(path, 'p', 4097);	/* its NUL is beyond */
	check(h2_get(&h, path, NULL) == NULL);
	/* All ids used. */
	begin(0, 1);
	h.next_id = INT32_MAX;
	check(h2_get(&h, "/x", NULL) != NULL);
	check(h2_get(&h, "/x", NULL) == NULL);
	check_int(h.goaway, 1);
	check_int(push("1 5 7fffffff 88", 0), 0);
	check_int(got[0].ended, 1);
}

static void
test_start(void)
{
	static const char want_start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	struct h2_conf conf = { .authority = "h" };
	const uint8_t *p;
	size_t n;

	h2_init(&h, &conf, &events, NULL);
	n = h2_output(&h, &p);
	check(n == 24 + 9 + 30 + 13 && memcmp(p, want_start, 24) == 0);
	check(sends("4 0 0 000100000000" "000200000000" "000400020000" "000500100000" "000600004000"));
	check(sends("8 0 0 3fff0001"));
	h2_get(&h, "/x", NULL);
	check(sends("1 5 1 8287010168" "04022f78"));
	h2_sent(&h, 24);
	check_int(h2_output(&h, &p), n - 24 + 9 + 9);
	check_int(p[3], 4);
	check_str(h2_code(11), "ENHANCE_YOUR_CALM");
}

int
main(void)
{
	run(test_start);
	run(test_golden);
	run(test_legal);
	run(test_violations);
	run(test_sizes);
	run(test_flow);
	run(test_cancel);
	run(test_ping);
	run(test_limits);
	return t_end();
}
