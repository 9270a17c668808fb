/*
 * A snapshot, ready to be read. Joins what the parsers, the source and the key have to say
 * about it; reads no chunk and maps nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "blob.h"
#include "bytes.h"
#include "confine.h"
#include "config.h"
#include "keyfile.h"
#include "log.h"
#include "relay.h"
#include "sha256.h"
#include "snap.h"
#include "spill.h"

/* ---- manifest ---- */

static int
read_manifest(struct snap *s, struct err *e)
{
	struct blob_worker *w = NULL;
	struct err why;
	uint8_t *raw = NULL;
	size_t len;
	char name[ID_MAX + 64];
	int rc, encrypted;

	if ((rc = s->source->ops->file(s->source, "index.json.blob", MANIFEST_MAX, &raw, &len, e)) < 0) {
		snapshot_print(&s->name, name, sizeof(name));
		if (rc == -ENOENT)
			err_set(e, ST_DAMAGED, rc, "%s is unfinished: it has no manifest (index.json.blob)", name);
		return rc;
	}
	s->json = malloc(MANIFEST_MAX);
	if (s->json == NULL || (w = blob_worker_new()) == NULL)
		rc = err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	else if ((rc = blob_decode(w, NULL, raw, len, (uint8_t *)s->json, MANIFEST_MAX, &s->json_len,
	    &encrypted, &why)) < 0)
		err_set(e, ST_DAMAGED, rc, "manifest (index.json.blob): %s", why.text);
	else
		rc = manifest_parse(s->json, s->json_len, &s->manifest, e);
	if (w)
		blob_worker_free(w);
	free(raw);
	return rc;
}

/* A manifest that was put into another snapshot's directory is an attack or a mistake. */
static int
check_names(const struct snap *s, struct err *e)
{
	const struct manifest *m = &s->manifest;
	char time[21];

	if (strcmp(m->type, s->name.type) == 0 && strcmp(m->id, s->name.id) == 0 && m->time == s->name.time)
		return 0;
	time_print(m->time, time);
	return err_set(e, ST_DAMAGED, -EBADMSG, "the manifest is that of another snapshot, %s/%s/%s",
	    m->type, m->id, time);
}

int
snap_open(struct snap *s, const struct opts *o, const char *snapshot, struct err *e)
{
	int rc;

	memset(s, 0, sizeof(*s));
	/* A name that is none is found before anybody is asked for a password. */
	if ((rc = snapshot_parse(snapshot, "", &s->name, e)) < 0 || (rc = origin_open(&s->origin, o, e)) < 0)
		return rc;
	if ((rc = snapshot_parse(snapshot, s->origin.ns, &s->name, e)) < 0 ||
	    (relay_on() && (rc = confine(s, e)) < 0))
		return rc;
	return (rc = snap_enter(s, e)) < 0 ? rc : snap_read(s, e);
}

int
snap_enter(struct snap *s, struct err *e)
{
	int rc;

	s->source = s->origin.source;
	rc = source_resolve(s->source, &s->name, e);
	return rc < 0 ? rc : s->source->ops->open(s->source, &s->name, e);
}

int
snap_read(struct snap *s, struct err *e)
{
	int rc = read_manifest(s, e);

	return rc < 0 ? rc : check_names(s, e);
}

/* ---- key ---- */

static int
read_key(const char *path, int fd, struct key *k, int *has_key, struct err *e)
{
	const char *name = path ? path : "(descriptor)";
	char *text;
	size_t len;
	int rc;

	if ((rc = keyfile_read(path, fd, "key file ", &text, &len, e)) < 0)
		return rc;
	rc = key_parse(text, len, name, keyfile_passphrase, NULL, k, e);
	*has_key = rc == 0;
	keyfile_free(text);
	return rc;
}

int
snap_default_key(char *out, size_t cap)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (base && *base)
		snprintf(out, cap, "%s/proxmox-backup/encryption-key.json", base);
	else if (home && *home)
		snprintf(out, cap, "%s/.config/proxmox-backup/encryption-key.json", home);
	else
		return 0;
	return access(out, F_OK) == 0;
}

