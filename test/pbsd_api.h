/* What the server is told at its start, and the API's routes. */
#ifndef PBSD_API_H
#define PBSD_API_H

#include <stdint.h>

#include "pbsd_http.h"

struct site {
	const char *dir;		/* the datastore */
	const char *name;
	int v4;				/* answers as 4.2, else as 3.2 gives them */
	int64_t ticket_life;		/* s */
};

extern struct site site;

/* Answers a request; status 101 means that the reader protocol follows. */
void api_answer(const struct request *r, struct answer *a);
/* 401, later. */
void api_unauthorized(const struct request *r, struct answer *a, const char *type, const char *why);

#endif
