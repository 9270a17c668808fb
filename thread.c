/* Threads. Knows nothing of what they do. */
#include "thread.h"

#include <signal.h>

int
thread_new(pthread_t *id, size_t stack, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t mine;
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	if (stack)
		pthread_attr_setstacksize(&attr, stack);
	if (id == NULL)
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = -pthread_create(id ? id : &mine, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}