int
snap_key_file(const struct opts *o, int needed, struct key *k, int *has_key, struct err *e)
{
	char path[4096];

	if (o->keyfile)
		return read_key(o->keyfile, -1, k, has_key, e);
	if (o->keyfd >= 0)
		return read_key(NULL, o->keyfd, k, has_key, e);
	if (needed && snap_default_key(path, sizeof(path)))
		return read_key(path, -1, k, has_key, e);
	return 0;
}

static int
any_encrypted(const struct manifest *m)
{
	size_t i;

	for (i = 0; i < m->count && m->files[i].crypt != CRYPT_ENCRYPT; i++)
		;
	return i < m->count;
}

int
snap_unlock(struct snap *s, const struct opts *o, const struct manifest_file *f, struct err *e)
{
	int encrypted = f ? f->crypt == CRYPT_ENCRYPT : any_encrypted(&s->manifest);
	int needed = encrypted || s->manifest.has_fingerprint, rc;

	rc = relay_on() ? relay_key(needed, &s->key, &s->has_key, e) :
	    snap_key_file(o, needed, &s->key, &s->has_key, e);
	if (rc < 0)
		return rc;
	rc = manifest_verify(&s->manifest, s->json, s->json_len, snap_key(s), needed && f, e);
	if (rc == 0 && f && encrypted && !s->has_key)
		rc = err_set(e, ST_TRUST, -ENOKEY, "%s is encrypted; give its key with --keyfile", f->name);
	return rc;
}

const struct key *
snap_key(const struct snap *s)
{
	return s->has_key ? &s->key : NULL;
}

/* ---- archives ---- */

/* The log of the backup, which is written when the manifest is. */
static const struct manifest_file client_log = { .name = "client.log.blob", .size = NOT_LISTED };

/* "holds: a.img, b.img, c.conf" */
static int
say_contents(const struct snap *s, const char *wanted, struct err *e)
{
	char list[512] = "", name[256];
	size_t i, n = 0;

	for (i = 0; i < s->manifest.count && n < sizeof(list); i++) {
		archive_print(s->manifest.files[i].name, name, sizeof(name));
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", name);
	}
	return err_set(e, ST_FAIL, -ENOENT, "no archive '%s' in the snapshot; it holds: %s", wanted,
	    n ? list : "nothing");
}

int
snap_find(const struct snap *s, const char *archive, enum archive_kind kind,
    const struct manifest_file **f, struct err *e)
{
	enum archive_kind is;
	char stored[256];
	int rc;

	if ((rc = archive_parse(archive, stored, sizeof(stored), &is, e)) < 0)
		return rc;
	if (is != kind && is == ARCHIVE_PXAR)
		return err_set(e, ST_USAGE, -EINVAL, "%s is a file archive: use 'mount' for it", archive);
	if ((*f = manifest_find(&s->manifest, stored)) == NULL && strcmp(stored, client_log.name) != 0)
		return say_contents(s, archive, e);
	if (*f == NULL)
		*f = &client_log;
	if (is != kind)
		return err_set(e, ST_USAGE, -EINVAL, "%s is no disk image: use 'restore' for it", archive);
	return 0;
}

int
snap_spill_file(size_t len)
{
	const char *const dirs[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };

	return spill_open(len, dirs, 3);
}

/* An index of many TiB is better not in memory. */
static void
put_away(struct archive *a, size_t len)
{
	uint8_t *p;

	if (len <= INDEX_RAM || (p = spill(relay_on() ? relay_spill(len) : snap_spill_file(len), a->bytes, len)) == NULL)
		return;
	free(a->bytes);
	a->bytes = p;
	a->mapped = len;
}

