/*
 * Shell completion. The scripts hand over the command line as typed; it is parsed by the same
 * opt_parse() as the real one, so that what is offered comes from the repository, the namespace and
 * the configuration that it names.
 *
 * The process that looks has no terminal and an alarm: whatever the network does, the shell
 * gets its prompt back.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "completion.h"
#include "conf.h"
#include "opt.h"
#include "origin.h"
#include "pxwalk.h"
#include "run.h"

#define WORDS 128
#define SECONDS 2
#define MAPPINGS 64

/* Files are what bash (-o default) and zsh (_files) offer when there is nothing else. */
static const char bash[] =
	"_pbsmap() {\n"
	"	mapfile -t COMPREPLY < <(\"${COMP_WORDS[0]}\" __complete \"${COMP_LINE:0:COMP_POINT}\" \"$COMP_WORDBREAKS\" 2>/dev/null)\n"
	"	[[ $COMPREPLY = */ ]] && compopt -o nospace\n"
	"}\n"
	"complete -o default -F _pbsmap pbsmap\n";
static const char zsh[] =
	"#compdef pbsmap\n"
	"_pbsmap() {\n"
	"	local -a found\n"
	"	found=(\"${(@f)$(\"${(Q)words[1]}\" __complete \"${words[1,CURRENT-1]} $QIPREFIX$PREFIX\" 2>/dev/null)}\")\n"
	"	[[ -n $found ]] || { _files; return; }\n"
	"	compadd -S '' -- ${(M)found:#*/}\n"
	"	compadd -- ${found:#*/}\n"
	"}\n"
	"if [[ ${funcstack[1]} = _pbsmap ]]; then _pbsmap; else compdef _pbsmap pbsmap; fi\n";

int
completion_script(const char *shell, struct err *e)
{
	const char *text = strcmp(shell, "bash") == 0 ? bash : strcmp(shell, "zsh") == 0 ? zsh : NULL;

	if (text == NULL)
		return err_set(e, ST_USAGE, -EINVAL, "completion: '%s' is not bash or zsh", shell);
	fputs(text, stdout);
	return 0;
}

/* What is being completed. */
struct completion {
	const char *word;
	size_t skip;			/* bytes of a word that the shell has already passed */
	const char *breaks;		/* what parts words there: bash; NULL: zsh, which quotes what it is given */
	char quote;			/* that the word is in */
	int begun;			/* the directory whose entries are offered was met */
	enum command command;
	struct snapshot at;
	struct origin origin;
};

/* Safe in any shell, whatever an archive has for a name. */
static int
is_plain(char ch)
{
	return (unsigned char)ch > 127 || isalnum((unsigned char)ch) || (ch && strchr("/.,:@%_+=-", ch));
}

/* What the shell would take for something else is left out, or has a backslash. */
static void
offer(const struct completion *c, const char *word)
{
	const char *s;

	if (!*word || strncmp(word, c->word, strlen(c->word)) != 0)
		return;
	for (s = word; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 127 || (c->quote && c->breaks && *s != ' ' && !is_plain(*s)))
			return;
	for (s = word + c->skip; *s; s++) {
		if (c->breaks && !c->quote && !is_plain(*s))
			putchar('\\');
		putchar(*s);
	}
	putchar('\n');
}

static void
offer_name(void *ctx, const char *word)
{
	offer(ctx, word);
}

/* ---- from the source ---- */

static int
take_snapshot(void *ctx, const struct snapshot_info *info)
{
	char name[ID_MAX + 64];

	snapshot_print(&info->name, name, sizeof(name));
	if (info->finished)
		offer(ctx, name);
	return 0;
}

/* Is the archive one that the command takes? */
static int
suits(enum command command, const char *name)
{
	const char *end = strrchr(name, '.');

	if (command == CMD_MAP)
		return end && strcmp(end, ".img") == 0;
	if (command == CMD_MOUNT)
		return end && (strcmp(end, ".pxar") == 0 || strcmp(end, ".mpxar") == 0);
	return strcmp(name, "index.json") != 0;
}

