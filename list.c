/*
 * `list`: namespaces and groups, a group's snapshots, a snapshot's archives; the same from every
 * kind of source. Rows are printed into memory as they come, 100 bytes or so each, and sorted there:
 * so thousands need neither time nor room.
 *
 * What is printed for people is ASCII and 80 columns wide, as far as names let it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "human.h"
#include "jsonout.h"
#include "list.h"
#include "log.h"
#include "origin.h"

#define WIDTH 80
#define NAME 36				/* columns of a snapshot's name, */
#define GROUP 24			/*   of a group's; longer ones have a line of their own */

struct item {
	int64_t time;
	size_t start, len;		/* bytes in the text */
};

struct list {
	const struct opts *o;
	struct origin origin;
	struct snapshot at;
	int is_group, is_snapshot;	/* what the operand is; neither: there is none */
	FILE *out;			/* writes to text, by keep() */
	char *text;
	size_t text_len, text_room;
	struct item *items;
	size_t count, room;
	char **ns;			/* namespaces, count_ns of them */
	size_t count_ns;
	int printed;			/* rows were */
};

/* ---- text ---- */

/* What servers and disks say, made fit for a terminal and cut. */
static void
put_text(FILE *f, const char *label, const char *s, int most)
{
	char line[ID_MAX];

	snprintf(line, sizeof(line), "%.*s", most, s);
	err_printable(line);
	fprintf(f, "%s%s", label, line);
}

/* A name in its column; one that is too long stands alone on its line. */
static void
put_name(FILE *f, const char *name, int width)
{
	if (strlen(name) > (size_t)width)
		fprintf(f, "%s\n%*s", name, width, "");
	else
		fprintf(f, "%-*s", width, name);
}

static void
group_text(FILE *f, const struct list_row *r)
{
	char name[ID_MAX + 64], time[21] = "none finished";

	snapshot_print(&r->name, name, sizeof(name));
	put_name(f, name, GROUP);
	if (r->last)
		time_print(r->last, time);
	fprintf(f, "  %-20s %6llu  ", time, (unsigned long long)r->count);
	put_text(f, "", r->owner, WIDTH - GROUP - 31);
	putc('\n', f);
}

const char *
list_crypt_word(int crypt)
{
	return crypt == CRYPT_ENCRYPT ? "encrypted" : crypt == CRYPT_SIGN ? "signed" : crypt == CRYPT_NONE ? "plain" : "?";
}

/* Of all archives together: "mixed" when they differ. The manifest itself never is encrypted. */
const char *
list_crypt(const struct list_row *r)
{
	int mode = CRYPT_UNKNOWN;
	size_t i;

	for (i = 0; i < r->count_files; i++) {
		if (r->files[i].crypt == CRYPT_UNKNOWN || strcmp(r->files[i].name, "index.json.blob") == 0)
			continue;
		if (mode != CRYPT_UNKNOWN && mode != r->files[i].crypt)
			return "mixed";
		mode = r->files[i].crypt;
	}
	return mode == CRYPT_UNKNOWN ? "plain" : list_crypt_word(mode);
}

/* The first line: name, size, state. */
static void
state_text(FILE *f, const struct list_row *r)
{
	const char *verify = strcmp(r->verify, "ok") == 0 ? "  verified" : r->verify[0] ? "  FAILED" : "";
	const char *protect = r->is_protected ? "  protected" : "";
	char name[ID_MAX + 64], size[10] = "";

	snapshot_print(&r->name, name, sizeof(name));
	put_name(f, name, NAME);
	fprintf(f, "  %9s  %-*s%s%s\n", r->size < 0 ? "" : human_size((uint64_t)r->size, size),
	    *verify || *protect ? 9 : 0, r->size >= 0 ? list_crypt(r) : r->finished ? "DAMAGED manifest" : "unfinished",
	    verify, protect);
}

static void
snapshot_text(FILE *f, const struct list_row *r)
{
	char name[256];
	size_t i, column = 0;

	state_text(f, r);
	for (i = 0; i < r->count_files; i++) {
		if (strcmp(r->files[i].name, "index.json.blob") == 0)
			continue;
		archive_print(r->files[i].name, name, sizeof(name));
		if (column && column + 1 + strlen(name) > WIDTH) {
			putc('\n', f);
			column = 0;
		}
		column += (size_t)fprintf(f, "%s%s", column ? " " : "    ", name);
	}
	if (column)
		putc('\n', f);
	if (r->comment[0]) {
		put_text(f, "    # ", r->comment, WIDTH - 6);
		putc('\n', f);
	}
}

