/* The configuration file: what is read, what wins over what. */
#include "t.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../conf.h"

static char got[1000];			/* "KEY=value;" of all assignments */

static int
collect(void *ctx, const char *key, const char *value)
{
	size_t n = strlen(got);

	(void)ctx;
	snprintf(got + n, sizeof got - n, "%s=%s;", key, value);
	return 0;
}

static int
parse(const char *text, struct err *e)
{
	char *copy = malloc(strlen(text) + 1);
	int rc;

	strcpy(copy, text);
	got[0] = 0;
	rc = conf_parse(copy, strlen(text), "f", collect, NULL, e);
	free(copy);
	return rc;
}

static void
test_values(void)
{
	static const struct { const char *text, *want; } v[] = {
		{ "", "" },
		{ "\n\n \t\n", "" },
		{ "A=b", "A=b;" },
		{ "A=b\r\nC=d\r\n", "A=b;C=d;" },
		{ "A=\nB=", "A=;B=;" },
		{ "  A =  b c  \n", "A=b c;" },
		{ "# x=y\n; z=w\nA=b # c\n", "A=b # c;" },
		{ "A='b \\ \" # '\n", "A=b \\ \" # ;" },
		{ "A=\"b \\\" \\\\ \\n $x '\"\n", "A=b \" \\ \\n $x ';" },
		{ "A='b'\"c\"d\n", "A=bcd;" },
		{ "A=b'c\n", "A=b'c;" },
		{ "A=b\\\nc\nD=e", "A=bc;D=e;" },
		{ "A=\"b\\\nc\"\nD=e", "A=bc;D=e;" },
		{ "A='b\nc'\nD=e", "A=b\nc;D=e;" },
		{ "A=b\\ \n", "A=b ;" },
		{ "A=b=c\n", "A=b=c;" },
		{ "export A=b\n", "A=b;" },
		{ "_a9=x", "_a9=x;" },
		{ "A=\\", "A=\\;" },
	};
	struct err e;
	unsigned i;

	for (i = 0; i < sizeof v / sizeof v[0]; i++) {
		check_int(parse(v[i].text, &e), 0);
		check_str(got, v[i].want);
	}
}

static void
test_malformed(void)
{
	static const struct { const char *text; const char *says; } v[] = {
		{ "A=b\nnonsense\n", "f: line 2 is not KEY=VALUE" },
		{ "=b\n", "f: line 1 is not KEY=VALUE" },
		{ "9A=b\n", "f: line 1 is not KEY=VALUE" },
		{ "A-B=c\n", "f: line 1 is not KEY=VALUE" },
		{ "A B=c\n", "f: line 1 is not KEY=VALUE" },
		{ "A='b\nB=c\n", "f: line 1: a quote is not closed" },
		{ "A='b\nc'\n\nB\n", "f: line 4 is not KEY=VALUE" },
		{ "A=b\\\nc\nB=\"\n", "f: line 3: a quote is not closed" },
	};
	struct err e;
	unsigned i;
	char nul[] = "A=b\0c";

	for (i = 0; i < sizeof v / sizeof v[0]; i++) {
		check_int(parse(v[i].text, &e), -EINVAL);
		check_int(e.status, ST_USAGE);
		check_str(e.text, v[i].says);
	}
	check_int(conf_parse(nul, sizeof nul - 1, "f", collect, NULL, &e), -EINVAL);
}

/* Every prefix of a file is taken or refused, and nothing is read or written outside (ASan). */
static void
test_truncated(void)
{
	static const char text[] = "# c\nexport A = \"b \\\" \\\n c\" 'd'\\\ne\n;\nB='x'\n";
	char cut[sizeof text];
	size_t n;

	for (n = 0; n < sizeof text; n++) {
		memcpy(cut, text, n);
		cut[n] = 0;
		parse(cut, NULL);
		check(strlen(got) < sizeof text + 4);
	}
}

static const char *
write_file(const char *text, mode_t mode)
{
	static char path[] = "/tmp/unit_conf.XXXXXX";
	int fd;

	strcpy(path + sizeof path - 7, "XXXXXX");
	fd = mkstemp(path);
	check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	fchmod(fd, mode);
	close(fd);
	return path;
}

static const char *
env(const char *name)
{
	const char *p = getenv(name);

	return p ? p : "(unset)";
}

