/* The JSON scanner: every rule of the grammar, cut at every place; rows. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "t.h"
#include "../json.h"

struct trace {
	char text[32768];
	size_t len;
	int stop_at, tokens;
};

static int
on_token(void *ctx, const struct json_token *t)
{
	static const char kinds[] = "{}[]k\"#tfn";
	struct trace *tr = ctx;
	size_t room = sizeof(tr->text) - tr->len;
	int n;

	if (++tr->tokens == tr->stop_at)
		return -EPIPE;
	n = snprintf(tr->text + tr->len, room, "%c%u<%s>%.40s%s ", kinds[t->type], t->depth,
	    t->path, t->text, t->cut ? "~" : "");
	if ((size_t)n < room)
		tr->len += (size_t)n;
	if (t->cut && (t->len < JSON_TEXT_MAX - 4 || json_whole_utf8(t->text, t->len) != t->len))
		return -EIO;
	if (strlen(t->text) != t->len && memchr(t->text, 0, t->len) == NULL)
		return -EIO;
	return 0;
}

static int
trace(struct trace *tr, const char *p, size_t n, size_t piece, struct err *e)
{
	struct json j;
	size_t at, len;

	memset(tr, 0, sizeof(*tr));
	json_init(&j, on_token, tr, e);
	for (at = 0; at < n; at += len) {
		len = piece < n - at ? piece : n - at;
		json_feed(&j, p + at, len);
	}
	return json_end(&j);
}

static int
parse(const char *text)
{
	static struct trace tr;

	return trace(&tr, text, strlen(text), (size_t)-1, NULL);
}

static void
test_tokens(void)
{
	static struct trace tr;
	static const char text[] = " {\"a\" : [1, -2.5e+3 ,{\"b-c\":true}],\"\":\"x\\n\",\n"
	    "\"d.e\":{\"f\":null}, \"g\":false}\r\n\t";

	check_int(trace(&tr, text, strlen(text), 1000, NULL), 0);
	check_str(tr.text, "{0<> k1<a>a [1<a> #2<a[]>1 #2<a[]>-2.5e+3 {2<a[]> k3<a[].b-c>b-c "
	    "t3<a[].b-c> }2<a[]> ]1<a> k1<?> \"1<?>x\n k1<?>d.e {1<?> k2<?.f>f n2<?.f> }1<?> "
	    "k1<g>g f1<g> }0<> ");
}

static void
test_split(void)
{
	static struct trace whole, cut;
	static const char text[] = "{\"k\\u00e9y\":[\"\\ud83d\\ude00 \xf0\x9f\x98\x80 \\\\\\\"\","
	    "-0.10E-07,true,false,null,{},[],12],\"z\":{\"y\":[[0]]}}";
	size_t piece;

	check_int(trace(&whole, text, strlen(text), 1000, NULL), 0);
	for (piece = 1; piece < sizeof(text); piece++) {
		check_int(trace(&cut, text, strlen(text), piece, NULL), 0);
		check_str(cut.text, whole.text);
	}
	/* And every proper beginning is no JSON. */
	for (piece = 0; piece < strlen(text); piece++)
		check_int(trace(&cut, text, piece, 1000, NULL), -EINVAL);
}

static void
test_good(void)
{
	static const char *const good[] = {
	    "0", "-0", "12", " 1 ", "0.5", "1e5", "1E-5", "0e0", "-1.5e+10", "\"\"", "null", "true",
	    "false", "[]", "{}", "[ ]", "{ }", "[1,2]", "[[],{}]", "{\"a\":1,\"a\":2}",
	    "\"\\u0000\"", "\"\x7f\"", "\"\xc3\xa9\"", "\"\xe0\xa0\x80\"", "\"\xed\x9f\xbf\"",
	    "\"\xee\x80\x80\"", "\"\xf4\x8f\xbf\xbf\"", "\"\\uD800\\uDC00\"", "\"\\ud83d\\ude00\\u0041\"", "\"\\/\\b\\f\\n\\r\\t\"",
	};
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!check(parse(good[i]) == 0))
			printf("#   %s\n", good[i]);
}

