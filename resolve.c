/*
 * Names to addresses.
 *
 * getaddrinfo() may block for long and cannot be called off, so a thread does it that
 * nobody waits for longer than he wants to. What the thread needs belongs to both sides: the last
 * one to leave frees it.
 *
 * The last answer for a name is kept: after switch_root there is no resolv.conf any more in the root that
 * this process still has, and a mapping that the system runs from must find its server again.
 */
#include "resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker.h"
#include "chan.h"
#include "log.h"
#include "thread.h"
#include "wait.h"

#define KNOWN_WAIT 3000			/* ms a name server has when an older answer is there */

static struct {
	pthread_mutex_t lock;
	char host[256], port[8];
	struct addr addr[ADDRS_MAX];
	int n;
} last = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct question {
	char host[256], port[8];
};

struct answer {
	int rc, sys;			/* getaddrinfo()'s, and errno for EAI_SYSTEM */
	int n;
	struct addr addr[ADDRS_MAX];
};

struct lookup {
	atomic_int users;		/* 2: thread and asker */
	int done;			/* eventfd: the answer is there */
	struct question q;
	struct answer a;
};

/* A worker may not read the files that getaddrinfo() reads: a broker does. One question at a time. */
static struct {
	pthread_mutex_t lock;
	int sock;			/* -1: there is none */
	int no_conf;			/* the system has no resolv.conf */
} broker = { .lock = PTHREAD_MUTEX_INITIALIZER, .sock = -1 };

static int
ask(const char *host, const char *port, int flags, struct addrinfo **list)
{
	struct addrinfo hints = { .ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };

	*list = NULL;
	return getaddrinfo(host, port, &hints, list);
}

static void
leave(struct lookup *l)
{
	if (atomic_fetch_sub(&l->users, 1) > 1)
		return;
	close(l->done);
	free(l);
}

static int
take(const struct addrinfo *ai, struct addr *out, int n)
{
	for (; ai && n < ADDRS_MAX; ai = ai->ai_next) {
		if (ai->ai_addrlen > sizeof out[n].sa)
			continue;
		memcpy(&out[n].sa, ai->ai_addr, ai->ai_addrlen);
		out[n++].len = ai->ai_addrlen;
	}
	return n;
}

static void
look_up_here(const struct question *q, struct answer *a)
{
	struct addrinfo *list;

	memset(a, 0, sizeof *a);
	a->rc = ask(q->host, q->port, 0, &list);
	a->sys = errno;
	if (a->rc == 0)
		a->n = take(list, a->addr, 0);
	if (list)
		freeaddrinfo(list);
}

static void
serve(void *ctx, int sock)
{
	struct question q;
	struct answer a;
	int n;

	(void)ctx;
	while ((n = chan_get(sock, &q, sizeof q, NULL)) >= 0) {
		if (n != sizeof q || !memchr(q.host, 0, sizeof q.host) || !memchr(q.port, 0, sizeof q.port))
			break;
		look_up_here(&q, &a);
		if (chan_put(sock, &a, sizeof a, -1))
			break;
	}
}

static void
look_up_there(const struct question *q, struct answer *a)
{
	int rc;

	pthread_mutex_lock(&broker.lock);
	rc = chan_put(broker.sock, q, sizeof *q, -1);
	if (rc == 0 && (rc = chan_get(broker.sock, a, sizeof *a, NULL)) != (int)sizeof *a && rc >= 0)
		rc = -EPROTO;
	pthread_mutex_unlock(&broker.lock);
	if (rc < 0) {
		a->rc = EAI_SYSTEM;
		a->sys = -rc;
	}
	/* Strangers' answers went through there: nothing is taken on trust. */
	a->n = a->rc || a->n < 0 ? 0 : a->n > ADDRS_MAX ? ADDRS_MAX : a->n;
	for (rc = 0; rc < a->n; rc++)
		if (a->addr[rc].len > sizeof a->addr[rc].sa)
			a->n = 0;
}

static void *
run(void *arg)
{
	struct lookup *l = arg;
	uint64_t one = 1;

	if (broker.sock < 0)
		look_up_here(&l->q, &l->a);
	else
		look_up_there(&l->q, &l->a);
	while (write(l->done, &one, sizeof one) < 0 && errno == EINTR)
		;
	leave(l);
	return NULL;
}

static int
numeric(const char *host, const char *port, struct addr *out, int n)
{
	struct addrinfo *list;

	if (ask(host, port, AI_NUMERICHOST, &list))
		return n;
	n = take(list, out, n);
	freeaddrinfo(list);
	return n;
}

static int
explain(const char *host, int gai, int sys, struct err *e)
{
	if (broker.sock < 0 ? access("/etc/resolv.conf", F_OK) : broker.no_conf)
		return err_set(e, ST_FAIL, -ENOENT, "cannot look up %s: this system has no /etc/resolv.conf; "
		    "use a numeric address", host);
	if (gai == EAI_NONAME)
		return err_set(e, ST_FAIL, -ENOENT, "cannot look up %s: there is no such name", host);
	if (gai == EAI_AGAIN)
		return err_set(e, ST_FAIL, -EAGAIN, "cannot look up %s: no answer from the name server; "
		    "is the network up? A numeric address works without one", host);
	return err_set(e, ST_FAIL, -EIO, "cannot look up %s: %s", host,
	    gai == EAI_SYSTEM ? strerror(sys) : gai_strerror(gai));
}

