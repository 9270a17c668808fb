/* Shell completion: the script, and the words it asks for. */
#ifndef COMPLETION_H
#define COMPLETION_H

#include "err.h"

/* `completion SHELL`: prints the script. -EINVAL, ST_USAGE: no such shell. */
int completion_script(const char *shell, struct err *e);

/* `__complete LINE [BREAKS]`: prints the words that the last one of the command line LINE can become, each on a line of its own;
 * where the shell also ends words at the characters BREAKS, what it takes for the word. Ends after 2 s, asks nobody
 * anything, says nothing else. An exit status. */
int completion_words(const char *line, const char *breaks);

#endif