static void
test_bad(void)
{
	static const char *const wrong[] = {
	    "", " ", "01", "-", "+1", "-a", ".5", "1.", "1.e5", "1e", "1e+", "0x1", "00", "1 2", "1,",
	    "--1", "1.2.3", "1-", "nul", "nulL", "truee", "True", "NaN", "Infinity", "'a'", "a",
	    "\"", "\"a", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"",
	    "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"", "\"\\ud800\\ud800\"", "\"\\udc00\"",
	    "\"\n\"", "\"\t\"", "\"\x01\"", "\"\x80\"", "\"\xc0\x80\"", "\"\xc1\xbf\"",
	    "\"\xe0\x9f\xbf\"", "\"\xed\xa0\x80\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"",
	    "\"\xf5\x80\x80\x80\"", "\"\xff\"", "\"\xc3\"", "\"\xc3(\"", "\"\xe2\x82\"",
	    "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1}", "{", "}", "{]", "{1:2}", "{\"a\"}",
	    "{\"a\":}", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{\"a\" 1}", "{,}", "{\"a\":1]",
	    "[]]", "{}{}", "[] x", "\xef\xbb\xbf[]", "[1\f]", "[1\v]", "//\n1", "[1]/**/",
	};
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (!check(parse(wrong[i]) == -EINVAL))
			printf("#   %s\n", wrong[i]);
	/* A NUL byte is no blank and no end. */
	{
		static struct trace tr;

		check_int(trace(&tr, "[1]\0", 4, 1, NULL), -EINVAL);
		check_int(trace(&tr, "\"a\0b\"", 5, 1, NULL), -EINVAL);
	}
}

static void
test_message(void)
{
	static struct trace tr;
	struct err e;

	check_int(trace(&tr, "[1,\n x]", 7, 1, &e), -EINVAL);
	check_str(e.text, "no valid JSON: no value at byte 5");
	check_int(e.status, ST_FAIL);
	check_int(trace(&tr, "[1,", 3, 1, &e), -EINVAL);
	check_str(e.text, "no valid JSON: it ends too early at byte 3");
}

static void
test_depth(void)
{
	char text[2 * JSON_DEPTH + 3];

	memset(text, '[', JSON_DEPTH);
	memset(text + JSON_DEPTH, ']', JSON_DEPTH);
	text[2 * JSON_DEPTH] = '\0';
	check_int(parse(text), 0);
	memset(text, '[', JSON_DEPTH + 1);
	memset(text + JSON_DEPTH + 1, ']', JSON_DEPTH + 1);
	text[2 * JSON_DEPTH + 2] = '\0';
	check_int(parse(text), -EINVAL);
}

/* The longest path there can be: names up to their limit, then "?" and "[]" down to the last level. */
static void
test_long_path(void)
{
	static struct trace tr;
	char text[4096];
	size_t len = 0;
	int i;

	for (i = 0; i < (int)JSON_DEPTH - 1; i++)
		len += (size_t)sprintf(text + len, "{\"%.*s\":", i < 8 ? 23 : 30,
		    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM");
	len += (size_t)sprintf(text + len, "[1]");
	for (i = 0; i < (int)JSON_DEPTH - 1; i++)
		text[len++] = '}';
	check_int(trace(&tr, text, len, 7, NULL), 0);
	check(strstr(tr.text, ".?.?.?[]>1") != NULL);
}

static void
test_long_text(void)
{
	static char text[70000];
	static struct trace tr;
	size_t n;

	/* Cut at a whole character, wherever the limit falls within it. */
	for (n = JSON_TEXT_MAX - 8; n < JSON_TEXT_MAX + 4; n++) {
		memset(text, 'a', sizeof(text));
		text[0] = '"';
		memcpy(text + n, "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\"", 10);
		check_int(trace(&tr, text, n + 9, 100, NULL), 0);
		check(strstr(tr.text, "~") != NULL || n + 7 < JSON_TEXT_MAX);
	}
	memset(text, 'a', sizeof(text));
	text[0] = text[sizeof(text) - 1] = '"';
	check_int(trace(&tr, text, sizeof(text), 4096, NULL), 0);
	check(strstr(tr.text, "aaa~") != NULL);
	check_int(json_whole_utf8("ab\xf0\x9f\x98", 5), 2);
	check_int(json_whole_utf8("ab\xf0\x9f\x98\x80", 6), 6);
	check_int(json_whole_utf8("a\xc3", 2), 1);
	check_int(json_whole_utf8("", 0), 0);
}

static void
test_callback_stops(void)
{
	static struct trace tr;
	struct json j;
	struct err e = { ST_DONE, "untouched" };
	int stop;

	for (stop = 1; stop <= 6; stop++) {
		memset(&tr, 0, sizeof(tr));
		tr.stop_at = stop;
		json_init(&j, on_token, &tr, &e);
		json_feed(&j, "{\"a\":[1]", 8);
		json_feed(&j, "}", 1);
		check_int(json_end(&j), -EPIPE);
		check_int(tr.tokens, stop);
	}
	check_str(e.text, "untouched");
}

static int
number(void *ctx, const struct json_token *t)
{
	char *out = ctx;
	uint64_t u = 0;
	int64_t i = 0;
	int have_u = json_u64(t, &u) == 0, have_i = json_i64(t, &i) == 0;

	sprintf(out, "%d%" PRIu64 " %d%" PRId64, have_u, u, have_i, i);
	return 0;
}

static void
check_number(const char *text, const char *want)
{
	char got[80] = "";

	check_int(json_parse(text, strlen(text), number, got, NULL), 0);
	check_str(got, want);
}

static void
test_numbers(void)
{
	check_number("0", "10 10");
	check_number("-0", "00 10");
	check_number("7", "17 17");
	check_number("-7", "00 1-7");
	check_number("9223372036854775807", "19223372036854775807 19223372036854775807");
	check_number("9223372036854775808", "19223372036854775808 00");
	check_number("-9223372036854775808", "00 1-9223372036854775808");
	check_number("-9223372036854775809", "00 00");
	check_number("18446744073709551615", "118446744073709551615 00");
	check_number("18446744073709551616", "00 00");
	check_number("99999999999999999999", "00 00");
	check_number("1.0", "00 00");
	check_number("1e3", "00 00");
	check_number("\"1\"", "00 00");
	check_number("null", "00 00");
}

struct snap {
	char id[8], note[6];
	int64_t time;
	uint64_t size;
	int protected, is_scrypt, has_files;
};

static const struct json_field snap_fields[] = {
	JSON_FIELD("id", JSON_AS_TEXT, struct snap, id, 1),
	JSON_FIELD("time", JSON_AS_I64, struct snap, time, 1),
	JSON_FIELD("note", JSON_AS_START, struct snap, note, 0),
	JSON_FIELD("x.size", JSON_AS_U64, struct snap, size, 0),
	JSON_FIELD("protected", JSON_AS_BOOL, struct snap, protected, 0),
	JSON_FIELD("x.Scrypt", JSON_AS_OBJECT, struct snap, is_scrypt, 0),
	JSON_FIELD("files", JSON_AS_ARRAY, struct snap, has_files, 0),
};

static char rows_out[4096];

static int
got_snap(void *ctx, void *row, uint32_t seen)
{
	const struct snap *s = row;

	(void)ctx;
	sprintf(rows_out + strlen(rows_out), "%s,%s,%" PRId64 ",%" PRIu64 ",%d%d%d,%x;", s->id, s->note,
	    s->time, s->size, s->protected, s->is_scrypt, s->has_files, seen);
	return 0;
}

static int
rows_of(const char *path, const char *text, struct json_rows *r, struct err *e)
{
	static struct snap row;

	memset(r, 0, sizeof(*r));
	memset(e, 0, sizeof(*e));
	r->path = path;
	r->fields = snap_fields;
	r->count = sizeof(snap_fields) / sizeof(snap_fields[0]);
	r->row = &row;
	r->size = sizeof(row);
	r->done = got_snap;
	r->e = e;
	rows_out[0] = '\0';
	return json_parse(text, strlen(text), json_rows_token, r, e);
}

static void
test_rows(void)
{
	struct json_rows r;
	struct err e;

	check_int(rows_of("data[]", "{\"data\":[{\"id\":\"a\",\"time\":-5,\"note\":\"abcdefgh\","
	    "\"x\":{\"size\":9,\"Scrypt\":{\"n\":1}},\"protected\":true,\"files\":[{\"id\":\"no\"}]},"
	    "{\"time\":7,\"protected\":0,\"note\":null,\"other\":[1,{\"id\":2}],\"id\":\"b\"}],"
	    "\"id\":\"c\",\"database\":{\"id\":4},\"success\":1}", &r, &e), 0);
	check_str(rows_out, "a,abcde,-5,9,111,7f;b,,7,0,000,13;");
	check_int(r.found, 3);
	check_int(rows_of("data[]", "{\"data\":[]}", &r, &e), 0);
	check_int(r.found, 1);
	check_int(rows_of("data[]", "{\"dat\":[]}", &r, &e), 0);
	check_int(r.found, 0);
	check_int(rows_of("", "{\"id\":\"a\",\"time\":1}", &r, &e), 0);
	check_str(rows_out, "a,,1,0,000,3;");
	check_int(rows_of("data", "{\"data\":{\"id\":\"\",\"time\":1}}", &r, &e), 0);
	check_str(rows_out, ",,1,0,000,3;");
	check_int(rows_of("[]", "[{\"id\":\"q\",\"time\":1}]", &r, &e), 0);
	check_str(rows_out, "q,,1,0,000,3;");
	/* A start of text ends before a character that does not fit. */
	check_int(rows_of("", "{\"id\":\"a\",\"time\":1,\"note\":\"abcd\\u20ac\"}", &r, &e), 0);
	check_str(rows_out, "a,abcd,1,0,000,7;");
}

static void
test_rows_bad(void)
{
	static const struct { const char *path, *text, *why; } t[] = {
	    { "", "{\"id\":\"a\"}", "time is missing" },
	    { "data[]", "{\"data\":[{\"id\":\"a\"}]}", "data[].time is missing" },
	    { "", "{\"id\":null,\"time\":1}", "id is missing" },
	    { "", "{\"id\":1,\"time\":1}", "id is not text that fits" },
	    { "", "{\"id\":\"12345678\",\"time\":1}", "id is not text that fits" },
	    { "", "{\"id\":\"a\\u0000\",\"time\":1}", "id is not text that fits" },
	    { "", "{\"id\":{},\"time\":1}", "id is not text that fits" },
	    { "", "{\"id\":\"a\",\"time\":1.5}", "time is not an integer" },
	    { "", "{\"id\":\"a\",\"time\":1,\"x\":{\"size\":-1}}", "x.size is not a natural number" },
	    { "", "{\"id\":\"a\",\"time\":1,\"id\":\"b\"}", "id is doubled" },
	    { "", "{\"id\":\"a\",\"note\":null,\"note\":null,\"time\":1}", "note is doubled" },
	    { "", "{\"note\":3}", "note is not text" },
	    { "", "{\"protected\":2}", "protected is not true or false" },
	    { "", "{\"protected\":\"1\"}", "protected is not true or false" },
	    { "", "{\"x\":{\"Scrypt\":1}}", "x.Scrypt is not an object" },
	    { "", "{\"files\":{}}", "files is not a list" },
	    { "", "[]", "it is not an object" },
	    { "", "3", "it is not an object" },
	    { "data", "{\"data\":null}", "data is not an object" },
	    { "data[]", "{\"data\":{}}", "data is not a list" },
	    { "data[]", "{\"data\":null}", "data is not a list" },
	    { "data[]", "{\"data\":[1]}", "data[] is not an object" },
	    { "data[]", "{\"data\":[[]]}", "data[] is not an object" },
	};
	struct json_rows r;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		check_int(rows_of(t[i].path, t[i].text, &r, &e), -EINVAL);
		check_str(e.text, t[i].why);
	}
	/* A key with dots in it is not the path it looks like. */
	check_int(rows_of("", "{\"id\":\"a\",\"time\":1,\"x.size\":3}", &r, &e), 0);
	check_str(rows_out, "a,,1,0,000,3;");
}

int
main(void)
{
	run(test_tokens);
	run(test_split);
	run(test_good);
	run(test_bad);
	run(test_message);
	run(test_depth);
	run(test_long_path);
	run(test_long_text);
	run(test_callback_stops);
	run(test_numbers);
	run(test_rows);
	run(test_rows_bad);
	return t_end();
}
