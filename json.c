/*
 * The JSON scanner.  A byte at a time through a state machine, so
 * that how the text was cut into pieces cannot matter.  Knows nothing of what
 * the texts mean.
 *
 * Invariants: len < JSON_TEXT_MAX; path is a string of at most 2 bytes a
 * container more than PATH_NAMES; after an error no token is delivered.
 */
#include "json.h"

#include <errno.h>
#include <string.h>

#include "bytes.h"

/* Names must end below this, so that "[]" and ".?" always fit behind them. */
#define PATH_NAMES (JSON_PATH_MAX - 1 - 2 * JSON_DEPTH)

enum state {
	VALUE, VALUE_OR_END, KEY, KEY_OR_END, COLON, COMMA, DONE,
	STRING, ESCAPE, HEX, LOW_ESCAPE, LOW_U, LITERAL,
	/* Numbers, by what came last; those from NUM_ZERO on may end there. */
	NUM_MINUS, NUM_DOT, NUM_E, NUM_SIGN, NUM_ZERO, NUM_INT, NUM_FRAC, NUM_EXP,
};

static int
bad(struct json *j, const char *why)
{
	return err_set(j->e, ST_FAIL, -EINVAL, "no valid JSON: %s at byte %llu", why,
	    (unsigned long long)j->at);
}

