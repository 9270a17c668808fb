/*
 * pbsd: a Proxmox Backup Server for tests. Serves a datastore's directory by
 * the real API and reader protocol, checks its client strictly, and breaks
 * things on command. Commands are lines on stdin, each answered by one line;
 * the first line on stdout is the port. Ends at the end of stdin, with its
 * parent, or by a signal.
 *
 *	set NAME VALUE ...	weather (pbsd_fault.c, `settings`)
 *	rule KIND key=value ...	a fault of the answers it matches
 *	break KIND after=N	connections end after N raw bytes
 *	kick KIND key=value ...	what all connections shall do now
 *	clear | zero | stats	faults; counters; counters as JSON
 *	restart MS		all connections end, none is taken for MS ms
 *	expire			all tickets are void
 *	account ID:SECRET	add or change; rights ID read|backup|none|tfa
 *	tls key=value ...	cert= key= version= ciphers=, for new connections
 *	frames			the names of `inject`
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pbsd_api.h"
#include "pbsd_auth.h"
#include "pbsd_conn.h"
#include "pbsd_frames.h"

#define WORDS_MAX 32

static struct {
	struct sockaddr_storage addr;
	socklen_t addr_len;
	int listener;			/* -1: refusing */
	int64_t back;			/* ms; when it listens again */
	SSL_CTX *ctx;
	char cert[512], key[512], version[16], ciphers[256];
	int keep_stdin;
} server = { .listener = -1, .version = "all" };

/* The reader protocol begins in HTTP/1.1: a client that offers h2 might be given it by a proxy. */
static int
refuse_h2(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in, unsigned inlen, void *arg)
{
	(void)ssl;
	(void)out;
	(void)outlen;
	(void)arg;
	for (unsigned i = 0; i < inlen; i += in[i] + 1u)
		if (in[i] == 2 && i + 2 < inlen && memcmp(in + i + 1, "h2", 2) == 0)
			violation(0, "h2 offered in ALPN");
	return SSL_TLSEXT_ERR_NOACK;
}

/* RFC 6066 allows names only; some servers refuse the rest. */
static int
check_name(SSL *ssl, int *alert, void *arg)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	unsigned char addr[16];

	(void)alert;
	(void)arg;
	if (name && (inet_pton(AF_INET, name, addr) == 1 || inet_pton(AF_INET6, name, addr) == 1))
		violation(0, "an address as server name: %s", name);
	return SSL_TLSEXT_ERR_OK;
}

/* A new context from server.cert and so on: 0 or -1. */
static int
context(void)
{
	SSL_CTX *c = SSL_CTX_new(TLS_server_method());
	const char *v = server.version;

	if (!c)
		return -1;
	SSL_CTX_set_min_proto_version(c, strcmp(v, "1.3") == 0 ? TLS1_3_VERSION : TLS1_2_VERSION);
	SSL_CTX_set_max_proto_version(c, strcmp(v, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION);
	SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_dh_auto(c, 1);
	SSL_CTX_set_alpn_select_cb(c, refuse_h2, NULL);
	SSL_CTX_set_tlsext_servername_callback(c, check_name);
	if (SSL_CTX_use_certificate_chain_file(c, server.cert) != 1 || SSL_CTX_use_PrivateKey_file(c, server.key, SSL_FILETYPE_PEM) != 1 ||
	    (server.ciphers[0] && SSL_CTX_set_cipher_list(c, server.ciphers) != 1)) {
		SSL_CTX_free(c);
		return -1;
	}
	SSL_CTX_free(server.ctx);
	server.ctx = c;
	return 0;
}

/* "ADDRESS:PORT" or "[ADDRESS]:PORT", of this machine only. */
static int
parse_listen(const char *s)
{
	struct sockaddr_in *a4 = (struct sockaddr_in *)&server.addr;
	struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)&server.addr;
	const char *colon = strrchr(s, ':');
	char host[64];

	if (!colon || (size_t)(colon - s) >= sizeof(host))
		return -1;
	snprintf(host, sizeof(host), "%.*s", (int)(colon - s), s);
	if (host[0] == '[') {
		memmove(host, host + 1, strlen(host));
		host[strcspn(host, "]")] = '\0';
		a6->sin6_family = AF_INET6;
		a6->sin6_port = htons((uint16_t)atoi(colon + 1));
		server.addr_len = sizeof(*a6);
		return inet_pton(AF_INET6, host, &a6->sin6_addr) == 1 && IN6_IS_ADDR_LOOPBACK(&a6->sin6_addr) ? 0 : -1;
	}
	a4->sin_family = AF_INET;
	a4->sin_port = htons((uint16_t)atoi(colon + 1));
	server.addr_len = sizeof(*a4);
	return inet_pton(AF_INET, host, &a4->sin_addr) == 1 && (ntohl(a4->sin_addr.s_addr) >> 24) == 127 ? 0 : -1;
}

