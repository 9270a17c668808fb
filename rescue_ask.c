/*
 * The questions of `rescue`, a step each: what was given is passed over. What there is to choose from is taken
 * from the source, as `list` does. Secrets go into the environment, where commands find them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bytes.h"
#include "conf.h"
#include "config.h"
#include "human.h"
#include "keyfile.h"
#include "list.h"
#include "log.h"
#include "nearby.h"
#include "rescue_parts.h"
#include "secret.h"
#include "snap.h"

#define ROOT "(root)"			/* the root namespace in a list */

/* ---- asking ---- */

static int
result(enum menu_result rc)
{
	return rc == MENU_CHOSEN ? ASKED : rc == MENU_BACK ? BACK : QUIT;
}

static int
ask(struct rescue *r, const char *question)
{
	r->menu.question = question;
	return result(menu_ask(&r->menu));
}

/* A question without a list; the answer goes to out. */
static int
ask_text(struct rescue *r, const char *question, const char *preset, char *out, size_t cap)
{
	int rc;

	menu_clear(&r->menu);
	r->menu.any = 1;
	r->menu.preset = preset;
	rc = ask(r, question);
	snprintf(out, cap, "%s", r->menu.answer);
	return rc;
}

static int
no_memory(struct err *e)
{
	return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
}

static void
complain(struct err *e)
{
	say("%s", e->text);
	e->text[0] = 0;
}

/* The source's list into the menu, by take(). */
static int
get_list(struct rescue *r, enum list_what what, const struct snapshot *at, list_fn take, struct err *e)
{
	struct source *s = r->origin.source;
	int rc = s->ops->list(s, what, at, take, r, e);

	menu_sort(&r->menu);
	return rc == -ENOMEM ? no_memory(e) : rc;
}

/* ---- repository ---- */

static int
take_store(void *ctx, const char *path, const char *text)
{
	struct rescue *r = ctx;
	size_t i;

	for (i = 0; path[i]; i++)	/* it is printed later, as it is */
		if ((unsigned char)path[i] < ' ' || path[i] == 127)
			return 0;
	for (i = 0; i < r->menu.count; i++)
		if (strcmp(r->menu.items[i].name, path) == 0)
			return 0;
	return menu_add(&r->menu, path, text, 0, 0);
}

static int
ask_parts(struct rescue *r)
{
	static const char *const questions[4] = { "Server (name or address)", "Port", "Datastore", "User or API token" };
	static const char *const presets[4] = { NULL, "8007", NULL, "root@pam" };
	int i, rc = ASKED;

	for (i = 0; i < 4 && rc == ASKED; i++) {
		rc = ask_text(r, questions[i], presets[i], r->parts[i], sizeof(r->parts[i]));
		if (rc == BACK && i > 0) {
			i -= 2;
			rc = ASKED;
		}
	}
	r->o.server = r->parts[0];
	r->o.port = r->parts[1];
	r->o.datastore = r->parts[2];
	r->o.auth_id = r->parts[3];
	return rc;
}

static int
ask_repository(struct rescue *r)
{
	int rc;

	menu_clear(&r->menu);
	r->menu.any = 1;
	if (menu_add(&r->menu, "server", "a server, asked for in parts", 0, 0) < 0)
		return QUIT;
	nearby_stores(take_store, r);
	rc = ask(r, "Repository, as USER@HOST:STORE, a datastore's directory");
	if (rc != ASKED)
		return rc;
	if (r->menu.item == &r->menu.items[0])
		return (rc = ask_parts(r)) == BACK ? ask_repository(r) : rc;
	snprintf(r->repository, sizeof(r->repository), "%s", r->menu.answer);
	r->o.repository = r->repository;
	return ASKED;
}

/* One text, whatever it came from. */
static void
name_repository(struct rescue *r)
{
	struct repo *p = &r->origin.repo;

	if (p->is_dir)
		snprintf(r->repository, sizeof(r->repository), "%s%s", strchr("./", p->path[0]) ? "" : "file:", p->path);
	else
		repo_print(p, r->repository, sizeof(r->repository));
	r->o.repository = r->repository;
	r->o.server = r->o.port = r->o.datastore = r->o.auth_id = NULL;
}

