/*
 * What consumers of JSON need on top of the scanner: numbers, and rows, which
 * put members of objects into structs by a table.  Sees one token at a time;
 * texts are the scanner's and are copied, never kept.
 */
#include "json.h"

#include <errno.h>
#include <string.h>

int
json_u64(const struct json_token *t, uint64_t *v)
{
	uint64_t n = 0;
	unsigned digit;
	size_t i;

	if (t->type != JSON_NUMBER || t->cut)
		return -1;
	for (i = 0; i < t->len; i++) {
		if (t->text[i] < '0' || t->text[i] > '9')
			return -1;
		digit = (unsigned)(t->text[i] - '0');
		/* Asked before: n * 10 + digit itself could wrap. */
		if (n > (UINT64_MAX - digit) / 10)
			return -1;
		n = n * 10 + digit;
	}
	*v = n;
	return 0;
}

int
json_i64(const struct json_token *t, int64_t *v)
{
	struct json_token magnitude = *t;
	/* "-0" is written by nobody, but is an integer. */
	int minus = t->type == JSON_NUMBER && t->text[0] == '-';
	uint64_t n;

	magnitude.text += minus;
	magnitude.len -= (size_t)minus;
	if (json_u64(&magnitude, &n) != 0 || n > (uint64_t)INT64_MAX + (uint64_t)minus)
		return -1;
	/* -n without leaving the range on the way: INT64_MIN has no positive twin. */
	*v = minus && n > 0 ? -(int64_t)(n - 1) - 1 : (int64_t)n;
	return 0;
}

static int
store_text(const struct json_token *t, const struct json_field *f, char *to)
{
	size_t len = t->len;

	if (t->type != JSON_STRING)
		return -1;
	if (f->as == JSON_AS_START) {
		/* For people: what is cut off would not be shown anyway. */
		len = strlen(t->text);
		if (len >= f->cap)
			len = json_whole_utf8(t->text, f->cap - 1);
	} else if (t->cut || len >= f->cap || memchr(t->text, '\0', len) != NULL) {
		return -1;
	}
	memcpy(to, t->text, len);
	to[len] = '\0';
	return 0;
}

static int
store(const struct json_token *t, const struct json_field *f, void *to)
{
	uint64_t n;
	int flag = 1;

	switch (f->as) {
	case JSON_AS_TEXT: case JSON_AS_START: return store_text(t, f, to);
	case JSON_AS_I64: return json_i64(t, to);
	case JSON_AS_U64: return json_u64(t, to);
	case JSON_AS_OBJECT: flag = t->type == JSON_OBJECT ? 1 : -1; break;
	case JSON_AS_ARRAY: flag = t->type == JSON_ARRAY ? 1 : -1; break;
	case JSON_AS_BOOL:
		if (t->type == JSON_NUMBER)
			flag = json_u64(t, &n) == 0 && n < 2 ? (int)n : -1;
		else
			flag = t->type == JSON_TRUE ? 1 : t->type == JSON_FALSE ? 0 : -1;
		break;
	}
	if (flag < 0)
		return -1;
	memcpy(to, &flag, sizeof(flag));
	return 0;
}

static int
row_end(struct json_rows *r, const struct json_token *t)
{
	unsigned i;

	/* First what is missing: done() may rely on what is required. */
	for (i = 0; i < r->count; i++)
		if (r->fields[i].required && (r->seen >> i & 1) == 0)
			return err_set(r->e, ST_FAIL, -EINVAL, "%s%s%s is missing",
			    t->path, *t->path ? "." : "", r->fields[i].path);
	return r->done != NULL ? r->done(r->ctx, r->row, r->seen) : 0;
}

static int
row_field(struct json_rows *r, const struct json_token *t, unsigned i)
{
	static const char *const names[] = { "text that fits", "text", "an integer",
	    "a natural number", "true or false", "an object", "a list" };
	const struct json_field *f = &r->fields[i];

	if ((r->came >> i & 1) != 0)
		return err_set(r->e, ST_FAIL, -EINVAL, "%s is doubled", t->path);
	r->came |= 1u << i;
	/* Both sides write an Option's None so. */
	if (t->type == JSON_NULL)
		return 0;
	if (store(t, f, (char *)r->row + f->offset) != 0)
		return err_set(r->e, ST_FAIL, -EINVAL, "%s is not %s", t->path, names[f->as]);
	r->seen |= 1u << i;
	return 0;
}

/* The row's own place, or the list that holds the rows. */
static int
row_place(struct json_rows *r, const struct json_token *t, int is_list)
{
	if (t->type == (is_list ? JSON_ARRAY_END : JSON_OBJECT_END))
		return is_list ? 0 : row_end(r, t);
	if (t->type != (is_list ? JSON_ARRAY : JSON_OBJECT))
		return err_set(r->e, ST_FAIL, -EINVAL, "%s is not %s",
		    *t->path != '\0' ? t->path : "it", is_list ? "a list" : "an object");
	r->found++;
	if (!is_list) {
		memset(r->row, 0, r->size);
		r->seen = r->came = 0;
	}
	return 0;
}

int
json_rows_token(void *rows, const struct json_token *t)
{
	struct json_rows *r = rows;
	size_t len = strlen(r->path), list;
	const char *rest;
	unsigned i;

	if (t->type == JSON_KEY)
		return 0;
	if (len >= 2 && r->path[len - 1] == ']') {
		list = len - 2;
		if (strncmp(t->path, r->path, list) == 0 && t->path[list] == '\0')
			return row_place(r, t, 1);
	}
	if (strncmp(t->path, r->path, len) != 0)
		return 0;
	/* Within a row, unless only the name begins alike: "data", "database". */
	rest = t->path + len;
	if (*rest == '\0')
		return row_place(r, t, 0);
	if (t->type == JSON_OBJECT_END || t->type == JSON_ARRAY_END || (len > 0 && *rest++ != '.'))
		return 0;
	for (i = 0; i < r->count; i++)
		if (strcmp(rest, r->fields[i].path) == 0)
			return row_field(r, t, i);
	return 0;
}
