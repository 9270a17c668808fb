/* Who we are to a server: tokens, tickets, cookies, second factors, and that no secret stays behind. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../api.h"
#include "../clock.h"
#include "t.h"

static struct auth a;
static struct err e;

static const char *
fields(void)
{
	static char buf[2 * COOKIE_MAX];
	struct http_out o = { .buf = buf, .cap = sizeof(buf) - 1 };

	auth_fields(&a, &o);
	check_int(o.rc, 0);
	buf[o.len] = 0;
	return buf;
}

/* A login answered with this cookie (NULL: none) and body, the body in pieces of n bytes. */
static int
login(const char *cookie, const char *body, size_t n)
{
	struct auth_login l;
	size_t i, k, len = strlen(body);
	int rc = 0, end;

	memset(&e, 0, sizeof(e));
	auth_login_start(&l, &e);
	if (cookie)
		check_int(auth_login_field(&l, "set-cookie", cookie), 0);
	check_int(auth_login_field(&l, "x", "__Host-PBSAuthCookie=no"), 0);
	for (i = 0; i < len && rc == 0; i += k) {
		k = n < len - i ? n : len - i;
		rc = auth_login_body(&l, (const uint8_t *)body + i, k);
	}
	end = auth_login_end(&l, &a, 1000, &e);
	for (i = 0; i < sizeof(l); i++)
		if (((uint8_t *)&l)[i])
			break;
	check_int(i, sizeof(l));
	return end;
}

static void
test_token(void)
{
	check_int(auth_init(&a, "u@pbs!t", "secret", &e), 0);
	check_str(fields(), "Authorization: PBSAPIToken=u@pbs!t:secret\r\n");
	check(!auth_stale(&a, 1 << 30) && !auth_renew(&a, 1 << 30));
}

static void
test_ticket(void)
{
	size_t n;

	for (n = 1; n < 200; n += 33) {
		check_int(auth_init(&a, "u@pbs", "pass", &e), 0);
		check_str(fields(), "");
		check(auth_stale(&a, 0));
		check_int(login("PBSAuthCookie=x; Path=/", "{\"data\":{\"username\":\"u@pbs\",\"ticket\":\"PBS:u@pbs:6B::a/b+c=\","
		    "\"CSRFPreventionToken\":\"6B:x/y\"},\"status\":200}", n), 0);
		check_str(fields(), "Cookie: PBSAuthCookie=PBS%3Au%40pbs%3A6B%3A%3Aa%2Fb%2Bc%3D\r\nCSRFPreventionToken: 6B:x/y\r\n");
		check(!auth_stale(&a, 1000) && !auth_stale(&a, 1000 + TICKET_FRESH) && auth_stale(&a, 1001 + TICKET_FRESH));
		check(!auth_renew(&a, 1001 + TICKET_RENEW));
		check_str(a.secret, "pass");
	}
}

