/* A worker's end of the channel to its monitor. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "relay.h"

static int chan = -1;

void
relay_start(int fd)
{
	chan = fd;
}

int
relay_on(void)
{
	return chan >= 0;
}

static void
text(enum chan_kind kind, int status, const char *s)
{
	struct { uint64_t kind; struct chan_text text; } m;	/* not all of a chan_msg: stacks are small */

	memset(&m, 0, sizeof(m));
	m.kind = kind;
	m.text.status = status;
	snprintf(m.text.text, sizeof(m.text.text), "%s", s);
	/* A monitor that does not read is asking somebody something, or is stopped: this line is lost. */
	chan_put(chan, &m, sizeof(m), -1);
}

void
relay_log(int warning, const char *line)
{
	text(CHAN_LOG, warning, line);
}

void
relay_failed(const struct err *e)
{
	text(CHAN_FAILED, (int)e->status, e->text);
}

/* Sends the question and waits for its answer, which takes the question's place. Wipe it where there may be a key in it. */
static int
ask(struct chan_msg *m, int *got, struct err *e)
{
	int rc = chan_send(chan, m, -1);

	if (rc == 0 && (rc = chan_receive(chan, m, got)) == 0 && m->kind != CHAN_ANSWER)
		rc = -EPROTO;
	if (rc < 0)
		return err_set(e, ST_FAIL, rc, "the monitor does not answer: %s", strerror(-rc));
	if (m->answer.rc < 0 && e)
		*e = m->answer.err;
	return m->answer.rc;
}

/* The main thread's: one at a time. */
static struct chan_msg *
question(enum chan_kind kind)
{
	static struct chan_msg m;

	memset(&m, 0, sizeof(m));
	m.kind = kind;
	return &m;
}

int
relay_key(int needed, struct key *k, int *has_key, struct err *e)
{
	struct chan_msg *m = question(CHAN_KEY);
	int rc;

	m->number = (uint64_t)needed;
	if ((rc = ask(m, NULL, e)) == 0 && m->answer.has_key) {
		*k = m->answer.key;
		*has_key = 1;
	}
	wipe(m, sizeof(*m));
	return rc;
}

int
relay_trust(const uint8_t fingerprint[32], const char *why, struct err *e)
{
	struct chan_msg *m = question(CHAN_TRUST);

	memcpy(m->trust.fingerprint, fingerprint, sizeof(m->trust.fingerprint));
	snprintf(m->trust.why, sizeof(m->trust.why), "%s", why);
	return ask(m, NULL, e);
}

int
relay_spill(size_t len)
{
	struct chan_msg *m = question(CHAN_SPILL);
	int rc, got = -1;

	m->number = len;
	rc = ask(m, &got, NULL);
	return rc < 0 ? rc : got;
}

int
relay_ready(const struct chan_ready *ready, struct err *e)
{
	struct chan_msg *m = question(CHAN_READY);
	int rc, got = -1;

	m->ready = *ready;
	rc = ask(m, &got, e);
	return rc < 0 ? rc : got < 0 ? -EPROTO : got;
}

void
relay_tell(enum chan_kind kind)
{
	uint64_t m = kind;

	chan_put(chan, &m, sizeof(m), -1);
}

