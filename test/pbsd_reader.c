/*
 * One reader session: which chunks it may read, since their index was
 * downloaded in it. Knows no frames and no faults.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>

#include "pbsd_http.h"
#include "pbsd_reader.h"
#include "pbsd_store.h"

struct reader {
	const char *dir;
	int conn;
	uint8_t (*set)[32];		/* open addressing; cap is a power of two */
	uint8_t *used;
	size_t cap, count;
};

struct reader *
reader_new(const char *snapshot, int conn)
{
	struct reader *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	r->dir = snapshot;
	r->conn = conn;
	return r;
}

void
reader_free(struct reader *r)
{
	free(r->set);
	free(r->used);
	free(r);
}

/* The place of a digest: where it is, or where it would go. */
static size_t
slot(const struct reader *r, const uint8_t digest[32])
{
	size_t i;

	memcpy(&i, digest, sizeof(i));
	for (i &= r->cap - 1; r->used[i] && memcmp(r->set[i], digest, 32) != 0; i = (i + 1) & (r->cap - 1))
		;
	return i;
}

static void
put(struct reader *r, const uint8_t digest[32])
{
	size_t i = slot(r, digest);

	r->count += !r->used[i];
	r->used[i] = 1;
	memcpy(r->set[i], digest, 32);
}

/* Doubles at half full, so that slot() always ends. */
static void
allow(void *ctx, const uint8_t digest[32])
{
	struct reader *r = ctx, old = *r;

	if (2 * (r->count + 1) > r->cap) {
		r->cap = old.cap ? 2 * old.cap : 1024;
		r->count = 0;
		r->set = calloc(r->cap, 32);
		r->used = calloc(r->cap, 1);
		if (!r->set || !r->used)
			abort();
		for (size_t i = 0; i < old.cap; i++)
			if (old.used[i])
				put(r, old.set[i]);
		free(old.set);
		free(old.used);
	}
	put(r, digest);
}

void
reply_text(struct reply *a, int status, const char *text)
{
	if (a->fd >= 0)
		close(a->fd);
	free(a->mem);
	a->fd = -1;
	a->mem = strdup(text);
	a->len = (int64_t)strlen(text);
	a->status = status;
	a->typed = a->with_length = 1;
}

/* The file stays open until the body is sent: deleting it meanwhile changes nothing, as with the real server's copy in memory. */
static int
open_body(struct reply *a, const char *path)
{
	struct stat st;

	a->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (a->fd < 0 || fstat(a->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	a->status = 200;
	a->typed = 2;			/* octets */
	a->len = (int64_t)st.st_size;
	return 0;
}

/* An index registers its chunks when it is asked for, not when it has been sent. */
static void
download(struct reader *r, const char *query, struct reply *a)
{
	char path[4500], text[4600];
	const char *dot;

	if (query_param(query, "file-name", a->name, sizeof(a->name)) != 1 || !store_file_name(a->name)) {
		reply_text(a, 400, "parameter verification failed - 'file-name': value does not match the regex pattern");
		a->typed = 0;
		violation(r->conn, "file name '%.80s'", a->name);
		return;
	}
	a->kind = REQ_FILE;
	count(N_DOWNLOADS, 1);
	snprintf(path, sizeof(path), "%.4096s/%s", r->dir, a->name);
	dot = strrchr(a->name, '.');
	if (dot && (strcmp(dot, ".fidx") == 0 || strcmp(dot, ".didx") == 0) && store_index(path, allow, r) < 0 && access(path, F_OK) == 0) {
		snprintf(text, sizeof(text), "Unable to open fixed index \"%s\" - got unknown magic number", path);
		reply_text(a, 400, text);
	} else if (open_body(a, path) < 0) {
		snprintf(text, sizeof(text), "open file \"%s\" failed - not found", path);
		reply_text(a, 404, text);
	}
}

/* The violation is for the tests; the answer is the real one, late. */
static void
chunk(struct reader *r, const char *query, int64_t auth_delay, struct reply *a)
{
	unsigned char digest[32];
	char path[4400], text[4600];
	size_t n = 0;

	if (query_param(query, "digest", a->name, sizeof(a->name)) != 1 || strlen(a->name) != 64 ||
	    a->name[strspn(a->name, "0123456789abcdef")] || !OPENSSL_hexstr2buf_ex(digest, 32, &n, a->name, '\0')) {
		reply_text(a, 400, "parameter verification failed - 'digest': value does not match the regex pattern");
		a->typed = 0;
		violation(r->conn, "digest '%.80s'", a->name);
		return;
	}
	a->kind = REQ_CHUNK;
	count(N_CHUNKS, 1);
	count_digest(digest);
	if (!r->cap || !r->used[slot(r, digest)]) {
		snprintf(text, sizeof(text), "download chunk %s not allowed", a->name);
		reply_text(a, 401, text);
		a->wait = auth_delay;
		violation(r->conn, "chunk %s before its index", a->name);
		return;
	}
	store_chunk_path(a->name, path, sizeof(path));
	if (open_body(a, path) < 0) {
		snprintf(text, sizeof(text), "reading file \"%s\" failed: No such file or directory (os error 2)", path);
		reply_text(a, 400, text);
	}
	a->with_length = 1;
}

static void
speedtest(struct reply *a)
{
	a->status = 200;
	a->typed = 2;
	a->with_length = 1;
	a->len = 1 << 20;
	a->mem = malloc(1 << 20);
	if (!a->mem)
		abort();
	memset(a->mem, 'A', 1 << 20);
}

void
reader_answer(struct reader *r, const char *path, int64_t auth_delay, struct reply *a)
{
	size_t n = strcspn(path, "?");
	const char *query = path + n + (path[n] == '?');
	char text[1200];

	memset(a, 0, sizeof(*a));
	a->fd = -1;
	if (n == 9 && strncmp(path, "/download", n) == 0)
		download(r, query, a);
	else if (n == 6 && strncmp(path, "/chunk", n) == 0)
		chunk(r, query, auth_delay, a);
	else if (n == 10 && strncmp(path, "/speedtest", n) == 0)
		speedtest(a);
	else {
		snprintf(text, sizeof(text), "Path '%.*s' not found.", (int)(n < 1000 ? n : 1000), path);
		reply_text(a, 404, text);
		violation(r->conn, "path %.80s", path);
	}
}
