/*
 * Trust in a server's certificate.
 *
 * The chain is collected whole and judged at its end, so that everything that decides
 * works on plain bytes. BearSSL's own engine checks signatures, dates and authorities; names are
 * checked here, since it knows no addresses. Knows nothing of sockets. No state but the structs'.
 */
#include "trust.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "bytes.h"
#include "cert.h"
#include "config.h"
#include "known.h"
#include "log.h"
#include "relay.h"
#include "repo.h"
#include "secret.h"

#define CLOCK_SANE 1704067200		/* 2024-01-01: before that a clock was never set */
#define EPOCH_DAYS 719528		/* from BearSSL's day 0 to 1970-01-01 */
#define RSA_MIN 256			/* bytes of the modulus: 2048 bits, as distributions' OpenSSL demands */

int
fingerprint_parse(const char *text, uint8_t out[32])
{
	static const char before[] = "sha256 fingerprint=";	/* as the openssl command prints it */
	char bare[96];
	size_t n = 0;

	text += strspn(text, " \t\r\n");
	if (strncasecmp(text, before, sizeof before - 1) == 0)
		text += sizeof before - 1;
	for (; *text; text++) {
		if (strchr(" \t\r\n", *text))
			continue;
		if (n == sizeof bare)
			return -1;
		bare[n++] = *text;
	}
	return hex_fingerprint(out, bare, n);
}

/* Reasons come from here; the sentence around them from refuse(). */
__attribute__((format(printf, 2, 3)))
static int
why(struct cert_seen *seen, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(seen->why, sizeof seen->why, fmt, ap);
	va_end(ap);
	return -EACCES;
}

static int
check_dates(struct cert_seen *s, int64_t now)
{
	char clock[21], limit[21];

	time_print(now, clock);
	if (now < CLOCK_SANE)
		return why(s, "this machine's clock says %s, so dates cannot be checked: set the clock", clock);
	if (now < s->not_before) {
		time_print(s->not_before, limit);
		return why(s, "it is valid from %s on, and this machine's clock says %s", limit, clock);
	}
	if (now > s->not_after) {
		time_print(s->not_after, limit);
		return why(s, "it expired at %s (this machine's clock says %s)", limit, clock);
	}
	return 0;
}

/* BearSSL's verdict in words. */
static int
explain(struct chain *c, unsigned verdict, const struct cert *cert)
{
	struct cert_seen *s = &c->seen;
	const char *ca = c->trust->ca.path;
	int rc = check_dates(s, c->now);

	/* first: with a clock at 1970 nothing else that BearSSL says is worth reading */
	if (rc)
		return rc;
	switch (verdict) {
	case BR_ERR_X509_NOT_TRUSTED:
		return cert_self_signed(cert) ?
		    why(s, "it is self-signed") : why(s, "it is signed by nobody in %s", ca);
	case BR_ERR_X509_EXPIRED:
		return why(s, "a certificate that signed it is not valid at this time");
	case BR_ERR_X509_BAD_SIGNATURE:
		return why(s, "its signature is wrong");
	case BR_ERR_X509_UNSUPPORTED:
		return why(s, "it is signed in a way that cannot be checked (usable: RSA PKCS#1 and ECDSA with SHA-2)");
	case BR_ERR_X509_WEAK_PUBLIC_KEY:
		return why(s, "a key in its chain is too weak (RSA below %d bits)", RSA_MIN * 8);
	case BR_ERR_X509_DN_MISMATCH:
		return why(s, "the certificates the server sends do not form a chain");
	default:
		return why(s, "its chain is not valid (BearSSL error %u)", verdict);
	}
}

static unsigned
run_minimal(struct chain *c)
{
	br_x509_minimal_context m;
	const br_x509_class **x = &m.vtable;
	size_t i, start = 0;
	unsigned verdict;

	br_x509_minimal_init(&m, &br_sha256_vtable, c->trust->ca.anchor, c->trust->ca.count);
	br_x509_minimal_set_rsa(&m, br_rsa_pkcs1_vrfy_get_default());
	br_x509_minimal_set_ecdsa(&m, br_ec_get_default(), br_ecdsa_vrfy_asn1_get_default());
	br_x509_minimal_set_hash(&m, br_sha256_ID, &br_sha256_vtable);
	br_x509_minimal_set_hash(&m, br_sha384_ID, &br_sha384_vtable);
	br_x509_minimal_set_hash(&m, br_sha512_ID, &br_sha512_vtable);
	br_x509_minimal_set_minrsa(&m, RSA_MIN);
	br_x509_minimal_set_time(&m, (uint32_t)(c->now / 86400 + EPOCH_DAYS), (uint32_t)(c->now % 86400));
	(*x)->start_chain(x, NULL);	/* no name: cert_match() looks at it, addresses included */
	for (i = 0; i < c->count; start = c->end[i++]) {
		(*x)->start_cert(x, (uint32_t)(c->end[i] - start));
		(*x)->append(x, c->der + start, c->end[i] - start);
		(*x)->end_cert(x);
	}
	verdict = (*x)->end_chain(x);
	if (!verdict)
		(*x)->get_pkey(x, &c->usages);
	return verdict;
}

