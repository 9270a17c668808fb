/* The command line. */
#include "../opt.h"
#include "t.h"

static struct opts o;
static struct err e;

/* Parses words separated by blanks. */
static int
parse(const char *line)
{
	static char text[512], name[] = "pbsmap";
	char *argv[32] = { name }, *p;
	int argc = 1;

	snprintf(text, sizeof(text), "%s", line);
	for (p = strtok(text, " "); p; p = strtok(NULL, " "))
		argv[argc++] = p;
	e.text[0] = 0;
	return opt_parse(argc, argv, &o, &e);
}

static void
test_any_order(void)
{
	check_int(parse("map --repository /s vm/100 a.img"), 0);
	check_int(o.command, CMD_MAP);
	check_str(o.repository, "/s");
	check_str(o.operand[0], "vm/100");
	check_str(o.operand[1], "a.img");
	check_int(parse("map vm/100 --repository=/s a.img --cache 1G -v"), 0);
	check_str(o.operand[1], "a.img");
	check(o.cache == 1ull << 30 && o.verbose);
	check_int(parse("unmap -af"), 0);
	check(o.all && o.force);
	check_int(parse("unmap -- -odd"), 0);
	check_str(o.operand[0], "-odd");
}

static void
test_wrong(void)
{
	check(parse("") < 0 && e.status == ST_USAGE);
	check(parse("mop") < 0 && strstr(e.text, "'mop'"));
	check(parse("map vm/100") < 0 && strstr(e.text, "usage: pbsmap map"));
	check(parse("map a b c") < 0);
	check(parse("map --nosuch a b") < 0 && strstr(e.text, "--nosuch"));
	check(parse("map a b --keyfile") < 0 && strstr(e.text, "--keyfile"));
	check(parse("map --keyfd x a b") < 0 && strstr(e.text, "--keyfd"));
	check(parse("map --keyfd -1 a b") < 0);
	check(parse("map --timeout 99999999999 a b") < 0);
	check(parse("map --cache 1 a b") < 0 && strstr(e.text, "--cache"));
	check(parse("status --keyfile x") < 0);
	check(parse("status x") < 0);
}

static void
test_help(void)
{
	check_int(parse("--help"), 0);
	check(o.help && o.command == 0);
	check_int(parse("map --help"), 0);
	check(o.help && o.command == CMD_MAP);
	check_int(parse("--version"), 0);
	check(o.version);
}

int
main(void)
{
	run(test_any_order);
	run(test_wrong);
	run(test_help);
	return t_end();
}
