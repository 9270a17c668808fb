/*
 * A question at the terminal: answered by number or by typing, the default in brackets, long lists in pages.
 * Any terminal will do: nothing is drawn twice, no line is longer than 79 characters.
 */
#ifndef MENU_H
#define MENU_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define MENU_TEXT 4096			/* bytes of an answer */

enum menu_result { MENU_CHOSEN, MENU_BACK, MENU_QUIT };

struct menu_item {
	char *name;			/* what may be typed, and the answer */
	char *text;			/* what is shown */
	int64_t order;
	int tag;			/* the caller's */
};

struct menu {
	struct menu_item *items;
	size_t count, room;
	const char *question;
	const char *preset;		/* the default; NULL: the last item; "": none */
	int any;			/* what is no item may be typed too */
	int rows;			/* of the terminal; 0: it is asked */
	/* As prompt_line() of secret.h, which it is when NULL. */
	int (*ask)(const char *prompt, char *buf, size_t cap, struct err *e);
	char answer[MENU_TEXT];
	const struct menu_item *item;	/* the chosen one; NULL: typed */
};

/* Adds a copy; text is made printable. 0 or -ENOMEM. */
int menu_add(struct menu *m, const char *name, const char *text, int64_t order, int tag);
/* By order, equal ones by name. */
void menu_sort(struct menu *m);
/* No items, no preset. */
void menu_clear(struct menu *m);

/* Asks until there is an answer. End of file and a terminal that is gone are MENU_QUIT. */
enum menu_result menu_ask(struct menu *m);

#endif