static int
is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static int
is_blank(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

size_t
json_whole_utf8(const char *s, size_t len)
{
	/* start - 1: the last byte that begins a character. */
	size_t start = len, need;
	unsigned char c;

	while (start > 0 && len - start < 3 && ((unsigned char)s[start - 1] & 0xc0) == 0x80)
		start--;
	if (start == 0)
		return len;
	c = (unsigned char)s[start - 1];
	need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
	return len - (start - 1) < need ? start - 1 : len;
}

/* What does not fit is dropped, and said: who needs the text refuses it. */
static void
put(struct json *j, unsigned c)
{
	if (j->len < JSON_TEXT_MAX - 1)
		j->text[j->len++] = (char)c;
	else
		j->cut = 1;
}

static void
put_utf8(struct json *j, unsigned u)
{
	if (u < 0x80) {
		put(j, u);
		return;
	}
	if (u < 0x800) {
		put(j, 0xc0 | u >> 6);
	} else {
		if (u < 0x10000) {
			put(j, 0xe0 | u >> 12);
		} else {
			put(j, 0xf0 | u >> 18);
			put(j, 0x80 | (u >> 12 & 0x3f));
		}
		put(j, 0x80 | (u >> 6 & 0x3f));
	}
	put(j, 0x80 | (u & 0x3f));
}

static void
start_text(struct json *j, int state)
{
	j->len = 0;
	j->cut = 0;
	j->state = state;
}

static int
emit(struct json *j, enum json_type type)
{
	/* Tokens without a text have an empty one, so that nobody needs to ask. */
	struct json_token t = { .type = type, .depth = j->depth, .path = j->path, .text = "" };

	if (type == JSON_KEY || type == JSON_STRING || type == JSON_NUMBER) {
		if (j->cut)
			j->len = json_whole_utf8(j->text, j->len);
		j->text[j->len] = '\0';
		t.text = j->text;
		t.len = j->len;
		t.cut = j->cut;
	}
	return j->fn(j->ctx, &t);
}

/* A value is whole. */
static int
value(struct json *j, enum json_type type)
{
	j->state = j->depth == 0 ? DONE : COMMA;
	return emit(j, type);
}

/* The path of a member: its object's and the key. */
static void
path_key(struct json *j)
{
	size_t at = j->path_len[j->depth - 1], i;
	const char *name = j->text;
	size_t len = j->len;

	/* Others could look like a path that they are not: "a.b", "a[]". */
	for (i = 0; i < len; i++)
		if (!is_digit((unsigned char)name[i]) && name[i] != '_' && name[i] != '-' &&
		    !((name[i] | 0x20) >= 'a' && (name[i] | 0x20) <= 'z'))
			break;
	if (len == 0 || i < len || at + 1 + len > PATH_NAMES) {
		name = "?";
		len = 1;
	}
	if (at > 0)
		j->path[at++] = '.';
	memcpy(j->path + at, name, len);
	j->path[at + len] = '\0';
}

static int
open_container(struct json *j, int array)
{
	size_t len = strlen(j->path);
	int rc;

	if (j->depth == JSON_DEPTH)
		return bad(j, "too many levels");
	/* Before its path and depth become those of what it holds. */
	rc = emit(j, array ? JSON_ARRAY : JSON_OBJECT);
	if (rc != 0)
		return rc;
	j->array[j->depth] = (uint8_t)array;
	j->path_len[j->depth] = (uint16_t)len;
	j->depth++;
	if (array)
		memcpy(j->path + len, "[]", 3);
	j->state = array ? VALUE_OR_END : KEY_OR_END;
	return 0;
}

static int
close_container(struct json *j, int array)
{
	if (j->array[j->depth - 1] != array)
		return bad(j, "wrong bracket");
	j->depth--;
	/* So the end has the path that the beginning had. */
	j->path[j->path_len[j->depth]] = '\0';
	return value(j, array ? JSON_ARRAY_END : JSON_OBJECT_END);
}

static void
start_literal(struct json *j, const char *word, enum json_type type)
{
	j->literal = word;
	j->literal_type = type;
	j->count = 1;
	j->state = LITERAL;
}

static int
in_value(struct json *j, unsigned char c)
{
	if (is_blank(c))
		return 0;
	/* "[]" is one, "[1,]" is not. */
	if (c == ']' && j->state == VALUE_OR_END)
		return close_container(j, 1);
	j->is_key = 0;
	switch (c) {
	case '{': return open_container(j, 0);
	case '[': return open_container(j, 1);
	case '"': start_text(j, STRING); return 0;
	case 't': start_literal(j, "true", JSON_TRUE); return 0;
	case 'f': start_literal(j, "false", JSON_FALSE); return 0;
	case 'n': start_literal(j, "null", JSON_NULL); return 0;
	default: break;
	}
	if (c != '-' && !is_digit(c))
		return bad(j, "no value");
	/* Nothing but a sign may stand before a zero that leads. */
	start_text(j, c == '-' ? NUM_MINUS : c == '0' ? NUM_ZERO : NUM_INT);
	put(j, c);
	return 0;
}

static int
in_key(struct json *j, unsigned char c)
{
	if (is_blank(c))
		return 0;
	if (c == '}' && j->state == KEY_OR_END)
		return close_container(j, 0);
	if (c != '"')
		return bad(j, "no key");
	j->is_key = 1;
	start_text(j, STRING);
	return 0;
}

static int
between(struct json *j, unsigned char c)
{
	if (is_blank(c))
		return 0;
	if (j->state == COLON && c == ':') {
		j->state = VALUE;
		return 0;
	}
	if (j->state == COMMA && c == ',') {
		j->state = j->array[j->depth - 1] ? VALUE : KEY;
		return 0;
	}
	if (j->state == COMMA && (c == ']' || c == '}'))
		return close_container(j, c == ']');
	return bad(j, j->state == DONE ? "more after the end" :
	    j->state == COLON ? "no ':'" : "no ',' or end");
}

static int
in_literal(struct json *j, unsigned char c)
{
	/* "truex" is caught by what may follow a value. */
	if (c != (unsigned char)j->literal[j->count])
		return bad(j, "no value");
	if (j->literal[++j->count] != '\0')
		return 0;
	return value(j, j->literal_type);
}

/* Starts a character of several bytes, or goes on with it. */
static int
in_utf8(struct json *j, unsigned char c)
{
	if (j->need > 0) {
		if (c < j->lo || c > j->hi)
			return bad(j, "no UTF-8");
		j->need--;
	} else if (c >= 0xc2 && c <= 0xf4) {
		j->need = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
	} else {
		return bad(j, "no UTF-8");
	}
	/* Overlong forms, surrogates and what lies above U+10FFFF are told by the second byte. */
	j->lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	j->hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	put(j, c);
	return 0;
}

static int
in_string(struct json *j, unsigned char c)
{
	if (j->need > 0 || c >= 0x80)
		return in_utf8(j, c);
	if (c < 0x20)
		return bad(j, "control character in a string");
	if (c == '\\') {
		j->state = ESCAPE;
		return 0;
	}
	if (c != '"') {
		put(j, c);
		return 0;
	}
	if (!j->is_key)
		return value(j, JSON_STRING);
	/* The path is there before the key is told, since consumers go by it. */
	path_key(j);
	j->state = COLON;
	return emit(j, JSON_KEY);
}

static int
in_escape(struct json *j, unsigned char c)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at = memchr(from, c, sizeof(from) - 1);

	if (c == 'u') {
		j->count = 0;
		j->unit = 0;
		j->state = HEX;
		return 0;
	}
	if (at == NULL)
		return bad(j, "unknown escape");
	put(j, (unsigned char)to[at - from]);
	j->state = STRING;
	return 0;
}