/* ---- a snapshot's archives ---- */

/* What can be done with it. The half of a split archive that has the data is read through the other. */
const char *
list_use(const struct list_file *file)
{
	enum archive_kind kind;
	char stored[256], name[256];
	const char *end;

	archive_print(file->name, name, sizeof(name));
	end = strrchr(name, '.');
	if (file->crypt == CRYPT_UNKNOWN)
		return strcmp(file->name, "client.log.blob") ? "(not in the manifest)" : "restore (not in the manifest)";
	if (end && strcmp(end, ".ppxar") == 0)
		return "(the data of .mpxar)";
	if (end && strcmp(end, ".mpxar") == 0)
		return "mount, restore";
	if (archive_parse(file->name, stored, sizeof(stored), &kind, NULL) < 0)
		return "";
	return kind == ARCHIVE_IMG ? "map, restore" : kind == ARCHIVE_PXAR ? "mount, restore" : kind == ARCHIVE_BLOB ? "restore" : "";
}

static void
archives_text(FILE *f, const struct list_row *r)
{
	const struct list_file *file;
	char name[256], size[10] = "";

	state_text(f, r);
	put_text(f, "  owner ", r->owner, WIDTH - 8);
	if (r->fingerprint[0])
		put_text(f, "\n  key ", r->fingerprint, 23);
	if (r->comment[0])
		put_text(f, "\n  # ", r->comment, WIDTH - 4);
	putc('\n', f);
	for (file = r->files; file < r->files + r->count_files; file++) {
		if (strcmp(file->name, "index.json.blob") == 0)
			continue;
		archive_print(file->name, name, sizeof(name));
		fprintf(f, "  ");
		put_name(f, name, NAME - 2);
		fprintf(f, "  %9s  %-9s  %s\n", file->size < 0 ? "?" : human_size((uint64_t)file->size, size),
		    list_crypt_word(file->crypt), list_use(file));
	}
}

/* ---- JSON ---- */

static void
put_member(FILE *f, const char *name, const char *value)
{
	fprintf(f, ",\"%s\":", name);
	json_out(f, value);
}

static void
file_json(FILE *f, const struct list_file *file)
{
	static const char *const modes[] = { "none", "sign-only", "encrypt" };

	fprintf(f, "{\"filename\":\"%s\"", file->name);
	if (file->crypt != CRYPT_UNKNOWN)
		put_member(f, "crypt-mode", modes[file->crypt]);
	if (file->size >= 0)
		fprintf(f, ",\"size\":%lld", (long long)file->size);
	putc('}', f);
}

/* With the server's own names of things; what is unknown is left out. */
static void
row_json(FILE *f, const struct list_row *r)
{
	char name[ID_MAX + 64];
	size_t i;

	snapshot_print(&r->name, name, sizeof(name));
	fprintf(f, "{\"%s\":\"%s\",\"ns\":\"%s\",\"backup-type\":\"%s\",\"backup-id\":\"%s\"",
	    r->name.has_time ? "snapshot" : "group", name, r->name.ns, r->name.type, r->name.id);
	put_member(f, "owner", r->owner);
	if (!r->name.has_time) {
		fprintf(f, ",\"last-backup\":%lld,\"backup-count\":%llu}", (long long)r->last,
		    (unsigned long long)r->count);
		return;
	}
	fprintf(f, ",\"backup-time\":%lld,\"finished\":%s,\"protected\":%s", (long long)r->name.time,
	    r->finished ? "true" : "false", r->is_protected ? "true" : "false");
	if (r->size >= 0)
		fprintf(f, ",\"size\":%lld", (long long)r->size);
	if (r->verify[0])
		put_member(f, "verification", r->verify);
	if (r->fingerprint[0])
		put_member(f, "fingerprint", r->fingerprint);
	if (r->comment[0])
		put_member(f, "comment", r->comment);
	fprintf(f, ",\"files\":[");
	for (i = 0; i < r->count_files; i++) {
		fprintf(f, "%s", i ? "," : "");
		file_json(f, &r->files[i]);
	}
	fprintf(f, "]}");
}

/* ---- collecting ---- */

