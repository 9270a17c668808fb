/*
 * Rows of lists out of JSON. Pure: knows neither servers nor directories. Rows whose names
 * are none (a newer server's, a hostile one's) are left out, so what comes out is safe as a path.
 */
#include "listing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 4096			/* of one snapshot; as in manifests */
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct json_field api_fields[] = {
	JSON_FIELD("ns", JSON_AS_TEXT, struct api_row, ns, 0),
	JSON_FIELD("backup-type", JSON_AS_TEXT, struct api_row, type, 0),
	JSON_FIELD("backup-id", JSON_AS_TEXT, struct api_row, id, 0),
	JSON_FIELD("backup-time", JSON_AS_I64, struct api_row, time, 0),
	JSON_FIELD("owner", JSON_AS_START, struct api_row, owner, 0),
	JSON_FIELD("last-backup", JSON_AS_I64, struct api_row, last, 0),
	JSON_FIELD("backup-count", JSON_AS_U64, struct api_row, count, 0),
	JSON_FIELD("protected", JSON_AS_BOOL, struct api_row, is_protected, 0),
	JSON_FIELD("verification.state", JSON_AS_START, struct api_row, verify, 0),
	JSON_FIELD("comment", JSON_AS_START, struct api_row, comment, 0),
	JSON_FIELD("fingerprint", JSON_AS_START, struct api_row, fingerprint, 0),
	JSON_FIELD("size", JSON_AS_I64, struct api_row, size, 0),
};
#define API_SIZE (1u << 11)		/* that the last one came */

static const struct json_field manifest_fields[] = {
	JSON_FIELD("unprotected.verify_state.state", JSON_AS_START, struct api_row, verify, 0),
	JSON_FIELD("unprotected.notes", JSON_AS_START, struct api_row, comment, 0),
	JSON_FIELD("unprotected.key-fingerprint", JSON_AS_START, struct api_row, fingerprint, 0),
	JSON_FIELD("signature", JSON_AS_START, struct api_row, signature, 0),
};

static const struct json_field file_fields[] = {
	JSON_FIELD("filename", JSON_AS_TEXT, struct file_row, name, 1),
	JSON_FIELD("crypt-mode", JSON_AS_START, struct file_row, crypt, 0),
	JSON_FIELD("size", JSON_AS_I64, struct file_row, size, 0),
};
#define FILE_CRYPT 2u
#define FILE_SIZE 4u

/* ---- the row ---- */

void
listing_clear(struct listing *l)
{
	struct list_file *files = l->row.files;
	size_t i;

	for (i = 0; i < l->row.count_files; i++)
		free(files[i].name);
	memset(&l->row, 0, sizeof(l->row));
	l->row.files = files;
	l->row.size = -1;
}

void
listing_free(struct listing *l)
{
	listing_clear(l);
	free(l->row.files);
	memset(l, 0, sizeof(*l));
}

int
listing_add(struct listing *l, const char *name, int crypt, int64_t size)
{
	struct list_row *r = &l->row;
	struct list_file *more;
	size_t i;

	for (i = 0; i < r->count_files; i++)
		if (strcmp(r->files[i].name, name) == 0)
			return 0;
	if (!safe_id(name, strlen(name)) || r->count_files == FILES_MAX)
		return 0;
	if (r->count_files == l->p.room) {
		if ((more = realloc(r->files, (l->p.room + 16) * sizeof(*more))) == NULL)
			return err_set(l->p.e, ST_FAIL, -ENOMEM, "out of memory");
		r->files = more;
		l->p.room += 16;
	}
	r->files[r->count_files] = (struct list_file){ strdup(name), crypt, size };
	if (r->files[r->count_files].name == NULL)
		return err_set(l->p.e, ST_FAIL, -ENOMEM, "out of memory");
	r->count_files++;
	if (strcmp(name, "index.json.blob") == 0)
		r->finished = 1;
	return 0;
}

static int
got_file(void *ctx, void *row, uint32_t seen)
{
	const struct file_row *f = row;
	struct listing *l = ctx;
	int crypt = CRYPT_UNKNOWN;

	if (strcmp(f->crypt, "none") == 0)
		crypt = CRYPT_NONE;
	else if (strcmp(f->crypt, "encrypt") == 0)
		crypt = CRYPT_ENCRYPT;
	else if (strcmp(f->crypt, "sign-only") == 0)
		crypt = CRYPT_SIGN;
	/* Old manifests do not say what nothing was done to. */
	else if (!(seen & FILE_CRYPT) && seen & FILE_SIZE)
		crypt = CRYPT_NONE;
	return listing_add(l, f->name, crypt, seen & FILE_SIZE && f->size >= 0 ? f->size : -1);
}

