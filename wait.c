/* Waiting: the one place that turns deadlines into poll()'s timeouts. Knows of no protocol. */
#include "wait.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>

int
wait_left(int64_t deadline)
{
	int64_t now = clock_ms();

	return deadline <= now ? 0 : deadline - now > INT_MAX ? INT_MAX : (int)(deadline - now);
}

int
wait_fd(int fd, short events, int cancel_fd, int64_t deadline)
{
	struct pollfd p[2] = { { fd, events, 0 }, { cancel_fd, POLLIN, 0 } };
	int n, left;

	for (;;) {
		left = wait_left(deadline);
		n = poll(p, 2, left);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && p[1].revents)
			return -ECANCELED;
		if (n > 0)
			return 0;
		if (n == 0 && left < INT_MAX)
			return -ETIMEDOUT;
	}
}
