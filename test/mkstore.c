/*
 * Writes datastore directories for the tests: any image, chunk size, key and
 * compression. Written from the format's description alone and with other
 * libraries (OpenSSL, libzstd, zlib) than pbsmap's own, of which it must not
 * use a line: what both agree on is then no shared mistake.
 *
 *	mkstore STORE SNAPSHOT [options] NAME.img=FILE NAME.pxar=FILE NAME.conf=FILE ...
 *	mkstore --genkey FILE [--from KEY] [--scrypt PASS | --pbkdf2 PASS] ...
 *
 * .img becomes a fixed index, .pxar, .mpxar, .ppxar and .pcat1 a dynamic one,
 * all else a blob.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "mkblob.h"
#include "mkkey.h"

#define MAX_CHUNK (16u << 20)
#define MIN_CHUNK (64u << 10)
#define MAX_BLOB (128u << 20)
#define MAX_ARCHIVES 64

static struct {
	const char *store, *ns, *type, *id, *owner, *notes;
	time_t time;
	char snapshot[512];
	size_t chunk_size;
	uint64_t average, seed;		/* dynamic chunks */
	int level;			/* zstd's; -1: nothing is compressed */
	int no_size, flush;		/* how zstd frames are written */
	int encrypt, sign, unfinished;
	int threads;
	struct keys key;
} o = {
	.ns = "", .owner = "root@pam", .chunk_size = 4 << 20, .average = 4 << 20,
	.level = 1, .threads = 2,
};

struct archive {
	char name[256];			/* as stored */
	const char *path;
	int fd, dynamic;
	uint64_t size, count;
	uint64_t *ends;			/* of dynamic chunks */
	uint8_t *digests;
	atomic_ullong next;		/* chunk that the next idle worker takes */
	char csum[65];
	uint64_t stored_size;		/* what the manifest says */
};

/* A thread that cuts, digests and stores chunks. */
struct worker {
	struct archive *a;
	struct maker m;
	EVP_MD_CTX *sha;
	uint8_t *data;
	uint64_t zero_len;		/* length whose all-zero digest is known */
	uint8_t zero_digest[32];
};

static struct {
	atomic_ullong count, duplicates, size, compressed;
} stats;

static void
worker_init(struct worker *w, struct archive *a, size_t room)
{
	memset(w, 0, sizeof(*w));
	w->a = a;
	w->data = alloc(room);
	w->sha = EVP_MD_CTX_new();
	if (w->sha == NULL)
		die("out of memory");
	maker_init(&w->m, room, o.level, o.no_size, o.flush, o.key.key);
}

static void
worker_free(struct worker *w)
{
	maker_free(&w->m);
	EVP_MD_CTX_free(w->sha);
	free(w->data);
}

static void
digest_chunk(struct worker *w, const uint8_t *data, size_t len, uint8_t digest[32])
{
	EVP_DigestInit_ex(w->sha, EVP_sha256(), NULL);
	EVP_DigestUpdate(w->sha, data, len);
	if (o.encrypt)
		EVP_DigestUpdate(w->sha, o.key.id_key, 32);
	EVP_DigestFinal_ex(w->sha, digest, NULL);
}

static void
mkdirs(char *path)
{
	for (char *p = strchr(path + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(path, 0755) != 0 && errno != EEXIST)
			die("%s: %s", path, strerror(errno));
		*p = '/';
	}
}

/* Under another name first: readers never see half a file. */
static void
write_file(char *path, const uint8_t *data, size_t len)
{
	char tmp[4200];
	int fd;

	snprintf(tmp, sizeof(tmp), "%s.tmp_%lx", path, (unsigned long)pthread_self());
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 && errno == ENOENT) {
		mkdirs(path);
		fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	}
	if (fd < 0)
		die("%s: %s", tmp, strerror(errno));
	for (size_t pos = 0; pos < len;) {
		ssize_t n = write(fd, data + pos, len - pos);

		if (n <= 0)
			die("%s: %s", tmp, strerror(errno));
		pos += (size_t)n;
	}
	if (close(fd) != 0 || rename(tmp, path) != 0)
		die("%s: %s", path, strerror(errno));
}

static void
store_chunk(struct worker *w, const uint8_t *data, size_t len, const uint8_t digest[32])
{
	char path[4096], hex[65];

	hex_encode(hex, digest, 32);
	snprintf(path, sizeof(path), "%s/.chunks/%.4s/%s", o.store, hex, hex);
	stats.count++;
	stats.size += len;
	if (access(path, F_OK) == 0) {
		stats.duplicates++;
		return;
	}
	maker_blob(&w->m, data, len, o.encrypt);
	stats.compressed += w->m.blob_len;
	write_file(path, w->m.blob, w->m.blob_len);
}