static void
clean(void)
{
	conf_forget();
	unsetenv("PBS_REPOSITORY");
	unsetenv("PBS_SERVER");
	unsetenv("PBS_NAMESPACE");
	unsetenv("PBS_PASSWORD");
	unsetenv("PBS_PASSWORD_FILE");
	unsetenv("PBS_PASSWORD_CMD");
	unsetenv("PBS_FINGERPRINT");
}

static int
load(const char *text, mode_t mode)
{
	const char *path = write_file(text, mode);
	struct err e;
	int rc = conf_load(path, &e);

	unlink(path);
	return rc;
}

static void
test_layers(void)
{
	clean();
	check_int(load("PBS_PASSWORD=file\nPBS_NAMESPACE=a/b\nPBS_NAMESPACE=c\nUNKNOWN=x\n", 0600), 0);
	check_str(env("PBS_PASSWORD"), "file");
	check_str(env("PBS_NAMESPACE"), "c");
	check_str(env("UNKNOWN"), "(unset)");
	clean();
	/* any form in the environment hides all forms in the file */
	setenv("PBS_PASSWORD_FILE", "/x", 1);
	check_int(load("PBS_PASSWORD=file\nPBS_PASSWORD_CMD=cmd\nPBS_FINGERPRINT=ab", 0600), 0);
	check_str(env("PBS_PASSWORD"), "(unset)");
	check_str(env("PBS_PASSWORD_CMD"), "(unset)");
	check_str(env("PBS_PASSWORD_FILE"), "/x");
	check_str(env("PBS_FINGERPRINT"), "ab");
	clean();
	setenv("PBS_REPOSITORY", "r", 1);
	check_int(load("PBS_SERVER=s\nPBS_REPOSITORY=q\n", 0600), 0);
	check_str(env("PBS_SERVER"), "(unset)");
	check_str(env("PBS_REPOSITORY"), "r");
	clean();
	check_int(load("PBS_SERVER=s\nPBS_REPOSITORY=q\n", 0600), 0);
	check_str(env("PBS_SERVER"), "s");
	clean();
}

static void
test_forget(void)
{
	const char *p;

	clean();
	setenv("PBS_PASSWORD", "mine", 1);
	check_int(load("PBS_PASSWORD=file\n", 0600), 0);
	conf_forget();
	check_str(env("PBS_PASSWORD"), "mine");
	clean();
	check_int(load("PBS_PASSWORD=geheim\nPBS_NAMESPACE=a\n", 0600), 0);
	p = env("PBS_PASSWORD");
	check_str(p, "geheim");
	conf_forget();
	check_str(env("PBS_PASSWORD"), "(unset)");
	check_str(env("PBS_NAMESPACE"), "a");
	clean();
}

/* What conf_load() says on stderr. */
static void
check_warning(const char *text, mode_t mode, const char *want)
{
	char out[500] = "";
	int fd[2], old = dup(2);
	ssize_t n;

	check(pipe(fd) == 0);
	dup2(fd[1], 2);
	close(fd[1]);
	check_int(load(text, mode), 0);
	dup2(old, 2);
	close(old);
	n = read(fd[0], out, sizeof out - 1);
	out[n > 0 ? n : 0] = 0;
	close(fd[0]);
	if (want)
		check(strstr(out, want) != NULL);
	else
		check_str(out, "");
	clean();
}

static void
test_warnings(void)
{
	clean();
	check_warning("PBS_PASSWORD=x\n", 0644, "mode 644");
	check_warning("PBS_PASSWORD=x\n", 0600, NULL);
	check_warning("PBS_PASSWORD_FILE=x\n", 0644, NULL);
	check_warning("PBS_NAMESPACE=x\n", 0644, NULL);
	check_warning("PBS_PASWORD=x\n", 0600, "unknown key PBS_PASWORD");
}

static void
test_unreadable(void)
{
	char *big = malloc(CONF_MAX + 2);
	struct err e;

	check_int(conf_load("/nonexistent/x", &e), -ENOENT);
	check_int(e.status, ST_USAGE);
	check_str(e.text, "cannot read /nonexistent/x: No such file or directory");
	check_int(conf_load("/", &e), -EISDIR);
	memset(big, '#', CONF_MAX + 1);
	big[CONF_MAX + 1] = 0;
	check_int(load(big, 0600), -EFBIG);
	free(big);
}

int
main(void)
{
	run(test_values);
	run(test_malformed);
	run(test_truncated);
	run(test_layers);
	run(test_forget);
	run(test_warnings);
	run(test_unreadable);
	return t_end();
}
