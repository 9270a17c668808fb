/* Key files and their passphrases: the I/O that key.c and pem.c do not do. */
#include "keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "config.h"
#include "daemon.h"
#include "secret.h"

static int
read_all(int fd, char *text, size_t *len)
{
	ssize_t n = 1;

	struct pollfd p[2] = {
		{ .fd = fd, .events = POLLIN },
		{ .fd = daemon_stop_fd(), .events = POLLIN },
	};

	for (*len = 0; *len < KEY_FILE_MAX && n; *len += n > 0 ? (size_t)n : 0) {
		/* A pipe may never end: a signal must. */
		while (poll(p, 2, -1) < 0 && errno == EINTR)
			;
		if (p[1].revents)
			return -ECANCELED;
		n = read(fd, text + *len, KEY_FILE_MAX - *len);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
	}
	return *len == KEY_FILE_MAX ? -EFBIG : 0;
}

int
keyfile_read(const char *path, int fd, const char *what, char **text, size_t *len, struct err *e)
{
	char *p = malloc(KEY_FILE_MAX);
	int own = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : fd, rc;

	if (p == NULL)
		rc = -ENOMEM;
	else
		rc = own < 0 ? -errno : read_all(own, p, len);
	if (path && own >= 0)
		close(own);
	if (rc == 0) {
		*text = p;
		return 0;
	}
	if (p)
		keyfile_free(p);
	return err_set(e, rc == -ENOMEM ? ST_FAIL : ST_TRUST, rc, "%s%s: %s", what, path ? path : "(descriptor)",
	    rc == -EFBIG ? "too long to be one" : rc == -ECANCELED ? "interrupted" : strerror(-rc));
}

void
keyfile_free(char *text)
{
	wipe(text, KEY_FILE_MAX);
	free(text);
}

int
keyfile_passphrase(void *ctx, char *buf, size_t cap, struct err *e)
{
	int n = secret_lookup("PBS_ENCRYPTION_PASSWORD", "proxmox-backup-client.encryption-password", buf, cap, e);

	if (n == -ENOENT)
		n = secret_ask(ctx ? ctx : "Encryption key passphrase: ", buf, cap, e);
	if (n == -ENOTTY)
		err_set(e, ST_TRUST, n, "the key needs a passphrase: set PBS_ENCRYPTION_PASSWORD "
		    "(or _FD, _FILE, _CMD with that name before it)");
	return n;
}
