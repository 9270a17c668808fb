/*
 * Whether the server is the right one. A pinned fingerprint (SHA-256 of the certificate) decides; else a CA
 * bundle, the host's name and the dates; else a person at a terminal; else it is refused.
 */
#ifndef TRUST_H
#define TRUST_H

#include <bearssl.h>
#include <stddef.h>
#include <stdint.h>

#include "ca.h"
#include "err.h"

#define FINGERPRINT_TEXT 96		/* "ab:cd:…" with its NUL: hex_colons() */
#define CHAIN_MAX (64u << 10)		/* bytes of certificates a server may send; real chains: 2 to 10 KB */
#define CHAIN_CERTS 16

struct trust {
	char host[256];			/* as the user named it, no brackets */
	int pinned;
	uint8_t pin[32];
	char from[300];			/* where the pin is from, for messages */
	struct ca ca;
	/* How to ask a person (prompt_line of secret.h); NULL: nobody is there. Unset it before there are threads. */
	int (*ask)(const char *prompt, char *buf, size_t cap, struct err *e);
};

enum trust_by { TRUST_NONE, TRUST_PIN, TRUST_CA };

/* What a server showed; kept with the connection. */
struct cert_seen {
	int have;			/* a certificate came */
	uint8_t fingerprint[32];
	int64_t not_before, not_after;	/* epoch seconds; both 0: unknown */
	char names[256];
	char key[24];
	char why[400];			/* why it is not trusted */
	int usable;			/* a person's yes would do */
	enum trust_by by;
};

/* From text in either case, with or without colons, blanks, "SHA256 Fingerprint=" before it. 0, else -1. */
int fingerprint_parse(const char *text, uint8_t out[32]);

/* Finds out what decides for this host: `fingerprint` (--fingerprint; NULL: PBS_FINGERPRINT in its forms, then the known
 * fingerprints), else CAs from `ca_file` (--ca; NULL: the system's). ca_file without a fingerprint leaves the known
 * fingerprints aside. -EINVAL, ST_USAGE; -EACCES, ST_TRUST. Reads files, may run PBS_FINGERPRINT_CMD. Not changed by connections, so that several
 * may share it (but for ask). */
int trust_init(struct trust *t, const char *host, const char *fingerprint, const char *ca_file, struct err *e);
void trust_free(struct trust *t);

/* After a refusal: asks, pins what was seen and notes it in the known fingerprints. 0: trusted now; 1: nobody to
 * ask, or nothing to ask about; else a negative errno, *e set. */
int trust_ask(struct trust *t, const struct cert_seen *seen, struct err *e);

/* The question itself, with t's host and ask alone: a yes goes to the known fingerprints. Results as above. */
int trust_confirm(const struct trust *t, const uint8_t fingerprint[32], const char *reason, struct err *e);

/* A server's chain on its way through a handshake; x509 first, for BearSSL. */
struct chain {
	const br_x509_class *x509;
	const struct trust *trust;
	int64_t now;			/* epoch seconds */
	struct cert_seen seen;
	int rc;				/* 0: trusted */
	struct err err;			/* why not */
	unsigned usages;
	br_x509_decoder_context key;	/* certificate 0's */
	size_t count, len;
	int too_big;
	size_t end[CHAIN_CERTS];	/* offset of each certificate's end in der */
	uint8_t der[CHAIN_MAX];
};

/* Prepares the engine: give &c->x509 to BearSSL. All state is in *c. */
void chain_init(struct chain *c, const struct trust *t, int64_t now);

#endif
