/*
 * What shall go wrong, set by commands while the server runs, and what was
 * counted. Everything here locks by itself; any thread may call it.
 */
#ifndef PBSD_FAULT_H
#define PBSD_FAULT_H

#include <stddef.h>
#include <stdint.h>

#define ALWAYS (-1)			/* "times" without an end */

enum front { FRONT_TLS, FRONT_HTTP, FRONT_SSH, FRONT_CLOSE, FRONT_SILENT };
enum upgrade { UPGRADE_OK, UPGRADE_HTML, UPGRADE_STRIP, UPGRADE_CLOSE, UPGRADE_PLAIN };

/* How connections behave; each has a copy, renewed when a command changes it. */
struct weather {
	int64_t rtt;			/* ms of distance: all that comes from the client is held back */
	int64_t delay;			/* ms added to each answer, each by itself */
	int64_t handshake;		/* ms before the first byte is read */
	int64_t auth_delay;		/* ms before a 401 */
	int64_t rate, rate_all;		/* bytes/s of a connection, of all; 0: no limit */
	int64_t record;			/* plain bytes of a TLS record, 1 to 16384 */
	int64_t dribble;		/* bytes a send() */
	int64_t frame;			/* bytes of a DATA frame at most */
	int64_t padding;		/* bytes of padding at most, 0 to 255 */
	int64_t continuation;		/* bytes of header block a frame; 0: one frame */
	int64_t late;			/* ms between the 101 and the first SETTINGS */
	int64_t no_ping;		/* 1: PINGs are not answered */
	int64_t host_cookie;		/* 1: the ticket only as __Host-PBSAuthCookie */
	int64_t front, upgrade;		/* enums above */
};

enum scope { SCOPE_API = 1, SCOPE_H2 = 2, SCOPE_ALL = 3 };
enum breakage { BREAK_NONE, BREAK_CUT, BREAK_RST, BREAK_STALL, BREAK_FREEZE };

/* Where a connection breaks: when it has sent `after` raw bytes since the scope or the command began. */
struct breakpoint {
	enum breakage kind;
	int64_t after;
	int scope;
};

enum rule_kind {
	RULE_STATUS, RULE_RST, RULE_CORRUPT, RULE_SHORT, RULE_LONG, RULE_GARBAGE, RULE_EMPTY, RULE_NOLENGTH,
	RULE_HANG, RULE_DELAY, RULE_CUT, RULE_STALL, RULE_INJECT, RULE_TRAILER
};

enum request_kind { REQ_CHUNK = 1, REQ_FILE = 2 };

/* One fault of an answer: which requests it hits and what happens to them. */
struct rule {
	enum rule_kind kind;
	int what;			/* request_kind */
	int64_t nth;			/* the nth such request since the command; 0: any */
	char name[128];			/* digest in hex or file name; "": any */
	int64_t times, seen;
	int64_t at;			/* byte of the body where it happens; -1: before the headers */
	int64_t code;			/* status, or error code of RST_STREAM */
	int64_t ms, by;			/* delay; bytes too short or too long */
	char text[128];			/* body of the status, name of the frame */
};

enum kick_kind { KICK_NONE, KICK_BREAK, KICK_RESUME, KICK_GOAWAY, KICK_SETTINGS, KICK_PING, KICK_INJECT, KICK_FLOOD };

/* Something all connections of today shall do once. */
struct kick {
	enum kick_kind kind;
	enum breakage how;
	int scope;
	int64_t code, last, close;	/* GOAWAY; last -1: the newest stream, -2: 2^31-1 */
	int64_t id, value;		/* SETTINGS; value is FLOOD's count too */
	char name[32];			/* of the frame or flood */
};

enum counter {
	N_CONNECTIONS, N_HANDSHAKES, N_LOGINS, N_LOGIN_FAILURES, N_REQUESTS, N_UPGRADES, N_DOWNLOADS, N_CHUNKS,
	N_BYTES_SENT, N_BYTES_RECEIVED, N_CLIENT_RST, N_CLIENT_GOAWAY, N_CLOSE_NOTIFY, N_PINGS, N_PING_ACKS,
	N_FAULTS, N_REFUSED, N_COUNTERS
};

/* The connections' copy: *gen is what the caller has, 1 when something is new. */
int weather_renew(uint64_t *gen, struct weather *w, struct breakpoint *b);
/* Takes one of the breakpoint's times: 1 if it is to fire. */
int breakpoint_take(void);
/* The rule that hits this request, if any (1), its times taken; *ms is what delay rules add. */
int rule_take(int what, const char *name, struct rule *r, int64_t *ms);
/* Bytes the common limit allows now (at most want); takes them. */
int64_t rate_take(int64_t rate, int64_t want, int64_t now);
void rate_return(int64_t n);

void count(enum counter c, int64_t n);
void count_digest(const uint8_t digest[32]);
/* Streams open at the same time in one connection: keeps the maximum. Open connections likewise. */
void count_streams(int64_t open);
void count_open(int64_t delta);
__attribute__((format(printf, 2, 3)))
void violation(int conn, const char *fmt, ...);
__attribute__((format(printf, 2, 3)))
void logline(int conn, const char *fmt, ...);
extern int verbose;

/* Runs `set`, `break`, `rule`, `clear`, `zero`; 1 if it was one of these. Errors go to err. */
int fault_command(char **words, int n, char *err, size_t cap);
/* `kick …` to *k. 0, or -1 with err. */
int kick_parse(char **words, int n, struct kick *k, char *err, size_t cap);
char *stats_json(void);			/* malloc'ed, one line */
void fault_free(void);

#endif
