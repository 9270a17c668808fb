/*
 * tlsget [-f FINGERPRINT] [-c CAFILE] [-p PROXY] [-t MS] [-y ANSWER] [-n BYTES] [-s TEXT] [-x COMMAND] HOST PORT
 *
 * Connects as pbsmap does. Prints "ok by=… fingerprint=… names=… key=… peer=… CIPHER", then what the
 * server sends (up to BYTES; with -n the rate instead); else "status N errno: TEXT". -x: after it runs COMMAND, and
 * does all that again. For test_tls.py.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "net.h"

static const char *reply;

static int
answer(const char *prompt, char *buf, size_t cap, struct err *e)
{
	(void)e;
	printf("%s\n", prompt);
	return snprintf(buf, cap, "%s", reply);
}

static int
drain(struct net *n, unsigned long long want, struct err *e)
{
	int64_t start = clock_ms();
	unsigned long long got = 0;
	const uint8_t *p;
	size_t len;
	int rc;

	while (got < want) {
		rc = net_poll(n, NET_IN, -1, clock_ms() + 5000, e);
		if (rc <= 0)
			return rc;
		while ((p = net_in(n, &len)) != NULL) {
			if (want == ~0ull)
				fwrite(p, 1, len, stdout);
			got += len;
			net_in_done(n, len);
		}
		if (rc & NET_EOF)
			break;
	}
	if (want != ~0ull)
		printf("%llu bytes in %lld ms\n", got, (long long)(clock_ms() - start));
	return 0;
}

static int
once(const struct net_conf *c, int64_t ms, const char *text, unsigned long long bytes)
{
	char shown[FINGERPRINT_TEXT];
	int64_t start = clock_ms();
	struct cert_seen seen;
	struct net *n = NULL;
	struct err e = { 0 };
	int rc = net_open(c, start + ms, &n, &seen, &e);

	if (!rc) {
		hex_colons(shown, seen.fingerprint, 32);
		printf("ok by=%s fingerprint=%s names=%s key=%s peer=%s %s ms=%lld\n", seen.by == TRUST_PIN ? "pin" : "ca",
		    shown, seen.names, seen.key, net_peer(n), net_cipher(n), (long long)(clock_ms() - start));
		fflush(stdout);
	}
	if (!rc && text)
		rc = net_write(n, text, strlen(text), clock_ms() + ms, &e);
	if (!rc)
		rc = drain(n, bytes, &e);
	net_close(n);
	if (rc < 0)
		printf("\nstatus %d %d: %s\n", e.status, -rc, e.text);
	fflush(stdout);
	return rc < 0 ? (int)e.status : 0;
}

int
main(int argc, char **argv)
{
	struct net_conf c = { .cancel_fd = -1, .proxy = net_proxy() };
	const char *fingerprint = NULL, *ca = NULL, *text = NULL, *command = NULL;
	unsigned long long bytes = ~0ull;
	struct trust t;
	struct err e = { 0 };
	int64_t ms = 5000;
	int o, rc;

	while ((o = getopt(argc, argv, "f:c:p:t:y:n:s:x:")) > 0)
		switch (o) {
		case 'f': fingerprint = optarg; break;
		case 'c': ca = optarg; break;
		case 'p': c.proxy = optarg; break;
		case 't': ms = atoi(optarg); break;
		case 'y': reply = optarg; break;
		case 'n': bytes = strtoull(optarg, NULL, 0); break;
		case 's': text = optarg; break;
		case 'x': command = optarg; break;
		default: return 99;
		}
	if (argc - optind != 2)
		return 99;
	c.host = argv[optind];
	c.port = (uint16_t)atoi(argv[optind + 1]);
	c.trust = &t;
	if (trust_init(&t, c.host, fingerprint, ca, &e)) {
		printf("status %d: %s\n", e.status, e.text);
		return (int)e.status;
	}
	t.ask = reply ? answer : NULL;
	rc = once(&c, ms, text, bytes);
	if (command)
		rc = system(command) ? 98 : once(&c, ms, text, bytes);
	trust_free(&t);
	return rc;
}
