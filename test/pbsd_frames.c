/*
 * A table of frames, each wrong in one way (or right, but rare). A row is one
 * frame; a row that begins with "+" goes on with the row above. Header blocks
 * are literals without indexing, so that the peer's dynamic table stays as
 * nghttp2 believes it to be.
 */
#include <stdlib.h>
#include <string.h>

#include "pbsd_frames.h"

enum { DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION, ALTSVC, UNKNOWN = 0xbb };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8 };
/* Which stream: none, the one being answered, one never opened, one only the server could open. */
enum { S0, CUR, IDLE, EVEN };

#define BYTES(s) s, sizeof(s) - 1
#define OVER 1				/* the length field says one more than the client allows */

static const struct row {
	const char *name;
	uint8_t type, flags, stream;
	const char *payload;
	size_t len;
	int over, legal;
} rows[] = {
	{ "data-stream0", DATA, 0, S0, BYTES("abcd"), 0, 0 },
	{ "data-idle", DATA, 0, IDLE, BYTES("abcd"), 0, 0 },
	{ "data-pad", DATA, PADDED, CUR, BYTES("\377abcd"), 0, 0 },
	{ "data-pad-empty", DATA, PADDED, CUR, BYTES(""), 0, 0 },
	{ "data-oversize", DATA, 0, CUR, BYTES("abcd"), OVER, 0 },
	{ "unknown-oversize", UNKNOWN, 0, S0, BYTES("abcd"), OVER, 0 },
	{ "headers-stream0", HEADERS, END_HEADERS, S0, BYTES("\x88"), 0, 0 },
	{ "headers-idle", HEADERS, END_HEADERS, IDLE, BYTES("\x88"), 0, 0 },
	{ "headers-even", HEADERS, END_HEADERS, EVEN, BYTES("\x88"), 0, 0 },
	{ "headers-pad", HEADERS, END_HEADERS | PADDED, CUR, BYTES("\377\x88"), 0, 0 },
	{ "headers-cut", HEADERS, 0, CUR, BYTES("\x88"), 0, 0 },
	{ "+", PING, 0, S0, BYTES("12345678"), 0, 0 },
	{ "headers-other", HEADERS, 0, CUR, BYTES("\x88"), 0, 0 },
	{ "+", CONTINUATION, END_HEADERS, IDLE, BYTES("\x88"), 0, 0 },
	{ "continuation-alone", CONTINUATION, END_HEADERS, CUR, BYTES("\x88"), 0, 0 },
	{ "priority-stream0", PRIORITY, 0, S0, BYTES("\0\0\0\0\x10"), 0, 0 },
	{ "priority-len", PRIORITY, 0, CUR, BYTES("\0\0\0\0"), 0, 0 },
	{ "rst-stream0", RST, 0, S0, BYTES("\0\0\0\2"), 0, 0 },
	{ "rst-idle", RST, 0, IDLE, BYTES("\0\0\0\2"), 0, 0 },
	{ "rst-len", RST, 0, CUR, BYTES("\0\0\2"), 0, 0 },
	{ "settings-stream", SETTINGS, 0, CUR, BYTES(""), 0, 0 },
	{ "settings-len", SETTINGS, 0, S0, BYTES("\0\3\0\0\0"), 0, 0 },
	{ "settings-ack-payload", SETTINGS, ACK, S0, BYTES("\0\3\0\0\0\1"), 0, 0 },
	{ "settings-push", SETTINGS, 0, S0, BYTES("\0\2\0\0\0\1"), 0, 0 },
	{ "settings-window", SETTINGS, 0, S0, BYTES("\0\4\200\0\0\0"), 0, 0 },
	{ "settings-frame", SETTINGS, 0, S0, BYTES("\0\5\0\0\0\144"), 0, 0 },
	{ "push-promise", PUSH, END_HEADERS, CUR, BYTES("\0\0\0\2\x82\x87\x84"), 0, 0 },
	{ "ping-stream", PING, 0, CUR, BYTES("12345678"), 0, 0 },
	{ "ping-len", PING, 0, S0, BYTES("1234567"), 0, 0 },
	{ "goaway-stream", GOAWAY, 0, CUR, BYTES("\0\0\0\0\0\0\0\0"), 0, 0 },
	{ "goaway-len", GOAWAY, 0, S0, BYTES("\0\0\0\0\0\0\0"), 0, 0 },
	{ "window-zero", WINDOW, 0, S0, BYTES("\0\0\0\0"), 0, 0 },
	{ "window-zero-stream", WINDOW, 0, CUR, BYTES("\0\0\0\0"), 0, 0 },
	{ "window-overflow", WINDOW, 0, S0, BYTES("\177\377\377\377"), 0, 0 },
	{ "window-len", WINDOW, 0, S0, BYTES("\0\0\0"), 0, 0 },
	{ "window-idle", WINDOW, 0, IDLE, BYTES("\0\0\0\1"), 0, 0 },
	{ "hpack-index", HEADERS, END_HEADERS, CUR, BYTES("\xff\x80\x08"), 0, 0 },
	{ "hpack-index0", HEADERS, END_HEADERS, CUR, BYTES("\x80"), 0, 0 },
	{ "hpack-dynamic", HEADERS, END_HEADERS, CUR, BYTES("\x88\xfe\x00"), 0, 0 },
	{ "hpack-huffman", HEADERS, END_HEADERS, CUR, BYTES("\x88\x00\x01x\x84\xff\xff\xff\xff"), 0, 0 },
	{ "hpack-int", HEADERS, END_HEADERS, CUR, BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), 0, 0 },
	{ "hpack-cut", HEADERS, END_HEADERS, CUR, BYTES("\x88\x00\x05" "abc"), 0, 0 },
	{ "hpack-resize", HEADERS, END_HEADERS, CUR, BYTES("\x3f\xe1\xff\x7f\x88"), 0, 0 },
	{ "hpack-resize-late", HEADERS, END_HEADERS, CUR, BYTES("\x88\x20"), 0, 0 },
	{ "status-none", HEADERS, END_HEADERS, CUR, BYTES("\x00\x01x\x01y"), 0, 0 },
	{ "status-twice", HEADERS, END_HEADERS, CUR, BYTES("\x88\x88"), 0, 0 },
	{ "status-bad", HEADERS, END_HEADERS, CUR, BYTES("\x08\x03" "abc"), 0, 0 },
	{ "status-late", HEADERS, END_HEADERS, CUR, BYTES("\x00\x01x\x01y\x88"), 0, 0 },
	{ "pseudo-unknown", HEADERS, END_HEADERS, CUR, BYTES("\x88\x00\x04:foo\x01y"), 0, 0 },
	{ "field-upper", HEADERS, END_HEADERS, CUR, BYTES("\x88\x00\x01X\x01y"), 0, 0 },
	{ "field-connection", HEADERS, END_HEADERS, CUR, BYTES("\x88\x00\x0a" "connection\x05" "close"), 0, 0 },
	{ "http1", 0, 0, S0, BYTES(""), 0, 0 },
	{ "headers-second", HEADERS, END_HEADERS, CUR, BYTES("\x88"), 0, 0 },
	{ "+", HEADERS, END_HEADERS, CUR, BYTES("\x88"), 0, 0 },

	{ "unknown", UNKNOWN, 0xff, CUR, BYTES("whatever"), 0, 1 },
	{ "unknown-idle", UNKNOWN, 0xff, IDLE, BYTES("whatever"), 0, 1 },
	{ "altsvc", ALTSVC, 0, S0, BYTES("\0\1xh2=\":1\""), 0, 1 },
	{ "priority", PRIORITY, 0, IDLE, BYTES("\0\0\0\0\x10"), 0, 1 },
	{ "ping", PING, 0, S0, BYTES("pingping"), 0, 1 },
	{ "window", WINDOW, 0, S0, BYTES("\0\0\0\1"), 0, 1 },
	{ "window-stream", WINDOW, 0, CUR, BYTES("\0\0\0\1"), 0, 1 },
	{ "reserved-bit", WINDOW, 0, S0, BYTES("\200\0\0\1"), 0, 1 },
	{ "info", HEADERS, END_HEADERS, CUR, BYTES("\x08\x03" "100"), 0, 1 },
	{ "info-twice", HEADERS, END_HEADERS, CUR, BYTES("\x08\x03" "103\x00\x01x\x01y"), 0, 1 },
	{ "+", HEADERS, END_HEADERS, CUR, BYTES("\x08\x03" "103"), 0, 1 },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* The length field may lie: `says`. */