/* (Of musl's open_memstream() nobody learns that memory ran out.) */
static ssize_t
keep(void *ctx, const char *buf, size_t len)
{
	struct list *l = ctx;
	char *more;

	if (len > l->text_room - l->text_len) {
		if ((more = realloc(l->text, l->text_room * 2 + len)) == NULL)
			return -1;
		l->text = more;
		l->text_room = l->text_room * 2 + len;
	}
	memcpy(l->text + l->text_len, buf, len);
	l->text_len += len;
	return (ssize_t)len;
}

static int
take_row(void *ctx, const struct list_row *r)
{
	struct list *l = ctx;
	struct item *more;
	size_t start = l->text_len;

	if (l->count == l->room) {
		if ((more = realloc(l->items, (l->room * 2 + 64) * sizeof(*more))) == NULL)
			return -ENOMEM;
		l->items = more;
		l->room = l->room * 2 + 64;
	}
	if (l->o->json)
		row_json(l->out, r);
	else
		(l->is_snapshot ? archives_text : l->is_group ? snapshot_text : group_text)(l->out, r);
	if (fflush(l->out) < 0)
		return -ENOMEM;
	l->items[l->count++] = (struct item){ r->name.has_time ? r->name.time : r->last, start, l->text_len - start };
	return 0;
}