static void
read_at(const struct archive *a, uint8_t *buf, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pread(a->fd, buf, len, (off_t)offset);

		if (n <= 0)
			die("%s: %s", a->path, n < 0 ? strerror(errno) : "became shorter");
		buf += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
}

/* A hole is known without reading it, other zeros at the speed of memory; both are hashed once. */
static int
is_zero(const struct archive *a, uint8_t *buf, size_t len, uint64_t offset)
{
	off_t data = lseek(a->fd, (off_t)offset, SEEK_DATA);

	if ((data < 0 && errno == ENXIO) || (data >= 0 && (uint64_t)data >= offset + len)) {
		memset(buf, 0, len);
		return 1;
	}
	read_at(a, buf, len, offset);
	return buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0;
}

static void
do_chunk(struct worker *w, uint64_t n)
{
	struct archive *a = w->a;
	uint64_t start = a->dynamic ? (n ? a->ends[n - 1] : 0) : n * o.chunk_size;
	uint64_t end = a->dynamic ? a->ends[n] : start + o.chunk_size;
	size_t len = (size_t)((end < a->size ? end : a->size) - start);
	uint8_t *digest = a->digests + n * 32;

	if (!is_zero(a, w->data, len, start))
		digest_chunk(w, w->data, len, digest);
	else {
		if (w->zero_len != len) {
			digest_chunk(w, w->data, len, w->zero_digest);
			w->zero_len = len;
		}
		memcpy(digest, w->zero_digest, 32);
	}
	store_chunk(w, w->data, len, digest);
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	uint64_t n;

	while ((n = w->a->next++) < w->a->count)
		do_chunk(w, n);
	return NULL;
}

static void
run_workers(struct archive *a)
{
	size_t room = a->dynamic ? MAX_CHUNK : o.chunk_size;
	struct worker *w = alloc((size_t)o.threads * sizeof(*w));
	pthread_t *t = alloc((size_t)o.threads * sizeof(*t));

	for (int i = 0; i < o.threads; i++) {
		worker_init(&w[i], a, room);
		if (pthread_create(&t[i], NULL, work, &w[i]) != 0)
			die("cannot make a thread");
	}
	for (int i = 0; i < o.threads; i++) {
		pthread_join(t[i], NULL);
		worker_free(&w[i]);
	}
	free(w);
	free(t);
}

/* Boundaries by chance: between a quarter of the average and 7/4 of it. */
static void
cut(struct archive *a)
{
	uint64_t state = o.seed, end = 0;
	size_t room = (size_t)(a->size / MIN_CHUNK) + 2;

	a->ends = alloc(room * sizeof(*a->ends));
	while (end < a->size) {
		uint64_t z = (state += 0x9e3779b97f4a7c15), len;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
		z = (z ^ z >> 27) * 0x94d049bb133111eb;
		z ^= z >> 31;
		len = o.average / 4 + z % (o.average * 3 / 2);
		len = len < MIN_CHUNK ? MIN_CHUNK : len > MAX_CHUNK ? MAX_CHUNK : len;
		end = end + len < a->size ? end + len : a->size;
		a->ends[a->count++] = end;
	}
}

static void
snapshot_path(char *out, size_t cap, const char *name)
{
	char ns[1024] = "", copy[512];

	snprintf(copy, sizeof(copy), "%s", o.ns);
	for (char *p = strtok(copy, "/"); p != NULL; p = strtok(NULL, "/")) {
		size_t n = strlen(ns);

		snprintf(ns + n, sizeof(ns) - n, "ns/%s/", p);
	}
	if ((size_t)snprintf(out, cap, "%s/%s%s/%s", o.store, ns, o.snapshot, name) >= cap)
		die("path too long");
}

static void
write_index(struct archive *a)
{
	static const uint8_t magic[2][8] = {
		{ 0x2f, 0x7f, 0x41, 0xed, 0x91, 0xfd, 0x0f, 0xcd },
		{ 0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd },
	};
	size_t width = a->dynamic ? 40 : 32, len = 4096 + (size_t)a->count * width;
	uint8_t *x = alloc(len);
	char path[4096];

	memcpy(x, magic[a->dynamic], 8);
	if (RAND_bytes(x + 8, 16) != 1)
		die("no random bytes");
	put64(x + 24, (uint64_t)o.time);
	for (uint64_t i = 0; i < a->count; i++) {
		uint8_t *p = x + 4096 + i * width;

		if (a->dynamic)
			put64(p, a->ends[i]);
		memcpy(p + width - 32, a->digests + i * 32, 32);
	}
	SHA256(x + 4096, len - 4096, x + 32);
	hex_encode(a->csum, x + 32, 32);
	if (!a->dynamic) {
		put64(x + 64, a->size);
		put64(x + 72, o.chunk_size);
	}
	a->stored_size = a->size;
	snapshot_path(path, sizeof(path), a->name);
	write_file(path, x, len);
	free(x);
}