static int
judge_ca(struct chain *c, const struct cert *cert)
{
	const struct trust *t = c->trust;
	unsigned verdict;

	if (!t->ca.count)
		return why(&c->seen, "there are no CA certificates on this system");
	if (c->too_big)
		return why(&c->seen, "the server sends too many certificates");
	verdict = run_minimal(c);
	if (verdict)
		return explain(c, verdict, cert);
	if (!cert_match(cert, t->host))
		return why(&c->seen, "it is for %s, not for %.100s", c->seen.names, t->host);
	c->seen.by = TRUST_CA;
	return 0;
}

static int
judge_pin(struct chain *c)
{
	const struct trust *t = c->trust;
	char seen[FINGERPRINT_TEXT], want[FINGERPRINT_TEXT];

	if (equal_ct(c->seen.fingerprint, t->pin, 32)) {
		c->seen.by = TRUST_PIN;
		c->usages = BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN;
		return 0;
	}
	c->seen.usable = 0;
	hex_colons(seen, c->seen.fingerprint, 32);
	hex_colons(want, t->pin, 32);
	return err_set(&c->err, ST_TRUST, -EACCES, "%.255s: not the right certificate: the server shows the fingerprint "
	    "%s, but %.299s says %s (if the certificate was changed on purpose, correct it there)", t->host, seen, t->from, want);
}

/* Fills what is known of certificate 0. */
static void
look(struct chain *c, struct cert *cert)
{
	struct cert_seen *s = &c->seen;
	br_x509_decoder_context *d = &c->key;
	br_sha256_context sha;
	size_t len = c->end[0];

	s->have = 1;
	br_sha256_init(&sha);
	br_sha256_update(&sha, c->der, len);
	br_sha256_out(&sha, s->fingerprint);
	cert_parse(c->der, len, cert);
	cert_names(cert, s->names, sizeof s->names);
	cert_key(cert, s->key, sizeof s->key);
	/* Once, with everything: BearSSL 0.6 goes on decoding, and writes past its buffer, when it is
	 * pushed again after an error (an RSA-8192 key is one). */
	br_x509_decoder_init(d, NULL, NULL);
	br_x509_decoder_push(d, c->der, len);
	s->usable = br_x509_decoder_get_pkey(d) != NULL;
	if (s->usable) {
		s->not_before = ((int64_t)d->notbefore_days - EPOCH_DAYS) * 86400 + d->notbefore_seconds;
		s->not_after = ((int64_t)d->notafter_days - EPOCH_DAYS) * 86400 + d->notafter_seconds;
	}
}

static int
judge(struct chain *c)
{
	const char *host = c->trust->host;
	char shown[FINGERPRINT_TEXT];
	struct cert cert;
	int rc;

	if (!c->count)
		return err_set(&c->err, ST_TRUST, -EACCES, "%s: the server sends no certificate%s",
		    host, c->too_big ? " of a reasonable size" : "");
	look(c, &cert);
	if (!c->seen.usable)
		return err_set(&c->err, ST_TRUST, -EACCES, "%s: the certificate's key is %s, which pbsmap cannot use "
		    "(usable: RSA up to 4096 bits, P-256, P-384, P-521)", host, c->seen.key);
	if (c->trust->pinned)
		return judge_pin(c);
	rc = judge_ca(c, &cert);
	if (!rc)
		return 0;
	hex_colons(shown, c->seen.fingerprint, 32);
	return err_set(&c->err, ST_TRUST, rc, "%.255s: certificate not trusted: %s; if the server's dashboard shows the same "
	    "fingerprint, use --fingerprint %s", host, c->seen.why, shown);
}

static struct chain *
chain(const br_x509_class *const *x)
{
	return (struct chain *)(uintptr_t)x;
}

static void
start_chain(const br_x509_class **x, const char *name)
{
	(void)name;
	chain(x)->count = chain(x)->len = 0;
	chain(x)->too_big = 0;
	chain(x)->rc = -EACCES;
}

static void
start_cert(const br_x509_class **x, uint32_t len)
{
	struct chain *c = chain(x);

	if (c->count == CHAIN_CERTS || len > sizeof c->der - c->len)
		c->too_big = 1;
}

static void
append(const br_x509_class **x, const unsigned char *p, size_t n)
{
	struct chain *c = chain(x);

	if (n > sizeof c->der - c->len)
		c->too_big = 1;
	if (c->too_big)
		return;
	memcpy(c->der + c->len, p, n);
	c->len += n;
}

static void
end_cert(const br_x509_class **x)
{
	struct chain *c = chain(x);

	if (!c->too_big)
		c->end[c->count++] = c->len;
}