static void
test_cookie(void)
{
	auth_init(&a, "u@pbs", "pass", &e);
	check_int(login("__Host-PBSAuthCookie=PBS%3Au; Secure; Path=/", "{\"data\":{\"ticket-info\":\"PBS:u@pbs:6B\"}}", 9), 0);
	check_str(fields(), "Cookie: __Host-PBSAuthCookie=PBS%3Au\r\n");
	/* Taken away. */
	check_int(login("__Host-PBSAuthCookie=; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "{\"data\":{\"username\":\"u@pbs\"}}", 9), -EPROTO);
	check(strstr(e.text, "no ticket") != NULL);
}

static void
test_renew(void)
{
	int64_t t = 1001 + TICKET_RENEW;

	auth_init(&a, "u@pbs", "PBS:u@pbs:1::old", &e);
	check_int(login(NULL, "{\"data\":{\"ticket\":\"PBS:u@pbs:2::new\"}}", 99), 0);
	check_str(a.secret, "PBS:u@pbs:2::new");
	check(!auth_renew(&a, t - 1));
	check(auth_renew(&a, t) && !auth_renew(&a, t + 1000) && auth_renew(&a, t + BACKOFF_REFUSED));
}

static void
test_refused(void)
{
	char long_one[COOKIE_MAX], body[COOKIE_MAX + 100];

	auth_init(&a, "u@pbs", "pass", &e);
	check_int(login(NULL, "{\"data\":{\"ticket\":\"PBS:!tfa!%7B%22totp\",\"username\":\"u@pbs\"}}", 99), -EACCES);
	check(e.status == ST_TRUST && strstr(e.text, "second factor") != NULL);
	check_int(login(NULL, "{\"data\":{\"ticket-info\":\"PBS:!tfa!x\"}}", 99), -EACCES);
	check_int(login(NULL, "{\"data\":null}", 99), -EINVAL);
	check_int(login(NULL, "{\"data\":{\"ticket\":7}}", 99), -EINVAL);
	check_int(login(NULL, "<html>", 99), -EINVAL);
	check_int(login(NULL, "", 99), -EINVAL);
	memset(long_one, 'x', sizeof(long_one));
	snprintf(body, sizeof(body), "{\"data\":{\"ticket\":\"%.*s\"}}", COOKIE_MAX / 3, long_one);
	check(login(NULL, body, 99) < 0);
	memset(long_one, '/', sizeof(long_one));
	snprintf(body, sizeof(body), "{\"data\":{\"ticket\":\"%.*s\"}}", COOKIE_MAX / 3 - 1, long_one);
	check_int(login(NULL, body, 99), -ENOBUFS);
	check_str(fields(), "");
	long_one[SECRET_MAX] = 0;
	check_int(auth_init(&a, "u@pbs", long_one, &e), -EINVAL);
}

static void
test_form(void)
{
	char out[100];
	size_t cap;

	auth_init(&a, "a@b@pbs", "p&ss w\xc3\xb6rd", &e);
	check_int(auth_form(&a, out, sizeof(out)), 48);
	check_str(out, "username=a%40b%40pbs&password=p%26ss%20w%C3%B6rd");
	for (cap = 10; cap < 50; cap++) {
		int rc = auth_form(&a, out, cap);

		check(rc == -ENOBUFS || rc == (int)strlen(out));
		check(strlen(out) < cap);
	}
	auth_wipe(&a);
	check_str(a.secret, "");
}

/* It is the connection that reads wait for which renews: a server that says nothing costs it seconds, not half a minute. */
static void
test_renew_in_silence(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct net_conf net = { .host = "127.0.0.1", .cancel_fd = -1 };
	struct trust trust;
	struct api api;
	int64_t start;

	check_int(bind(fd, (struct sockaddr *)&at, len), 0);
	check_int(listen(fd, 1), 0);
	check_int(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	memset(&api, 0, sizeof(api));
	check_int(trust_init(&trust, "127.0.0.1", "abababababababababababababababababababababababababababababababab", NULL, &e), 0);
	net.port = ntohs(at.sin_port);
	net.trust = &trust;
	check_int(api_init(&api, &net, "u@pbs", "PBS:u@pbs:1::old", 30000, &e), 0);
	strcpy(api.auth.cookie, "PBSAuthCookie=x");
	api.auth.since = clock_ms() - TICKET_RENEW - 1;
	start = clock_ms();
	check(api_renew(&api, -1, &e) < 0);
	check(clock_ms() - start > 2500 && clock_ms() - start < 8000);
	/* Not again at once. */
	start = clock_ms();
	check_int(api_renew(&api, -1, &e), 0);
	check(clock_ms() - start < 1000);
	api_free(&api);
	trust_free(&trust);
	close(fd);
}

int
main(void)
{
	run(test_token);
	run(test_ticket);
	run(test_cookie);
	run(test_renew);
	run(test_refused);
	run(test_form);
	run(test_renew_in_silence);
	return t_end();
}
