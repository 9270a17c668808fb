/*
 * Manifests.  Parses what pbsmap needs of one and checks its signature; knows
 * neither blobs nor files.  What it returns is safe to use: names are plain
 * file names, each there once.
 */
#include "manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bearssl.h>

#include "bytes.h"
#include "canonical.h"
#include "json.h"
#include "repo.h"

/* More than any backup has; bounds the search for doubled names. */
enum { FILES_MAX = 4096 };

struct top {
	char type[8], id[ID_MAX];
	int64_t time;
	int has_files, has_unprotected;
	char fingerprint[96], signature[65];
};

static const struct json_field top_fields[] = {
	JSON_FIELD("backup-type", JSON_AS_TEXT, struct top, type, 1),
	JSON_FIELD("backup-id", JSON_AS_TEXT, struct top, id, 1),
	JSON_FIELD("backup-time", JSON_AS_I64, struct top, time, 1),
	JSON_FIELD("files", JSON_AS_ARRAY, struct top, has_files, 1),
	/* Not used, but it may be there only once, as the key's fingerprint may. */
	JSON_FIELD("unprotected", JSON_AS_OBJECT, struct top, has_unprotected, 0),
	JSON_FIELD("unprotected.key-fingerprint", JSON_AS_TEXT, struct top, fingerprint, 0),
	JSON_FIELD("signature", JSON_AS_TEXT, struct top, signature, 0),
};

/* Room for the longest values there are: more is refused. */
struct file {
	char name[256], csum[65], crypt[16];
	uint64_t size;
};

static const struct json_field file_fields[] = {
	JSON_FIELD("filename", JSON_AS_TEXT, struct file, name, 1),
	JSON_FIELD("csum", JSON_AS_TEXT, struct file, csum, 1),
	JSON_FIELD("size", JSON_AS_U64, struct file, size, 1),
	JSON_FIELD("crypt-mode", JSON_AS_TEXT, struct file, crypt, 0),
};

struct parse {
	struct manifest *m;
	struct err *e;
	struct json_rows top_rows, file_rows;
	struct top top;
	struct file file;
	size_t cap;			/* room in m->files */
};

static int
invalid(struct err *e, const char *what, const char *why)
{
	return err_set(e, ST_DAMAGED, -EINVAL, "%s %s", what, why);
}

/* Older manifests have no crypt-mode where it is "none". */
static int
crypt_mode(const char *s, enum crypt_mode *mode)
{
	if (*s == '\0' || strcmp(s, "none") == 0)
		*mode = CRYPT_NONE;
	else if (strcmp(s, "encrypt") == 0)
		*mode = CRYPT_ENCRYPT;
	else if (strcmp(s, "sign-only") == 0)
		*mode = CRYPT_SIGN;
	else
		return -1;
	return 0;
}

static int
got_file(void *ctx, void *row, uint32_t seen)
{
	const struct file *f = row;
	struct parse *p = ctx;
	struct manifest *m = p->m;
	struct manifest_file *to, *more;

	(void)seen;
	/* It becomes a path in the datastore, and a part of names in /run. */
	if (!safe_id(f->name, strlen(f->name)))
		return invalid(p->e, f->name, "is no safe file name");
	if (manifest_find(m, f->name) != NULL)
		return invalid(p->e, f->name, "is listed twice");
	if (m->count == FILES_MAX)
		return invalid(p->e, "files", "is too long");
	if (m->count == p->cap) {
		p->cap = p->cap * 2 + 8;
		more = realloc(m->files, p->cap * sizeof(*more));
		if (more == NULL)
			return err_set(p->e, ST_FAIL, -ENOMEM, "out of memory");
		m->files = more;
	}
	to = &m->files[m->count];
	memset(to, 0, sizeof(*to));
	memcpy(to->name, f->name, sizeof(to->name));
	to->size = f->size;
	if (crypt_mode(f->crypt, &to->crypt) != 0)
		return invalid(p->e, f->name, "has an unknown crypt-mode");
	if (hex_decode(to->csum, 32, f->csum, strlen(f->csum)) != 0)
		return invalid(p->e, f->name, "has no valid csum");
	m->count++;
	return 0;
}

static int
got_top(void *ctx, void *row, uint32_t seen)
{
	const struct top *t = row;
	struct parse *p = ctx;
	struct manifest *m = p->m;

	(void)seen;
	if (strcmp(t->type, "vm") != 0 && strcmp(t->type, "ct") != 0 && strcmp(t->type, "host") != 0)
		return invalid(p->e, "backup-type", "is unknown");
	if (!safe_id(t->id, strlen(t->id)))
		return invalid(p->e, "backup-id", "is not valid");
	memcpy(m->type, t->type, sizeof(m->type));
	memcpy(m->id, t->id, sizeof(m->id));
	m->time = t->time;
	m->has_fingerprint = *t->fingerprint != '\0';
	if (m->has_fingerprint &&
	    hex_fingerprint(m->fingerprint, t->fingerprint, strlen(t->fingerprint)) != 0)
		return invalid(p->e, "unprotected.key-fingerprint", "is not valid");
	/* null where no key was used; an empty text is as good. */
	m->has_signature = *t->signature != '\0';
	if (m->has_signature &&
	    hex_decode(m->signature, 32, t->signature, strlen(t->signature)) != 0)
		return invalid(p->e, "signature", "is not valid");
	return 0;
}

