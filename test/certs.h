/* The certificates of test/cert, and a chain of them judged, as BearSSL would have it done. */
#ifndef CERTS_H
#define CERTS_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base64.h"
#include "../trust.h"

#define NOW 1735689600			/* 2025-01-01 */

/* The DER in test/cert/NAME.pem (or NAME with another suffix): its length. */
static size_t
cert_load(const char *name, uint8_t *der, size_t cap)
{
	char path[100], text[8192], *begin, *end;
	long n = -1;
	FILE *f;

	snprintf(path, sizeof path, strchr(name, '.') ? "test/cert/%s" : "test/cert/%s.pem", name);
	f = fopen(path, "r");
	if (f) {
		text[fread(text, 1, sizeof text - 1, f)] = 0;
		fclose(f);
		begin = strstr(text, "-----\n");
		end = begin ? strstr(begin + 6, "-----END") : NULL;
		n = end ? base64_decode(der, cap, begin + 6, (size_t)(end - begin - 6)) : -1;
	}
	if (n < 0) {
		printf("Bail out! cannot read %s\n", path);
		exit(1);
	}
	return (size_t)n;
}

/* Gives one certificate to the engine, `step` bytes at a time. */
static void
cert_feed(struct chain *c, const uint8_t *der, size_t len, size_t step)
{
	size_t i;

	c->x509->start_cert(&c->x509, (uint32_t)len);
	for (i = 0; i < len; i += step)
		c->x509->append(&c->x509, der + i, step < len - i ? step : len - i);
	c->x509->end_cert(&c->x509);
}

#endif
