/* Who is trusted: pins, authorities, host names, the question at the terminal. */
#include "t.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../bytes.h"
#include "../cert.h"
#include "../trust.h"
#include "certs.h"

#define NOW 1735689600			/* 2025-01-01 */

static struct chain *c;
static struct trust t;

/* Gives one certificate to the engine, `step` bytes at a time. */
static void
feed(const uint8_t *der, size_t len, size_t step)
{
	size_t i;

	c->x509->start_cert(&c->x509, (uint32_t)len);
	for (i = 0; i < len; i += step)
		c->x509->append(&c->x509, der + i, step < len - i ? step : len - i);
	c->x509->end_cert(&c->x509);
}

/* Judges the chain (names parted by blanks) for host: 0, or -EACCES with c->err. */
static int
judge_at(const char *names, const char *host, int64_t now, size_t step)
{
	char list[100], *name;
	uint8_t der[5000];
	unsigned verdict;

	snprintf(t.host, sizeof t.host, "%s", host);
	snprintf(list, sizeof list, "%s", names);
	chain_init(c, &t, now);
	c->x509->start_chain(&c->x509, host);
	for (name = strtok(list, " "); name; name = strtok(NULL, " "))
		feed(der, cert_load(name, der, sizeof der), step);
	verdict = c->x509->end_chain(&c->x509);
	check((verdict == 0) == (c->rc == 0));
	check((c->x509->get_pkey(&c->x509, NULL) != NULL) == (c->rc == 0));
	check(c->rc == 0 || (c->err.status == ST_TRUST && c->err.text[0]));
	return c->rc;
}

static int
judge(const char *names, const char *host)
{
	return judge_at(names, host, NOW, 100000);
}

static void
use_ca(const char *path)
{
	struct err e;

	trust_free(&t);
	memset(&t, 0, sizeof t);
	if (path)
		check_int(ca_load(&t.ca, path, &e), 0);
}

static void
use_pin(const char *name)
{
	br_sha256_context sha;
	uint8_t der[5000];

	use_ca(NULL);
	br_sha256_init(&sha);
	br_sha256_update(&sha, der, cert_load(name, der, sizeof der));
	br_sha256_out(&sha, t.pin);
	t.pinned = 1;
	strcpy(t.from, "here");
}

static void
refused(const char *names, const char *host, const char *why)
{
	check_int(judge(names, host), -EACCES);
	if (!strstr(c->err.text, why))
		check_str(c->err.text, why);
}

static void
test_fingerprint(void)
{
	static const char *const good[] = {
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff",
		"0011 2233 4455 6677  8899 aabb ccdd eeff\n0011 2233 4455 6677 8899 aabb ccdd eeff\n",
		"sha256 Fingerprint=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
	};
	static const char *const bad[] = {
		"", "00", "g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff0",
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeef",
		"sha1 Fingerprint=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:00",
	};
	uint8_t out[32];
	unsigned i;

	for (i = 0; i < sizeof good / sizeof good[0]; i++) {
		memset(out, 1, sizeof out);
		check_int(fingerprint_parse(good[i], out), 0);
		check(out[0] == 0 && out[15] == 0xff && out[16] == 0 && out[31] == 0xff);
	}
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		check_int(fingerprint_parse(bad[i], out), -1);
}

static void
test_pin(void)
{
	static const char *const name[] = { "self", "leaf", "deep", "expired", "cn", "weak" };
	unsigned i;

	for (i = 0; i < sizeof name / sizeof name[0]; i++) {
		use_pin(name[i]);
		check_int(judge(name[i], "any.host"), 0);
		check_int(c->seen.by, TRUST_PIN);
		check_int(judge_at(name[i], "any.host", 0, 1), 0);	/* a clock at 1970 is no matter */
		check_int(judge("leaf ca", "any.host"), strcmp(name[i], "leaf") ? -EACCES : 0);
	}
	use_pin("ca");
	refused("leaf ca", "localhost", "not the right certificate");	/* certificate 0 alone counts */
	check_int(c->seen.usable, 0);
}

static void
test_wrong_pin(void)
{
	char want[FINGERPRINT_TEXT], seen[FINGERPRINT_TEXT];

	use_pin("leaf");
	refused("self", "localhost", "not the right certificate");
	hex_colons(want, t.pin, 32);
	hex_colons(seen, c->seen.fingerprint, 32);
	check(strcmp(want, seen) != 0);
	check(strstr(c->err.text, want) && strstr(c->err.text, seen) && strstr(c->err.text, "here says"));
	/* a pin decides alone: no authority makes up for it */
	check_int(ca_load(&t.ca, "test/cert/self.pem", NULL), 0);
	refused("self", "localhost", "not the right certificate");
}

