/* HTTP/1.1 on a connection: requests read strictly, answers written as a Proxmox Backup Server writes them. */
#ifndef PBSD_HTTP_H
#define PBSD_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "pbsd_fault.h"

#define HEADERS_MAX 64

struct request {
	int conn;			/* number of the connection, for the log */
	char *text;			/* all of the head; what follows points into it */
	const char *method, *path, *query;	/* query: what follows '?', else "" */
	struct { const char *name, *value; } header[HEADERS_MAX];
	int headers;
	char *body;			/* NUL-terminated */
	size_t body_len;
	const struct weather *weather;
};

struct answer {
	int status;
	const char *type;		/* content-type; NULL: none */
	char *body;			/* malloc'ed */
	size_t len;
	int chunked;			/* else with content-length */
	char extra[1024];		/* further header lines, each with CRLF */
	int64_t wait;			/* ms before it is given */
	char snapshot[4096];		/* 101: directory of the snapshot to read */
};

#define TYPE_JSON "application/json;charset=UTF-8"

const char *request_header(const struct request *r, const char *name);
/* A parameter of a query string, decoded: 1, 0: not there, -1: malformed or too long. */
int query_param(const char *query, const char *key, char *out, size_t cap);
/* Decodes %XX in place of s[n] to out; plus: '+' is a blank. Length, or -1. */
int percent_decode(const char *s, size_t n, int plus, char *out, size_t cap);
/* "Fri, 20 Nov 2026 16:09:43 GMT" */
void http_date(char out[64]);

__attribute__((format(printf, 4, 5)))
void answer_text(struct answer *a, int status, const char *type, const char *fmt, ...);

struct conn;
/* Serves the connection until its end, or until an upgrade was answered: then 1, and snapshot is filled. */
int http_serve(struct conn *c, char *snapshot, size_t cap);

#endif