static void
write_blob(struct archive *a, const uint8_t *data, size_t len, int encrypt)
{
	struct maker m;
	uint8_t sum[32];
	char path[4096];

	maker_init(&m, len, o.level, o.no_size, o.flush, o.key.key);
	maker_blob(&m, data, len, encrypt);
	SHA256(m.blob, m.blob_len, sum);
	hex_encode(a->csum, sum, 32);
	a->stored_size = m.blob_len;
	snapshot_path(path, sizeof(path), a->name);
	write_file(path, m.blob, m.blob_len);
	maker_free(&m);
}

static int
ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

static void
do_archive(struct archive *a, char *arg)
{
	char *eq = strchr(arg, '=');
	int fixed;
	off_t size;

	if (eq == NULL || eq == arg || memchr(arg, '/', (size_t)(eq - arg)) != NULL)
		die("%s: not NAME=FILE", arg);
	*eq = '\0';
	a->path = eq + 1;
	fixed = ends_with(arg, ".img");
	a->dynamic = ends_with(arg, "pxar") || ends_with(arg, ".pcat1");
	snprintf(a->name, sizeof(a->name), "%s.%s", arg,
	    fixed ? "fidx" : a->dynamic ? "didx" : "blob");
	a->fd = open(a->path, O_RDONLY);
	if (a->fd < 0 || (size = lseek(a->fd, 0, SEEK_END)) < 0)
		die("%s: %s", a->path, strerror(errno));
	a->size = (uint64_t)size;
	if (!fixed && !a->dynamic) {
		uint8_t *data = alloc(a->size);

		if (a->size > MAX_BLOB)
			die("%s: too big for a blob", a->path);
		read_at(a, data, (size_t)a->size, 0);
		write_blob(a, data, (size_t)a->size, o.encrypt);
		free(data);
	} else {
		if (a->dynamic)
			cut(a);
		else
			a->count = (a->size + o.chunk_size - 1) / o.chunk_size;
		a->digests = alloc((size_t)a->count * 32);
		run_workers(a);
		write_index(a);
		free(a->digests);
		free(a->ends);
	}
	close(a->fd);
}

/* The manifest, pretty as the real client writes it, or canonical (sorted keys, no white space, neither `unprotected`
 * nor `signature`), which is what gets signed. Keys stand sorted in both. */
static void
print_manifest(FILE *f, const struct archive *a, int n, const char *signature)
{
	const char *nl = signature ? "\n" : "", *sp = signature ? " " : "";
	const char *mode = o.encrypt ? "encrypt" : o.sign ? "sign-only" : "none";

	fprintf(f, "{%s\"backup-id\":%s\"%s\",%s\"backup-time\":%s%lld,%s\"backup-type\":%s\"%s\",%s\"files\":%s[",
	    nl, sp, o.id, nl, sp, (long long)o.time, nl, sp, o.type, nl, sp);
	for (int i = 0; i < n; i++)
		fprintf(f, "%s%s{\"crypt-mode\":%s\"%s\",%s\"csum\":%s\"%s\",%s\"filename\":%s\"%s\",%s\"size\":%s%llu}",
		    i ? "," : "", nl, sp, mode, nl, sp, a[i].csum, nl, sp, a[i].name, nl, sp,
		    (unsigned long long)a[i].stored_size);
	fprintf(f, "]");
	if (signature != NULL) {
		fprintf(f, ",\n\"signature\": %s%s%s,\n\"unprotected\": {\n\"chunk_upload_stats\": {\"compressed_size\": %llu, "
		    "\"count\": %llu, \"duplicates\": %llu, \"size\": %llu}", *signature ? "\"" : "",
		    *signature ? signature : "null", *signature ? "\"" : "", (unsigned long long)stats.compressed,
		    (unsigned long long)stats.count, (unsigned long long)stats.duplicates, (unsigned long long)stats.size);
		if (o.encrypt || o.sign)
			fprintf(f, ",\n\"key-fingerprint\": \"%s\"", o.key.fingerprint);
		if (o.notes != NULL)
			print_json_string(f, ",\n\"notes\": ", o.notes);
		fprintf(f, "}");
	}
	fprintf(f, "%s}%s", nl, nl);
}

static void
write_manifest(const struct archive *a, int n)
{
	struct archive self = { .name = "index.json.blob" };
	char *text, signature[65] = "";
	uint8_t mac[32];
	size_t len;
	FILE *f;

	if (o.encrypt || o.sign) {
		f = open_memstream(&text, &len);
		print_manifest(f, a, n, NULL);
		fclose(f);
		HMAC(EVP_sha256(), o.key.id_key, 32, (uint8_t *)text, len, mac, NULL);
		hex_encode(signature, mac, 32);
		free(text);
	}
	f = open_memstream(&text, &len);
	print_manifest(f, a, n, signature);
	fclose(f);
	write_blob(&self, (uint8_t *)text, len, 0);
	free(text);
}

