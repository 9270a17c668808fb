/*
 * `check`: walks the way that `map` would go and says at each step how it is, up to the first that
 * bars the rest. Uses what map uses, so that the verdict is map's; maps and writes nothing.
 */
#include "check.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bytes.h"
#include "check_parts.h"
#include "config.h"
#include "fuse.h"
#include "gcm.h"
#include "jsonout.h"
#include "loop.h"
#include "run.h"
#include "sha256.h"
#include "start.h"

#define INDENT 18			/* columns before the text */
#define WIDTH (80 - INDENT)

/* ---- lines ---- */

/* Broken at blanks; a fingerprint, which has none, at colons. */
static void
put_wrapped(const char *s)
{
	size_t n;

	while (strlen(s) > WIDTH) {
		for (n = WIDTH; n > WIDTH / 2 && s[n] != ' ' && s[n - 1] != ':'; n--)
			;
		printf("%.*s\n%*s", (int)n, s, INDENT, "");
		s += n + (s[n] == ' ');
	}
	puts(s);
}

void
check_say(struct check *c, enum verdict v, const char *name, const char *fmt, ...)
{
	static const char *const word[] = { "ok", "warn", "FAIL" };
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_printable(text);
	if (c->o->json) {
		printf("%s\n{\"name\": \"%s\", \"verdict\": \"%s\", \"text\": ", c->lines ? "," : "{\"checks\": [", name,
		    word[v]);
		json_out(stdout, text);
		putchar('}');
	} else {
		printf("%-4s  %-11s ", word[v], name);
		put_wrapped(text);
	}
	fflush(stdout);
	c->lines++;
	if (v == CHECK_FAIL && c->status == ST_DONE)
		c->status = ST_FAIL;
}

int
check_patience(const struct check *c)
{
	return c->o->timeout * 1000LL < CONNECT_TIMEOUT ? c->o->timeout * 1000 : CONNECT_TIMEOUT;
}

int
check_fail(struct check *c, const char *name, const struct err *e)
{
	if (c->status == ST_DONE)
		c->status = e->status;
	check_say(c, CHECK_FAIL, name, "%s", e->text);
	return -1;
}

/* ---- this machine ---- */

static int
may_mount(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	return syscall(SYS_capget, &head, data) < 0 || (data[0].effective >> CAP_SYS_ADMIN & 1);
}

/* MiB that programs can still have; -1: unknown. */
static long
free_memory(void)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && kib < 0 && fgets(line, sizeof(line), f))
		if (strncmp(line, "MemAvailable:", 13) == 0)
			kib = strtol(line + 13, NULL, 10);
	if (f)
		fclose(f);
	return kib < 0 ? -1 : kib >> 10;
}

static void
check_memory(struct check *c)
{
	long mib = free_memory(), cache = (long)(start_cache(c->o) >> 20);

	if (mib < 0)
		check_say(c, CHECK_WARN, "memory", "how much is free is not known (no /proc)");
	else
		check_say(c, mib < cache * 2 ? CHECK_WARN : CHECK_OK, "memory", "%ld MiB free, %ld MiB wanted for the cache%s",
		    mib, cache, mib < cache * 2 ? "; give a smaller --cache" : "");
}

/* Which partition tables the kernel parses, by the functions that it has. Without parsers (or where it does not tell:
 * no /proc, no symbols in it) a map works as well. */
static const char *
parsers(void)
{
	static const char said[][9] = { "unknown", "none", "GPT", "MBR", "GPT, MBR" };
	FILE *f = fopen("/proc/kallsyms", "re");
	char line[512];
	int found = 0;

	while (f && fgets(line, sizeof(line), f))
		found |= strstr(line, " efi_partition\n") ? 3 : strstr(line, " msdos_partition\n") ? 5 : 1;
	if (f)
		fclose(f);
	return said[found == 0 ? 0 : 1 + found / 2];
}

