/*
 * Trust anchors from PEM bundles.
 *
 * A certificate that BearSSL cannot use is counted and left out: bundles hold all
 * kinds, and one odd authority must not shut the others out. Knows nothing of servers.
 * (BearSSL's PEM decoder takes three times as long as all of this.)
 */
#include "ca.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base64.h"

#define CERT_MAX 16384			/* bytes of one authority's certificate */

struct bundle {
	struct ca *ca;
	br_x509_decoder_context key;
	int rc;
	int inside;			/* a certificate */
	size_t text_len, line_len, dn_len;
	char text[CERT_MAX * 3 / 2];	/* the certificate's base64 */
	char line[32];			/* a line's beginning, outside of certificates */
	uint8_t der[CERT_MAX], dn[2048];
};

static void
take_dn(void *ctx, const void *p, size_t n)
{
	struct bundle *b = ctx;

	if (n <= sizeof b->dn && b->dn_len <= sizeof b->dn - n)
		memcpy(b->dn + b->dn_len, p, n);
	b->dn_len = n <= sizeof b->dn && b->dn_len <= sizeof b->dn - n ? b->dn_len + n : sizeof b->dn + 1;
}

/* BearSSL wants them all in one array. */
static br_x509_trust_anchor *
room(struct ca *ca)
{
	size_t n = ca->room ? ca->room * 2 : 64;
	void *p;

	if (ca->count < ca->room)
		return ca->anchor + ca->count;
	p = realloc(ca->anchor, n * sizeof ca->anchor[0]);
	if (!p)
		return NULL;
	ca->anchor = p;
	ca->room = n;
	return ca->anchor + ca->count;
}

/* Name and key in one piece of memory, owned by dn.data. */
static int
keep(struct bundle *b, const br_x509_pkey *key)
{
	int rsa = key->key_type == BR_KEYTYPE_RSA;
	size_t n = rsa ? key->key.rsa.nlen : key->key.ec.qlen, m = rsa ? key->key.rsa.elen : 0;
	br_x509_trust_anchor *a = room(b->ca);
	uint8_t *p = a ? malloc(b->dn_len + n + m) : NULL;

	if (!p)
		return -ENOMEM;
	a->dn.data = p;
	a->dn.len = b->dn_len;
	memcpy(p, b->dn, b->dn_len);
	p += b->dn_len;
	/* no authority: only for a server that shows this very certificate */
	a->flags = br_x509_decoder_isCA(&b->key) ? BR_X509_TA_CA : 0;
	a->pkey = *key;
	if (rsa) {
		a->pkey.key.rsa.n = memcpy(p, key->key.rsa.n, n);
		a->pkey.key.rsa.e = memcpy(p + n, key->key.rsa.e, m);
	} else {
		a->pkey.key.ec.q = memcpy(p, key->key.ec.q, n);
	}
	b->ca->count++;
	return 0;
}

static void
end_cert(struct bundle *b)
{
	const br_x509_pkey *key = NULL;
	long len = -1;

	if (b->text_len < sizeof b->text)
		len = base64_decode(b->der, sizeof b->der, b->text, b->text_len);
	b->dn_len = 0;
	if (len > 0) {
		br_x509_decoder_init(&b->key, take_dn, b);
		/* once, with everything: 0.6 must not be pushed again after an error */
		br_x509_decoder_push(&b->key, b->der, (size_t)len);
		key = br_x509_decoder_get_pkey(&b->key);
	}
	if (!key || !b->dn_len || b->dn_len > sizeof b->dn || b->ca->count >= CA_MAX)
		b->ca->skipped++;
	else if (!b->rc)
		b->rc = keep(b, key);
}

/* Outside: waits for the line that begins a certificate. */
static void
outside(struct bundle *b, uint8_t ch)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----";

	if (ch != '\n') {
		if (ch != '\r' && b->line_len < sizeof b->line)
			b->line[b->line_len++] = (char)ch;
		return;
	}
	b->inside = b->line_len == sizeof begin - 1 && memcmp(b->line, begin, b->line_len) == 0;
	b->line_len = b->text_len = 0;
}

/* Inside: collects up to the line that ends it, whose rest is text outside. */
static void
inside(struct bundle *b, uint8_t ch)
{
	if (ch == '-') {
		b->inside = 0;
		end_cert(b);
	} else if (b->text_len < sizeof b->text) {
		b->text[b->text_len++] = (char)ch;
	}
}

static void
feed(struct bundle *b, const uint8_t *p, size_t n)
{
	for (; n; n--, p++)
		(b->inside ? inside : outside)(b, *p);
}

static struct bundle *
bundle_new(struct ca *ca)
{
	struct bundle *b = calloc(1, sizeof *b);

	if (b)
		b->ca = ca;
	return b;
}

int
ca_add(struct ca *ca, const void *pem, size_t n)
{
	struct bundle *b = bundle_new(ca);
	int rc;

	if (!b)
		return -ENOMEM;
	feed(b, pem, n);
	rc = b->rc;
	free(b);
	return rc;
}

static int
read_bundle(struct ca *ca, int fd)
{
	struct bundle *b = bundle_new(ca);
	uint8_t buf[4096];
	size_t total = 0;
	ssize_t n = 0;
	int rc;

	if (!b)
		return -ENOMEM;
	while (total <= CA_FILE_MAX && (n = read(fd, buf, sizeof buf)) > 0) {
		feed(b, buf, (size_t)n);
		total += (size_t)n;
	}
	rc = n < 0 ? -errno : total > CA_FILE_MAX ? -EFBIG : b->rc;
	free(b);
	return rc;
}

int
ca_load(struct ca *ca, const char *path, struct err *e)
{
	size_t before = ca->count;
	int fd, rc;

	snprintf(ca->path, sizeof ca->path, "%s", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	rc = fd < 0 ? -errno : read_bundle(ca, fd);
	if (fd >= 0)
		close(fd);
	if (rc)
		return err_set(e, ST_TRUST, rc, "cannot read CA certificates from %s: %s", path, strerror(-rc));
	if (ca->count > before)
		return 0;
	return err_set(e, ST_TRUST, -EBADMSG, ca->skipped ?
	    "%s: no CA certificate in it can be used (keys: RSA up to 4096 bits, P-256, P-384, P-521)" :
	    "%s: no CA certificate in it (wanted: PEM, \"-----BEGIN CERTIFICATE-----\")", path);
}

int
ca_load_system(struct ca *ca, struct err *e)
{
	static const char *const place[] = {
		"/etc/ssl/certs/ca-certificates.crt",		/* Debian, Arch, Alpine */
		"/etc/pki/tls/certs/ca-bundle.crt",		/* Fedora */
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/ssl/ca-bundle.pem",			/* openSUSE */
		"/var/lib/ca-certificates/ca-bundle.pem",
		"/etc/ssl/cert.pem",				/* Alpine */
	};
	const char *env = getenv("SSL_CERT_FILE");
	unsigned i;

	if (env && *env)
		return ca_load(ca, env, e);
	for (i = 0; i < sizeof place / sizeof place[0]; i++)
		if (access(place[i], R_OK) == 0)
			return ca_load(ca, place[i], e);
	return 0;
}

void
ca_free(struct ca *ca)
{
	size_t i;

	for (i = 0; i < ca->count; i++)
		free(ca->anchor[i].dn.data);
	free(ca->anchor);
	memset(ca, 0, sizeof *ca);
}