/* The port that was chosen at the first start is kept by all later ones. */
static int
start_listening(void)
{
	int one = 1, fd = socket(server.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&server.addr, server.addr_len) < 0 || listen(fd, 512) < 0 ||
	    getsockname(fd, (struct sockaddr *)&server.addr, &server.addr_len) < 0) {
		close(fd);
		return -1;
	}
	server.listener = fd;
	server.back = 0;
	return 0;
}

static void
take_connections(void)
{
	int one = 1, fd;

	while ((fd = accept4(server.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		conn_start(fd, server.ctx);
	}
}

static int
rights_of(const char *word)
{
	static const struct { const char *word; int rights; } table[] = {
		{ "read", MAY_READ | MAY_BACKUP }, { "backup", MAY_BACKUP }, { "none", MAY_LOGIN }, { "tfa", MAY_READ | WANTS_TFA },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].word, word) == 0)
			return table[i].rights;
	return -1;
}

/* Connections that exist keep their certificate. */
static const char *
tls_command(char **words, int n)
{
	static const struct { const char *key; char *to; size_t cap; } table[] = {
		{ "cert=", server.cert, sizeof(server.cert) }, { "key=", server.key, sizeof(server.key) },
		{ "version=", server.version, sizeof(server.version) }, { "ciphers=", server.ciphers, sizeof(server.ciphers) },
	};

	for (int i = 1; i < n; i++)
		for (size_t j = 0; j < sizeof(table) / sizeof(table[0]); j++)
			if (strncmp(words[i], table[j].key, strlen(table[j].key)) == 0)
				snprintf(table[j].to, table[j].cap, "%s", words[i] + strlen(table[j].key));
	return context() == 0 ? "" : "certificate, key or ciphers not usable";
}

/* As a restarted service: everything is cut, nothing listens for a while. Tickets and counters stay. */
static void
restart(int64_t ms)
{
	if (server.listener >= 0)
		close(server.listener);
	server.listener = -1;
	conn_end_all();
	server.back = now_ms() + ms;
}

static void
list_frames(FILE *out)
{
	const char *name;
	int legal;

	for (size_t i = 0; (name = frames_name(i, &legal)); i++)
		if (name[0] != '+')
			fprintf(out, "%s%s ", legal ? "" : "!", name);
	fputc('\n', out);
}

/* Runs a command and prints its answer; -1 when it was wrong. */
static int
command(char *line, FILE *out)
{
	char *words[WORDS_MAX], *save, err[256] = "", *json;
	struct kick k;
	int n = 0;

	for (char *w = strtok_r(line, " \t\n", &save); w && n < WORDS_MAX; w = strtok_r(NULL, " \t\n", &save))
		words[n++] = w;
	if (n == 0)
		return 0;
	if (fault_command(words, n, err, sizeof(err)))
		conn_wake_all();
	else if (strcmp(words[0], "kick") == 0) {
		if (kick_parse(words, n, &k, err, sizeof(err)) == 0)
			conn_kick_all(&k);
	} else if (strcmp(words[0], "stats") == 0) {
		json = stats_json();
		fprintf(out, "%s\n", json);
		free(json);
		return 0;
	} else if (strcmp(words[0], "frames") == 0) {
		list_frames(out);
		return 0;
	} else if (strcmp(words[0], "expire") == 0)
		auth_expire();
	else if (strcmp(words[0], "restart") == 0 && n == 2)
		restart(atoi(words[1]));
	else if (strcmp(words[0], "account") == 0 && n == 2)
		auth_add(words[1], rights_of("read"));
	else if (strcmp(words[0], "rights") == 0 && n == 3 && rights_of(words[2]) >= 0) {
		if (auth_rights(words[1], rights_of(words[2])) < 0)
			snprintf(err, sizeof(err), "no account %s", words[1]);
	} else if (strcmp(words[0], "tls") == 0)
		snprintf(err, sizeof(err), "%s", tls_command(words, n));
	else
		snprintf(err, sizeof(err), "what is %s?", words[0]);
	if (err[0])
		fprintf(out, "error: %s\n", err);
	else if (out == stdout)
		fputs("ok\n", out);
	return err[0] ? -1 : 0;
}

