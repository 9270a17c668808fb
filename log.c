/*
 * Lines for people: stderr while somebody is there, the system's log after
 * that.  Must not block the serving thread for long and must not depend on
 * a system log being there: in an initramfs it is not.  Each line is one
 * write, so lines of several threads do not mix.  A worker has neither: its
 * monitor says what it has to say.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "err.h"
#include "relay.h"

/* Bytes: /dev/kmsg refuses longer ones (992 on older kernels). */
enum { LINE_BYTES = 960 };

/* The daemon facility's. */
enum { PRI_WARNING = 3 << 3 | 4, PRI_INFO = 3 << 3 | 6 };

int log_verbose;

static int detached;
static int kmsg = -1;

/* To whoever listens on /dev/log now: it may have been restarted since the last line. */
static int
to_syslog(const char *line, size_t len)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	ssize_t sent;
	int fd;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	sent = sendto(fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL,
	    (const struct sockaddr *)&to, sizeof(to));
	close(fd);
	return sent == (ssize_t)len ? 0 : -1;
}

static void
emit(int priority, const char *fmt, va_list ap)
{
	char line[LINE_BYTES];
	size_t at, len;
	ssize_t done;
	int n;

	if (relay_on())
		n = 0;
	else if (__atomic_load_n(&detached, __ATOMIC_ACQUIRE))
		n = snprintf(line, sizeof(line), "<%d>pbsmap[%ld]: ", priority, (long)getpid());
	else
		n = snprintf(line, sizeof(line), "pbsmap: ");
	at = (size_t)n;
	line[at] = '\0';
	vsnprintf(line + at, sizeof(line) - at - 1, fmt, ap);
	err_printable(line);
	if (relay_on()) {
		relay_log(priority == PRI_WARNING, line);
		return;
	}
	len = strlen(line);
	if (__atomic_load_n(&detached, __ATOMIC_ACQUIRE)) {
		if (to_syslog(line, len) == 0)
			return;
		line[len++] = '\n';
		if (kmsg >= 0 && write(kmsg, line, len) < 0)
			return;		/* nowhere left to say it */
		return;
	}
	line[len++] = '\n';
	for (at = 0; at < len && ((done = write(STDERR_FILENO, line + at, len - at)) > 0 || (done < 0 && errno == EINTR));)
		at += done > 0 ? (size_t)done : 0;
}

void
say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(PRI_WARNING, fmt, ap);
	va_end(ap);
}

void
note(const char *fmt, ...)
{
	va_list ap;

	if (!log_verbose)
		return;
	va_start(ap, fmt);
	emit(PRI_INFO, fmt, ap);
	va_end(ap);
}

void
log_detach(void)
{
	/* Opened now: after a switch of the root the path may lead nowhere. */
	if (kmsg < 0)
		kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY);
	__atomic_store_n(&detached, 1, __ATOMIC_RELEASE);
}
