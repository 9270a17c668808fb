/*
 * RSA private keys in PEM. A reader of just the forms that a master key has; arithmetic and ciphers are
 * BearSSL's. The passphrase's and the key's bytes are wiped on every way out; what lies in der stays, since the
 * key's numbers are slices of it.
 */
#include "pem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base64.h"
#include "bytes.h"
#include "config.h"
#include "der.h"
#include "scrypt.h"

#define OID_RSA "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
#define OID_PBES2 "\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d"
#define OID_PBKDF2 "\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c"
#define OID_HMAC_SHA256 "\x2a\x86\x48\x86\xf7\x0d\x02\x09"
#define OID_AES "\x60\x86\x48\x01\x65\x03\x04\x01"	/* and the mode: 2, 22, 42 */
#define IS(d, oid) der_is(d, oid, sizeof(oid) - 1)

/* ---- numbers ---- */

/* A positive number without leading zeros. */
static int
take_number(struct der *in, struct der *out)
{
	if (der_expect(in, DER_INTEGER, out) < 0 || out->len == 0 || out->p[0] & 0x80)
		return -1;
	for (; out->len > 1 && out->p[0] == 0; out->len--)
		out->p++;
	return 0;
}

/* Small ones. */
static int
take_u32(struct der *in, uint32_t *v)
{
	struct der d;

	if (take_number(in, &d) < 0 || d.len > 4)
		return -1;
	for (*v = 0; d.len; d.len--)
		*v = *v << 8 | *d.p++;
	return 0;
}

/* BearSSL only reads them. */
static uint8_t *
bytes_of(const struct der *d)
{
	return (uint8_t *)(uintptr_t)d->p;
}

/* PKCS#1: version 0, n, e, d, p, q, dp, dq, iq. */
static int
take_rsa(struct der in, struct pem_key *k)
{
	struct der seq, part[8];
	uint32_t version;
	unsigned top;
	int i;

	if (der_expect(&in, DER_SEQUENCE, &seq) < 0 || take_u32(&seq, &version) < 0 || version != 0)
		return -1;
	for (i = 0; i < 8; i++)
		if (take_number(&seq, &part[i]) < 0)
			return -1;
	k->size = part[0].len;
	/* BearSSL has fixed buffers: p and q must be about half as long as n. */
	if (seq.len || k->size > RSA_MAX || k->size < 64 || part[3].len > k->size / 2 + 1 ||
	    part[4].len > k->size / 2 + 1)
		return -1;
	for (top = part[0].p[0], i = 0; top; top >>= 1)
		i++;
	k->rsa = (br_rsa_private_key){
		.n_bitlen = (uint32_t)(k->size - 1) * 8 + (uint32_t)i,
		.p = bytes_of(&part[3]), .plen = part[3].len,
		.q = bytes_of(&part[4]), .qlen = part[4].len,
		.dp = bytes_of(&part[5]), .dplen = part[5].len,
		.dq = bytes_of(&part[6]), .dqlen = part[6].len,
		.iq = bytes_of(&part[7]), .iqlen = part[7].len,
	};
	return 0;
}

/* PKCS#8 around it: version 0, algorithm, the key. */
static int
take_pkcs8(struct der in, struct pem_key *k)
{
	struct der seq, alg, oid, inner;
	uint32_t version;

	if (der_expect(&in, DER_SEQUENCE, &seq) < 0 || take_u32(&seq, &version) < 0 ||
	    der_expect(&seq, DER_SEQUENCE, &alg) < 0 || der_expect(&alg, DER_OID, &oid) < 0 || !IS(&oid, OID_RSA) ||
	    der_expect(&seq, DER_OCTETS, &inner) < 0)
		return -1;
	return take_rsa(inner, k);
}

/* ---- with a passphrase ---- */

struct pbes2 {
	struct der salt, iv, data;
	uint32_t iter;
	unsigned key_len;
};

/* 0; -1: no such structure, or another algorithm. */
static int
take_pbes2(struct der in, struct pbes2 *b)
{
	struct der all, alg, oid, par, kdf, kpar, prf, cipher;

	if (der_expect(&in, DER_SEQUENCE, &all) < 0 || der_expect(&all, DER_SEQUENCE, &alg) < 0 ||
	    der_expect(&all, DER_OCTETS, &b->data) < 0 || der_expect(&alg, DER_OID, &oid) < 0 || !IS(&oid, OID_PBES2) ||
	    der_expect(&alg, DER_SEQUENCE, &par) < 0 || der_expect(&par, DER_SEQUENCE, &kdf) < 0 ||
	    der_expect(&par, DER_SEQUENCE, &cipher) < 0 || der_expect(&kdf, DER_OID, &oid) < 0 ||
	    !IS(&oid, OID_PBKDF2) || der_expect(&kdf, DER_SEQUENCE, &kpar) < 0 ||
	    der_expect(&kpar, DER_OCTETS, &b->salt) < 0 || take_u32(&kpar, &b->iter) < 0 || b->iter == 0 ||
	    b->iter > PBKDF2_ITER_MAX)
		return -1;
	if (kpar.len && kpar.p[0] == DER_INTEGER && der_expect(&kpar, DER_INTEGER, &prf) < 0)	/* the key's length */
		return -1;
	if (der_expect(&kpar, DER_SEQUENCE, &prf) < 0 || der_expect(&prf, DER_OID, &oid) < 0 ||
	    !IS(&oid, OID_HMAC_SHA256) || der_expect(&cipher, DER_OID, &oid) < 0 || oid.len != sizeof(OID_AES) ||
	    memcmp(oid.p, OID_AES, sizeof(OID_AES) - 1) != 0 || der_expect(&cipher, DER_OCTETS, &b->iv) < 0)
		return -1;
	b->key_len = oid.p[8] == 2 ? 16 : oid.p[8] == 22 ? 24 : 32;
	if (oid.p[8] != 2 && oid.p[8] != 22 && oid.p[8] != 42)
		return -1;
	return b->iv.len == 16 && b->data.len && b->data.len % 16 == 0 ? 0 : -1;
}

