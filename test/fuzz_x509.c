/* A chain as the server sends it: certificates, each after three bytes of length, in pieces. Through pins and authorities. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../cert.h"
#include "../trust.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
feed(struct chain *c, const uint8_t *p, size_t n)
{
	size_t len, take, step;

	c->x509->start_chain(&c->x509, "localhost");
	while (n >= 3) {
		len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
		step = (size_t)p[2] * 16 + 1;
		p += 3;
		n -= 3;
		c->x509->start_cert(&c->x509, (uint32_t)len);
		for (len = len < n ? len : n; len; len -= take) {	/* as the engine: fewer than were said at the end */
			take = len < step ? len : step;
			c->x509->append(&c->x509, p, take);
			p += take;
			n -= take;
		}
		c->x509->end_cert(&c->x509);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct trust ca, pin = { .host = "localhost", .pinned = 1, .from = "here" };
	static struct chain *c;
	size_t room = sizeof c->der;
	unsigned verdict;

	if (!c) {
		c = malloc(sizeof *c);
		strcpy(ca.host, "localhost");
		if (ca_load(&ca.ca, "test/cert/ca.pem", NULL) || ca_load(&ca.ca, "test/cert/rsaca.pem", NULL))
			abort();
	}
	chain_init(c, &ca, 1735689600);
	feed(c, p, n);
	verdict = c->x509->end_chain(&c->x509);
	if ((verdict == 0) != (c->rc == 0) || c->len > room || c->count > CHAIN_CERTS ||
	    strlen(c->seen.names) >= sizeof c->seen.names || (c->rc && !c->err.text[0]))
		abort();
	/* a trusted chain has its first certificate in it, unchanged, and that one alone is pinned */
	memcpy(pin.pin, c->seen.fingerprint, 32);
	chain_init(c, &pin, 0);
	feed(c, p, n);
	if (c->x509->end_chain(&c->x509) == 0 && !c->x509->get_pkey(&c->x509, NULL))
		abort();
	if (verdict == 0 && c->rc)
		abort();
	return 0;
}
