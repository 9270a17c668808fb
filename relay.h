/*
 * What a worker has its monitor do: say something, ask a person, read a key, make a file. In a process that is no worker
 * relay_on() is 0, and nothing else here is called.
 */
#ifndef RELAY_H
#define RELAY_H

#include <stddef.h>
#include <stdint.h>

#include "chan.h"
#include "err.h"
#include "key.h"

/* This process is a worker, fd its end of the channel. */
void relay_start(int fd);
int relay_on(void);

/* A line for people. Any thread; not waited for. */
void relay_log(int warning, const char *text);

/* The rest: the main thread. As snap_key_file(), spill_open() and trust_confirm(). */
int relay_key(int needed, struct key *k, int *has_key, struct err *e);
int relay_spill(size_t len);
int relay_trust(const uint8_t fingerprint[32], const char *why, struct err *e);

/* Publishes what *ready says: /dev/fuse's descriptor, or a negative errno: the monitor has said why. */
int relay_ready(const struct chan_ready *ready, struct err *e);
/* Something that is no question. */
void relay_tell(enum chan_kind kind);
/* The worker's last word. */
void relay_failed(const struct err *e);

#endif