static void
check_kernel(struct check *c)
{
	unsigned long major, minor;
	struct utsname u;
	char *end;

	uname(&u);
	major = strtoul(u.release, &end, 10);
	minor = *end ? strtoul(end + 1, NULL, 10) : 0;
	if (major * 1000 + minor < 4004)
		check_say(c, CHECK_WARN, "kernel", "%s %s: older than 4.4, not tried", u.release, u.machine);
	else
		check_say(c, CHECK_OK, "kernel", "%s %s; parsers: %s; pbsmap has its own", u.release, u.machine, parsers());
}

static void
check_machine(struct check *c)
{
	const char *sha = sha256_use(NULL), *aes = gcm_use(NULL);
	struct err e;
	int fd;

	check_kernel(c);
	if (geteuid() != 0)
		check_say(c, CHECK_FAIL, "root", "mapping needs root: try sudo");
	else if (!may_mount())
		check_say(c, CHECK_FAIL, "root", "without the right to mount (CAP_SYS_ADMIN): a container? Start it privileged");
	else
		check_say(c, CHECK_OK, "root", "yes");
	if (fuse_check(&e) < 0)
		check_fail(c, "fuse", &e);
	else
		check_say(c, CHECK_OK, "fuse", "/dev/fuse");
	if (loop_check(&e) < 0)
		check_fail(c, "loop", &e);
	else
		check_say(c, CHECK_OK, "loop", "/dev/loop-control");
	/* Others would make one of their own where /run lets them. */
	if ((fd = run_dir(geteuid() == 0, &e)) < 0) {
		check_fail(c, "registry", &e);
	} else {
		check_say(c, CHECK_OK, "registry", "%s", RUN_DIR);
		close(fd);
	}
	check_memory(c);
	check_say(c, strcmp(sha, "plain") == 0 || strcmp(aes, "plain") == 0 ? CHECK_WARN : CHECK_OK, "cpu",
	    "%d core%s; SHA-256: %s, AES: %s (plain is slow)", start_workers(c->o), start_workers(c->o) == 1 ? "" : "s", sha, aes);
}

/* ---- the repository ---- */

struct newest {
	struct snapshot name;		/* has_time 0: none */
	unsigned long groups;
};

static int
note_group(void *ctx, const struct list_row *r)
{
	struct newest *n = ctx;

	n->groups++;
	if (r->last && (!n->name.has_time || r->last > n->name.time)) {
		n->name = r->name;
		n->name.time = r->last;
		n->name.has_time = 1;
	}
	return 0;
}

static int
check_groups(struct check *c)
{
	struct source *src = c->snap.origin.source;
	struct newest n = { .groups = 0 };
	struct snapshot at = { .has_time = 0 };
	struct err e;

	snprintf(at.ns, sizeof(at.ns), "%s", c->snap.origin.ns);
	if (src->ops->list(src, LIST_GROUPS, &at, note_group, &n, &e) < 0)
		return check_fail(c, "datastore", &e);
	check_say(c, n.groups ? CHECK_OK : CHECK_WARN, "datastore", "%lu group%s%s%s%s", n.groups, n.groups == 1 ? "" : "s",
	    at.ns[0] ? " in the namespace " : "", at.ns, n.groups ? "" : "; is it the right namespace (--ns), may we see them?");
	if (c->o->operands)
		return 0;
	c->snap.name = n.name;
	if (n.name.has_time)
		return 0;
	check_say(c, CHECK_FAIL, "snapshot", "no finished one to try");
	return -1;
}

static int
is_index(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n > m && strcmp(name + n - m, suffix) == 0;
}

/* The archive that is meant, else a disk image, else any with chunks. */
static int
choose_file(struct check *c, struct err *e)
{
	static const char *const suffix[] = { ".img.fidx", ".fidx", ".ppxar.didx", ".didx" };
	const struct manifest *m = &c->snap.manifest;
	enum archive_kind kind;
	char stored[256];
	size_t i, k;
	int rc;

	if (c->o->operands > 1) {
		rc = archive_parse(c->o->operand[1], stored, sizeof(stored), &kind, e);
		return rc < 0 ? rc : snap_find(&c->snap, c->o->operand[1], kind, &c->file, e);
	}
	for (k = 0; !c->file && k < sizeof(suffix) / sizeof(suffix[0]); k++)
		for (i = 0; !c->file && i < m->count; i++)
			if (is_index(m->files[i].name, suffix[k]))
				c->file = &m->files[i];
	return 0;
}

