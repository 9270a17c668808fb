/*
 * Error texts.  Knows nothing of what fails; its one invariant is that a text
 * is a single line of printable ASCII, whatever a server or file put into the
 * arguments, so that it can go to a serial console or a log as it is.
 */
#include "err.h"
#undef err_set

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
err_printable(char *s)
{
	for (; *s != '\0'; s++)
		if (*s < 0x20 || *s > 0x7e)
			*s = '?';
}

int
err_set(struct err *e, enum status status, int rc, const char *fmt, ...)
{
	struct err made;
	va_list ap;

	if (e == NULL)
		return rc;
	/* Not straight into *e: its old text may be one of the arguments. */
	made.text[0] = '\0';
	va_start(ap, fmt);
	vsnprintf(made.text, sizeof(made.text), fmt, ap);
	va_end(ap);
	err_printable(made.text);
	e->status = status;
	memcpy(e->text, made.text, strlen(made.text) + 1);
	return rc;
}
