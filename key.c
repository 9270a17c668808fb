/*
 * Encryption keys: from a key file's bytes to the keys that blobs, digests and
 * signatures need.  Opens no file and asks nobody itself.  A paper key is the
 * same text between two marker lines, maybe typed by hand: blanks and line
 * breaks may stand anywhere, and what was mistyped shows by the fingerprint.
 * Whatever held a secret is wiped on every way out.
 */
#include "key.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base64.h"
#include "bytes.h"
#include "config.h"
#include "gcm.h"
#include "json.h"
#include "scrypt.h"
#include "sha256.h"

#define DATA_MAX 64u			/* bytes: IV, tag, key; or the key alone */
#define SALT_MAX 256u			/* bytes; today's have 32 */

/* The members of a key file; texts as they stand there. */
struct key_file {
	int has_kdf, has_scrypt, has_pbkdf2;
	uint64_t n, r, p, iter;
	char scrypt_salt[SALT_MAX * 2], pbkdf2_salt[SALT_MAX * 2];
	char data[DATA_MAX * 4];
	char fingerprint[256], hint[256];
	char created[40], modified[40];
};

static const struct json_field fields[] = {
	JSON_FIELD("kdf", JSON_AS_OBJECT, struct key_file, has_kdf, 0),
	JSON_FIELD("kdf.Scrypt", JSON_AS_OBJECT, struct key_file, has_scrypt, 0),
	JSON_FIELD("kdf.Scrypt.n", JSON_AS_U64, struct key_file, n, 0),
	JSON_FIELD("kdf.Scrypt.r", JSON_AS_U64, struct key_file, r, 0),
	JSON_FIELD("kdf.Scrypt.p", JSON_AS_U64, struct key_file, p, 0),
	JSON_FIELD("kdf.Scrypt.salt", JSON_AS_TEXT, struct key_file, scrypt_salt, 0),
	JSON_FIELD("kdf.PBKDF2", JSON_AS_OBJECT, struct key_file, has_pbkdf2, 0),
	JSON_FIELD("kdf.PBKDF2.iter", JSON_AS_U64, struct key_file, iter, 0),
	JSON_FIELD("kdf.PBKDF2.salt", JSON_AS_TEXT, struct key_file, pbkdf2_salt, 0),
	JSON_FIELD("data", JSON_AS_TEXT, struct key_file, data, 1),
	JSON_FIELD("fingerprint", JSON_AS_TEXT, struct key_file, fingerprint, 0),
	JSON_FIELD("hint", JSON_AS_START, struct key_file, hint, 0),
	JSON_FIELD("created", JSON_AS_START, struct key_file, created, 0),
	JSON_FIELD("modified", JSON_AS_START, struct key_file, modified, 0),
};

/* Where the JSON is: from the first brace to the last, between the markers where they stand. */
static const char *
find_json(const char *text, size_t len, size_t *json_len)
{
	static const char begin[] = "BEGIN PROXMOX BACKUP KEY", end[] = "END PROXMOX BACKUP KEY";
	const char *p = len ? memmem(text, len, begin, sizeof begin - 1) : NULL, *q;

	if (p) {
		/* What stands above a paper key is its subject line. */
		len -= (size_t)(p - text);
		text = p;
	}
	q = len ? memmem(text, len, end, sizeof end - 1) : NULL;
	if (q)
		len = (size_t)(q - text);
	p = len ? memchr(text, '{', len) : NULL;
	q = len ? memrchr(text, '}', len) : NULL;
	if (!p || !q || q < p)
		return NULL;
	*json_len = (size_t)(q - p) + 1;
	return p;
}

/* The scanner gets the text without line breaks, wherever these stand, and
 * without the blanks outside of strings (a number may be torn in two). */
static int
read_members(const char *text, size_t len, struct key_file *f, struct err *e)
{
	struct json_rows rows = { .path = "", .fields = fields,
	    .count = sizeof fields / sizeof fields[0], .row = f, .size = sizeof *f, .e = e };
	struct json j;
	int in_string = 0, escaped = 0;

	json_init(&j, json_rows_token, &rows, e);
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (c == '\n' || c == '\r' || c == '\t' || (c == ' ' && !in_string))
			continue;
		if (c == '"' && !escaped)
			in_string = !in_string;
		escaped = c == '\\' && !escaped;
		if (json_feed(&j, &c, 1) < 0)
			break;
	}
	return json_end(&j);
}

