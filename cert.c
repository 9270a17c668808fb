/*
 * A certificate's names and kind of key, from its DER.
 *
 * A reader of just the fields it needs, over bytes that an attacker may have written:
 * each value is a slice of the one around it, so nothing can reach outside.
 * Signatures and keys are BearSSL's matter.
 */
#include "cert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
	ALT_DNS = 0x82, ALT_IP = 0x87,	/* in GeneralNames */
	VERSION = 0xa0, EXTENSIONS = 0xa3,	/* in TBSCertificate */
};

static void
find_cn(struct cert *c)
{
	struct der name = c->subject, set, pair, oid, text;
	unsigned tag;

	while (!der_expect(&name, DER_SET, &set))
		while (!der_expect(&set, DER_SEQUENCE, &pair))
			if (!der_expect(&pair, DER_OID, &oid) && der_is(&oid, "\x55\x04\x03", 3) &&
			    !der_next(&pair, &tag, &text))
				c->cn = text;
}

static void
find_alt(struct cert *c, struct der list)
{
	struct der ext, oid, value;
	unsigned tag;

	while (!der_expect(&list, DER_SEQUENCE, &ext)) {
		if (der_expect(&ext, DER_OID, &oid) || !der_is(&oid, "\x55\x1d\x11", 3) || der_next(&ext, &tag, &value))
			continue;
		if (tag == DER_BOOL && der_next(&ext, &tag, &value))	/* critical */
			continue;
		if (tag == DER_OCTETS)
			der_expect(&value, DER_SEQUENCE, &c->alt);
	}
}

int
cert_parse(const uint8_t *der, size_t len, struct cert *c)
{
	struct der all = { der, len }, cert, tbs, v;
	unsigned tag;

	memset(c, 0, sizeof *c);
	if (der_expect(&all, DER_SEQUENCE, &cert) || all.len || der_expect(&cert, DER_SEQUENCE, &tbs) ||
	    der_next(&tbs, &tag, &v) || (tag == VERSION && der_next(&tbs, &tag, &v)) ||	/* then the serial number */
	    tag != DER_INTEGER || der_expect(&tbs, DER_SEQUENCE, &v) ||	/* signature algorithm */
	    der_expect(&tbs, DER_SEQUENCE, &c->issuer) || der_expect(&tbs, DER_SEQUENCE, &v) ||	/* validity */
	    der_expect(&tbs, DER_SEQUENCE, &c->subject) || der_expect(&tbs, DER_SEQUENCE, &c->key))
		return -EBADMSG;
	find_cn(c);
	while (!der_next(&tbs, &tag, &v))
		if (tag == EXTENSIONS && !der_expect(&v, DER_SEQUENCE, &v))
			find_alt(c, v);
	return 0;
}

int
cert_self_signed(const struct cert *c)
{
	return der_is(&c->issuer, c->subject.p, c->subject.len);
}

/* A name of the certificate (perhaps "*.example") against the wanted one. */
static int
match_name(const struct der *d, const char *host, size_t n)
{
	const char *dot;

	if (d->len == n && n && strncasecmp((const char *)d->p, host, n) == 0)
		return 1;
	if (d->len < 3 || d->p[0] != '*' || d->p[1] != '.')
		return 0;
	dot = memchr(host, '.', n);
	n -= dot ? (size_t)(dot - host) : n;
	/* the star stands for one label, and not for one directly below a top domain's own level */
	return dot && dot != host && memchr(d->p + 2, '.', d->len - 2) &&
	    d->len - 1 == n && strncasecmp((const char *)d->p + 1, dot, n) == 0;
}

