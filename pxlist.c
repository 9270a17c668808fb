/* What is in a file archive, for people and, with --json, for programs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"
#include "jsonout.h"
#include "log.h"
#include "pxlist.h"
#include "pxwalk.h"
#include "repo.h"

struct pxlist {
	const struct opts *o;
	struct view view;
	int tty, any, bad;
	int begun;			/* what was asked for was met; what follows is in it */
};

static char
type_letter(uint32_t mode)
{
	return "?pc?d?b?-?l?s???"[mode >> 12 & 15];
}

void
pxlist_mode(uint32_t mode, char out[11])
{
	int i;

	out[0] = type_letter(mode);
	for (i = 0; i < 9; i++)
		out[1 + i] = mode & 0400u >> i ? "rwx"[i % 3] : '-';
	for (i = 0; i < 3; i++)		/* set-user, set-group, sticky stand in the x's place */
		if (mode & 04000u >> i)
			out[3 + 3 * i] = out[3 + 3 * i] == 'x' ? "sst"[i] : "SST"[i];
	out[10] = 0;
}

/* To a terminal no control characters; to a pipe the name as it is. */
static void
put_name(const struct pxlist *l, const char *s)
{
	for (; *s; s++)
		putchar(l->tty && ((unsigned char)*s < ' ' || *s == 127) ? '?' : *s);
}

/* From 1970 to the year 9999; otherwise seconds. */
static void
print_date(int64_t t, char out[24])
{
	if (t >= 0 && t < 253402300800)
		time_print(t, out);
	else
		snprintf(out, 24, "@%lld", (long long)t);
}

static void
print_json(struct pxlist *l, const struct pxwalk_entry *ent, const char *target)
{
	const struct pxar_stat *st = ent->st;

	printf("%s{\"path\":", l->any ? ",\n " : "[");
	json_out(stdout, ent->path);
	printf(",\"type\":\"%c\",\"mode\":\"%04o\",\"uid\":%u,\"gid\":%u,\"size\":%llu,\"mtime\":%lld,\"nsec\":%u",
	    type_letter(st->mode), st->mode & 07777, st->uid, st->gid, (unsigned long long)st->size,
	    (long long)st->mtime, st->nsec);
	if (S_ISBLK(st->mode) || S_ISCHR(st->mode))
		printf(",\"device\":[%u,%u]", st->major, st->minor);
	if (*target) {
		printf(",\"target\":");
		json_out(stdout, target);
	}
	putchar('}');
}

static void
print_long(struct pxlist *l, const struct pxwalk_entry *ent, const char *target)
{
	const struct pxar_stat *st = ent->st;
	char mode[11], date[24], size[32];

	pxlist_mode(st->mode, mode);
	print_date(st->mtime, date);
	if (S_ISBLK(st->mode) || S_ISCHR(st->mode))
		snprintf(size, sizeof(size), "%u, %u", st->major, st->minor);
	else
		snprintf(size, sizeof(size), "%llu", (unsigned long long)st->size);
	printf("%s %5u %5u %12s %s ", mode, st->uid, st->gid, size, date);
	put_name(l, ent->path);
	if (*target)
		printf(" -> ");
	put_name(l, target);
	putchar('\n');
}

static int
list_entry(void *ctx, const struct pxwalk_entry *ent)
{
	struct pxlist *l = ctx;
	char target[PXAR_TARGET] = "";
	struct err e;

	if (ent->what == PXWALK_BAD) {
		view_error(&l->view, ent->rc, *ent->path ? ent->path : l->view.name, &e);
		say("%s", e.text);
		l->bad = 1;
		return 0;
	}
	if (ent->what == PXWALK_LEAVE || ent->above)
		return 0;
	/* A directory stands for what is in it. */
	if (!l->begun++ && S_ISDIR(ent->st->mode))
		return 0;
	if (S_ISLNK(ent->st->mode) && pxar_target(&l->view.px, ent->st, target) < 0)
		snprintf(target, sizeof(target), "?");
	if (l->o->json)
		print_json(l, ent, target);
	else if (l->o->is_long)
		print_long(l, ent, target);
	else {
		put_name(l, ent->path);
		putchar('\n');
	}
	l->any = 1;
	return ferror(stdout) ? -EPIPE : 0;
}

int
pxlist_run(const struct opts *o, struct err *e)
{
	static struct pxlist l;
	int rc, stop;

	if ((rc = daemon_start(1, &stop)) >= 0)
		return rc;
	l.o = o;
	l.tty = isatty(1);
	if ((rc = view_open(&l.view, o, stop, NULL, e)) == 0)
		rc = pxwalk(&l.view, o->operands > 2 ? o->operand[2] : "", o->recursive ? PXWALK_ALL : 1,
		    list_entry, &l, e);
	if (rc == 0 && o->json)
		puts(l.any ? "]" : "[]");
	view_close(&l.view);
	return rc < 0 ? (int)e->status : l.bad ? ST_DAMAGED : ST_DONE;
}