static void
parse_snapshot(char *arg)
{
	char *id = strchr(arg, '/'), *when = id ? strchr(id + 1, '/') : NULL, *end;
	struct tm tm = { 0 };

	snprintf(o.snapshot, sizeof(o.snapshot), "%s", arg);
	if (when == NULL)
		die("%s: not TYPE/ID/TIME", arg);
	end = strptime(when + 1, "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (end == NULL || *end != '\0')
		die("%s: not a time as 2026-01-02T03:04:05Z", when + 1);
	o.time = timegm(&tm);
	*id = *when = '\0';
	o.type = arg;
	o.id = id + 1;
}

/* 64K, 4M, 4194304 */
static uint64_t
number(const char *s)
{
	char *end;
	uint64_t n = strtoull(s, &end, 10);

	if (end == s || (*end != '\0' && end[1] != '\0'))
		die("%s: not a number", s);
	switch (*end) {
	case 'K': return n << 10;
	case 'M': return n << 20;
	case '\0': return n;
	default: die("%s: not a number", s);
	}
}

static void
option(int c, const char *arg, struct genkey *g)
{
	switch (c) {
	case 'n': o.ns = arg; break;
	case 'k': keys_load(&o.key, arg); o.encrypt = 1; break;
	case 's': keys_load(&o.key, arg); o.sign = 1; break;
	case 'c': o.chunk_size = number(arg); break;
	case 'a': o.average = number(arg); break;
	case 'r': o.seed = number(arg); break;
	case 'z': o.level = strcmp(arg, "none") == 0 ? -1 : atoi(arg); break;
	case 'S': o.no_size = 1; break;
	case 'f': o.flush = 1; break;
	case 't': o.threads = (int)number(arg); break;
	case 'w': o.owner = arg; break;
	case 'u': o.unfinished = 1; break;
	case 'N': o.notes = arg; break;
	case 'g': g->file = arg; break;
	case 'F': g->from = arg; break;
	case 'p': g->pbkdf2 = arg; break;
	case 'y': g->scrypt = arg; break;
	case 'C': g->cost = number(arg); break;
	case 'h': g->hint = arg; break;
	default: die("usage: mkstore STORE SNAPSHOT [options] NAME=FILE ...");
	}
}

static const struct option options[] = {
	{ "ns", 1, NULL, 'n' }, { "key", 1, NULL, 'k' }, { "sign", 1, NULL, 's' },
	{ "chunk-size", 1, NULL, 'c' }, { "average", 1, NULL, 'a' }, { "seed", 1, NULL, 'r' },
	{ "compress", 1, NULL, 'z' }, { "no-content-size", 0, NULL, 'S' },
	{ "flush-blocks", 0, NULL, 'f' }, { "threads", 1, NULL, 't' }, { "owner", 1, NULL, 'w' },
	{ "unfinished", 0, NULL, 'u' }, { "notes", 1, NULL, 'N' }, { "genkey", 1, NULL, 'g' },
	{ "from", 1, NULL, 'F' }, { "pbkdf2", 1, NULL, 'p' }, { "scrypt", 1, NULL, 'y' },
	{ "n", 1, NULL, 'C' }, { "hint", 1, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

static void
write_owner(void)
{
	char path[4096], line[256];
	char *end;

	snapshot_path(path, sizeof(path), "");
	end = strrchr(path, '/');		/* the group's directory: without TIME/ */
	*end = '\0';
	end = strrchr(path, '/');
	snprintf(end, sizeof(path) - (size_t)(end - path), "/owner");
	snprintf(line, sizeof(line), "%s\n", o.owner);
	if (access(path, F_OK) != 0)
		write_file(path, (uint8_t *)line, strlen(line));
}

int
main(int argc, char **argv)
{
	static struct archive archives[MAX_ARCHIVES];
	struct genkey g = { 0 };
	char chunks[4096];
	int c, n;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		option(c, optarg, &g);
	if (g.file != NULL) {
		genkey(&g);
		return 0;
	}
	n = argc - optind - 2;
	if (n < 0 || n > MAX_ARCHIVES || o.threads < 1 || o.average < MIN_CHUNK || o.average > MAX_CHUNK ||
	    o.chunk_size < 1 || o.chunk_size > MAX_CHUNK)
		option('?', NULL, NULL);
	o.store = argv[optind];
	parse_snapshot(argv[optind + 1]);
	snprintf(chunks, sizeof(chunks), "%s/.chunks/", o.store);
	mkdirs(chunks);
	write_owner();
	for (int i = 0; i < n; i++)
		do_archive(&archives[i], argv[optind + 2 + i]);
	if (!o.unfinished)
		write_manifest(archives, n);
	return 0;
}