static size_t
put_frame(uint8_t *p, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t len, size_t says)
{
	p[0] = (uint8_t)(says >> 16);
	p[1] = (uint8_t)(says >> 8);
	p[2] = (uint8_t)says;
	p[3] = type;
	p[4] = flags;
	p[5] = (uint8_t)(stream >> 24);
	p[6] = (uint8_t)(stream >> 16);
	p[7] = (uint8_t)(stream >> 8);
	p[8] = (uint8_t)stream;
	memcpy(p + 9, payload, len);
	return 9 + len;
}

size_t
frames_make(const char *name, int32_t stream, uint32_t max_frame, uint8_t *out)
{
	static const char http1[] = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n";
	const uint32_t ids[] = { 0, (uint32_t)stream, (uint32_t)stream + 20000, 2 };
	size_t n = 0, i = 0;

	if (strcmp(name, "http1") == 0) {	/* no frame at all */
		memcpy(out, http1, sizeof(http1) - 1);
		return sizeof(http1) - 1;
	}
	while (i < ROWS && strcmp(rows[i].name, name) != 0)
		i++;
	for (size_t first = i; i < ROWS && (i == first || rows[i].name[0] == '+'); i++)
		n += put_frame(out + n, rows[i].type, rows[i].flags, ids[rows[i].stream], rows[i].payload, rows[i].len,
		    rows[i].over ? (size_t)max_frame + 1 : rows[i].len);
	return n;
}

uint8_t *
frames_split(const uint8_t *frame, size_t len, size_t piece, size_t *outlen)
{
	const uint8_t *p = frame + 9;
	uint32_t stream = (uint32_t)frame[5] << 24 | (uint32_t)frame[6] << 16 | (uint32_t)frame[7] << 8 | frame[8];
	size_t left = len - 9, n = 0;
	uint8_t *out = malloc(len + (left / piece + 2) * 9);

	if (!out)
		abort();
	for (int first = 1; first || left > 0; first = 0) {
		size_t k = left < piece ? left : piece;
		uint8_t flags = first ? frame[4] & (uint8_t)~END_HEADERS : 0;

		n += put_frame(out + n, first ? HEADERS : CONTINUATION, k == left ? flags | END_HEADERS : flags, stream, p, k, k);
		p += k;
		left -= k;
	}
	*outlen = n;
	return out;
}

const char *
frames_name(size_t i, int *legal)
{
	if (i >= ROWS)
		return NULL;
	*legal = rows[i].legal;
	return rows[i].name;
}
