/*
 * What a certificate says, as far as people and the host name check need it:
 * names, who signed it, kind of key. Nothing here decides trust.
 */
#ifndef CERT_H
#define CERT_H

#include <stddef.h>
#include <stdint.h>

#include "der.h"

struct cert {				/* all parts borrow the certificate's bytes */
	struct der issuer, subject;	/* contents of the Name */
	struct der key;			/* contents of SubjectPublicKeyInfo */
	struct der alt;			/* GeneralNames; len 0: none */
	struct der cn;			/* the last common name; len 0: none */
};

/* 0, or -EBADMSG when the bytes are no X.509 certificate or something follows it. */
int cert_parse(const uint8_t *der, size_t len, struct cert *c);

int cert_self_signed(const struct cert *c);	/* by its names */

/* 1 if the certificate is for this host: a numeric address must stand among its addresses, a name among its DNS
 * names (with "*." for one label); the common name counts when there are no DNS names and no addresses. */
int cert_match(const struct cert *c, const char *host);

/* "pbs.example, 192.0.2.1" into out, cut with "..."; bytes that are not printable ASCII as '?'. */
void cert_names(const struct cert *c, char *out, size_t cap);

/* "RSA 8192", "P-256", "Ed25519", "of an unknown kind". */
void cert_key(const struct cert *c, char *out, size_t cap);

#endif
