/*
 * `key show` and `key recover`. The recovered key is a key file as the official client has it, without a
 * passphrase: it goes to stdout or to a new file of root's alone, and is checked before a byte of it is written.
 */
#include "keycmd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blob.h"
#include "bytes.h"
#include "config.h"
#include "jsonout.h"
#include "keyfile.h"
#include "log.h"
#include "pem.h"
#include "snap.h"

#define RECOVER_FILE "rsa-encrypted.key.blob"

/* ---- show ---- */

static void
show_member(int json, const char *name, char *value)
{
	if (value[0] == 0)
		return;
	if (json) {
		printf(", \"%s\": ", name);
		json_out(stdout, value);
	} else {
		err_printable(value);
		printf("%-12s %s\n", name, value);
	}
}

static int
show(const struct opts *o, struct err *e)
{
	const char *path = o->operand[1];
	struct key_info i;
	char *text;
	size_t len;
	int rc;

	if ((rc = keyfile_read(path, -1, "key file ", &text, &len, e)) < 0)
		return rc;
	if ((rc = key_info(text, len, path, &i, e)) == 0) {
		if (i.fingerprint[0] == 0 && !o->json)
			snprintf(i.fingerprint, sizeof(i.fingerprint), "not in the file (an old one)");
		if (o->json)
			fputs("{\"file\": ", stdout), json_out(stdout, path);
		show_member(o->json, "fingerprint", i.fingerprint);
		show_member(o->json, "kdf", i.kdf);
		show_member(o->json, "hint", i.hint);
		show_member(o->json, "created", i.created);
		show_member(o->json, "modified", i.modified);
		if (o->json)
			puts("}");
	}
	keyfile_free(text);
	return rc;
}

/* ---- recover ---- */

struct recover {
	const struct opts *o;
	struct pem_key master;
	struct snap snap;		/* not opened when it is a file */
	uint8_t *data;			/* encrypted with the master key, RECOVER_FILE's or a file's; then decrypted in place */
	size_t len;
};

/* As it lies in a snapshot's directory, or out of its blob as `restore` writes it. */
static int
read_file(struct recover *r, const char *path, struct err *e)
{
	struct blob_worker *w = NULL;
	struct err why;
	char *raw;
	size_t len;
	int rc;

	if ((rc = keyfile_read(path, -1, "", &raw, &len, e)) < 0)
		return rc;
	r->len = len;
	if ((r->data = malloc(KEY_FILE_MAX)) == NULL || (w = blob_worker_new()) == NULL)
		rc = err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	else if (len == r->master.size)
		memcpy(r->data, raw, len);
	else if ((rc = blob_decode(w, NULL, (uint8_t *)raw, len, r->data, KEY_FILE_MAX, &r->len, NULL, &why)) < 0)
		err_set(e, ST_DAMAGED, rc, "%s: no copy of a key (%s): %s", path, RECOVER_FILE, why.text);
	if (w)
		blob_worker_free(w);
	keyfile_free(raw);
	return rc;
}

static int
read_snapshot(struct recover *r, const char *name, struct err *e)
{
	const struct manifest_file *f;
	int rc;

	if ((rc = snap_open(&r->snap, r->o, name, e)) < 0)
		return rc;
	if ((f = manifest_find(&r->snap.manifest, RECOVER_FILE)) == NULL)
		return err_set(e, ST_FAIL, -ENOENT, "%s holds no %s: it was made without a master key", name, RECOVER_FILE);
	return snap_blob(&r->snap, f, &r->data, &r->len, e);
}

/* The key file in it, which must be one, and the snapshot's. */
static int
decrypt(struct recover *r, uint8_t **text, size_t *len, struct key *k, struct err *e)
{
	const struct manifest *m = &r->snap.manifest;
	char shown[2][96];
	long n = r->len == r->master.size ? pem_decrypt(&r->master, r->data, text) : -1;
	int rc;

	if (n < 0)
		return err_set(e, ST_TRUST, -EACCES, "the master key %s does not open it: it was made for another one", r->o->master);
	*len = (size_t)n;
	if ((rc = key_parse(*text, *len, "(recovered)", keyfile_passphrase, NULL, k, e)) < 0)
		return rc;
	if (!m->has_fingerprint || equal_ct(m->fingerprint, k->fingerprint, 32))
		return 0;
	hex_colons(shown[0], k->fingerprint, 32);
	hex_colons(shown[1], m->fingerprint, 32);
	return err_set(e, ST_TRUST, -EACCES, "the key in %s is not the snapshot's: its fingerprint is %s, the snapshot's %s",
	    RECOVER_FILE, shown[0], shown[1]);
}

static int
write_key(const char *path, const uint8_t *text, size_t len, struct err *e)
{
	FILE *f = stdout;
	int fd, rc;

	if (path && strcmp(path, "-") != 0) {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 || (f = fdopen(fd, "w")) == NULL)
			return err_set(e, ST_FAIL, -errno, "%s: %s%s", path, strerror(errno),
			    errno == EEXIST ? "; it is not overwritten" : "");
	}
	fwrite(text, 1, len, f);
	putc('\n', f);
	rc = fflush(f) == 0 && !ferror(f) && (f == stdout || fsync(fileno(f)) == 0) ? 0 : -errno;
	if (f != stdout && fclose(f) != 0 && rc == 0)
		rc = -errno;
	if (rc < 0 && f != stdout)
		unlink(path);		/* a piece of a key would stand in the way of the next try */
	return rc < 0 ? err_set(e, ST_FAIL, rc, "%s: %s", path ? path : "stdout", strerror(-rc)) : 0;
}

static int
recover(struct recover *r, struct err *e)
{
	const struct opts *o = r->o;
	const char *what = o->operand[1];
	struct snapshot is;
	struct key k;
	char *pem, shown[96], prompt[] = "Passphrase of the master key: ";
	uint8_t *text;
	size_t len;
	int rc;

	if ((rc = keyfile_read(o->master, -1, "master key ", &pem, &len, e)) < 0)
		return rc;
	rc = pem_parse(pem, len, o->master, keyfile_passphrase, prompt, &r->master, e);
	keyfile_free(pem);
	if (rc < 0)
		return rc;
	rc = snapshot_parse(what, "", &is, NULL) == 0 ? read_snapshot(r, what, e) : read_file(r, what, e);
	if (rc < 0 || (rc = decrypt(r, &text, &len, &k, e)) < 0)
		return rc;
	if ((rc = write_key(o->operands > 2 ? o->operand[2] : NULL, text, len, e)) == 0) {
		hex_colons(shown, k.fingerprint, 32);
		say("the key with the fingerprint %s", shown);
	}
	wipe(&k, sizeof(k));
	return rc;
}

int
keycmd_run(const struct opts *o, struct err *e)
{
	struct recover *r;
	int rc;

	if (strcmp(o->operand[0], "show") == 0 && o->operands == 2)
		return show(o, e);
	if (strcmp(o->operand[0], "recover") != 0 || !o->master)
		return err_set(e, ST_USAGE, -EINVAL, "usage: pbsmap key show FILE, or "
		    "pbsmap key recover --master PRIVATE.pem SNAPSHOT|BLOB [OUT]");
	if ((r = calloc(1, sizeof(*r))) == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	r->o = o;
	rc = recover(r, e);
	snap_close(&r->snap);
	if (r->data)
		wipe(r->data, r->len);
	free(r->data);
	wipe(r, sizeof(*r));
	free(r);
	return rc;
}