static void
test_ca(void)
{
	use_ca("test/cert/ca.pem");
	check_int(judge("leaf", "localhost"), 0);
	check_int(c->seen.by, TRUST_CA);
	check_str(c->seen.names, "pbs.example, *.wild.example, localhost, 192.0.2.1, 127.0.0.1, 2001:db8::1");
	check_str(c->seen.key, "P-256");
	check_int(c->seen.not_before, 1717200000);
	check_int(c->seen.not_after, 2493072000);
	check_int(judge("leaf ca", "192.0.2.1"), 0);
	refused("deep inter", "deep.example", "signed by nobody in test/cert/ca.pem");
	refused("self", "localhost", "self-signed");
	refused("notca middle", "localhost", "its chain is not valid");
	refused("weak", "localhost", "too weak");
	refused("leaf rsaca", "localhost.not", "it is for pbs.example");
	check_int(ca_load(&t.ca, "test/cert/rsaca.pem", NULL), 0);
	check_int(judge("deep inter", "deep.example"), 0);
	check_int(judge("deep inter rsaca", "deep.example"), 0);
	refused("deep", "deep.example", "signed by nobody");
	refused("deep rsaca inter", "deep.example", "do not form a chain");
}

/* A server's own certificate given as authority, as PBS makes them. */
static void
test_direct(void)
{
	use_ca("test/cert/self.pem");
	check_int(judge("self", "localhost"), 0);
	check_int(c->seen.by, TRUST_CA);
	refused("self", "other.host", "it is for localhost, not for other.host");
	refused("leaf", "localhost", "signed by nobody");
}

static void
test_names(void)
{
	static const struct { const char *cert, *host; int rc; } v[] = {
		{ "leaf", "pbs.example", 0 }, { "leaf", "PBS.Example.", 0 }, { "leaf", "x.pbs.example", -EACCES },
		{ "leaf", "a.wild.example", 0 }, { "leaf", "A-b.WILD.example", 0 }, { "leaf", "a.b.wild.example", -EACCES },
		{ "leaf", "wild.example", -EACCES }, { "leaf", ".wild.example", -EACCES }, { "leaf", "", -EACCES },
		{ "leaf", "192.0.2.1", 0 }, { "leaf", "192.0.2.2", -EACCES }, { "leaf", "2001:DB8:0::1", 0 },
		{ "leaf", "2001:db8::1%eth0", 0 }, { "leaf", "2001:db8::2", -EACCES },
		{ "cn", "cn.example", 0 }, { "cn", "x.cn.example", -EACCES }, { "cn", "192.0.2.1", -EACCES },
		{ "leaf", "pbs.exampl", -EACCES }, { "leaf", "pbs.example.evil", -EACCES },
	};
	unsigned i;

	use_ca("test/cert/ca.pem");
	for (i = 0; i < sizeof v / sizeof v[0]; i++)
		if (judge(v[i].cert, v[i].host) != v[i].rc)
			check_str(v[i].host, c->err.text);
}

static void
test_dates(void)
{
	use_ca("test/cert/ca.pem");
	check_int(judge_at("expired", "localhost", 1718000000, 100), 0);
	refused("expired", "localhost", "it expired at 2024-07-01T00:00:00Z (this machine's clock says 2025-01-01T00:00:00Z)");
	check_int(judge_at("leaf", "localhost", 1710000000, 100), -EACCES);
	check(strstr(c->err.text, "it is valid from 2024-06-01T00:00:00Z on, and this machine's clock says 2024-03-09"));
	check_int(judge_at("leaf", "localhost", 5, 100), -EACCES);
	check(strstr(c->err.text, "clock says 1970-01-01T00:00:05Z") && strstr(c->err.text, "set the clock"));
	check(strstr(c->err.text, "--fingerprint"));
}

