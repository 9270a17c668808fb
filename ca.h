/*
 * Certificates of authorities, from a PEM bundle. Read once and kept (some 100 KB
 * for a distribution's bundle), since the file may be gone after switch_root.
 */
#ifndef CA_H
#define CA_H

#include <bearssl.h>
#include <stddef.h>

#include "err.h"

#define CA_FILE_MAX (16u << 20)		/* bytes; distributions' bundles have 0.25 MB */
#define CA_MAX 4096			/* certificates */

struct ca {
	br_x509_trust_anchor *anchor;	/* count of them */
	size_t count, room;
	size_t skipped;			/* certificates whose key BearSSL cannot use, or that are damaged */
	char path[256];			/* where they are from; empty: no bundle was found */
};

/* Adds the certificates of a PEM file. A file without one: -EBADMSG. ST_TRUST. */
int ca_load(struct ca *ca, const char *path, struct err *e);
/* SSL_CERT_FILE, else the usual places. None there: 0, with ca->path empty. */
int ca_load_system(struct ca *ca, struct err *e);
/* Adds what n bytes of a PEM text hold. 0, or -ENOMEM. */
int ca_add(struct ca *ca, const void *pem, size_t n);
void ca_free(struct ca *ca);

#endif
