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
	BOOL = 0x01, INTEGER = 0x02, BITS = 0x03, OCTETS = 0x04, OID = 0x06,
	SEQUENCE = 0x30, SET = 0x31,
	ALT_DNS = 0x82, ALT_IP = 0x87,	/* in GeneralNames */
	VERSION = 0xa0, EXTENSIONS = 0xa3,	/* in TBSCertificate */
};

/* Takes the next element off `in`. 0, or -1: the end, or malformed. */
static int
next(struct der *in, unsigned *tag, struct der *value)
{
	const uint8_t *p = in->p;
	size_t left = in->len, n, digits;

	if (left < 2)
		return -1;
	*tag = p[0];
	n = p[1];
	p += 2;
	left -= 2;
	if (n >= 0x80) {
		digits = n & 0x7f;
		/* 0x80 is BER's endless form; more than 16 MiB is no certificate */
		if (digits == 0 || digits > 3 || digits > left)
			return -1;
		for (n = 0; digits; digits--, left--)
			n = n << 8 | *p++;
	}
	if (n > left)
		return -1;
	in->p = p + n;
	in->len = left - n;
	value->p = p;		/* last: the element may take its own list's place */
	value->len = n;
	return 0;
}

static int
expect(struct der *in, unsigned tag, struct der *value)
{
	unsigned t;

	return next(in, &t, value) || t != tag ? -1 : 0;
}

static int
is(const struct der *d, const void *p, size_t n)
{
	return d->len == n && memcmp(d->p, p, n) == 0;
}

static void
find_cn(struct cert *c)
{
	struct der name = c->subject, set, pair, oid, text;
	unsigned tag;

	while (!expect(&name, SET, &set))
		while (!expect(&set, SEQUENCE, &pair))
			if (!expect(&pair, OID, &oid) && is(&oid, "\x55\x04\x03", 3) &&
			    !next(&pair, &tag, &text))
				c->cn = text;
}

static void
find_alt(struct cert *c, struct der list)
{
	struct der ext, oid, value;
	unsigned tag;

	while (!expect(&list, SEQUENCE, &ext)) {
		if (expect(&ext, OID, &oid) || !is(&oid, "\x55\x1d\x11", 3) || next(&ext, &tag, &value))
			continue;
		if (tag == BOOL && next(&ext, &tag, &value))	/* critical */
			continue;
		if (tag == OCTETS)
			expect(&value, SEQUENCE, &c->alt);
	}
}

int
cert_parse(const uint8_t *der, size_t len, struct cert *c)
{
	struct der all = { der, len }, cert, tbs, v;
	unsigned tag;

	memset(c, 0, sizeof *c);
	if (expect(&all, SEQUENCE, &cert) || all.len || expect(&cert, SEQUENCE, &tbs) ||
	    next(&tbs, &tag, &v) || (tag == VERSION && next(&tbs, &tag, &v)) ||	/* then the serial number */
	    tag != INTEGER || expect(&tbs, SEQUENCE, &v) ||	/* signature algorithm */
	    expect(&tbs, SEQUENCE, &c->issuer) || expect(&tbs, SEQUENCE, &v) ||	/* validity */
	    expect(&tbs, SEQUENCE, &c->subject) || expect(&tbs, SEQUENCE, &c->key))
		return -EBADMSG;
	find_cn(c);
	while (!next(&tbs, &tag, &v))
		if (tag == EXTENSIONS && !expect(&v, SEQUENCE, &v))
			find_alt(c, v);
	return 0;
}

int
cert_self_signed(const struct cert *c)
{
	return is(&c->issuer, c->subject.p, c->subject.len);
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
	while (!next(&alt, &tag, &v)) {
		if (tag != ALT_DNS && tag != ALT_IP)
			continue;
		found = 1;
		if (ip_len ? tag == ALT_IP && is(&v, ip, ip_len) : tag == ALT_DNS && match_name(&v, host, n))
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
	while (!next(&alt, &tag, &v)) {
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
	if (expect(&bits, SEQUENCE, &seq) || expect(&seq, INTEGER, &n))
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
	if (expect(&key, SEQUENCE, &alg) || expect(&key, BITS, &bits) || expect(&alg, OID, &oid))
		return;
	if (is(&oid, "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", 9))
		snprintf(out, cap, "RSA %u", rsa_bits(bits));
	if (is(&oid, "\x2a\x86\x48\xce\x3d\x02\x01", 7) && expect(&alg, OID, &oid))
		return;		/* EC: the curve is the parameter */
	for (i = 0; i < sizeof kind / sizeof kind[0]; i++)
		if (is(&oid, kind[i].oid, kind[i].len))
			snprintf(out, cap, "%s", kind[i].name);
}