static void
test_damaged(void)
{
	uint8_t der[5000];
	size_t n = cert_load("leaf", der, sizeof der), i;

	use_ca("test/cert/ca.pem");
	strcpy(t.host, "localhost");
	for (i = 0; i < n; i++) {
		der[i] ^= 1;
		chain_init(c, &t, NOW);
		c->x509->start_chain(&c->x509, NULL);
		feed(der, n, 1000);
		if (c->x509->end_chain(&c->x509) == 0)
			check_int(i, -1);
		der[i] ^= 1;
	}
	der[n - 1] ^= 1;
	chain_init(c, &t, NOW);
	c->x509->start_chain(&c->x509, NULL);
	feed(der, n, 1000);
	check(c->x509->end_chain(&c->x509) != 0 && strstr(c->err.text, "signed by nobody"));
}

/* BearSSL 0.6 overwrites 496 bytes behind its key buffer when it is pushed again after this key: what follows the
 * decoder in struct chain must stay as it is, however the certificate comes in. */
static void
test_rsa8192(void)
{
	static const size_t step[] = { 1, 7, 100, 512, 10000 };
	uint8_t der[5000];
	size_t n = cert_load("rsa8192", der, sizeof der), i;

	for (i = 0; i < 2 * sizeof step / sizeof step[0]; i++) {
		if (i % 2)
			use_pin("rsa8192");
		else
			use_ca("test/cert/ca.pem");
		check_int(judge_at("rsa8192", "localhost", NOW, step[i / 2]), -EACCES);
		check(strstr(c->err.text, "key is RSA 8192, which pbsmap cannot use") != NULL);
		check(c->count == 1 && c->len == n && c->end[0] == n && !c->too_big);
		check(memcmp(c->der, der, n) == 0);
		check_int(c->seen.usable, 0);
	}
	use_ca("test/cert/ca.pem");
	refused("leaf rsa8192", "pbs.other", "it is for");	/* the authority is found before that one is looked at */
	refused("deep rsa8192", "deep.example", "chain");
	refused("ed25519", "localhost", "key is Ed25519, which");
}

static void
test_limits(void)
{
	uint8_t der[5000];
	size_t n = cert_load("leaf", der, sizeof der), i;

	use_pin("leaf");
	strcpy(t.host, "localhost");
	chain_init(c, &t, NOW);
	c->x509->start_chain(&c->x509, NULL);
	check(c->x509->end_chain(&c->x509) != 0);
	check(strstr(c->err.text, "sends no certificate") != NULL);
	for (i = 0; i < 300; i++)		/* more certificates and bytes than there is room for */
		feed(der, n, 64);
	check(c->too_big && c->count <= CHAIN_CERTS && c->len <= CHAIN_MAX);
	check_int(c->x509->end_chain(&c->x509), 0);	/* the pin needs the first one only */
	use_ca("test/cert/ca.pem");
	strcpy(t.host, "localhost");
	check(c->x509->end_chain(&c->x509) != 0);
	check(strstr(c->err.text, "too many certificates") != NULL);
	chain_init(c, &t, NOW);			/* one that says it is longer than all */
	c->x509->start_chain(&c->x509, NULL);
	c->x509->start_cert(&c->x509, 0xffffff);
	c->x509->append(&c->x509, der, n);
	c->x509->end_cert(&c->x509);
	check(c->x509->end_chain(&c->x509) != 0 && c->len == 0);
}

static void
test_bundles(void)
{
	char text[6000] = "";
	struct ca ca = { 0 };
	struct err e;
	size_t n, i;
	FILE *f;

	for (i = 0; i < 3; i++) {
		f = fopen(i == 0 ? "test/cert/rsa8192.pem" : i == 1 ? "test/cert/ca.pem" : "test/cert/self.pem", "r");
		n = strlen(text);
		text[n + fread(text + n, 1, sizeof text - n - 1, f)] = 0;
		fclose(f);
	}
	check_int(ca_add(&ca, text, strlen(text)), 0);
	check_int(ca.count, 2);			/* RSA 8192 is left out, the rest is not */
	check_int(ca.skipped, 1);
	check_int(ca.anchor[0].flags, BR_X509_TA_CA);
	check_int(ca.anchor[1].flags, 0);
	ca_free(&ca);
	*strstr(text + 3300, "MII") = '!';	/* damaged */
	check_int(ca_add(&ca, text, strlen(text)), 0);
	check_int(ca.count, 1);
	check_int(ca.skipped, 2);
	ca_free(&ca);
	check_int(ca_load(&ca, "/nonexistent.pem", &e), -ENOENT);
	check_str(e.text, "cannot read CA certificates from /nonexistent.pem: No such file or directory");
	check_int(ca_load(&ca, "test/cert/leaf.key", &e), -EBADMSG);
	check(strstr(e.text, "no CA certificate in it (wanted: PEM") != NULL);
	check_int(e.status, ST_TRUST);
	check_int(ca_load(&ca, "test/cert/rsa8192.pem", &e), -EBADMSG);
	check(strstr(e.text, "can be used") != NULL);
	ca_free(&ca);
}

