/* Who may do what: users, API tokens, tickets. */
#ifndef PBSD_AUTH_H
#define PBSD_AUTH_H

#include "pbsd_http.h"

enum right { MAY_LOGIN = 1, MAY_READ = 2, MAY_BACKUP = 4, WANTS_TFA = 8 };

/* "ID:SECRET"; a new secret for an ID that is there already. 0 or -1. */
int auth_add(const char *spec, int rights);
int auth_rights(const char *id, int rights);
/* All tickets given so far are void. */
void auth_expire(void);
/* POST access/ticket */
void auth_login(const struct request *r, struct answer *a);
/* The rights of who sent this; 0 when it is nobody: then *why is the message. id: who it is. */
int auth_who(const struct request *r, char *id, size_t cap, const char **why);

#endif