/* With an encrypted archive that nobody asked for, a missing key is no failure. */
static int
check_key(struct check *c)
{
	int asked = c->o->operands > 0, encrypted = c->file->crypt == CRYPT_ENCRYPT;
	char shown[96];
	struct err e;

	if (snap_unlock(&c->snap, c->o, asked ? c->file : NULL, &e) < 0)
		return check_fail(c, "key", &e);
	if (c->snap.has_key) {
		hex_colons(shown, c->snap.key.fingerprint, 32);
		check_say(c, CHECK_OK, "key", "%s", shown);
	} else if (encrypted) {
		check_say(c, CHECK_WARN, "key", "%s is encrypted: give its key with --keyfile", c->file->name);
	}
	return 0;
}

/* On the way to a server's snapshot its connection is upgraded: what is wrong then is, but for a missing snapshot, the
 * upgrade, or what stands in its way. */
static int
enter(struct check *c)
{
	struct err e = { ST_FAIL, "" };
	int rc = snap_enter(&c->snap, &e);

	if (rc < 0 && rc != -ENOENT && rc != -EACCES && !c->snap.origin.repo.is_dir)
		return check_not_upgraded(c, rc, &e);
	return rc < 0 ? check_fail(c, "snapshot", &e) : 0;
}

static void
check_snapshot(struct check *c)
{
	char name[ID_MAX + 64];
	struct err e = { ST_FAIL, "" };
	int rc;

	if (enter(c) < 0)
		return;
	rc = snap_read(&c->snap, &e);
	if (!c->snap.origin.repo.is_dir)
		check_upgraded(c, rc == 0);
	if (rc < 0 || choose_file(c, &e) < 0) {
		check_fail(c, "snapshot", &e);
		return;
	}
	snapshot_print(&c->snap.name, name, sizeof(name));
	check_say(c, c->file ? CHECK_OK : CHECK_WARN, "snapshot", "%s: %s", name,
	    c->file ? c->file->name : "has no chunks to try");
	if (!c->file || check_key(c) < 0)
		return;
	if (is_index(c->file->name, ".blob"))
		return;
	if (snap_index(&c->snap, c->file, &c->archive, &e) < 0)
		check_fail(c, "index", &e);
	else
		check_speed(c);
}

static void
check_repository(struct check *c)
{
	const struct opts *o = c->o;
	struct origin *g = &c->snap.origin;
	char text[4400];
	struct err e;

	if ((o->operands && snapshot_parse(o->operand[0], "", &c->snap.name, &e) < 0) || origin_name(g, o, &e) < 0) {
		check_fail(c, "repository", &e);
		return;
	}
	if (g->repo.is_dir)
		snprintf(text, sizeof(text), "%s", g->repo.path);
	else
		repo_print(&g->repo, text, sizeof(text));
	check_say(c, CHECK_OK, "repository", "%s %s", g->repo.is_dir ? "directory" : "server", text);
	if (g->repo.is_dir && origin_open(g, o, &e) < 0)
		check_fail(c, "directory", &e);
	else if (!g->repo.is_dir && (check_net(c) < 0 || check_login(c) < 0))
		return;
	else if (g->source && check_groups(c) == 0) {
		if (o->operands)
			snapshot_parse(o->operand[0], g->ns, &c->snap.name, &e);
		check_snapshot(c);
	}
}

int
check_run(const struct opts *o)
{
	struct check c;

	memset(&c, 0, sizeof(c));
	c.o = o;
	check_machine(&c);
	check_repository(&c);
	if (o->json)
		printf("],\n\"works\": %s, \"rate\": %llu}\n", c.status == ST_DONE ? "true" : "false",
		    (unsigned long long)c.rate);
	snap_close(&c.snap);
	archive_free(&c.archive);
	return (int)c.status;
}