static unsigned
end_chain(const br_x509_class **x)
{
	struct chain *c = chain(x);

	c->rc = judge(c);
	return c->rc ? BR_ERR_X509_NOT_TRUSTED : 0;
}

static const br_x509_pkey *
get_pkey(const br_x509_class *const *x, unsigned *usages)
{
	struct chain *c = chain(x);

	if (c->rc)
		return NULL;
	if (usages)
		*usages = c->usages;
	return br_x509_decoder_get_pkey(&c->key);
}

void
chain_init(struct chain *c, const struct trust *t, int64_t now)
{
	static const br_x509_class class = {
		sizeof(struct chain), start_chain, start_cert, append, end_cert, end_chain, get_pkey
	};

	memset(c, 0, offsetof(struct chain, der));	/* not der: 64 KiB */
	c->x509 = &class;
	c->trust = t;
	c->now = now;
	c->rc = -EACCES;
}

/* A fingerprint given for this run. 1: there is one. */
static int
given_pin(struct trust *t, const char *text, const char *from, struct err *e)
{
	/* PBS_FINGERPRINT= in a script means none */
	if (!text[strspn(text, " \t")])
		return 0;
	if (fingerprint_parse(text, t->pin))
		return err_set(e, ST_USAGE, -EINVAL, "%s: not a fingerprint: wanted are the 64 hex digits of the "
		    "certificate's SHA-256, with or without colons", from);
	t->pinned = 1;
	snprintf(t->from, sizeof t->from, "%s", from);
	return 1;
}

static int
known_pin(struct trust *t, struct err *e)
{
	char path[sizeof t->from];
	int rc = known_path(path, sizeof path);

	if (!rc)
		rc = known_find(path, t->host, t->pin, e);
	t->pinned = rc == 0;
	if (t->pinned)
		strcpy(t->from, path);
	return rc == -ENOENT ? 0 : rc;
}

int
trust_init(struct trust *t, const char *host, const char *fingerprint, const char *ca_file, struct err *e)
{
	char text[SECRET_MAX];
	int rc;

	memset(t, 0, sizeof *t);
	snprintf(t->host, sizeof t->host, "%s", host);
	if (fingerprint) {
		rc = given_pin(t, fingerprint, "--fingerprint", e);
	} else {
		rc = secret_lookup("PBS_FINGERPRINT", "proxmox-backup-client.fingerprint", text, sizeof text, e);
		rc = rc > 0 ? given_pin(t, text, "PBS_FINGERPRINT", e) : rc == -ENOENT ? 0 : rc;
	}
	if (rc)
		return rc < 0 ? rc : 0;
	if (ca_file)
		return ca_load(&t->ca, ca_file, e);
	rc = known_pin(t, e);
	return rc || t->pinned ? rc : ca_load_system(&t->ca, e);
}

void
trust_free(struct trust *t)
{
	ca_free(&t->ca);
}

int
trust_ask(struct trust *t, const struct cert_seen *s, struct err *e)
{
	int rc;

	if (!t->ask || !s->usable || s->by != TRUST_NONE || t->pinned)
		return 1;
	rc = relay_on() ? relay_trust(s->fingerprint, s->why, e) : trust_confirm(t, s->fingerprint, s->why, e);
	if (rc)
		return rc;
	memcpy(t->pin, s->fingerprint, 32);
	t->pinned = 1;
	snprintf(t->from, sizeof t->from, "the answer given here");
	return 0;
}

int
trust_confirm(const struct trust *t, const uint8_t fingerprint[32], const char *reason, struct err *e)
{
	char prompt[1400], answer[16] = "", path[sizeof t->from];
	struct err kept;
	size_t n, i;
	int rc;

	/* two lines of eight groups: what one reads out on a phone and finds again */
	n = (size_t)snprintf(prompt, sizeof prompt, "The certificate of %s is not trusted: %s.\n"
	    "Its SHA-256 fingerprint, to be compared with the one on the server's dashboard:\n", t->host, reason);
	for (i = 0; i < 32 && n < sizeof prompt; i += 2)
		n += (size_t)snprintf(prompt + n, sizeof prompt - n, "%s%02x%02x%s", i % 16 ? " " : "\n    ",
		    fingerprint[i], fingerprint[i + 1], i % 16 == 14 ? "" : i % 8 == 6 ? " " : "");
	if (n < sizeof prompt)
		snprintf(prompt + n, sizeof prompt - n, "\n\nTrust it, now and in future? [y/N] ");
	rc = t->ask(prompt, answer, sizeof answer, e);
	if (rc < 0)
		return rc == -ENOTTY ? 1 : rc;
	if (strcmp(answer, "y") && strcmp(answer, "Y") && strcmp(answer, "yes"))
		return 1;
	if (known_path(path, sizeof path))
		note("the fingerprint is not kept: there is no home directory");
	else if (known_add(path, t->host, fingerprint, &kept))
		say("%s", kept.text);
	return 0;
}