static int
take_namespace(void *ctx, const struct list_row *r)
{
	struct list *l = ctx;
	char **more = realloc(l->ns, (l->count_ns + 1) * sizeof(*more));

	if (more == NULL || (more[l->count_ns] = strdup(r->name.ns)) == NULL) {
		l->ns = more ? more : l->ns;
		return -ENOMEM;
	}
	l->ns = more;
	l->count_ns++;
	return 0;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ---- printing ---- */

static const char *sorted_text;		/* qsort() has no context */

/* Oldest first; what is of one time by name, with which rows begin. */
static int
by_time(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	size_t n = x->len < y->len ? x->len : y->len;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return memcmp(sorted_text + x->start, sorted_text + y->start, n);
}

static void
print_rows(struct list *l)
{
	size_t i;

	sorted_text = l->text;
	if (l->count)
		qsort(l->items, l->count, sizeof(*l->items), by_time);
	if (!l->o->json && l->count && l->o->recursive)
		printf("%snamespace %s\n", l->printed ? "\n" : "", l->at.ns[0] ? l->at.ns : "(root)");
	if (!l->o->json && l->count && !l->is_group && !l->is_snapshot)
		printf("%-*s  %-20s  COUNT  OWNER\n", GROUP, "GROUP", "LAST BACKUP");
	for (i = 0; i < l->count; i++) {
		if (l->o->json)
			printf(l->printed ? ",\n" : "{\"%s\":[\n", l->o->operands ? "snapshots" : "groups");
		fwrite(l->text + l->items[i].start, 1, l->items[i].len, stdout);
		l->printed = 1;
	}
}

/* ---- from the source ---- */

/* One namespace's. */
static int
list_one(struct list *l, struct err *e)
{
	struct source *s = l->origin.source;
	int rc;

	l->count = l->text_len = l->text_room = 0;
	if ((l->out = fopencookie(l, "w", (cookie_io_functions_t){ .write = keep })) == NULL)
		return err_set(e, ST_FAIL, -ENOMEM, "out of memory");
	rc = s->ops->list(s, l->is_group || l->is_snapshot ? LIST_SNAPSHOTS : LIST_GROUPS, &l->at, take_row, l, e);
	if (rc == -ENOMEM)
		err_set(e, ST_FAIL, rc, "out of memory");
	/* Also what there is of an incomplete list. */
	else if (rc == 0 || (l->count && l->origin.repo.is_dir))
		print_rows(l);
	fclose(l->out);
	free(l->text);
	l->text = NULL;
	return rc;
}

/* This namespace and those below it. Old servers know none, others do not let everybody see them. */
static int
get_namespaces(struct list *l, struct err *e)
{
	struct source *s = l->origin.source;
	int rc = s->ops->list(s, LIST_NAMESPACES, &l->at, take_namespace, l, e);

	if (rc == -ENOMEM)
		return err_set(e, ST_FAIL, rc, "out of memory");
	if (l->count_ns)
		qsort(l->ns, l->count_ns, sizeof(*l->ns), by_name);
	return rc;
}

static int
is_group(void *ctx, const struct list_row *r)
{
	const struct snapshot *at = ctx;

	return strcmp(r->name.type, at->type) == 0 && strcmp(r->name.id, at->id) == 0;
}

/* Nothing was found: was there nothing, or is it the name that is wrong? */
static int
nothing(struct list *l, struct err *e)
{
	const struct repo *r = &l->origin.repo;
	struct source *s = l->origin.source;
	char name[ID_MAX + 64], where[NS_MAX + ID_MAX + 64] = "";
	int there = !l->o->operands;

	if (l->origin.ns[0])
		snprintf(where, sizeof(where), " in namespace %s", l->origin.ns);
	if (!r->is_dir)
		snprintf(where + strlen(where), sizeof(where) - strlen(where), " that may be seen by %s", r->auth_id);
	snapshot_print(&l->at, name, sizeof(name));
	if (l->is_group)
		there = s->ops->list(s, LIST_GROUPS, &l->at, is_group, &l->at, NULL) == 1;
	if (!there)
		return err_set(e, ST_FAIL, -ENOENT, "%s: there is no such %s%s", name,
		    l->is_group ? "group" : "snapshot", where);
	say("%s is empty: no %s%s", l->is_group ? name : r->is_dir ? r->path : r->store,
	    l->is_group ? "snapshots" : "groups", where);
	return 0;
}

static int
list_all(struct list *l, struct err *e)
{
	int rc, more, is_dir = l->origin.repo.is_dir;
	struct err why;
	size_t i;

	if (!l->o->recursive) {
		rc = list_one(l, e);
		/* Only a hint; what must not be seen is not missed. */
		if (rc == 0 && !l->is_group && !l->is_snapshot && (more = get_namespaces(l, &why)) < 0 &&
		    is_dir && more != -EACCES) {
			*e = why;
			rc = more;
		}
		return rc;
	}
	if ((rc = get_namespaces(l, e)) < 0 && rc != -ENOENT && (!is_dir || l->count_ns == 0))
		return rc;
	if (l->count_ns == 0)
		return list_one(l, e);
	if (rc == -ENOENT)
		rc = 0;
	for (i = 0; (rc == 0 || (is_dir && rc != -ENOMEM)) && i < l->count_ns; i++) {
		strcpy(l->at.ns, l->ns[i]);
		if ((more = list_one(l, rc < 0 ? &why : e)) < 0 && rc == 0)
			rc = more;
	}
	return rc;
}

/* The namespaces below, which -r would look into. */
static void
print_namespaces(const struct list *l)
{
	size_t i, n = 0;

	for (i = 0; i < l->count_ns; i++) {
		if (strcmp(l->ns[i], l->origin.ns) == 0)
			continue;
		if (l->o->json)
			printf("%s\"%s\"", n ? "," : "", l->ns[i]);
		else if (!l->o->recursive)
			printf("%s  %s\n", n ? "" : l->printed ? "\nnamespaces below (-r lists them too):\n" :
			    "namespaces below (-r lists them too):\n", l->ns[i]);
		n++;
	}
}

static int
parse_operand(struct list *l, const char *ns, struct err *e)
{
	int rc = 0;

	if (l->o->operands)
		rc = snapshot_parse(l->o->operand[0], ns, &l->at, e);
	else
		snprintf(l->at.ns, sizeof(l->at.ns), "%s", ns);
	l->is_snapshot = l->at.has_time;
	l->is_group = l->o->operands && !l->at.has_time;
	return rc;
}

int
list_run(const struct opts *o, struct err *e)
{
	struct list l;
	size_t i;
	int rc;

	memset(&l, 0, sizeof(l));
	l.o = o;
	/* Twice: a name that is none is found before anybody is asked for a password. */
	if ((rc = parse_operand(&l, "", e)) == 0 && (rc = origin_open(&l.origin, o, e)) == 0 &&
	    (rc = parse_operand(&l, l.origin.ns, e)) == 0) {
		rc = list_all(&l, e);
		if (rc == 0 && !l.printed)
			rc = nothing(&l, e);
		if ((rc == 0 || l.printed) && o->json)
			printf("%s],\"namespaces\":[", l.printed ? "" : o->operands ? "{\"snapshots\":[" : "{\"groups\":[");
		if (rc == 0 || l.printed)
			print_namespaces(&l);
		if ((rc == 0 || l.printed) && o->json)
			printf("]}\n");
	}
	for (i = 0; i < l.count_ns; i++)
		free(l.ns[i]);
	free(l.ns);
	free(l.items);
	origin_close(&l.origin);
	return rc;
}
