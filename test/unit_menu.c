/* One question at the terminal: what may be answered, pages, defaults; and words as a shell reads them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../menu.h"
#include "../rescue.h"
#include "t.h"

static const char *const *script;	/* answers, NULL at the end: end of file */
static char prompts[8][400];		/* the last ones */
static int asked;
static int fails;			/* what ask() returns at the end */

static int
answer(const char *prompt, char *buf, size_t cap, struct err *e)
{
	snprintf(prompts[asked++ % 8], sizeof(prompts[0]), "%s", prompt);
	if (*script == NULL)
		return err_set(e, ST_FAIL, fails, "no answer");
	snprintf(buf, cap, "%s", *script);
	return (int)strlen(*script++);
}

static struct menu m;
static char *shown;			/* what menu_ask() printed, without prompts */

/* n items "item1" ..., with these answers. */
static enum menu_result
with(const char *const *answers)
{
	FILE *f = tmpfile();
	int saved = dup(2);
	enum menu_result rc;
	long n;

	script = answers;
	asked = 0;
	m.ask = answer;
	m.question = "Which";
	fflush(stderr);
	dup2(fileno(f), 2);
	rc = menu_ask(&m);
	fflush(stderr);
	dup2(saved, 2);
	close(saved);
	n = lseek(fileno(f), 0, SEEK_END);
	free(shown);
	shown = calloc(1, (size_t)n + 1);
	check(pread(fileno(f), shown, (size_t)n, 0) == n);
	fclose(f);
	return rc;
}
#define WITH(...) with((const char *const[]){ __VA_ARGS__, NULL })

static void
fill(int n)
{
	char name[16], text[32];
	int i;

	menu_clear(&m);
	for (i = 1; i <= n; i++) {
		snprintf(name, sizeof(name), "item%d", i);
		snprintf(text, sizeof(text), "item %d \xc3\xa4  ", i);
		check_int(menu_add(&m, name, text, n - i, i), 0);
	}
}

static void
test_number_or_name(void)
{
	fill(12);
	check(WITH("3") == MENU_CHOSEN);
	check_str(m.answer, "item3");
	check(m.item && m.item->tag == 3);
	check(WITH("item12") == MENU_CHOSEN && m.item->tag == 12);
	check(WITH("012 ") == MENU_CHOSEN && m.item->tag == 12);
	check_str(prompts[0], "Which [12]: ");
	check(strstr(shown, " 1  item 1 ??\n") && strstr(shown, "\n12  item 12 ??\n"));
	/* A part of a name, if it is only one's. */
	check(WITH("tem11") == MENU_CHOSEN && m.item->tag == 11);
	check(WITH("tem1", "2") == MENU_CHOSEN && m.item->tag == 2);
	check(strstr(shown, "4 of them have 'tem1' in their names.\n") != NULL);
}

static void
test_defaults(void)
{
	fill(3);
	check(WITH("") == MENU_CHOSEN && m.item->tag == 3);
	m.preset = "item2";
	check(WITH("  ") == MENU_CHOSEN && m.item->tag == 2);
	check_str(prompts[0], "Which [item2]: ");
	m.preset = "";
	check(WITH("", "", "1") == MENU_CHOSEN && m.item->tag == 1);
	check_int(asked, 3);
	check_str(prompts[2], "Which: ");
	menu_clear(&m);
	m.any = 1;
	check(WITH("", "x") == MENU_CHOSEN && m.item == NULL);
	m.preset = "/mnt";
	check(WITH("") == MENU_CHOSEN && m.item == NULL);
	check_str(m.answer, "/mnt");
}

static void
test_wrong_ones_are_asked_again(void)
{
	fill(3);
	check(WITH("4", "0", "99999999999999999999999", "-1", "x", "") == MENU_CHOSEN);
	check_int(asked, 6);
	check(strstr(shown, "There is no '99999999999999999999999'") && strstr(shown, "There is no '-1'"));
	/* Where anything goes, a part of a name is no name. */
	m.any = 1;
	check(WITH("tem1") == MENU_CHOSEN && m.item == NULL);
	check_str(m.answer, "tem1");
	check(WITH("7") == MENU_CHOSEN && m.item == NULL);
}

