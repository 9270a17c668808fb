/*
 * The interactive way. Each step finds one thing out, from what was given or by asking; `b` goes back to the last
 * one that asked. At the end there are the words of a command line: they are printed, parsed and run like any other.
 * No secret is among them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"
#include "log.h"
#include "rescue.h"
#include "rescue_parts.h"

#define WORDS 24

int
rescue_terminal(void)
{
	return isatty(0) && isatty(2);
}

/* ---- doing it ---- */

int
rescue_quote(const char *word, char *out, size_t cap)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-";
	const char *quote = *word && strspn(word, plain) == strlen(word) ? "" : "'", *end;
	size_t n = (size_t)snprintf(out, cap, "%s", quote);

	/* Pieces between quotes, which stand outside, escaped. */
	for (;; word = end + 1) {
		end = word + strcspn(word, "'");
		n += (size_t)snprintf(n < cap ? out + n : NULL, n < cap ? cap - n : 0, "%.*s%s", (int)(end - word), word,
		    *end ? "'\\''" : quote);
		if (*end == 0)
			return (int)n;
	}
}

static void
print_word(const char *word)
{
	char quoted[4 * MENU_TEXT + 3];

	rescue_quote(word, quoted, sizeof(quoted));
	fprintf(stderr, " %s", quoted);
}

struct words {
	const char *word[WORDS + 1];
	int n;
};

/* NULL is left out. */
static void
add(struct words *w, const char *name, const char *value)
{
	if (value == NULL || w->n + 2 > WORDS)
		return;
	if (name)
		w->word[w->n++] = name;
	w->word[w->n++] = value;
}

static void
make_words(const struct rescue *r, const char *command, struct words *w)
{
	static char keyfd[16];
	const struct opts *o = &r->o;

	add(w, "pbsmap", command);
	add(w, "--repository", o->repository);
	add(w, "--fingerprint", o->fingerprint);
	add(w, "--ca", o->fingerprint ? NULL : o->ca);
	add(w, "--config", o->config);
	add(w, "--ns", *o->ns ? o->ns : NULL);
	add(w, "--keyfile", o->keyfile);
	snprintf(keyfd, sizeof(keyfd), "%d", o->keyfd);
	add(w, "--keyfd", o->keyfd < 0 ? NULL : keyfd);
	/* What follows may begin with a '-'. */
	add(w, r->archive[0] == '-' || r->target[0] == '-' ? "--" : NULL, r->snapshot);
	add(w, NULL, strcmp(command, "list") == 0 ? NULL : r->archive);
	add(w, NULL, r->target[0] ? r->target : NULL);
}

static void
print_words(const struct rescue *r, const struct words *w)
{
	int i;

	fprintf(stderr, "\nThe same in a script%s%s:\n ", r->origin.repo.is_dir ? "" : ", with PBS_PASSWORD set",
	    getenv("PBS_ENCRYPTION_PASSWORD") ? ", with PBS_ENCRYPTION_PASSWORD set" : "");
	if (r->make_directory) {
		fprintf(stderr, " mkdir");
		print_word(r->target);
		fprintf(stderr, " &&");
	}
	for (i = 0; i < w->n; i++)
		print_word(w->word[i]);
	fprintf(stderr, "\n\n");
}

static void
run_shell(struct rescue *r, struct err *e)
{
	const char *shell = getenv("SHELL"), *path = shell && *shell ? shell : "/bin/sh";
	char *argv[] = { (char *)(uintptr_t)path, NULL };

	setenv("PBS_REPOSITORY", r->o.repository, 1);
	if (r->o.ns && *r->o.ns)
		setenv("PBS_NAMESPACE", r->o.ns, 1);
	if (r->o.fingerprint)
		setenv("PBS_FINGERPRINT", r->o.fingerprint, 1);
	fprintf(stderr, "In this shell pbsmap knows repository, namespace and secrets; exit leaves it.\n");
	execv(path, argv);
	err_set(e, ST_FAIL, -errno, "%s: %s", path, strerror(errno));
}

static int
finish(struct rescue *r, int (*run)(const struct opts *, struct err *), struct err *e)
{
	int shell = strcmp(r->action, "shell") == 0;
	struct words w = { .n = 0 };
	struct opts o;

	make_words(r, shell ? "list" : r->action, &w);
	print_words(r, &w);
	/* Nothing of the dialog lives on: the command opens the repository itself. */
	origin_close(&r->origin);
	menu_clear(&r->menu);
	if (shell)
		run_shell(r, e);
	else if (r->make_directory && mkdir(r->target, 0755) < 0)
		err_set(e, ST_FAIL, -errno, "%s: %s", r->target, strerror(errno));
	else if (opt_parse(w.n, (char **)(uintptr_t)w.word, &o, e) == 0)
		return run(&o, e);
	return (int)e->status;
}

/* ---- the way through ---- */

/* 0: all is known; else QUIT, or a negative errno that nobody can do anything about. */
static int
walk(struct rescue *r, struct err *e)
{
	int asked[STEPS], depth = 0, at = 0, rc;

	while (at < STEPS) {
		rc = rescue_steps[at](r, e);
		if (rc == ASKED)
			asked[depth++] = at;
		if (rc == ASKED || rc == PASSED) {
			e->text[0] = 0;	/* of what was tried before it was asked for */
			at++;
			continue;
		}
		if (rc == QUIT || (rc < 0 && depth == 0))
			return rc;
		if (rc < 0)
			say("%s", e->text);
		e->text[0] = 0;
		if (depth > 0)
			at = asked[--depth];
		/* The list of namespaces comes with the connection. */
		if (at == rescue_namespace && (rc = rescue_get_in(r, e)) < 0)
			return rc;
	}
	return 0;
}

int
rescue_run(const struct opts *o, int (*run)(const struct opts *, struct err *), struct err *e)
{
	struct rescue *r = rescue_terminal() ? calloc(1, sizeof(*r)) : NULL;
	int rc;

	if (r == NULL) {
		err_set(e, ST_USAGE, -ENOTTY, "rescue asks at a terminal, and there is none; see pbsmap --help");
		return ST_USAGE;
	}
	r->o = *o;
	fprintf(stderr, "Answer with a number or by typing. Enter takes what stands in [ ], b goes back,\nq leaves.\n");
	if ((rc = walk(r, e)) == 0) {
		rc = finish(r, run, e);
	} else {
		origin_close(&r->origin);
		menu_clear(&r->menu);
		if (rc == QUIT)
			e->text[0] = 0;
		rc = rc < 0 ? (int)e->status : ST_FAIL;
	}
	conf_secret("PBS_PASSWORD", NULL);
	conf_secret("PBS_ENCRYPTION_PASSWORD", NULL);
	free(r);
	return rc;
}