static const char *reply;
static int asked;
static char prompt[1500];

static int
answer(const char *text, char *buf, size_t cap, struct err *e)
{
	(void)e;
	asked++;
	snprintf(prompt, sizeof prompt, "%s", text);
	return reply ? snprintf(buf, cap, "%s", reply) : -ENOTTY;
}

static void
test_ask(void)
{
	char dir[] = "/tmp/unit_trust.XXXXXX", path[100];
	struct err e;

	check(mkdtemp(dir) != NULL);
	setenv("XDG_CONFIG_HOME", dir, 1);
	use_ca(NULL);
	check_int(judge("self", "localhost"), -EACCES);
	check_int(trust_ask(&t, &c->seen, &e), 1);	/* nobody is there */
	t.ask = answer;
	check_int(trust_ask(&t, &c->seen, &e), 1);	/* no terminal */
	reply = "n";
	check_int(trust_ask(&t, &c->seen, &e), 1);
	reply = "";
	check_int(trust_ask(&t, &c->seen, &e), 1);
	check(!t.pinned);
	reply = "yes";
	check_int(trust_ask(&t, &c->seen, &e), 0);
	check_int(asked, 4);
	check(strstr(prompt, "no CA certificates") && strstr(prompt, "localhost"));
	check_int(judge("self", "localhost"), 0);
	check_int(trust_ask(&t, &c->seen, &e), 1);	/* a pin is there: no more questions */
	check_int(judge("leaf", "localhost"), -EACCES);
	check_int(trust_ask(&t, &c->seen, &e), 1);
	check_int(asked, 4);
	/* and it was kept */
	check_int(trust_init(&t, "localhost", NULL, NULL, &e), 0);
	check(t.pinned);
	check_int(judge("self", "localhost"), 0);
	snprintf(path, sizeof path, "%s/proxmox-backup/fingerprints", dir);
	check_str(t.from, path);
	check_int(unlink(path), 0);
	*strrchr(path, '/') = 0;
	rmdir(path);
	rmdir(dir);
}

/* What decides: option, environment, known file, authorities. */
static void
test_order(void)
{
	static const char one[] = "1111111111111111111111111111111111111111111111111111111111111111";
	static const char two[] = "2222222222222222222222222222222222222222222222222222222222222222";
	struct err e;

	setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
	setenv("PBS_FINGERPRINT", one, 1);
	check_int(trust_init(&t, "h", two, NULL, &e), 0);
	check(t.pinned && t.pin[0] == 0x22 && t.ca.count == 0);
	check_str(t.from, "--fingerprint");
	check_int(trust_init(&t, "h", NULL, NULL, &e), 0);
	check(t.pinned && t.pin[0] == 0x11);
	check_str(t.from, "PBS_FINGERPRINT");
	setenv("PBS_FINGERPRINT", "", 1);
	check_int(trust_init(&t, "h", NULL, "test/cert/ca.pem", &e), 0);
	check(!t.pinned && t.ca.count == 1);
	trust_free(&t);
	setenv("SSL_CERT_FILE", "test/cert/self.pem", 1);
	check_int(trust_init(&t, "h", NULL, NULL, &e), 0);
	check(!t.pinned && t.ca.count == 1);
	check_str(t.ca.path, "test/cert/self.pem");
	trust_free(&t);
	check_int(trust_init(&t, "h", "12:34", NULL, &e), -EINVAL);
	check_int(e.status, ST_USAGE);
	unsetenv("SSL_CERT_FILE");
	unsetenv("PBS_FINGERPRINT");
}

int
main(void)
{
	c = malloc(sizeof *c);
	run(test_fingerprint);
	run(test_pin);
	run(test_wrong_pin);
	run(test_ca);
	run(test_direct);
	run(test_names);
	run(test_dates);
	run(test_damaged);
	run(test_rsa8192);
	run(test_limits);
	run(test_bundles);
	run(test_ask);
	run(test_order);
	trust_free(&t);
	free(c);
	return t_end();
}
