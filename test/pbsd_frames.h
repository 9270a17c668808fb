/* HTTP/2 frames that a library would not send, by name. */
#ifndef PBSD_FRAMES_H
#define PBSD_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#define FRAMES_MAX 256			/* bytes of the longest sequence */

/* Writes the named sequence to out (FRAMES_MAX bytes) for a stream that is open at the client; max_frame is what it announced.
 * Its length, 0: no such name. */
size_t frames_make(const char *name, int32_t stream, uint32_t max_frame, uint8_t *out);
/* Splits a HEADERS frame into pieces of `piece` bytes of header block. Returns a malloc'ed buffer. */
uint8_t *frames_split(const uint8_t *frame, size_t len, size_t piece, size_t *outlen);
/* The names, for a listing: NULL after the last; *legal: the client must not mind. */
const char *frames_name(size_t i, int *legal);

#endif