static int
on_token(void *ctx, const struct json_token *t)
{
	/* Each picks what lies on its own paths. */
	struct parse *p = ctx;
	int rc = json_rows_token(&p->top_rows, t);

	return rc != 0 ? rc : json_rows_token(&p->file_rows, t);
}

int
manifest_parse(const char *json, size_t len, struct manifest *m, struct err *e)
{
	struct err why;
	struct parse p = {
		.m = m, .e = &why,
		.top_rows = { .path = "", .fields = top_fields,
		    .count = sizeof(top_fields) / sizeof(top_fields[0]), .row = &p.top,
		    .size = sizeof(p.top), .done = got_top, .ctx = &p, .e = &why },
		.file_rows = { .path = "files[]", .fields = file_fields,
		    .count = sizeof(file_fields) / sizeof(file_fields[0]), .row = &p.file,
		    .size = sizeof(p.file), .done = got_file, .ctx = &p, .e = &why },
	};
	int rc;

	/* Before the first way out: the caller frees it in any case. */
	memset(m, 0, sizeof(*m));
	rc = json_parse(json, len, on_token, &p, &why);
	if (rc == 0)
		return 0;
	manifest_free(m);
	return err_set(e, rc == -ENOMEM ? ST_FAIL : ST_DAMAGED, rc,
	    "manifest (index.json.blob): %s", why.text);
}

/* Was a key used in this backup?  Then it is signed: clients that could do the one always did the other. */
static int
used_key(const struct manifest *m)
{
	size_t i;

	for (i = 0; i < m->count && m->files[i].crypt == CRYPT_NONE; i++)
		;
	return m->has_fingerprint || i < m->count;
}

static int
check_fingerprint(const struct manifest *m, const struct key *key, int need_key, struct err *e)
{
	char want[96] = "", have[96];

	if (key == NULL && !need_key)
		return 0;
	if (m->has_fingerprint)
		hex_colons(want, m->fingerprint, 32);
	/* Old backups do not say which key it was. */
	if (key == NULL)
		return err_set(e, ST_TRUST, -ENOKEY, "the snapshot was made with a key, and there is none "
		    "here: give --keyfile%s%s", m->has_fingerprint ? " with the key of fingerprint " : "",
		    m->has_fingerprint ? want : "");
	if (!m->has_fingerprint || memcmp(m->fingerprint, key->fingerprint, 32) == 0)
		return 0;
	/* In full, both: so the right file can be found by grep. */
	hex_colons(have, key->fingerprint, 32);
	return err_set(e, ST_TRUST, -EACCES, "wrong key: the snapshot was made with the key of "
	    "fingerprint %s, this one's is %s", want, have);
}

int
manifest_verify(const struct manifest *m, const char *json, size_t len,
    const struct key *key, int need_key, struct err *e)
{
	static const char *const unsigned_members[] = { "unprotected", "signature", NULL };
	br_hmac_key_context hmac_key;
	br_hmac_context hmac;
	struct err why;
	uint8_t want[32];
	char *text;
	size_t n;
	int rc = check_fingerprint(m, key, need_key, e);

	if (rc != 0 || key == NULL)
		return rc;
	if (!m->has_signature)
		return !used_key(m) ? 0 : err_set(e, ST_TRUST, -EACCES, "manifest (index.json.blob): "
		    "it has no signature, as every backup made with a key has: it was changed");
	rc = canonical_json(json, len, unsigned_members, &text, &n, &why);
	if (rc != 0)
		return err_set(e, rc == -ENOMEM ? ST_FAIL : ST_DAMAGED, rc,
		    "manifest (index.json.blob): %s", why.text);
	/* The same text that was parsed, so both mean the same members. */
	br_hmac_key_init(&hmac_key, &br_sha256_vtable, key->id_key, sizeof(key->id_key));
	br_hmac_init(&hmac, &hmac_key, 0);
	br_hmac_update(&hmac, text, n);
	br_hmac_out(&hmac, want);
	free(text);
	if (!equal_ct(want, m->signature, 32))
		rc = err_set(e, ST_TRUST, -EACCES, "manifest (index.json.blob): wrong signature: "
		    "it was changed after the backup, or signed with another key");
	/* All of these could be used to sign. */
	wipe(&hmac_key, sizeof(hmac_key));
	wipe(&hmac, sizeof(hmac));
	wipe(want, sizeof(want));
	return rc;
}

const struct manifest_file *
manifest_find(const struct manifest *m, const char *stored_name)
{
	size_t i;

	for (i = 0; i < m->count; i++)
		if (strcmp(m->files[i].name, stored_name) == 0)
			return &m->files[i];
	return NULL;
}

void
manifest_free(struct manifest *m)
{
	free(m->files);
	memset(m, 0, sizeof(*m));
}