/* Before anybody is asked for a passphrase, and before any of these numbers
 * decides how much memory or time is spent. */
static int
check_members(const struct key_file *f, struct err *e)
{
	int rc;

	if (!f->has_kdf)
		return 0;
	if (f->has_scrypt == f->has_pbkdf2)
		return err_set(e, ST_TRUST, -EINVAL, "its key derivation (kdf) is none of null, Scrypt, PBKDF2");
	if (f->has_pbkdf2 && (f->iter == 0 || f->iter > PBKDF2_ITER_MAX))
		return err_set(e, ST_TRUST, -EINVAL, "PBKDF2 with %llu iterations; allowed are 1 to %u",
		    (unsigned long long)f->iter, PBKDF2_ITER_MAX);
	rc = f->has_scrypt ? scrypt_check(f->n, f->r, f->p) : 0;
	if (rc == -E2BIG)
		return err_set(e, ST_TRUST, -EINVAL, "scrypt with n=%llu r=%llu p=%llu wants more than %llu MiB "
		    "or more time than is allowed", (unsigned long long)f->n, (unsigned long long)f->r,
		    (unsigned long long)f->p, SCRYPT_MEM_MAX >> 20);
	if (rc < 0)
		return err_set(e, ST_TRUST, -EINVAL, "scrypt cannot have n=%llu r=%llu p=%llu",
		    (unsigned long long)f->n, (unsigned long long)f->r, (unsigned long long)f->p);
	return 0;
}

/* Asks for the passphrase and derives what the key is encrypted with. */
static int
derive(const struct key_file *f, key_passphrase ask, void *ctx, uint8_t out[32], const char *name, struct err *e)
{
	const char *text = f->has_scrypt ? f->scrypt_salt : f->pbkdf2_salt;
	uint8_t salt[SALT_MAX];
	long saltlen = base64_decode(salt, sizeof salt, text, strlen(text));
	char pass[SECRET_MAX];
	int n, rc = 0;

	if (saltlen <= 0)
		return err_set(e, ST_TRUST, -EINVAL, "key file %s: its salt is missing or damaged", name);
	n = ask(ctx, pass, sizeof pass, e);
	if (n < 0)
		rc = n;
	else if (f->has_pbkdf2)
		pbkdf2(pass, (size_t)n, salt, (size_t)saltlen, (uint32_t)f->iter, out, 32);
	else
		rc = scrypt(pass, (size_t)n, salt, (size_t)saltlen, f->n, f->r, f->p, out, 32);
	if (n >= 0 && rc < 0)
		err_set(e, ST_FAIL, rc, "key file %s: no memory for its passphrase: scrypt takes %llu MiB",
		    name, (unsigned long long)scrypt_memory(f->n, f->r, f->p) >> 20);
	wipe(pass, sizeof pass);
	return rc;
}

/* The key out of the file's data: there as it is, or encrypted with the passphrase. */
static int
open_data(const struct key_file *f, const char *name, key_passphrase ask, void *ctx, uint8_t key[32], struct err *e)
{
	uint8_t data[DATA_MAX], secret[32] = { 0 };
	struct gcm_key g;
	long n = base64_decode(data, sizeof data, f->data, strlen(f->data));
	int rc = 0;

	/* With a passphrase: IV, tag, encrypted key. */
	if (n != (f->has_kdf ? 64 : 32)) {
		rc = err_set(e, ST_TRUST, -EINVAL, "key file %s: its data is damaged", name);
	} else if (!f->has_kdf) {
		memcpy(key, data, 32);
	} else {
		rc = derive(f, ask, ctx, secret, name, e);
		if (rc == 0) {
			gcm_key_init(&g, secret);
			rc = gcm_open(&g, data, data + 16, data + 32, 32) == 0 ? 0 : -EACCES;
			wipe(&g, sizeof g);
			if (rc == 0)
				memcpy(key, data + 32, 32);
			else
				/* The tag cannot tell these two. */
				err_set(e, ST_TRUST, rc, "key file %s: wrong passphrase%s%s%s", name,
				    f->hint[0] ? " (hint: " : " (or a damaged file)", f->hint, f->hint[0] ? ")" : "");
		}
	}
	wipe(data, sizeof data);
	wipe(secret, sizeof secret);
	return rc;
}

