/*
 * Shell completion. The scripts hand over the command line as typed; it is parsed by the same
 * opt_parse() as the real one, so that what is offered comes from the repository, the namespace and
 * the configuration that it names.
 *
 * The process that looks has no terminal and an alarm: whatever the network does, the shell
 * gets its prompt back.
 */
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
#include "run.h"

#define WORDS 128
#define SECONDS 2
#define MAPPINGS 64

/* Files are what bash (-o default) and zsh (_files) offer when there is nothing else. */
static const char bash[] =
	"_pbsmap() {\n"
	"	local IFS=$'\\n'\n"
	"	COMPREPLY=($(\"${COMP_WORDS[0]}\" __complete \"${COMP_LINE:0:COMP_POINT}\" \"$COMP_WORDBREAKS\" 2>/dev/null))\n"
	"}\n"
	"complete -o default -F _pbsmap pbsmap\n";
static const char zsh[] =
	"#compdef pbsmap\n"
	"_pbsmap() {\n"
	"	local -a found\n"
	"	found=(\"${(@f)$(\"${(Q)words[1]}\" __complete \"${words[1,CURRENT-1]} $PREFIX\" 2>/dev/null)}\")\n"
	"	[[ -n $found ]] && compadd -- $found || _files\n"
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
	enum command command;
	struct snapshot at;
	struct origin origin;
};

static void
offer(const struct completion *c, const char *word)
{
	if (*word && strncmp(word, c->word, strlen(c->word)) == 0)
		printf("%s\n", word + c->skip);
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
split(char *line, char *argv[WORDS])
{
	char *from = line, *to = line, quote;
	int n = 0;

	do {
		from += strspn(from, " \t\n");
		argv[n++] = to = from;
		for (quote = 0; *from && (quote || !strchr(" \t\n", *from)); from++) {
			if (quote ? *from == quote : *from == '\'' || *from == '"')
				quote = quote ? 0 : *from;
			else if (*from == '\\' && quote != '\'' && from[1])
				*to++ = *++from;
			else
				*to++ = *from;
		}
		if (*from == 0) {
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
	}
}

static void
complete(struct completion *c, int argc, char **argv)
{
	struct opts o;
	int rc;

	/* The last word is the one in question; what is missing behind the others is no matter. */
	argv[argc - 1] = NULL;
	rc = opt_parse(argc - 1, argv, &o, NULL);
	if (rc == -ENODATA) {
		if (strcmp(argv[argc - 2], "--ns") == 0)
			offer_namespaces(c, &o);
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
	struct completion c = { .word = NULL };
	size_t i;
	int argc = copy ? split(copy, argv) : 0;
	pid_t pid = -1;

	if (argc > 1) {
		c.word = argv[argc - 1];
		for (i = 0; breaks && c.word[i]; i++)
			if (strchr(breaks, c.word[i]))
				c.skip = i + 1;
		if ((pid = fork()) == 0)
			look(&c, argc, argv);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(copy);
	return pid > 0 ? ST_DONE : ST_FAIL;
}
