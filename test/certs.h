/* The certificates of test/cert. */
#ifndef CERTS_H
#define CERTS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base64.h"

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

#endif
