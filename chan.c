/* Messages between the parts of a daemon. Knows how long they are, and nothing of what is in them. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "chan.h"

/* Bytes of each kind's message. */
static size_t
size_of(uint64_t kind)
{
	const struct chan_msg *m = NULL;
	const size_t head = offsetof(struct chan_msg, text);

	switch (kind) {
	case CHAN_LOG:
	case CHAN_FAILED:
		return head + sizeof(m->text);
	case CHAN_KEY:
	case CHAN_SPILL:
		return head + sizeof(m->number);
	case CHAN_TRUST:
		return head + sizeof(m->trust);
	case CHAN_READY:
		return head + sizeof(m->ready);
	case CHAN_ANSWER:
		return head + sizeof(m->answer);
	default:
		return head;
	}
}

_Static_assert(sizeof(struct chan_text) % sizeof(uint64_t) == 0, "what is sent alone is as long as within a chan_msg");

int
chan_pair(int fd[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0 ? -errno : 0;
}

/* Room for one descriptor beside the bytes. */
union control {
	struct cmsghdr head;		/* for its alignment */
	char bytes[CMSG_SPACE(sizeof(int))];
};

int
chan_put(int fd, const void *p, size_t n, int pass)
{
	struct iovec iov = { (void *)(uintptr_t)p, n };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	union control u;

	memset(&u, 0, sizeof(u));
	if (pass >= 0) {
		h.msg_control = &u;
		h.msg_controllen = sizeof(u);
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass, sizeof(pass));
	}
	while (sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int
chan_get(int fd, void *p, size_t n, int *got)
{
	struct iovec iov = { p, n };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	union control u;
	ssize_t len;

	if (got) {
		*got = -1;
		h.msg_control = &u;
		h.msg_controllen = sizeof(u);
	}
	do
		len = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	if (len < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	if (got && (c = CMSG_FIRSTHDR(&h)) != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(got, CMSG_DATA(c), sizeof(*got));
	return len == 0 ? -EPIPE : (int)len;
}

int
chan_send(int fd, const struct chan_msg *m, int pass)
{
	return chan_put(fd, m, size_of(m->kind), pass);
}

int
chan_receive(int fd, struct chan_msg *m, int *got)
{
	int n = chan_get(fd, m, sizeof(*m), got);

	if (n < 0)
		return n;
	if ((size_t)n >= sizeof(m->kind) && m->kind < CHAN_KINDS && (size_t)n == size_of(m->kind))
		return 0;
	if (got && *got >= 0)
		close(*got);
	return -EPROTO;
}