void
key_derive(struct key *k)
{
	static const char salt[] = "_id_key", input[] = "Proxmox Backup Encryption Key Fingerprint";
	struct sha256 c;
	uint8_t digest[32];

	pbkdf2(k->key, sizeof k->key, salt, sizeof salt - 1, 10, k->id_key, sizeof k->id_key);
	sha256(digest, input, sizeof input - 1);
	sha256_init(&c);
	sha256_update(&c, digest, sizeof digest);
	sha256_update(&c, k->id_key, sizeof k->id_key);
	sha256_final(&c, k->fingerprint);
}

/* The fingerprint is public, so texts of it may be shown, both of them. */
static int
check_fingerprint(struct key_file *f, const char *name, const struct key *k, struct err *e)
{
	uint8_t want[32];
	char shown[2][96], *to = f->fingerprint;

	if (f->fingerprint[0] == '\0')
		return 0;		/* files of old clients have none */
	for (const char *from = f->fingerprint; *from; from++)
		if (*from != ' ')
			*to++ = *from;
	if (hex_fingerprint(want, f->fingerprint, (size_t)(to - f->fingerprint)) < 0)
		return err_set(e, ST_TRUST, -EINVAL, "key file %s: its fingerprint is damaged", name);
	if (equal_ct(want, k->fingerprint, 32))
		return 0;
	hex_colons(shown[0], want, 32);
	hex_colons(shown[1], k->fingerprint, 32);
	return err_set(e, ST_TRUST, -EACCES, "key file %s: damaged or mistyped: its fingerprint is %s, its key's %s",
	    name, shown[0], shown[1]);
}

/* What stands in the file, checked as far as can be without a passphrase. */
static int
read_file(const void *text, size_t len, const char *name, struct key_file *f, struct err *e)
{
	struct err why = { 0 };
	const char *json = NULL;
	size_t json_len = 0;
	int rc;

	memset(f, 0, sizeof *f);
	if (len <= KEY_FILE_MAX)
		json = find_json(text, len, &json_len);
	if (!json)
		return err_set(e, ST_TRUST, -EINVAL, "key file %s: it is no encryption key (JSON or paper key)", name);
	rc = read_members(json, json_len, f, &why);
	if (rc == 0)
		rc = check_members(f, &why);
	return rc < 0 ? err_set(e, ST_TRUST, rc, "key file %s: %s", name, why.text) : 0;
}

int
key_parse(const void *text, size_t len, const char *name,
    key_passphrase ask, void *ctx, struct key *k, struct err *e)
{
	struct key_file f;
	int rc = read_file(text, len, name, &f, e);

	if (rc == 0)
		rc = open_data(&f, name, ask, ctx, k->key, e);
	if (rc == 0) {
		key_derive(k);
		rc = check_fingerprint(&f, name, k, e);
	}
	if (rc < 0)
		wipe(k, sizeof *k);
	wipe(&f, sizeof f);
	return rc;
}

int
key_info(const void *text, size_t len, const char *name, struct key_info *i, struct err *e)
{
	struct key_file f;
	struct key k = { .key = { 0 } };
	int rc = read_file(text, len, name, &f, e);

	memset(i, 0, sizeof *i);
	if (rc == 0 && !f.has_kdf && (rc = open_data(&f, name, NULL, NULL, k.key, e)) == 0) {
		key_derive(&k);
		rc = check_fingerprint(&f, name, &k, e);
		hex_colons(i->fingerprint, k.fingerprint, 32);
	} else if (rc == 0) {
		snprintf(i->fingerprint, sizeof i->fingerprint, "%.95s", f.fingerprint);
	}
	if (!f.has_kdf)
		snprintf(i->kdf, sizeof i->kdf, "none: whoever has the file has the key");
	else if (f.has_scrypt)
		snprintf(i->kdf, sizeof i->kdf, "scrypt, n=%llu r=%llu p=%llu", (unsigned long long)f.n,
		    (unsigned long long)f.r, (unsigned long long)f.p);
	else
		snprintf(i->kdf, sizeof i->kdf, "PBKDF2, %llu iterations", (unsigned long long)f.iter);
	snprintf(i->hint, sizeof i->hint, "%s", f.hint);
	snprintf(i->created, sizeof i->created, "%s", f.created);
	snprintf(i->modified, sizeof i->modified, "%s", f.modified);
	wipe(&k, sizeof k);
	wipe(&f, sizeof f);
	return rc;
}