static int
step_repository(struct rescue *r, struct err *e)
{
	const struct opts *o = &r->o;
	int given = o->repository || o->server || o->port || o->datastore || o->auth_id, rc;

	origin_close(&r->origin);
	if (!r->repository_asked && ((rc = origin_name(&r->origin, o, e)) == 0 || given)) {
		if (rc == 0)
			name_repository(r);
		return rc < 0 ? rc : PASSED;
	}
	r->repository_asked = 1;
	if (o->fingerprint == r->fingerprint)
		r->o.fingerprint = NULL;	/* another server's */
	for (;;) {
		r->o.repository = NULL;
		if ((rc = ask_repository(r)) != ASKED)
			return rc;
		if (origin_name(&r->origin, o, e) == 0)
			break;
		complain(e);
		r->o.server = r->o.port = r->o.datastore = r->o.auth_id = NULL;
	}
	name_repository(r);
	return ASKED;
}

/* ---- getting in ---- */

/* Looked up once: descriptors and commands may not tell it twice. */
static int
get_password(struct rescue *r, struct err *e)
{
	const char *id = r->origin.repo.auth_id;
	char secret[SECRET_MAX], prompt[400];
	int rc = PASSED, n = -ENOENT;

	if (!r->password_asked)
		n = secret_lookup("PBS_PASSWORD", "proxmox-backup-client.password", secret, sizeof(secret), e);
	if (n == -ENOENT) {
		snprintf(prompt, sizeof(prompt), "%s of %s (none: back): ", strchr(id, '!') ? "Secret" : "Password", id);
		n = secret_ask(prompt, secret, sizeof(secret), e);
		r->password_asked = 1;
		rc = n == 0 ? BACK : n == -ECANCELED ? QUIT : ASKED;
	}
	if (n > 0)
		conf_secret("PBS_PASSWORD", secret);
	wipe(secret, sizeof(secret));
	return n < 0 && rc != QUIT ? n : rc;
}

static int
take_namespace(void *ctx, const struct list_row *row)
{
	struct rescue *r = ctx;
	const char *name = row->name.ns[0] ? row->name.ns : ROOT;

	return menu_add(&r->menu, name, name, row->name.ns[0] != 0, 0);
}

/* Speaks to the server: who it is and who we are turn out here. */
int
rescue_get_in(struct rescue *r, struct err *e)
{
	static const struct snapshot top = { .ns = "" };
	int rc;

	menu_clear(&r->menu);
	origin_close(&r->origin);
	if ((rc = origin_open(&r->origin, &r->o, e)) < 0)
		return rc;
	rc = get_list(r, LIST_NAMESPACES, &top, take_namespace, e);
	if (r->origin.trust.pinned) {
		hex_colons(r->fingerprint, r->origin.trust.pin, 32);
		r->o.fingerprint = r->fingerprint;
	}
	/* Old servers know none, others do not let everybody see them. */
	return rc == -ENOENT || (rc == -EACCES && strstr(e->text, "permission")) ? 0 : rc;
}

static int
step_connect(struct rescue *r, struct err *e)
{
	int rc = PASSED, in;

	do {
		if (!r->origin.repo.is_dir && (rc = get_password(r, e)) != ASKED && rc != PASSED)
			return rc;
		if ((in = rescue_get_in(r, e)) == 0)
			return rc;
		if (rc == PASSED)
			return in;
		complain(e);
	} while (e->status == ST_TRUST);
	return BACK;
}

static int
step_namespace(struct rescue *r, struct err *e)
{
	int rc = PASSED;

	(void)e;
	if (!r->ns_asked)
		strcpy(r->ns, r->origin.ns);
	r->o.ns = r->ns;
	if (r->o.operands > 0 || (!r->ns_asked && r->ns[0]))
		return PASSED;
	r->ns_asked = 1;
	r->ns[0] = 0;
	r->menu.preset = ROOT;
	if (r->menu.count > 1 && (rc = ask(r, "Namespace")) == ASKED && strcmp(r->menu.answer, ROOT) != 0)
		snprintf(r->ns, sizeof(r->ns), "%s", r->menu.answer);
	return rc;
}

/* ---- snapshot ---- */

static int
take_group(void *ctx, const struct list_row *row)
{
	struct rescue *r = ctx;
	char name[ID_MAX + 64], time[21], text[ID_MAX + 200];

	if (row->last == 0)
		return 0;
	snapshot_print(&row->name, name, sizeof(name));
	time_print(row->last, time);
	snprintf(text, sizeof(text), "%-24s  %s %6llu", name, time, (unsigned long long)row->count);
	return menu_add(&r->menu, name, text, row->last, 0);
}

static int
take_snapshot(void *ctx, const struct list_row *row)
{
	const char *verify = strcmp(row->verify, "ok") == 0 ? "verified" : row->verify[0] ? "FAILED" : "";
	struct rescue *r = ctx;
	char time[21], size[10], text[400];

	if (!row->finished || row->size < 0)
		return 0;
	time_print(row->name.time, time);
	snprintf(text, sizeof(text), "%s  %9s  %-9s  %-8s  %s", time, human_size((uint64_t)row->size, size),
	    list_crypt(row), verify, row->comment);
	return menu_add(&r->menu, time, text, row->name.time, 0);
}

