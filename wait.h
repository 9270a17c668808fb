/* Waiting for one descriptor, until a deadline or until the wait is called off. */
#ifndef WAIT_H
#define WAIT_H

#include <stdint.h>

#include "clock.h"	/* deadlines are on its clock */

/* What is left until the deadline, as poll() wants it: 0 when it has passed. */
int wait_left(int64_t deadline);

/* Waits for events (POLLIN, POLLOUT) on fd (-1: for nothing but the deadline). 0, -ETIMEDOUT, -ECANCELED when
 * cancel_fd (-1: none) is readable. */
int wait_fd(int fd, short events, int cancel_fd, int64_t deadline);

#endif
