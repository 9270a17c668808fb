/* Writing JSON for programs: strings escaped, nothing else. */
#ifndef JSONOUT_H
#define JSONOUT_H

#include <stdio.h>

/* "…" with quotes; what is no valid ASCII text comes out as \u00xx, byte by byte, unless it is UTF-8. */
void json_out(FILE *f, const char *s);

#endif