static int
step_group(struct rescue *r, struct err *e)
{
	int rc;

	if (r->o.operands > 0) {
		snprintf(r->snapshot, sizeof(r->snapshot), "%s", r->o.operand[0]);
		return (rc = snapshot_parse(r->snapshot, r->ns, &r->at, e)) < 0 ? rc : PASSED;
	}
	menu_clear(&r->menu);
	strcpy(r->at.ns, r->ns);
	if ((rc = get_list(r, LIST_GROUPS, &r->at, take_group, e)) < 0)
		return rc;
	if (r->menu.count == 0)
		return err_set(e, ST_FAIL, -ENOENT, "%s: there are no finished backups%s%s that may be seen", r->repository,
		    r->ns[0] ? " in namespace " : "", r->ns);
	if ((rc = ask(r, "Group")) != ASKED)
		return rc;
	return (rc = snapshot_parse(r->menu.answer, r->ns, &r->at, e)) < 0 ? rc : ASKED;
}

static int
step_snapshot(struct rescue *r, struct err *e)
{
	int rc;

	if (r->o.operands > 0 && r->at.has_time)
		return PASSED;
	r->at.has_time = 0;
	menu_clear(&r->menu);
	if ((rc = get_list(r, LIST_SNAPSHOTS, &r->at, take_snapshot, e)) < 0)
		return rc;
	snapshot_print(&r->at, r->snapshot, sizeof(r->snapshot));
	if (r->menu.count == 0)
		return err_set(e, ST_FAIL, -ENOENT, "%s: there are no finished snapshots", r->snapshot);
	if ((rc = ask(r, "Snapshot")) != ASKED)
		return rc;
	r->at.has_time = 1;
	time_parse(r->menu.answer, strlen(r->menu.answer), &r->at.time);
	snapshot_print(&r->at, r->snapshot, sizeof(r->snapshot));
	return ASKED;
}

/* ---- archive ---- */

static int
take_archives(void *ctx, const struct list_row *row)
{
	const struct list_file *f;
	struct rescue *r = ctx;
	char name[256], size[10] = "", text[400];
	int rc = 0;

	snprintf(r->key_fingerprint, sizeof(r->key_fingerprint), "%s", row->fingerprint);
	for (f = row->files; rc == 0 && f < row->files + row->count_files; f++) {
		if (f->crypt == CRYPT_UNKNOWN || strcmp(f->name, "index.json.blob") == 0 || list_use(f)[0] == '(')
			continue;
		archive_print(f->name, name, sizeof(name));
		snprintf(text, sizeof(text), "%-28s  %9s  %-9s  %s", name, f->size < 0 ? "?" : human_size((uint64_t)f->size, size),
		    list_crypt_word(f->crypt), list_use(f));
		rc = menu_add(&r->menu, name, text, f->size, f->crypt);
	}
	return rc;
}

/* What the others need to know of the chosen one; -1: it is not there. */
static int
know_archive(struct rescue *r, const char *name)
{
	enum archive_kind kind = ARCHIVE_OTHER;
	char stored[256];
	size_t i;

	if (archive_parse(name, stored, sizeof(stored), &kind, NULL) == 0)
		archive_print(stored, r->archive, sizeof(r->archive));
	r->kind = (int)kind;
	for (i = 0; i < r->menu.count; i++)
		if (strcmp(r->menu.items[i].name, r->archive) == 0) {
			r->key_wanted = r->menu.items[i].tag == CRYPT_ENCRYPT || r->key_fingerprint[0];
			r->size = (uint64_t)r->menu.items[i].order;
			return 0;
		}
	return -1;
}

static int
step_archive(struct rescue *r, struct err *e)
{
	int rc;

	menu_clear(&r->menu);
	if ((rc = get_list(r, LIST_SNAPSHOTS, &r->at, take_archives, e)) < 0)
		return rc;
	if (r->menu.count == 0)
		return err_set(e, ST_FAIL, -ENOENT, "%s: there is no archive, or no such snapshot", r->snapshot);
	if (r->o.operands > 1) {
		if (know_archive(r, r->o.operand[1]) == 0)
			return PASSED;
		return err_set(e, ST_FAIL, -ENOENT, "%s: there is no archive %s", r->snapshot, r->o.operand[1]);
	}
	if ((rc = ask(r, "Archive")) == ASKED)
		know_archive(r, r->menu.answer);
	return rc;
}

/* ---- key ---- */

