/*
 * JSON (RFC 8259, strict) as a stream of tokens: fed in pieces of any size,
 * nothing allocated.  And rows: the members of an object, or of each object
 * of an array, put into a struct by a table of paths.
 */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define JSON_DEPTH 32u			/* objects and arrays within each other */
#define JSON_TEXT_MAX 4096u		/* bytes of one string, key or number; more is cut */
#define JSON_PATH_MAX 256u

enum json_type {
	JSON_OBJECT, JSON_OBJECT_END, JSON_ARRAY, JSON_ARRAY_END,
	JSON_KEY, JSON_STRING, JSON_NUMBER, JSON_TRUE, JSON_FALSE, JSON_NULL,
};

struct json_token {
	enum json_type type;
	unsigned depth;			/* containers around it; 0: the document itself */
	const char *path;		/* where it stands: "" the document, "data[].backup-id"; a
					 * key's is its value's.  A key with other characters than
					 * [A-Za-z0-9_-] or too long for the path stands as "?". */
	const char *text;		/* key, string: decoded, valid UTF-8; number: as written; */
	size_t len;			/*   NUL after it, and a string may hold NULs itself */
	int cut;			/* it was longer than JSON_TEXT_MAX - 1 */
};

/* Called for each token, whose pointers are good until it returns.  Not 0
 * (a negative errno, its reason set by the callee) ends the parse. */
typedef int (*json_fn)(void *ctx, const struct json_token *t);

struct json {				/* opaque */
	json_fn fn;
	void *ctx;
	struct err *e;
	uint64_t at;			/* bytes consumed */
	int rc;				/* sticky */
	int state;
	int is_key;
	unsigned count;			/* digits of \u, letters of a literal that came */
	unsigned unit, high;		/* \u value; pending high surrogate */
	unsigned need, lo, hi;		/* UTF-8: bytes to come, range of the next one */
	const char *literal;
	enum json_type literal_type;
	unsigned depth;
	uint8_t array[JSON_DEPTH];	/* by depth: is it an array? */
	uint16_t path_len[JSON_DEPTH + 1];	/* by depth: the container's path */
	char path[JSON_PATH_MAX];
	size_t len;
	int cut;
	char text[JSON_TEXT_MAX];
};

/* e may be NULL.  Malformed: -EINVAL, ST_FAIL, "no valid JSON: WHY at byte N". */
void json_init(struct json *j, json_fn fn, void *ctx, struct err *e);
int json_feed(struct json *j, const char *p, size_t n);	/* errors are sticky */
/* To be called in any case: tells the parse's result, and wipes *j. */
int json_end(struct json *j);
/* All three for a text in memory. */
int json_parse(const char *p, size_t n, json_fn fn, void *ctx, struct err *e);

/* The token's number as an integer: 0, else -1 (no number, no integer, out of range). */
int json_i64(const struct json_token *t, int64_t *v);
int json_u64(const struct json_token *t, uint64_t *v);

/* len, less the bytes of a last character that is not whole. */
size_t json_whole_utf8(const char *s, size_t len);

/*
 * Rows (json_rows.c).  A member of a row goes to a field of a struct:
 *
 *	struct snap { char id[256]; int64_t time; char note[80]; };
 *	static const struct json_field fields[] = {
 *		JSON_FIELD("backup-id", JSON_AS_TEXT, struct snap, id, 1),
 *		JSON_FIELD("backup-time", JSON_AS_I64, struct snap, time, 1),
 *		JSON_FIELD("comment", JSON_AS_START, struct snap, note, 0),
 *	};
 *	struct snap s;
 *	struct json_rows rows = { .path = "data[]", .fields = fields, .count = 3,
 *	    .row = &s, .size = sizeof(s), .done = got_snap, .ctx = c, .e = e };
 *	json_init(&j, json_rows_token, &rows, e);
 *
 * To fill several kinds of rows from one text, hand each token to several
 * json_rows_token() in one callback.
 */
enum json_as {
	JSON_AS_TEXT,			/* char[cap]: a string that fits, holds no NUL byte */
	JSON_AS_START,			/* char[cap]: a string's start, up to its first NUL byte */
	JSON_AS_I64, JSON_AS_U64,	/* int64_t, uint64_t */
	JSON_AS_BOOL,			/* int: 0, 1 (servers also write 0 and 1 themselves) */
	JSON_AS_OBJECT,			/* int: 1, an object stands there */
	JSON_AS_ARRAY,			/* int: 1, an array */
};

struct json_field {
	const char *path;		/* from the row on: "backup-id", "kdf.Scrypt.n" */
	enum json_as as;
	size_t offset, cap;		/* within the row's struct */
	int required;
};
#define JSON_FIELD(p, as, type, member, required) \
	{ p, as, offsetof(type, member), sizeof(((type *)0)->member), required }

struct json_rows {
	const char *path;		/* of the objects that are rows: "", "data", "data[]" */
	const struct json_field *fields;
	unsigned count;			/* of fields, at most 32 */
	void *row;
	size_t size;			/* of *row, zeroed before each row */
	/* Called at each row's end; bit i of seen: field i came and was not null. */
	int (*done)(void *ctx, void *row, uint32_t seen);
	void *ctx;
	struct err *e;
	uint64_t found;			/* rows and lists of rows so far; 0: missing; for a path without
					 * [] more than 1: doubled */
	uint32_t seen, came;		/* the last row's fields: not null; at all */
};

/* A json_fn whose ctx is a struct json_rows. A doubled field, a wrong type, text that does not fit,
 * a missing required field, something else than an object in a row's place or a list in its list's:
 * -EINVAL, ST_FAIL, "PATH is …". null counts as missing; unknown members are skipped. */
int json_rows_token(void *rows, const struct json_token *t);

#endif