static void
take_texts(struct listing *l, const struct api_row *a)
{
	struct list_row *r = &l->row;

	strcpy(r->verify, a->verify);
	strcpy(r->fingerprint, a->fingerprint);
	strcpy(r->comment, a->comment);
	r->comment[strcspn(r->comment, "\r\n")] = 0;
}

/* Is it a name, and one that was asked for? */
static int
wanted(const struct list_parse *p, const struct api_row *a)
{
	char text[ID_MAX + 16];
	struct snapshot s;

	if (p->what == LIST_NAMESPACES)
		return ns_check(a->ns, NULL) == 0;
	snprintf(text, sizeof(text), "%s/%s", a->type, a->id);
	if (snapshot_parse(text, "", &s, NULL) < 0 || s.has_time)
		return 0;
	return p->what == LIST_GROUPS || (strcmp(a->type, p->at->type) == 0 && strcmp(a->id, p->at->id) == 0 &&
	    (!p->at->has_time || a->time == p->at->time));
}

static int
got_row(void *ctx, void *row, uint32_t seen)
{
	struct listing *l = ctx;
	const struct api_row *a = row;
	struct list_row *r = &l->row;
	int rc = 0;

	if (wanted(&l->p, a)) {
		strcpy(r->name.ns, a->ns);
		if (l->p.what != LIST_NAMESPACES) {
			strcpy(r->name.ns, l->p.at->ns);
			strcpy(r->name.type, a->type);
			strcpy(r->name.id, a->id);
		}
		r->name.has_time = l->p.what == LIST_SNAPSHOTS;
		r->name.time = a->time;
		strcpy(r->owner, a->owner);
		r->last = a->last;
		r->count = a->count;
		r->size = seen & API_SIZE && a->size >= 0 ? a->size : -1;
		r->is_protected = a->is_protected;
		take_texts(l, a);
		rc = l->p.stopped = l->p.fn(l->p.ctx, r);
	}
	listing_clear(l);
	return rc ? -ECANCELED : 0;
}

/* ---- parsing ---- */

static int
token(void *ctx, const struct json_token *t)
{
	struct listing *l = ctx;
	int rc = 0;

	/* A group's files are another thing: names alone. */
	if (l->p.what == LIST_SNAPSHOTS)
		rc = json_rows_token(&l->p.files, t);
	return rc < 0 ? rc : json_rows_token(&l->p.rows, t);
}

static void
set_rows(struct listing *l, const char *rows, const char *files, const struct json_field *fields, unsigned count,
    int (*done)(void *, void *, uint32_t))
{
	l->p.rows = (struct json_rows){ .path = rows, .fields = fields, .count = count, .row = &l->p.api,
	    .size = sizeof(l->p.api), .done = done, .ctx = l, .e = l->p.e };
	l->p.files = (struct json_rows){ .path = files, .fields = file_fields, .count = COUNT(file_fields),
	    .row = &l->p.file, .size = sizeof(l->p.file), .done = got_file, .ctx = l, .e = l->p.e };
}

void
listing_begin(struct listing *l, enum list_what what, const struct snapshot *at, list_fn fn, void *ctx, struct err *e)
{
	memset(l, 0, sizeof(*l));
	l->p.what = what;
	l->p.at = at;
	l->p.fn = fn;
	l->p.ctx = ctx;
	l->p.e = e;
	set_rows(l, "data[]", "data[].files[]", api_fields, COUNT(api_fields), got_row);
	json_init(&l->p.json, token, l, e);
}

int
listing_end(struct listing *l)
{
	int rc = json_end(&l->p.json), stopped = l->p.stopped;

	listing_free(l);
	return stopped ? stopped : rc;
}

static int
got_manifest(void *ctx, void *row, uint32_t seen)
{
	struct listing *l = ctx;

	(void)seen;
	take_texts(l, row);
	return 0;
}

int
listing_manifest(struct listing *l, const char *json, size_t len, uint64_t raw, struct err *e)
{
	size_t i;
	int rc;

	l->p.what = LIST_SNAPSHOTS;
	l->p.e = e;
	set_rows(l, "", "files[]", manifest_fields, COUNT(manifest_fields), got_manifest);
	if ((rc = json_parse(json, len, token, l, e)) < 0)
		return rc;
	rc = listing_add(l, "index.json.blob", l->p.api.signature[0] ? CRYPT_SIGN : CRYPT_NONE, (int64_t)raw);
	l->row.size = 0;
	for (i = 0; i < l->row.count_files; i++)
		if (l->row.files[i].size > 0)
			l->row.size = (int64_t)((uint64_t)l->row.size + (uint64_t)l->row.files[i].size);
	return rc;
}