static int
take_row(void *ctx, const struct list_row *r)
{
	struct completion *c = ctx;
	char name[ID_MAX + 64];
	size_t i;

	if (!r->name.type[0]) {
		offer(c, r->name.ns);
	} else if (!r->name.has_time) {
		snapshot_print(&r->name, name, sizeof(name));
		offer(c, name);
	}
	for (i = 0; i < r->count_files; i++) {
		archive_print(r->files[i].name, name, sizeof(name));
		if (suits(c->command, name))
			offer(c, name);
	}
	return 0;
}

static int
open_source(struct completion *c, const struct opts *o)
{
	if ((o->config && conf_load(o->config, NULL) < 0) || origin_open(&c->origin, o, NULL) < 0)
		return 0;
	strcpy(c->at.ns, c->origin.ns);
	return 1;
}

/* "vm/1": groups; "vm/100/": that group's snapshots. */
static void
offer_snapshots(struct completion *c, const struct opts *o)
{
	const char *slash = strchr(c->word, '/');
	char group[ID_MAX + 16];

	if (!open_source(c, o))
		return;
	slash = slash ? strchr(slash + 1, '/') : NULL;
	if (slash == NULL) {
		c->origin.source->ops->list(c->origin.source, LIST_GROUPS, &c->at, take_row, c, NULL);
		return;
	}
	snprintf(group, sizeof(group), "%.*s", (int)(slash - c->word), c->word);
	if (snapshot_parse(group, c->origin.ns, &c->at, NULL) == 0)
		c->origin.source->ops->snapshots(c->origin.source, &c->at, take_snapshot, c, NULL);
}

static void
offer_archives(struct completion *c, const struct opts *o)
{
	if (open_source(c, o) && snapshot_parse(o->operand[0], c->origin.ns, &c->at, NULL) == 0 &&
	    source_resolve(c->origin.source, &c->at, NULL) == 0)
		c->origin.source->ops->list(c->origin.source, LIST_SNAPSHOTS, &c->at, take_row, c, NULL);
}

static void
offer_namespaces(struct completion *c, const struct opts *o)
{
	/* Of the whole repository, not below what the environment says. */
	if (open_source(c, o)) {
		c->at.ns[0] = 0;
		c->origin.source->ops->list(c->origin.source, LIST_NAMESPACES, &c->at, take_row, c, NULL);
	}
}

static int
take_path(void *ctx, const struct pxwalk_entry *ent)
{
	struct completion *c = ctx;
	const char *slash = strrchr(c->word, '/');
	char path[PXAR_TARGET];
	int dir;

	/* The first one is the directory itself. */
	if (ent->what != PXWALK_ENTRY || ent->above || !c->begun++)
		return 0;
	dir = PXAR_IS_DIR(ent->st->id);
	if (dir || c->command != CMD_MOUNT) {
		snprintf(path, sizeof(path), "%.*s%s%s", slash ? (int)(slash + 1 - c->word) : 0, c->word, ent->name, dir ? "/" : "");
		offer(c, path);
	}
	return 0;
}

/* What is in the directory that the word names as far as its last slash. */
static void
offer_paths(struct completion *c, const struct opts *o)
{
	const char *slash = strrchr(c->word, '/');
	char dir[PXAR_TARGET];
	struct view v;
	struct err e;

	if (o->config && conf_load(o->config, NULL) < 0)
		return;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - c->word) : 0, c->word);
	if (view_open(&v, o, -1, NULL, &e) == 0)
		pxwalk(&v, dir, 1, take_path, c, &e);
}

/* ---- from this machine ---- */

