/* The form of a JSON object that is signed: sorted keys, no white space. */
#ifndef CANONICAL_H
#define CANONICAL_H

#include <stddef.h>

#include "err.h"

/* Writes the object json[len] in canonical form, less those members of the outermost object that `without` names (NULL ends
 * it), to *out (malloc'ed, the caller's), *outlen bytes. Strings as serde_json writes them. Numbers stay as written: the same for
 * integers, while serde_json writes floats its own way, so a signature over one that it would write otherwise does not verify.
 * Doubled keys, texts over JSON_TEXT_MAX, more than 1024 members: -EINVAL. Also -ENOMEM. ST_FAIL. */
int canonical_json(const char *json, size_t len, const char *const *without,
    char **out, size_t *outlen, struct err *e);

#endif
