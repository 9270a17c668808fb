/*
 * Canonical JSON.  Tokens are written as they come; at an object's end its
 * members, by then canonical themselves, are put in order.  Knows nothing of
 * manifests.
 *
 * Invariant: the canonical form is no longer than the text, since no escape
 * it writes is longer than what stood there, nor are all its keys together;
 * so three buffers of that length do.
 */
#include "canonical.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

enum { MEMBERS_MAX = 1024 };		/* of all objects open at once; manifests have ten */

struct member {
	const char *key;		/* decoded, in keys[] */
	size_t key_len;
	size_t start, len;		/* of `"key":value`, in out[] */
};

struct canonical {
	const char *const *without;
	struct err *e;
	size_t cap;			/* of each buffer */
	char *out, *scratch, *keys;
	size_t len, keys_len;
	int skip;			/* within a member that is left out */
	size_t count;			/* of members of objects still open */
	size_t first[JSON_DEPTH];	/* by depth: the object's first one; an array's elements so far */
	struct member members[MEMBERS_MAX];
};

static int
bad(struct canonical *c, const char *why)
{
	return err_set(c->e, ST_FAIL, -EINVAL, "%s", why);
}

static int
put(struct canonical *c, const char *p, size_t n)
{
	if (n > c->cap - c->len)
		return bad(c, "the canonical form is too long");
	memcpy(c->out + c->len, p, n);
	c->len += n;
	return 0;
}

static int
put_string(struct canonical *c, const char *p, size_t n)
{
	static const char names[] = "btn-fr";	/* from 8 on; 11 has none */
	char escape[8];
	int rc = put(c, "\"", 1);
	size_t i, len;

	for (i = 0; i < n && rc == 0; i++) {
		if (p[i] == '"' || p[i] == '\\')
			len = (size_t)snprintf(escape, sizeof(escape), "\\%c", p[i]);
		else if (p[i] >= 8 && p[i] <= 13 && p[i] != 11)
			len = (size_t)snprintf(escape, sizeof(escape), "\\%c", names[p[i] - 8]);
		else if ((unsigned char)p[i] < 0x20)
			len = (size_t)snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)p[i]);
		else
			len = 0;
		rc = len > 0 ? put(c, escape, len) : put(c, p + i, 1);
	}
	return rc == 0 ? put(c, "\"", 1) : rc;
}

static int
by_key(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
	int diff = memcmp(x->key, y->key, n);

	/* A key sorts behind its own beginnings, as strings do in Rust. */
	return diff != 0 ? diff : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

/* The value that was just written ends the newest member. */
static void
end_member(struct canonical *c, size_t first)
{
	if (c->count > first)
		c->members[c->count - 1].len = c->len - c->members[c->count - 1].start;
}

static int
end_object(struct canonical *c, size_t first)
{
	struct member *m = c->members + first;
	size_t n = c->count - first, start, i;
	int rc = 0;

	/* Until here they stand one behind another, without commas. */
	if (n > 0) {
		end_member(c, first);
		start = m->start;
		memcpy(c->scratch + start, c->out + start, c->len - start);
		qsort(m, n, sizeof(*m), by_key);
		c->len = start;
		for (i = 0; i < n && rc == 0; i++) {
			if (i > 0 && by_key(m + i - 1, m + i) == 0)
				rc = bad(c, "a key is doubled");
			else if (i > 0)
				rc = put(c, ",", 1);
			if (rc == 0)
				rc = put(c, c->scratch + m[i].start, m[i].len);
		}
		c->count = first;
	}
	return rc == 0 ? put(c, "}", 1) : rc;
}

static int
start_member(struct canonical *c, const struct json_token *t)
{
	struct member *m;
	int rc;

	/* A value has no end of its own here: the next key, or the object's end, is it. */
	end_member(c, c->first[t->depth - 1]);
	if (c->count == MEMBERS_MAX)
		return bad(c, "too many members");
	m = &c->members[c->count++];
	m->key = memcpy(c->keys + c->keys_len, t->text, t->len);
	m->key_len = t->len;
	m->start = c->len;
	c->keys_len += t->len;
	rc = put_string(c, t->text, t->len);
	return rc == 0 ? put(c, ":", 1) : rc;
}

/* Is what stands at this path an array's element? */
static int
is_element(const struct json_token *t)
{
	size_t len = strlen(t->path);

	return len > 0 && t->path[len - 1] == ']';
}

static int
on_value(struct canonical *c, const struct json_token *t)
{
	switch (t->type) {
	case JSON_OBJECT:
		c->first[t->depth] = c->count;
		return put(c, "{", 1);
	case JSON_ARRAY:
		c->first[t->depth] = 0;
		return put(c, "[", 1);
	case JSON_OBJECT_END: return end_object(c, c->first[t->depth]);
	case JSON_ARRAY_END: return put(c, "]", 1);
	case JSON_STRING: return put_string(c, t->text, t->len);
	case JSON_NUMBER: return put(c, t->text, t->len);
	case JSON_TRUE: return put(c, "true", 4);
	case JSON_FALSE: return put(c, "false", 5);
	default: return put(c, "null", 4);
	}
}

static int
on_token(void *ctx, const struct json_token *t)
{
	struct canonical *c = ctx;
	const char *const *name = c->without;
	int rc = 0;

	if (t->depth == 0 && t->type != JSON_OBJECT && t->type != JSON_OBJECT_END)
		return bad(c, "not an object");
	if (t->depth == 0)
		c->skip = 0;
	if (t->depth == 1 && t->type == JSON_KEY) {
		while (*name != NULL && (strlen(*name) != t->len || memcmp(*name, t->text, t->len) != 0))
			name++;
		c->skip = *name != NULL;
	}
	if (c->skip)
		return 0;
	if (t->cut)
		return bad(c, "a text is too long");
	if (t->type == JSON_KEY)
		return start_member(c, t);
	if (is_element(t) && t->type != JSON_OBJECT_END && t->type != JSON_ARRAY_END &&
	    c->first[t->depth - 1]++ > 0)
		rc = put(c, ",", 1);
	return rc == 0 ? on_value(c, t) : rc;
}

int
canonical_json(const char *json, size_t len, const char *const *without,
    char **out, size_t *outlen, struct err *e)
{
	struct canonical *c = calloc(1, sizeof(*c));
	int rc = -ENOMEM;

	*out = NULL;
	if (c == NULL)
		return err_set(e, ST_FAIL, rc, "out of memory");
	c->without = without;
	c->e = e;
	c->cap = len;
	c->out = malloc(len + 1);
	c->scratch = malloc(len + 1);
	c->keys = malloc(len + 1);
	if (c->out == NULL || c->scratch == NULL || c->keys == NULL)
		err_set(e, ST_FAIL, rc, "out of memory");
	else
		rc = json_parse(json, len, on_token, c, e);
	if (rc == 0) {
		*out = c->out;
		*outlen = c->len;
		c->out = NULL;
	}
	free(c->out);
	free(c->scratch);
	free(c->keys);
	free(c);
	return rc;
}
