/* Sizes and times as people read and write them. */
#ifndef HUMAN_H
#define HUMAN_H

#include <stdint.h>

/* "512 B", "30.0 MiB", "1023 GiB": at most 9 characters. Returns out. */
char *human_size(uint64_t bytes, char out[10]);

/* "45s", "12m05s", "3h07m", "2d04h", "9999d": at most 7 characters, rounded down; more than 9999 days: "long". Returns out. */
char *human_time(uint64_t seconds, char out[8]);

/* A number with K, M, G, T, P or E (times 1024 each; of either case, and KiB), or plain bytes. 0, or -EINVAL, or
 * -ERANGE when it does not fit. */
int human_parse(const char *text, uint64_t *bytes);

#endif
