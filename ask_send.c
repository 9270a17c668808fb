/*
 * The requests on one connection: which goes out next, and how much the server may send
 * for it. Files first, then the indexes that the server must have seen us read, then
 * chunks, demands before read-ahead.
 *
 * Read-ahead gets its credit in slices, and none while a demand is under way: so a reader
 * waits for what is on the wire already, not for all that was asked for before him.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "clock.h"
#include "session_parts.h"

#define CHUNK_CREDIT (CHUNK_MAX + (64u << 10))	/* a whole chunk's blob */

/* --- what goes out: all with the lock held --- */

/* Asks on the wire. What had come for it on an earlier try is forgotten. */
static int
send_ask(struct link *l, struct ask *a, const char *path)
{
	a->stream = h2_get(&l->h2, path, a);
	if (a->stream == NULL)
		return -EAGAIN;
	a->state = ASK_WIRE;
	a->hurried = a->status = 0;
	a->got = a->text_len = 0;
	a->text[0] = 0;
	a->generation = l->generation;
	a->moved = clock_ms();
	if (a->kind != ASK_CHUNK) {
		h2_credit(&l->h2, a->stream, INT32_MAX);
		a->hurried = 1;
	}
	if (l->on_wire == 0)
		l->since = a->moved;
	return 0;
}

/* A place for a request, if the connection takes one now. It is taken by send_ask(). */
static struct ask *
new_ask(struct link *l, enum ask_kind kind)
{
	int i;

	if (!h2_can_get(&l->h2))
		return NULL;
	for (i = 0; i < H2_STREAMS_MAX; i++)
		if (l->ask[i].state == ASK_FREE) {
			l->ask[i] = (struct ask){ .kind = kind };
			return &l->ask[i];
		}
	return NULL;
}

static void
chunk_path(const struct chunk_req *r, char out[80])
{
	memcpy(out, "/chunk?digest=", 14);
	hex_encode(out + 14, r->digest, sizeof(r->digest));
}

static void
send_chunk(struct link *l, struct ask *a, struct chunk_req *r)
{
	char path[80];

	a->req = r;
	r->stream = (r->stream & ASK_AGAIN) | (l->nr * H2_STREAMS_MAX + (int)(a - l->ask) + 1);
	chunk_path(r, path);
	if (send_ask(l, a, path) < 0) {	/* not so: new_ask() has made sure */
		queue_put_back(l->s, r);
		return;
	}
	l->on_wire++;
	l->chunks_on_wire++;
}

/* The asks that wait for the indexes go first. */
static int
send_waiting(struct link *l)
{
	char path[80];
	int i;

	for (i = 0; i < H2_STREAMS_MAX; i++) {
		struct ask *a = &l->ask[i];

		if (a->state != ASK_WAIT)
			continue;
		chunk_path(a->req, path);
		if (!h2_can_get(&l->h2) || send_ask(l, a, path) < 0)
			return 0;
	}
	return 1;
}

/* The newest first: there is one at a time in practice. */
static void
send_files(struct link *l)
{
	struct session *s = l->s;
	struct ask *a;

	while (s->files && (a = new_ask(l, ASK_FILE)) != NULL) {
		a->file = s->files;
		if (send_ask(l, a, a->file->path) < 0)
			return;
		s->files = a->file->next;
		l->on_wire++;
	}
}

/* 1: the server knows all indexes. */
static int
send_indexes(struct link *l)
{
	char path[800];
	int i, ready = 1;
	struct ask *a;

	for (i = 0; i < l->s->indexes; i++) {
		ready &= l->index[i] == INDEX_READY;
		if (l->index[i] != INDEX_UNKNOWN || (a = new_ask(l, ASK_INDEX)) == NULL)
			continue;
		strcpy(path, "/download");
		http_query(path, sizeof(path), "file-name", l->s->index[i]);
		a->index = i;
		if (send_ask(l, a, path) < 0)
			break;
		l->index[i] = INDEX_ASKED;
		l->on_wire++;
	}
	return ready;
}

/* Demands may exceed the limit a little: read-ahead that fills it must not keep them out. */
static void
send_chunks(struct link *l)
{
	struct session *s = l->s;
	struct chunk_req *r;
	struct ask *a;
	int demand;

	for (demand = 1; demand >= 0; demand--)
		while (l->chunks_on_wire < s->share + (demand ? LINK_SPARE : 0)) {
			if ((a = new_ask(l, ASK_CHUNK)) == NULL || (r = queue_take(s, demand)) == NULL)
				break;
			send_chunk(l, a, r);
		}
}

/* drop() has taken the request away; the stream is reset, so that no line is wasted on it. */
static void
give_up_dropped(struct link *l)
{
	int i;

	for (i = 0; i < H2_STREAMS_MAX; i++) {
		struct ask *a = &l->ask[i];

		if (a->state == ASK_FREE || a->kind == ASK_INDEX || a->req || a->file)
			continue;
		if (a->stream)
			h2_cancel(&l->h2, a->stream);
		ask_release(l, a);
	}
}

void
ask_fill(struct link *l)
{
	pthread_mutex_lock(&l->s->lock);
	give_up_dropped(l);
	send_files(l);
	if (send_indexes(l) && send_waiting(l))
		send_chunks(l);
	pthread_mutex_unlock(&l->s->lock);
	l->refill = !h2_can_get(&l->h2);
	l->hungry = 1;			/* whoever is new, or was hurried, has no credit yet */
}

void
ask_credit(struct link *l, int64_t now)
{
	int i, demands = 0;

	l->hungry = 0;
	pthread_mutex_lock(&l->s->lock);
	for (i = 0; i < H2_STREAMS_MAX; i++) {
		struct ask *a = &l->ask[i];

		if (a->state != ASK_WIRE || !a->req || !a->req->demand)
			continue;
		demands++;
		if (!a->hurried)
			h2_credit(&l->h2, a->stream, CHUNK_CREDIT);
		a->hurried = 1;
	}
	pthread_mutex_unlock(&l->s->lock);
	for (i = 0; i < H2_STREAMS_MAX; i++) {
		struct ask *a = &l->ask[i];

		if (a->state != ASK_WIRE || a->hurried || a->stream->window >= (int64_t)l->slice / 2)
			continue;
		if (demands) {
			a->moved = now;	/* it is we who hold it back */
			l->hungry = 1;
		} else {
			h2_credit(&l->h2, a->stream, (uint32_t)((int64_t)l->slice - a->stream->window));
		}
	}
}
