/*
 * One question at the terminal. Knows nothing of what is asked; prints items and prompt, reads a line.
 *
 * Lists are as long as a datastore has snapshots: what is shown first is the last page, since the newest
 * stand last, and what was typed in part is looked for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "menu.h"
#include "secret.h"

#define WIDTH 79
#define ROWS 24				/* where the terminal does not know (serial lines) */

int
menu_add(struct menu *m, const char *name, const char *text, int64_t order, int tag)
{
	struct menu_item *more, *it;
	size_t n;

	if (m->count == m->room) {
		if ((more = realloc(m->items, (m->room * 2 + 16) * sizeof(*more))) == NULL)
			return -ENOMEM;
		m->items = more;
		m->room = m->room * 2 + 16;
	}
	it = &m->items[m->count++];
	*it = (struct menu_item){ strdup(name), strdup(text), order, tag };
	if (it->name == NULL || it->text == NULL)
		return -ENOMEM;
	for (n = strlen(it->text); n && it->text[n - 1] == ' '; n--)
		it->text[n - 1] = 0;
	err_printable(it->text);
	return 0;
}

static int
by_order(const void *a, const void *b)
{
	const struct menu_item *x = a, *y = b;

	return x->order != y->order ? (x->order < y->order ? -1 : 1) : strcmp(x->name, y->name);
}

void
menu_sort(struct menu *m)
{
	if (m->count)
		qsort(m->items, m->count, sizeof(*m->items), by_order);
}

void
menu_clear(struct menu *m)
{
	while (m->count) {
		m->count--;
		free(m->items[m->count].name);
		free(m->items[m->count].text);
	}
	free(m->items);
	m->items = NULL;
	m->room = 0;
	m->any = 0;
	m->preset = NULL;
	m->item = NULL;
}

/* ---- pages ---- */

/* Items that fit above the prompt, with a line for what was typed before. */
static size_t
page_size(const struct menu *m)
{
	struct winsize w = { 0 };
	int rows = m->rows;

	if (rows == 0 && ioctl(2, TIOCGWINSZ, &w) == 0)
		rows = w.ws_row;
	if (rows <= 0)
		rows = ROWS;
	return rows > 3 ? (size_t)rows - 2 : 1;
}

/* The items before `end`, a page of them; returns the first one's index. */
static size_t
show(const struct menu *m, size_t end, size_t page)
{
	size_t from = end > page ? end - page : 0, i;
	int digits = snprintf(NULL, 0, "%zu", m->count);

	for (i = from; i < end; i++)
		fprintf(stderr, "%*zu  %.*s\n", digits, i + 1, WIDTH - 2 - digits, m->items[i].text);
	return from;
}

static void
make_prompt(const struct menu *m, size_t from, size_t end, char *out, size_t cap)
{
	char pages[64] = "", last[24] = "";
	const char *preset = m->preset ? m->preset : last;

	if (m->count > end - from)
		snprintf(pages, sizeof(pages), ", 1-%zu%s%s", m->count, from ? ", p: earlier" : "",
		    end < m->count ? ", n: later" : "");
	if (m->count)
		snprintf(last, sizeof(last), "%zu", m->count);
	snprintf(out, cap, *preset ? "%s%s [%.200s]: " : "%s%s: ", m->question, pages, preset);
}

/* ---- answers ---- */

static int
is_number(const char *s)
{
	return *s && strspn(s, "0123456789") == strlen(s);
}

/* Finds the item that is meant; else `*near` is the last of several that the text is part of, or the count. */
static const struct menu_item *
find(const struct menu *m, const char *text, size_t *near, size_t *matches)
{
	unsigned long n;
	size_t i;

	*matches = 0;
	*near = m->count;
	if (is_number(text) && (n = strtoul(text, NULL, 10)) >= 1 && n <= m->count)
		return &m->items[n - 1];
	for (i = 0; i < m->count; i++)
		if (strcmp(m->items[i].name, text) == 0)
			return &m->items[i];
	for (i = 0; i < m->count && !m->any && text[0] && text[1]; i++)
		if (strstr(m->items[i].name, text)) {
			*near = i;
			++*matches;
		}
	return *matches == 1 ? &m->items[*near] : NULL;
}

/* 1: m->answer is what is wanted. Else another question; *end: where the next page ends, 0: it need not be shown. */
static int
take(struct menu *m, size_t *end)
{
	char *text = m->answer;
	size_t near, matches, n = strlen(text);

	while (n && text[n - 1] == ' ')
		text[--n] = 0;
	if (n == 0 && m->preset)
		snprintf(text, sizeof(m->answer), "%s", m->preset);
	else if (n == 0 && m->count)
		snprintf(text, sizeof(m->answer), "%zu", m->count);
	if ((m->item = find(m, text, &near, &matches)) != NULL) {
		snprintf(text, sizeof(m->answer), "%s", m->item->name);
		return 1;
	}
	*end = 0;
	if (matches) {
		fprintf(stderr, "%zu of them have '%.40s' in their names.\n", matches, text);
		*end = near + 1;
		return 0;
	}
	if (m->any && *text)
		return 1;
	if (*text)
		fprintf(stderr, "There is no '%.40s'; a number or a name, please.\n", text);
	return 0;
}

/* Another page? Where there is none in that direction, this one again. */
static int
turn(const char *answer, size_t from, size_t *end, size_t page, size_t count)
{
	int earlier = strcmp(answer, "p") == 0;

	if (count <= page || (!earlier && strcmp(answer, "n") != 0))
		return 0;
	if (earlier)
		*end = from > 0 ? from : *end;
	else
		*end = count - *end > page ? *end + page : count;
	return 1;
}

enum menu_result
menu_ask(struct menu *m)
{
	size_t end = m->count, page = page_size(m), from = show(m, end, page), next;
	int (*ask)(const char *, char *, size_t, struct err *) = m->ask ? m->ask : prompt_line;
	char prompt[400];
	struct err e;
	int rc;

	for (;;) {
		make_prompt(m, from, end, prompt, sizeof(prompt));
		rc = ask(prompt, m->answer, sizeof(m->answer), &e);
		if (rc == -E2BIG || rc == -EINVAL)
			m->answer[0] = 0;
		else if (rc < 0 || strcmp(m->answer, "q") == 0)
			return MENU_QUIT;
		if (strcmp(m->answer, "b") == 0)
			return MENU_BACK;
		next = end;
		if (!turn(m->answer, from, &next, page, m->count) && take(m, &next))
			return MENU_CHOSEN;
		if (next)
			from = show(m, end = next, page);
	}
}