int
snap_index(struct snap *s, const struct manifest_file *f, struct archive *a, struct err *e)
{
	struct sysinfo si = { .totalram = SIZE_MAX / 2, .mem_unit = 1 };
	struct err why;
	uint64_t max;
	size_t len;
	int rc;

	memset(a, 0, sizeof(*a));
	a->file = f;
	sysinfo(&si);
	max = (uint64_t)si.totalram * si.mem_unit / 4 * 3;
	if ((rc = s->source->ops->file(s->source, f->name, max, &a->bytes, &len, e)) < 0) {
		if (rc == -EFBIG)
			err_set(e, ST_FAIL, rc, "%s: the index does not fit into this machine's memory", f->name);
		if (rc == -ENOENT)
			err_set(e, ST_DAMAGED, rc, "%s: is in the manifest but not in the snapshot", f->name);
		return rc;
	}
	put_away(a, len);
	if ((rc = index_parse(a->bytes, len, f, &a->index, &why)) < 0)
		return err_set(e, why.status, rc, "%s: %s", f->name, why.text);
	if (a->mapped)
		madvise(a->bytes, a->mapped, MADV_DONTNEED);	/* until it is wanted again */
	index_learn_zero(&a->index, snap_key(s));
	return 0;
}

/* Of the raw blob: not what the manifest says of it? */
static int
check_raw(const struct manifest_file *f, const uint8_t *raw, size_t len, struct err *e)
{
	uint8_t csum[32];

	if (f->size == NOT_LISTED)
		return 0;
	sha256(csum, raw, len);
	if (len == f->size && memcmp(csum, f->csum, 32) == 0)
		return 0;
	return err_set(e, ST_DAMAGED, -EBADMSG, "%s: another %s than the manifest says", f->name,
	    len != f->size ? "length" : "checksum");
}

int
snap_blob(struct snap *s, const struct manifest_file *f, uint8_t **out, size_t *len, struct err *e)
{
	struct blob_worker *w = NULL;
	struct err why;
	uint8_t *raw = NULL;
	size_t n;
	int rc, encrypted;

	*out = NULL;
	if ((rc = s->source->ops->file(s->source, f->name, BLOB_MAX + 4096, &raw, &n, e)) < 0)
		return rc != -ENOENT ? rc : err_set(e, f->size == NOT_LISTED ? ST_FAIL : ST_DAMAGED, rc,
		    "%s: is %snot in the snapshot", f->name, f->size == NOT_LISTED ? "" : "in the manifest but ");
	if ((*out = malloc(BLOB_MAX)) == NULL || (w = blob_worker_new()) == NULL)
		rc = err_set(e, ST_FAIL, -ENOMEM, "%s: not enough memory", f->name);
	else if ((rc = check_raw(f, raw, n, e)) == 0 &&
	    (rc = blob_decode(w, snap_key(s), raw, n, *out, BLOB_MAX, len, &encrypted, &why)) < 0)
		err_set(e, why.status, rc, "%s: %s", f->name, why.text);
	/* The key to a backup is encrypted inside, with a master key. */
	else if (rc == 0 && encrypted != (f->crypt == CRYPT_ENCRYPT) && f->size != NOT_LISTED && strcmp(f->name, "rsa-encrypted.key.blob") != 0)
		rc = err_set(e, ST_DAMAGED, -EBADMSG, "%s: %sencrypted, which the manifest denies", f->name,
		    encrypted ? "" : "not ");
	if (w)
		blob_worker_free(w);
	free(raw);
	if (rc < 0) {
		free(*out);
		*out = NULL;
	}
	return rc;
}

void
archive_free(struct archive *a)
{
	if (a->mapped)
		spill_free(a->bytes, a->mapped);
	else
		free(a->bytes);
	a->bytes = NULL;
	a->mapped = 0;
}

void
snap_close(struct snap *s)
{
	origin_close(&s->origin);
	manifest_free(&s->manifest);
	free(s->json);
	wipe(&s->key, sizeof(s->key));
	s->source = NULL;
	s->json = NULL;
}