static void
test_leaving(void)
{
	fill(3);
	check(WITH("b") == MENU_BACK);
	check(WITH("q") == MENU_QUIT);
	fails = -ECANCELED;
	check(WITH("9") == MENU_QUIT);
	fails = -EIO;
	check(WITH("9") == MENU_QUIT);
	fails = -ENOTTY;
	check(WITH("9") == MENU_QUIT);
}

static int
lines(void)
{
	int n = 0;

	for (const char *p = shown; *p; p++)
		n += *p == '\n';
	return n;
}

static void
test_pages(void)
{
	fill(1000);
	m.rows = 5;
	check(WITH("") == MENU_CHOSEN && m.item->tag == 1000);
	check_int(lines(), 3);
	check(strncmp(shown, " 998  item 998", 14) == 0);
	check_str(prompts[0], "Which, 1-1000, p: earlier [1000]: ");
	check(WITH("p", "n", "n", "2") == MENU_CHOSEN && m.item->tag == 2);
	check_int(lines(), 12);
	check_str(prompts[1], "Which, 1-1000, p: earlier, n: later [1000]: ");
	check_str(prompts[2], prompts[0]);
	/* To the first page and not beyond. */
	fill(5);
	m.rows = 4;
	check(WITH("p", "p", "p", "1") == MENU_CHOSEN);
	check_str(prompts[3], "Which, 1-5, n: later [5]: ");
	check(strstr(shown, "1  item 1") != NULL);
	m.rows = 1;
	check(WITH("p", "1") == MENU_CHOSEN);
	check_int(lines(), 2);
	/* A list on one page has no others. */
	m.rows = 24;
	check(WITH("n", "1") == MENU_CHOSEN);
	check(strstr(shown, "There is no 'n'") != NULL);
	m.rows = 0;
}

static void
test_lines_fit(void)
{
	char text[500];

	menu_clear(&m);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	menu_add(&m, "long", text, 0, 0);
	check(WITH("") == MENU_CHOSEN);
	check_int(strlen(shown), 80);
	m.preset = text;		/* a prompt too has an end */
	m.any = 1;
	check(WITH("") == MENU_CHOSEN);
	check_str(m.answer, text);
}

static void
test_order(void)
{
	fill(9);
	menu_add(&m, "a", "a", 8, 99);
	menu_sort(&m);
	check_str(m.items[0].name, "item9");
	check_str(m.items[8].name, "a");
	check_str(m.items[9].name, "item1");
	menu_clear(&m);
	menu_sort(&m);
}

static void
quoted(const char *word, const char *want)
{
	char out[64];

	check_int(rescue_quote(word, out, sizeof(out)), strlen(want));
	check_str(out, want);
}

static void
test_words(void)
{
	char out[8];

	quoted("vm/100/2026-01-02T03:04:05Z", "vm/100/2026-01-02T03:04:05Z");
	quoted("user@realm!token@host:8007:store", "'user@realm!token@host:8007:store'");
	quoted("", "''");
	quoted("it's", "'it'\\''s'");
	quoted("$(reboot) `x` \"y\" \\", "'$(reboot) `x` \"y\" \\'");
	quoted("~", "'~'");
	quoted("''", "''\\'''\\'''");
	/* Cut, but never beyond the room. */
	memset(out, 'z', sizeof(out));
	check_int(rescue_quote("a b c d e f", out, 4), 13);
	check(out[3] == 0 && out[4] == 'z');
}

int
main(void)
{
	run(test_number_or_name);
	run(test_defaults);
	run(test_wrong_ones_are_asked_again);
	run(test_leaving);
	run(test_pages);
	run(test_lines_fit);
	run(test_order);
	run(test_words);
	menu_clear(&m);
	free(shown);
	return t_end();
}
