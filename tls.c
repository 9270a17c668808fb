/*
 * BearSSL set up as a client: TLS 1.2, ECDHE, AES-GCM and ChaCha20, nothing older.
 *
 * br_ssl_client_init_full() would drag in DES, MD5 and CBC, and asks for ChaCha20 first,
 * which costs four times AES-GCM where the CPU has AES.
 */
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "bytes.h"
#include "log.h"
#include "thread.h"
#include "wait.h"

static const struct {
	uint16_t id;
	const char *name;
} suite[] = {
	{ BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "TLS 1.2, ECDHE-ECDSA-AES128-GCM-SHA256" },
	{ BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "TLS 1.2, ECDHE-RSA-AES128-GCM-SHA256" },
	{ BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "TLS 1.2, ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "TLS 1.2, ECDHE-RSA-AES256-GCM-SHA384" },
	{ BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "TLS 1.2, ECDHE-ECDSA-CHACHA20-POLY1305" },
	{ BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "TLS 1.2, ECDHE-RSA-CHACHA20-POLY1305" },
};
#define SUITES (sizeof suite / sizeof suite[0])
#define CHACHA 4			/* first of these in suite[] */

static void
set_suites(br_ssl_engine_context *eng)
{
	int has_aes = br_aes_x86ni_ctr_get_vtable() != NULL && br_ghash_pclmul_get() != 0;
	uint16_t order[SUITES];
	size_t i;

	for (i = 0; i < SUITES; i++)
		order[i] = suite[has_aes ? i : (i + CHACHA) % SUITES].id;
	br_ssl_engine_set_suites(eng, order, SUITES);
	br_ssl_engine_set_default_aes_gcm(eng);
	br_ssl_engine_set_default_chapol(eng);
}

/* Kernels since 5.4 make random numbers out of the clock's jitter when somebody waits for them, and only then; older ones
 * may let him wait for ever. */
static void *
wait_for_random(void *arg)
{
	uint8_t byte;
	ssize_t n = getrandom(&byte, 1, 0);

	(void)n;
	return arg;
}

/* Early at boot the kernel has none to give yet. */
static int
seed(br_ssl_engine_context *eng, int cancel_fd, int64_t deadline, struct err *e)
{
	uint8_t random[32];
	ssize_t n;
	int fd, rc, told = 0;

	for (;;) {
		n = getrandom(random, sizeof random, GRND_NONBLOCK);
		if (n == sizeof random)
			break;
		if (errno == ENOSYS) {		/* before Linux 3.17 */
			fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
			n = fd < 0 ? -1 : read(fd, random, sizeof random);
			if (fd >= 0)
				close(fd);
			if (n == sizeof random)
				break;
			return err_set(e, ST_FAIL, -EIO, "no random numbers: /dev/urandom cannot be read");
		}
		if (!told++)
			thread_new(NULL, 0, wait_for_random, NULL);
		else if (told == 20)	/* 2 s */
			say("waiting for the kernel to have random numbers (typing helps)");
		rc = wait_fd(-1, 0, cancel_fd, clock_ms() + 100);
		if (rc != -ETIMEDOUT || clock_ms() >= deadline)
			return err_set(e, ST_FAIL, rc, "the kernel has no random numbers yet");
	}
	br_ssl_engine_inject_entropy(eng, random, sizeof random);
	wipe(random, sizeof random);
	return 0;
}

static int
is_address(const char *host)
{
	uint8_t ip[16];

	return strchr(host, ':') || inet_pton(AF_INET, host, ip) == 1;
}

int
tls_start(struct tls *t, const char *host, struct chain *c, int cancel_fd, int64_t deadline, struct err *e)
{
	br_ssl_engine_context *eng = &t->client.eng;
	int rc;

	t->saw = 0;
	br_ssl_client_zero(&t->client);
	br_ssl_engine_set_versions(eng, BR_TLS12, BR_TLS12);
	set_suites(eng);
	br_ssl_engine_set_ec(eng, br_ec_get_default());
	br_ssl_engine_set_ecdsa(eng, br_ecdsa_vrfy_asn1_get_default());
	br_ssl_engine_set_rsavrfy(eng, br_rsa_pkcs1_vrfy_get_default());
	/* these are offered for signatures, too: no SHA-1 */
	br_ssl_engine_set_hash(eng, br_sha256_ID, &br_sha256_vtable);
	br_ssl_engine_set_hash(eng, br_sha384_ID, &br_sha384_vtable);
	br_ssl_engine_set_hash(eng, br_sha512_ID, &br_sha512_vtable);
	br_ssl_engine_set_prf_sha256(eng, br_tls12_sha256_prf);
	br_ssl_engine_set_prf_sha384(eng, br_tls12_sha384_prf);
	/* the chain is gone after the handshake: there must not be another one */
	br_ssl_engine_add_flags(eng, BR_OPT_NO_RENEGOTIATION);
	br_ssl_engine_set_x509(eng, &c->x509);
	/* both directions at once: requests go out while an answer is half read */
	br_ssl_engine_set_buffer(eng, t->buf, sizeof t->buf, 1);
	rc = seed(eng, cancel_fd, deadline, e);
	if (rc)
		return rc;
	/* no server name for an address: RFC 6066 forbids it */
	if (!br_ssl_client_reset(&t->client, is_address(host) ? NULL : host, 0))
		return err_set(e, ST_FAIL, -EIO, "%s: TLS cannot start (BearSSL error %d)", host, br_ssl_engine_last_error(eng));
	return 0;
}

void
tls_saw(struct tls *t, const void *p, size_t n)
{
	if (n > sizeof t->first - t->saw)
		n = sizeof t->first - t->saw;
	memcpy(t->first + t->saw, p, n);
	t->saw += n;
}

static int
explain_alert(const char *name, int alert, struct err *e)
{
	switch (alert) {
	case 70:
		return err_set(e, ST_FAIL, -EPROTO, "%s: server offers only TLS 1.3 (it refuses TLS 1.2, the newest that pbsmap "
		    "speaks): allow TLS 1.2 there", name);
	case 40:
	case 71:
		return err_set(e, ST_FAIL, -EPROTO, "%s: server and pbsmap have no cipher in common: its certificate is of a kind "
		    "that does not work (Ed25519), or it allows neither ECDHE with AES-GCM nor with ChaCha20 (DHE only?)", name);
	case 112:
		return err_set(e, ST_FAIL, -EPROTO, "%s: the server does not know itself by that name", name);
	default:
		return err_set(e, ST_FAIL, -EPROTO, "%s: the server ends TLS with alert %d", name, alert);
	}
}

/* The peer's first bytes are not TLS's. */
static int
explain_stranger(const struct tls *t, const char *name, struct err *e)
{
	const char *what = "something that is not TLS speaks there";

	if (t->saw >= 4 && memcmp(t->first, "HTTP", 4) == 0)
		what = "plain HTTP is spoken there, not TLS";
	if (t->saw >= 4 && memcmp(t->first, "SSH-", 4) == 0)
		what = "an SSH server is there";
	return err_set(e, ST_FAIL, -EPROTO, "%s: %s; is it the right port? (a PBS listens on 8007)", name, what);
}

int
tls_explain(const struct tls *t, const char *name, const struct chain *c, struct err *e)
{
	int code = br_ssl_engine_last_error(&t->client.eng);

	if (c && c->rc && c->err.text[0]) {
		*e = c->err;
		return c->rc;
	}
	if (c && t->saw && (t->first[0] < 0x14 || t->first[0] > 0x17))
		return explain_stranger(t, name, e);
	if (code > BR_ERR_RECV_FATAL_ALERT && code < BR_ERR_RECV_FATAL_ALERT + 256)
		return explain_alert(name, code - BR_ERR_RECV_FATAL_ALERT, e);
	switch (code) {
	case BR_ERR_UNSUPPORTED_VERSION:
	case BR_ERR_BAD_VERSION:
		return err_set(e, ST_FAIL, -EPROTO, "%s: server offers no TLS 1.2, only older versions", name);
	case BR_ERR_BAD_MAC:
		return err_set(e, ST_FAIL, -EPROTO, "%s: damaged TLS record (something on the way changes data)", name);
	case BR_ERR_BAD_SIGNATURE:
		return err_set(e, ST_TRUST, -EACCES, "%s: the server cannot prove that it has its certificate's key "
		    "(or the key is of a kind that cannot be used)", name);
	case BR_ERR_INVALID_ALGORITHM:
		return err_set(e, ST_FAIL, -EPROTO, "%s: the server uses a curve or signature that pbsmap does not know", name);
	default:
		return err_set(e, ST_FAIL, -EPROTO, "%s: TLS error %d", name, code);
	}
}

const char *
tls_cipher(const struct tls *t)
{
	br_ssl_session_parameters p;
	size_t i;

	br_ssl_engine_get_session_parameters(&t->client.eng, &p);
	wipe(p.master_secret, sizeof p.master_secret);	/* it comes along with the suite */
	for (i = 0; i < SUITES; i++)
		if (suite[i].id == p.cipher_suite)
			return suite[i].name;
	return "TLS 1.2";
}