/* Four digits of \u; a high surrogate must be followed by the low one. */
static int
in_hex(struct json *j, unsigned char c)
{
	unsigned low = c | 0x20u;

	if (is_digit(c))
		j->unit = j->unit << 4 | (c - (unsigned)'0');
	else if (low >= 'a' && low <= 'f')
		j->unit = j->unit << 4 | (low - 'a' + 10);
	else
		return bad(j, "bad \\u escape");
	if (++j->count < 4)
		return 0;
	if ((j->high != 0) != (j->unit >= 0xdc00 && j->unit <= 0xdfff))
		return bad(j, "lone surrogate");
	if (j->unit >= 0xd800 && j->unit <= 0xdbff) {
		j->high = j->unit;
		j->state = LOW_ESCAPE;
		return 0;
	}
	if (j->high != 0)
		put_utf8(j, 0x10000 + ((j->high - 0xd800) << 10) + (j->unit - 0xdc00));
	else
		put_utf8(j, j->unit);
	j->high = 0;
	j->state = STRING;
	return 0;
}

static int
in_low(struct json *j, unsigned char c)
{
	if (c != (j->state == LOW_ESCAPE ? '\\' : 'u'))
		return bad(j, "lone surrogate");
	j->count = 0;
	j->unit = 0;
	j->state = j->state == LOW_ESCAPE ? LOW_U : HEX;
	return 0;
}

/* The state after c within a number; -1: c is not part of it. */
static int
number_next(int state, unsigned char c)
{
	int e = c == 'e' || c == 'E';

	switch (state) {
	case NUM_MINUS: return c == '0' ? NUM_ZERO : is_digit(c) ? NUM_INT : -1;
	case NUM_ZERO: return c == '.' ? NUM_DOT : e ? NUM_E : -1;
	case NUM_INT: return is_digit(c) ? NUM_INT : c == '.' ? NUM_DOT : e ? NUM_E : -1;
	case NUM_DOT: return is_digit(c) ? NUM_FRAC : -1;
	case NUM_FRAC: return is_digit(c) ? NUM_FRAC : e ? NUM_E : -1;
	case NUM_E: return is_digit(c) ? NUM_EXP : c == '+' || c == '-' ? NUM_SIGN : -1;
	default: return is_digit(c) ? NUM_EXP : -1;
	}
}

static int
in_number(struct json *j, unsigned char c)
{
	int next = number_next(j->state, c), rc;

	if (next >= 0) {
		j->state = next;
		put(j, c);
		return 0;
	}
	if (j->state < NUM_ZERO)
		return bad(j, "no number");
	/* Only what follows a number ends it, and must not be lost. */
	rc = value(j, JSON_NUMBER);
	return rc != 0 ? rc : between(j, c);
}

static int
step(struct json *j, unsigned char c)
{
	switch (j->state) {
	case STRING: return in_string(j, c);
	case VALUE: case VALUE_OR_END: return in_value(j, c);
	case KEY: case KEY_OR_END: return in_key(j, c);
	case COLON: case COMMA: case DONE: return between(j, c);
	case ESCAPE: return in_escape(j, c);
	case HEX: return in_hex(j, c);
	case LOW_ESCAPE: case LOW_U: return in_low(j, c);
	case LITERAL: return in_literal(j, c);
	default: return in_number(j, c);
	}
}

void
json_init(struct json *j, json_fn fn, void *ctx, struct err *e)
{
	memset(j, 0, sizeof(*j));
	j->fn = fn;
	j->ctx = ctx;
	j->e = e;
	j->state = VALUE;
}

int
json_feed(struct json *j, const char *p, size_t n)
{
	for (; n > 0 && j->rc == 0; n--) {
		/* at is the byte's own offset until it was taken: errors name it. */
		j->rc = step(j, (unsigned char)*p++);
		j->at++;
	}
	return j->rc;
}

int
json_end(struct json *j)
{
	int rc = j->rc;

	/* A number that is the whole text had nothing behind it to end it. */
	if (rc == 0 && j->depth == 0 && j->state >= NUM_ZERO)
		rc = value(j, JSON_NUMBER);
	if (rc == 0 && j->state != DONE)
		rc = bad(j, "it ends too early");
	/* The texts may be secrets: keys, tickets. */
	wipe(j, sizeof(*j));
	j->rc = rc;
	return rc;
}

int
json_parse(const char *p, size_t n, json_fn fn, void *ctx, struct err *e)
{
	struct json j;

	json_init(&j, fn, ctx, e);
	json_feed(&j, p, n);
	return json_end(&j);
}
