/*
 * Judges the header list of an HTTP/2 answer: the status, its length, what is forbidden.
 *
 * Only notes what is wrong: the block must be decoded to its end in any case, or the
 * decoder's table would differ from the peer's.
 */
#include "h2_parts.h"

#include <string.h>

void
h2_list_start(struct h2_list *l, struct h2_stream *s)
{
	*l = (struct h2_list){ .stream = s, .length = -1, .trailer = s && s->status };
}

/* Three digits. 101 has no meaning here: there is nothing to switch to. */
static void
status_field(struct h2_list *l, const char *v, size_t n)
{
	if (l->status)
		l->bad = "two statuses";
	else if (n != 3 || v[0] < '1' || v[0] > '9' || v[1] < '0' || v[1] > '9' || v[2] < '0' || v[2] > '9')
		l->bad = "status is no number";
	else
		l->status = (v[0] - '0') * 100 + (v[1] - '0') * 10 + (v[2] - '0');
	if (l->status == 101)
		l->bad = "status 101 within HTTP/2";
}

static void
length_field(struct h2_list *l, const char *v, size_t n)
{
	int64_t sum = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		if (v[i] < '0' || v[i] > '9' || sum > INT64_MAX / 16) {
			l->bad = "content-length is no number";
			return;
		}
		sum = sum * 10 + (v[i] - '0');
	}
	if (n == 0)
		l->bad = "content-length is empty";
	else if (l->length >= 0 && l->length != sum)
		l->bad = "two content-lengths";
	else
		l->length = sum;
}

/* Fields that speak of the connection have no place in a stream. */
static int
of_connection(const char *name)
{
	static const char *const names[] = {
		"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade",
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return 1;
	return 0;
}

/* A line end or a NUL in a field is somebody else's header, smuggled. Upper case is forbidden in names. */
static int
text_ok(const char *s, size_t n, int is_name)
{
	size_t i;

	for (i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == 0 || c == '\r' || c == '\n')
			return 0;
		if (is_name && (c <= ' ' || c >= 0x7f || (c >= 'A' && c <= 'Z') || (c == ':' && i > 0)))
			return 0;
	}
	return !is_name || n > 0;
}

static void
check_field(struct h2_list *l, const char *name, size_t name_len, const char *value, size_t value_len)
{
	l->size += name_len + value_len + 32;
	if (l->size > H2_LIST_MAX)
		l->bad = "header too large";
	else if (!text_ok(name, name_len, 1) || !text_ok(value, value_len, 0))
		l->bad = "forbidden character in a header field";
	else if (name[0] != ':')
		l->pseudo_over = 1;
	else if (l->trailer || l->pseudo_over || strcmp(name, ":status") != 0)
		l->bad = "pseudo-header out of place";

	if (l->bad)
		return;
	if (name[0] == ':')
		status_field(l, value, value_len);
	else if (of_connection(name))
		l->bad = "header field of the connection in a stream";
	else if (!l->trailer && strcmp(name, "content-length") == 0)
		length_field(l, value, value_len);
}

int
h2_list_field(void *ctx, const char *name, size_t name_len, const char *value, size_t value_len)
{
	struct h2 *h = ctx;
	struct h2_list *l = &h->list;

	if (!l->stream || l->bad)
		return 0;
	check_field(l, name, name_len, value, value_len);
	if (!l->bad && h->ev->field && l->status / 100 != 1)
		h->ev->field(h->ctx, l->stream->user, name, value);
	return 0;
}

/* The list is whole: is it an answer's, an interim one's or a trailer, each in its place? */
void
h2_list_finish(struct h2_list *l, int end_stream)
{
	if (!l->stream || l->bad)
		return;
	if (l->trailer && !end_stream)
		l->bad = "a second header in the middle of a body";
	else if (!l->trailer && !l->status)
		l->bad = "no status";
	else if (l->status / 100 == 1 && end_stream)
		l->bad = "nothing but an interim status";
}