/* Decrypts in place. *plain: the PKCS#8 inside; of a wrong passphrase it is noise, which the parser refuses. */
static int
decrypt(const struct pbes2 *b, key_passphrase ask, void *ctx, struct der *plain, struct err *e)
{
	br_aes_ct64_cbcdec_keys aes;
	uint8_t secret[32], iv[16], *data = bytes_of(&b->data);
	char pass[SECRET_MAX];
	int n = ask(ctx, pass, sizeof(pass), e);

	if (n >= 0) {
		pbkdf2(pass, (size_t)n, b->salt.p, b->salt.len, b->iter, secret, b->key_len);
		memcpy(iv, b->iv.p, 16);
		br_aes_ct64_cbcdec_init(&aes, secret, b->key_len);
		br_aes_ct64_cbcdec_run(&aes, iv, data, b->data.len);
		*plain = b->data;		/* the padding stands behind the element */
	}
	wipe(&aes, sizeof(aes));
	wipe(secret, sizeof(secret));
	wipe(pass, sizeof(pass));
	return n < 0 ? n : 0;
}

static int
open_encrypted(struct der in, const char *name, key_passphrase ask, void *ctx, struct pem_key *k, struct err *e)
{
	struct pbes2 b;
	struct der plain;
	int rc;

	if (take_pbes2(in, &b) < 0)
		return err_set(e, ST_TRUST, -EINVAL, "%s: encrypted in a way that pbsmap does not know; decrypt it with: "
		    "openssl pkey -in %s -out plain.pem", name, name);
	if ((rc = decrypt(&b, ask, ctx, &plain, e)) < 0)
		return rc;
	return take_pkcs8(plain, k) == 0 ? 0 : err_set(e, ST_TRUST, -EACCES, "%s: wrong passphrase", name);
}

/* ---- PEM ---- */

/* The text between the lines; what stands in the first one after BEGIN is the label. NULL: there is none. */
static const char *
find_body(const char *text, size_t len, char label[40], size_t *body_len)
{
	static const char begin[] = "-----BEGIN ", dashes[] = "-----";
	const char *end = text + len, *p = memmem(text, len, begin, sizeof(begin) - 1), *q;

	if (p == NULL)
		return NULL;
	p += sizeof(begin) - 1;
	if ((q = memmem(p, (size_t)(end - p), dashes, 5)) == NULL || q - p >= 40)
		return NULL;
	snprintf(label, 40, "%.*s", (int)(q - p), p);
	p = q + 5;
	if ((q = memmem(p, (size_t)(end - p), dashes, 5)) == NULL)
		return NULL;
	*body_len = (size_t)(q - p);
	return p;
}

static int
open_body(const char *label, struct der in, const char *name, key_passphrase ask, void *ctx, struct pem_key *k,
    struct err *e)
{
	int rc;

	if (strcmp(label, "ENCRYPTED PRIVATE KEY") == 0)
		return open_encrypted(in, name, ask, ctx, k, e);
	rc = strncmp(label, "RSA", 3) == 0 ? take_rsa(in, k) : take_pkcs8(in, k);
	return rc == 0 ? 0 : err_set(e, ST_TRUST, -EINVAL, "%s: no RSA key of at most 4096 bits, or damaged", name);
}

int
pem_parse(const char *text, size_t len, const char *name, key_passphrase ask, void *ctx, struct pem_key *k, struct err *e)
{
	char label[40];
	size_t body_len = 0, n;
	const char *body = find_body(text, len, label, &body_len);
	long der_len;
	int rc;

	memset(k, 0, sizeof(*k));
	n = body ? strlen(label) : 0;
	if (n < 11 || strcmp(label + n - 11, "PRIVATE KEY") != 0)
		rc = err_set(e, ST_TRUST, -EINVAL, "%s: no private key in PEM (\"-----BEGIN PRIVATE KEY-----\")%s%s", name,
		    body ? ", but a " : "", body ? label : "");
	else if (memmem(body, body_len, "ENCRYPTED", 9))
		rc = err_set(e, ST_TRUST, -EINVAL, "%s: encrypted in openssl's old way; decrypt it with: "
		    "openssl rsa -in %s -out plain.pem", name, name);
	else if ((der_len = base64_decode(k->der, sizeof(k->der), body, body_len)) < 0)
		rc = err_set(e, ST_TRUST, -EINVAL, "%s: the private key's text is damaged", name);
	else
		rc = open_body(label, (struct der){ k->der, (size_t)der_len }, name, ask, ctx, k, e);
	if (rc < 0)
		wipe(k, sizeof(*k));
	return rc;
}

/* ---- decrypting ---- */

long
pem_decrypt(const struct pem_key *k, uint8_t *data, uint8_t **out)
{
	uint32_t bad, at = 0, found = 0, is_zero, i;

	/* 00 02, at least eight bytes that are not zero, 00, the text: looked at in a time that depends on the length only. */
	bad = !br_rsa_private_get_default()(data, &k->rsa);
	bad |= data[0] | (data[1] ^ 2u);
	for (i = 2; i < k->size; i++) {
		is_zero = ((uint32_t)data[i] - 1) >> 31;
		at |= i & (0 - (is_zero & ~found));
		found |= is_zero;
	}
	bad |= (found ^ 1) | ((at - 10) >> 31);
	*out = data + at + 1;
	return bad ? -1 : (long)(k->size - at - 1);
}
