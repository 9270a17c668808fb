/* A process that does one thing for a worker. Knows not what. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "broker.h"
#include "chan.h"
#include "daemon.h"
#include "thread.h"

#define PAIRS_MAX 8
#define FD_SCAN 4096

struct served {
	void (*serve)(void *ctx, int fd);
	void *ctx;
	int fd;
};

static void *
run(void *arg)
{
	struct served *p = arg;

	p->serve(p->ctx, p->fd);
	_exit(0);
}

/* Whatever else the worker has open is not for this one. */
static void
close_others(const struct jail *j, const struct served *p, int n)
{
	int fd, i, keep;

	for (fd = 3; fd < FD_SCAN; fd++) {
		for (i = keep = 0; i < j->dirs; i++)
			keep |= j->dir[i] == fd;
		for (i = 0; i < n; i++)
			keep |= p[i].fd == fd;
		if (!keep)
			close(fd);
	}
}

/* The child. */
static void
child(const struct jail *j, struct served *p, int n)
{
	struct err why;
	int i;

	prctl(PR_SET_NAME, j->role == JAIL_FILES ? "pbsmap-files" : "pbsmap-names");
	daemon_part(-1);
	daemon_part_detach();
	close_others(j, p, n);
	if (jail_enter(j, &why) < 0)
		_exit(1);		/* the worker hears it at its first question */
	for (i = 1; i < n; i++)
		if (thread_new(NULL, 0, run, &p[i]) < 0)
			_exit(1);
	run(&p[0]);
}

int
broker_start(const struct jail *j, void (*serve)(void *, int), void *ctx, int *sock, int n, struct err *e)
{
	struct served p[PAIRS_MAX];
	int made, i, pair[2], rc = 0;
	pid_t pid;

	for (made = 0; made < n && (rc = chan_pair(pair)) == 0; made++) {
		sock[made] = pair[0];
		p[made] = (struct served){ serve, ctx, pair[1] };
	}
	if (rc == 0 && (pid = fork()) <= 0) {
		rc = -errno;
		if (pid == 0)
			child(j, p, n);
	}
	for (i = 0; i < made; i++) {
		close(p[i].fd);
		if (rc < 0)
			close(sock[i]);
	}
	return rc < 0 ? err_set(e, ST_FAIL, rc, "cannot start a process: %s", strerror(-rc)) : 0;
}