static void
offer_mappings(struct completion *c)
{
	struct run_entry *ent = malloc(MAPPINGS * sizeof(*ent));
	int dir = run_dir(0, NULL), n = 0, i;
	char name[4096];

	if (ent && dir >= 0)
		n = run_list(dir, ent, MAPPINGS, NULL);
	for (i = 0; i < n; i++) {
		run_unescape(ent[i].name, name, sizeof(name));
		offer(c, name);
		snprintf(name, sizeof(name), "/dev/loop%d", ent[i].loop_nr);
		if (ent[i].loop_nr >= 0)
			offer(c, name);
	}
	free(ent);
}

/* ---- the command line ---- */

/* Splits as a shell does, in place, without expanding anything; the last word ends with the line. Their number. */
static int
split(struct completion *c, char *line, char *argv[WORDS])
{
	char *from = line, *to = line, quote;
	int n = 0;

	do {
		from += strspn(from, " \t\n");
		argv[n++] = to = from;
		c->skip = 0;
		for (quote = 0; *from && (quote || !strchr(" \t\n", *from)); from++) {
			if (quote ? *from == quote : *from == '\'' || *from == '"')
				quote = quote ? 0 : *from;
			else if (*from == '\\' && quote != '\'' && from[1]) {
				*to++ = *++from;
				continue;
			} else
				*to++ = *from;
			if (c->breaks && (quote == 0 || quote == *from) && strchr(c->breaks, *from))
				c->skip = (size_t)(to - argv[n - 1]);
		}
		if (*from == 0) {
			c->quote = quote;
			*to = 0;
			return n;
		}
		from++;
		*to = 0;
	} while (n < WORDS - 1);
	return 0;
}

static void
offer_operand(struct completion *c, const struct opts *o)
{
	switch (o->command) {
	case CMD_UNMAP:
		if (o->operands == 0)
			offer_mappings(c);
		break;
	case CMD_COMPLETION:
		offer(c, "bash");
		offer(c, "zsh");
		break;
	case CMD_KEY:
	case CMD_STATUS:
		break;
	default:
		c->command = o->command;
		if (o->operands == 0)
			offer_snapshots(c, o);
		else if (o->operands == 1 || o->command == CMD_VERIFY)
			offer_archives(c, o);
		else if (o->command == CMD_LIST || (o->command == CMD_RESTORE && o->operands > 2))
			offer_paths(c, o);
	}
}

static void
complete(struct completion *c, int argc, char **argv)
{
	const char *last = argv[argc - 2];		/* they are sorted in parsing */
	struct opts o;
	char root[] = "";
	int rc, subdir = strcmp(last, "--subdir") == 0;

	/* The last word is the one in question; what is missing behind the others is no matter. */
	argv[argc - 1] = subdir ? root : NULL;
	argv[argc] = NULL;
	rc = opt_parse(argc - 1 + subdir, argv, &o, NULL);
	if (rc == -ENODATA) {
		if (strcmp(last, "--ns") == 0)
			offer_namespaces(c, &o);
	} else if (subdir) {
		c->command = o.command;
		if (o.operands > 1)
			offer_paths(c, &o);
	} else if (argc == 2 || c->word[0] == '-') {
		opt_names(o.command, c->word[0] == '-', offer_name, c);
	} else if (o.command) {
		offer_operand(c, &o);
	}
}

/* Where no alarm and no question can reach the shell. */
static void
look(struct completion *c, int argc, char **argv)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	signal(SIGALRM, SIG_DFL);
	alarm(SECONDS);
	setsid();
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 2) < 0)
		_exit(1);
	complete(c, argc, argv);
	fflush(stdout);
	_exit(0);
}

int
completion_words(const char *line, const char *breaks)
{
	char *argv[WORDS], *copy = strdup(line);
	struct completion c = { .breaks = breaks };
	int argc = copy ? split(&c, copy, argv) : 0;
	pid_t pid = -1;

	if (argc > 1) {
		c.word = argv[argc - 1];
		if ((pid = fork()) == 0)
			look(&c, argc, argv);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(copy);
	return pid > 0 ? ST_DONE : ST_FAIL;
}