static struct lookup *
lookup_new(const char *host, const char *port)
{
	struct lookup *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	l->done = eventfd(0, EFD_CLOEXEC);
	if (l->done < 0) {
		free(l);
		return NULL;
	}
	atomic_init(&l->users, 2);
	snprintf(l->q.host, sizeof l->q.host, "%s", host);
	snprintf(l->q.port, sizeof l->q.port, "%s", port);
	return l;
}

static void
keep(const char *host, const char *port, const struct addr *addr, int n)
{
	pthread_mutex_lock(&last.lock);
	snprintf(last.host, sizeof last.host, "%s", host);
	snprintf(last.port, sizeof last.port, "%s", port);
	memcpy(last.addr, addr, (size_t)n * sizeof addr[0]);
	last.n = n;
	pthread_mutex_unlock(&last.lock);
}

/* The number of addresses kept for that name. */
static int
recall(const char *host, const char *port, struct addr *out)
{
	int n = 0;

	pthread_mutex_lock(&last.lock);
	if (strcmp(last.host, host) == 0 && strcmp(last.port, port) == 0) {
		n = last.n;
		memcpy(out, last.addr, (size_t)n * sizeof out[0]);
	}
	pthread_mutex_unlock(&last.lock);
	return n;
}

/* Asks the system, in another thread: the number of addresses, or a negative errno. */
static int
look_up(const char *host, const char *port, int64_t deadline, int cancel_fd, struct addr *out, struct err *e)
{
	struct lookup *l = lookup_new(host, port);
	int rc = l ? thread_new(NULL, 0, run, l) : -ENOMEM, n;

	if (rc) {
		if (l) {
			atomic_store(&l->users, 1);
			leave(l);
		}
		return err_set(e, ST_FAIL, rc, "cannot look up %s: %s", host, strerror(-rc));
	}
	rc = wait_fd(l->done, POLLIN, cancel_fd, deadline);
	if (!rc) {
		memcpy(out, l->a.addr, sizeof l->a.addr);
		n = l->a.n;
		rc = n ? n : explain(host, l->a.rc ? l->a.rc : EAI_NONAME, l->a.sys, e);
	} else if (rc == -ETIMEDOUT) {
		explain(host, EAI_AGAIN, 0, e);
	} else {
		err_set(e, ST_FAIL, rc, "cannot look up %s: %s", host, strerror(-rc));
	}
	leave(l);
	return rc;
}

int
resolve(const char *host, uint16_t port, int64_t deadline, int cancel_fd, struct addr *out, struct err *e)
{
	struct addr old[ADDRS_MAX];
	char service[8];
	int64_t soon = clock_ms() + KNOWN_WAIT;
	int rc, n;

	snprintf(service, sizeof service, "%u", port);
	n = numeric(host, service, out, 0);
	if (!n && strcasecmp(host, "localhost") == 0)	/* where there is no hosts file either */
		n = numeric("::1", service, out, numeric("127.0.0.1", service, out, 0));
	if (n)
		return n;
	n = recall(host, service, old);
	rc = look_up(host, service, n && soon < deadline ? soon : deadline, cancel_fd, out, e);
	if (rc > 0)
		keep(host, service, out, rc);
	if (rc > 0 || rc == -ECANCELED || !n)
		return rc;
	note("%s cannot be looked up now: trying the address it had", host);
	memcpy(out, old, (size_t)n * sizeof old[0]);
	return n;
}

/* Not for everybody: a rescue shell's umask may have been strict when it was written. */
static int
is_private(const char *path, mode_t right)
{
	struct stat st;

	return stat(path, &st) == 0 && !(st.st_mode & right);
}

int
resolve_give_away(const char *host, struct err *e)
{
	struct jail j = { .role = JAIL_NAMES, .dirs = -1 };
	struct addr addr[ADDRS_MAX];

	if (numeric(host, "1", addr, 0) || strcasecmp(host, "localhost") == 0)
		return 0;
	j.stay = is_private("/etc", S_IXOTH) || is_private("/etc/hosts", S_IROTH) || is_private("/etc/resolv.conf", S_IROTH);
	broker.no_conf = access("/etc/resolv.conf", F_OK) != 0;
	return broker_start(&j, serve, NULL, &broker.sock, 1, e);
}

void
addr_print(const struct addr *a, char *out, size_t cap)
{
	const struct sockaddr_in6 *v6 = (const void *)&a->sa;
	const struct sockaddr_in *v4 = (const void *)&a->sa;
	int is6 = a->sa.ss_family == AF_INET6;

	if (!inet_ntop(a->sa.ss_family, is6 ? (const void *)&v6->sin6_addr : &v4->sin_addr, out, (socklen_t)cap))
		snprintf(out, cap, "?");
}