int
cert_match(const struct cert *c, const char *host)
{
	struct der alt = c->alt, v;
	uint8_t ip[16];
	char bare[256];
	unsigned tag;
	size_t n = strcspn(host, "%"), ip_len;	/* "fe80::1%eth0": the zone is ours alone */
	int found = 0;

	snprintf(bare, sizeof bare, "%.*s", (int)(n < sizeof bare ? n : 0), host);
	ip_len = inet_pton(AF_INET, bare, ip) == 1 ? 4 : inet_pton(AF_INET6, bare, ip) == 1 ? 16 : 0;
	/* a name's last dot says only that it is complete */
	n = strlen(host);
	if (n && host[n - 1] == '.')
		n--;
	while (!der_next(&alt, &tag, &v)) {
		if (tag != ALT_DNS && tag != ALT_IP)
			continue;
		found = 1;
		if (ip_len ? tag == ALT_IP && der_is(&v, ip, ip_len) : tag == ALT_DNS && match_name(&v, host, n))
			return 1;
	}
	return !found && !ip_len && match_name(&c->cn, host, n);
}

/* Appends ", text" to the string out[cap]; 0 when it did not fit. */
static int
append(char *out, size_t cap, const char *text, size_t n)
{
	size_t at = strlen(out), sep = at ? 2 : 0, i;

	/* room for the dots is kept, in case the next one does not fit */
	if (at + sep + n + sizeof ", ..." > cap) {
		if (at + sizeof ", ..." <= cap)
			strcpy(out + at, at ? ", ..." : "...");
		return 0;
	}
	memcpy(out + at, ", ", sep);
	for (i = 0; i < n; i++)
		out[at + sep + i] = text[i] > ' ' && text[i] < 0x7f ? text[i] : '?';
	out[at + sep + n] = 0;
	return 1;
}

void
cert_names(const struct cert *c, char *out, size_t cap)
{
	struct der alt = c->alt, v;
	char ip[INET6_ADDRSTRLEN];
	unsigned tag;

	out[0] = 0;
	while (!der_next(&alt, &tag, &v)) {
		if (tag == ALT_DNS && !append(out, cap, (const char *)v.p, v.len))
			return;
		if (tag != ALT_IP || (v.len != 4 && v.len != 16))
			continue;
		inet_ntop(v.len == 4 ? AF_INET : AF_INET6, v.p, ip, sizeof ip);
		if (!append(out, cap, ip, strlen(ip)))
			return;
	}
	if (!out[0])
		append(out, cap, (const char *)c->cn.p, c->cn.len);
}

/* Bits of the modulus in an RSA key's BIT STRING; 0: malformed. */
static unsigned
rsa_bits(struct der bits)
{
	struct der seq, n;

	if (bits.len == 0)
		return 0;
	bits.p++;	/* the count of unused bits */
	bits.len--;
	if (der_expect(&bits, DER_SEQUENCE, &seq) || der_expect(&seq, DER_INTEGER, &n))
		return 0;
	for (; n.len && !*n.p; n.len--)
		n.p++;
	return (unsigned)n.len * 8;
}

void
cert_key(const struct cert *c, char *out, size_t cap)
{
	static const struct {
		const char *name, *oid;
		size_t len;
	} kind[] = {
		{ "P-256", "\x2a\x86\x48\xce\x3d\x03\x01\x07", 8 },
		{ "P-384", "\x2b\x81\x04\x00\x22", 5 },
		{ "P-521", "\x2b\x81\x04\x00\x23", 5 },
		{ "Ed25519", "\x2b\x65\x70", 3 },
		{ "Ed448", "\x2b\x65\x71", 3 },
	};
	struct der key = c->key, alg, oid, bits;
	unsigned i;

	snprintf(out, cap, "of an unknown kind");
	if (der_expect(&key, DER_SEQUENCE, &alg) || der_expect(&key, DER_BITS, &bits) || der_expect(&alg, DER_OID, &oid))
		return;
	if (der_is(&oid, "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", 9))
		snprintf(out, cap, "RSA %u", rsa_bits(bits));
	if (der_is(&oid, "\x2a\x86\x48\xce\x3d\x02\x01", 7) && der_expect(&alg, DER_OID, &oid))
		return;		/* EC: the curve is the parameter */
	for (i = 0; i < sizeof kind / sizeof kind[0]; i++)
		if (der_is(&oid, kind[i].oid, kind[i].len))
			snprintf(out, cap, "%s", kind[i].name);
}