/* Its passphrase, kept for the command. */
static int
passphrase(void *ctx, char *buf, size_t cap, struct err *e)
{
	int n = keyfile_passphrase(ctx, buf, cap, e);

	if (n > 0 && (size_t)n < cap) {
		buf[n] = 0;
		conf_secret("PBS_ENCRYPTION_PASSWORD", buf);
	}
	return n;
}

/* Is it the right one? Tried here, where another one can still be named. */
static int
try_key(struct rescue *r, struct err *e)
{
	char *text, seen[FINGERPRINT_TEXT];
	struct key key;
	size_t len;
	int rc;

	if ((rc = keyfile_read(r->keyfile, -1, "key file ", &text, &len, e)) < 0)
		return rc;
	rc = key_parse(text, len, r->keyfile, passphrase, NULL, &key, e);
	keyfile_free(text);
	if (rc < 0)
		return rc;
	hex_colons(seen, key.fingerprint, 32);
	wipe(&key, sizeof(key));
	if (r->key_fingerprint[0] && strcmp(r->key_fingerprint, seen) != 0)
		return err_set(e, ST_TRUST, -EACCES, "%s: is another key, %.23s...; the snapshot's is %.23s...", r->keyfile, seen,
		    r->key_fingerprint);
	return 0;
}

static int
step_key(struct rescue *r, struct err *e)
{
	char preset[MENU_TEXT];
	int rc;

	if (r->o.keyfile == r->keyfile)
		r->o.keyfile = NULL;
	if (!r->key_wanted || r->o.keyfile || r->o.keyfd >= 0)
		return PASSED;
	do {
		rc = ask_text(r, "Key file (key.json, or a paper key as text)",
		    snap_default_key(preset, sizeof(preset)) ? preset : NULL, r->keyfile, sizeof(r->keyfile));
		if (rc != ASKED)
			return rc;
		r->o.keyfile = r->keyfile;
		if ((rc = try_key(r, e)) == 0)
			return ASKED;
		complain(e);
		conf_secret("PBS_ENCRYPTION_PASSWORD", NULL);
	} while (rc != -ECANCELED);
	return QUIT;
}

/* ---- what to do ---- */

static int
step_action(struct rescue *r, struct err *e)
{
	static const char *const all[][2] = {
		{ "map", "map: read it as a disk, /dev/loopN" },
		{ "mount", "mount: read its files" },
		{ "restore", "restore: write it to a disk or a file" },
		{ "shell", "shell: where pbsmap knows all this" },
	};
	size_t i;
	int rc;

	menu_clear(&r->menu);
	for (i = 0; i < 4; i++)
		if (i >= 2 || r->kind == (i ? ARCHIVE_PXAR : ARCHIVE_IMG))
			if (menu_add(&r->menu, all[i][0], all[i][1], 0, (int)i) < 0)
				return no_memory(e);
	r->menu.preset = r->menu.items[0].name;
	if ((rc = ask(r, "What shall be done")) == ASKED)
		r->action = all[r->menu.item->tag][0];
	return rc;
}

static int
take_disk(void *ctx, const char *path, const char *text)
{
	struct rescue *r = ctx;

	return menu_add(&r->menu, path, text, 0, 0);
}

static int
step_target(struct rescue *r, struct err *e)
{
	int restore = strcmp(r->action, "restore") == 0, files = r->kind == ARCHIVE_PXAR, rc;
	struct stat st;

	r->target[0] = 0;
	r->make_directory = 0;
	if (!restore && strcmp(r->action, "mount") != 0)
		return PASSED;
	if (files || !restore) {
		rc = ask_text(r, restore ? "Into which empty directory" : "On which directory", restore ? NULL : "/mnt", r->target,
		    sizeof(r->target));
		r->make_directory = !restore && stat(r->target, &st) < 0 && errno == ENOENT;
		return rc;
	}
	menu_clear(&r->menu);
	r->menu.any = 1;
	if (r->kind == ARCHIVE_IMG && nearby_disks(r->size, take_disk, r) < 0)
		return no_memory(e);
	menu_sort(&r->menu);
	if (r->kind != ARCHIVE_IMG)
		r->menu.preset = "-";
	if (r->menu.count)		/* no disk is overwritten because somebody pressed Enter */
		r->menu.preset = "";
	rc = ask(r, "Target, a disk or a file's name");
	snprintf(r->target, sizeof(r->target), "%s", r->menu.answer);
	return rc;
}

int (*const rescue_steps[STEPS])(struct rescue *, struct err *) = {
	step_repository, step_connect, step_namespace, step_group, step_snapshot, step_archive, step_key, step_action,
	step_target,
};
const int rescue_namespace = 2;