/* Reads what stdin has: 0, or -1 at its end. */
static int
read_commands(void)
{
	static char buf[8192];
	static size_t have;
	ssize_t n = read(0, buf + have, sizeof(buf) - 1 - have);
	char *end, *p = buf;

	if (n <= 0)
		return -1;
	have += (size_t)n;
	buf[have] = '\0';
	while ((end = strchr(p, '\n'))) {
		*end = '\0';
		command(p, stdout);
		p = end + 1;
	}
	fflush(stdout);
	have -= (size_t)(p - buf);
	memmove(buf, p, have);
	return have < sizeof(buf) - 1 ? 0 : -1;
}

/* Commands and new connections; everything else happens in the threads. */
static void
loop(int signals)
{
	struct pollfd p[3] = { { .events = POLLIN }, { .fd = signals, .events = POLLIN }, { .fd = 0, .events = POLLIN } };

	for (;;) {
		int64_t now = now_ms();

		if (server.listener < 0 && server.back <= now && start_listening() < 0)
			server.back = now + 10;
		p[0].fd = server.listener;
		if (poll(p, 3, server.listener < 0 ? (int)(server.back - now) : -1) < 0 && errno != EINTR)
			return;
		if (p[1].revents)
			return;
		if (server.listener >= 0 && p[0].revents)
			take_connections();
		if (p[2].revents && read_commands() < 0) {
			if (!server.keep_stdin)
				return;
			p[2].fd = -1;
		}
	}
}

static void
usage(void)
{
	fputs("usage: pbsd --store DIR --name STORE --cert FILE --key FILE [--listen 127.0.0.1:0] [--flavour 3.2|4.2]\n"
	    "            [--user ID:SECRET] [--token ID:SECRET] [--rights ID=read|backup|none|tfa] [--ticket-life S]\n"
	    "            [--tls 1.2|1.3|all] [--ciphers LIST] [--do COMMAND]... [--no-stdin] [--verbose]\n", stderr);
	exit(2);
}

static void
option(int c, char *arg)
{
	static char words[512];
	char *eq;

	switch (c) {
	case 's': site.dir = arg; break;
	case 'n': site.name = arg; break;
	case 'c': snprintf(server.cert, sizeof(server.cert), "%s", arg); break;
	case 'k': snprintf(server.key, sizeof(server.key), "%s", arg); break;
	case 'f': site.v4 = arg[0] == '4'; break;
	case 'L': site.ticket_life = atoi(arg); break;
	case 'T': snprintf(server.version, sizeof(server.version), "%s", arg); break;
	case 'C': snprintf(server.ciphers, sizeof(server.ciphers), "%s", arg); break;
	case 'v': verbose = 1; break;
	case 'N': server.keep_stdin = 1; break;
	case 'l':
		if (parse_listen(arg) < 0)
			usage();
		break;
	case 'u':
	case 't':
		if (auth_add(arg, rights_of("read")) < 0)
			usage();
		break;
	case 'r':
		eq = strchr(arg, '=');
		if (!eq || rights_of(eq + 1) < 0)
			usage();
		*eq = '\0';
		auth_rights(arg, rights_of(eq + 1));
		break;
	case 'd':
		snprintf(words, sizeof(words), "%s", arg);
		if (command(words, stderr) < 0)
			exit(2);
		break;
	default:
		usage();
	}
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "store", 1, NULL, 's' }, { "name", 1, NULL, 'n' }, { "cert", 1, NULL, 'c' }, { "key", 1, NULL, 'k' },
		{ "flavour", 1, NULL, 'f' }, { "ticket-life", 1, NULL, 'L' }, { "tls", 1, NULL, 'T' }, { "ciphers", 1, NULL, 'C' },
		{ "verbose", 0, NULL, 'v' }, { "no-stdin", 0, NULL, 'N' }, { "listen", 1, NULL, 'l' }, { "user", 1, NULL, 'u' },
		{ "token", 1, NULL, 't' }, { "rights", 1, NULL, 'r' }, { "do", 1, NULL, 'd' }, { NULL, 0, NULL, 0 }
	};
	sigset_t set;
	int c, signals;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	parse_listen("127.0.0.1:0");
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		option(c, optarg);
	if (!site.dir || !site.name || optind != argc)
		usage();
	if (context() < 0 || start_listening() < 0) {
		fprintf(stderr, "pbsd: certificate %s, key %s or the port cannot be used\n", server.cert, server.key);
		return 1;
	}
	printf("%d\n", ntohs(((struct sockaddr_in *)&server.addr)->sin_port));
	fflush(stdout);
	loop(signals);
	if (server.listener >= 0)
		close(server.listener);
	conn_end_all();
	SSL_CTX_free(server.ctx);
	fault_free();
	close(signals);
	return 0;
}
