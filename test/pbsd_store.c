/*
 * Reads a datastore's directory. Order is the directory's, as with the real
 * server. Built on jansson and libzstd only, so that a fault of the program's
 * own parsers cannot hide behind the same fault here.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "pbsd_api.h"
#include "pbsd_store.h"

#define PATH_CAP 4096
#define MANIFEST_CAP (4u << 20)

static const char *const types[] = { "vm", "ct", "host" };

static int
safe(const char *s, size_t n)
{
	if (n == 0 || s[0] == '.' || s[0] == '-')
		return 0;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("._-", s[i]))
			return 0;
	return 1;
}

int
store_file_name(const char *name)
{
	return safe(name, strlen(name));
}

int
store_ns_dir(const char *ns, char *out, size_t cap)
{
	size_t n = (size_t)snprintf(out, cap, "%s", site.dir);

	while (*ns) {
		size_t len = strcspn(ns, "/");

		if (!safe(ns, len))
			return -1;
		n += (size_t)snprintf(out + n, cap - n, "/ns/%.*s", (int)len, ns);
		if (n >= cap)
			return -1;
		ns += len + (ns[len] == '/');
	}
	return 0;
}

int
store_snapshot_dir(const char *ns, const char *type, const char *id, int64_t t, char *out, size_t cap)
{
	char base[PATH_CAP], when[32];
	time_t secs = (time_t)t;
	struct tm tm;

	if (store_ns_dir(ns, base, sizeof(base)) < 0 || !safe(type, strlen(type)) || !safe(id, strlen(id)) || !gmtime_r(&secs, &tm))
		return -1;
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return (size_t)snprintf(out, cap, "%s/%s/%s/%s", base, type, id, when) < cap ? 0 : -1;
}

void
store_chunk_path(const char *hex, char *out, size_t cap)
{
	snprintf(out, cap, "%s/.chunks/%.4s/%s", site.dir, hex, hex);
}

/* A whole small file, malloc'ed and NUL-terminated; NULL when it is not there. */
static char *
slurp(const char *dir, const char *name, size_t *len)
{
	char path[PATH_CAP];
	struct stat st;
	char *p = NULL;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && (p = malloc((size_t)st.st_size + 1))) {
		ssize_t n = read(fd, p, (size_t)st.st_size);
		*len = n > 0 ? (size_t)n : 0;
		p[*len] = '\0';
	}
	close(fd);
	return p;
}

/* NULL when there is none or it cannot be read: the snapshot is then listed without its sizes. */
static json_t *
read_manifest(const char *dir, size_t *raw_len)
{
	static const uint8_t plain[8] = { 0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1 };
	static const uint8_t zstd[8] = { 0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f };
	char *raw = slurp(dir, "index.json.blob", raw_len), *text = NULL;
	json_t *m = NULL;
	size_t n;

	if (raw && *raw_len > 12 && memcmp(raw, plain, 8) == 0)
		m = json_loadb(raw + 12, *raw_len - 12, 0, NULL);
	if (raw && *raw_len > 12 && memcmp(raw, zstd, 8) == 0 && (text = malloc(MANIFEST_CAP))) {
		n = ZSTD_decompress(text, MANIFEST_CAP, raw + 12, *raw_len - 12);
		if (!ZSTD_isError(n))
			m = json_loadb(text, n, 0, NULL);
	}
	free(text);
	free(raw);
	return m;
}

/* The two lists have the same fields in different orders. */
static void
add_file(json_t *files, const char *name, const char *crypt, json_int_t size, int sorted)
{
	json_t *f = json_object();

	if (!sorted)
		json_object_set_new(f, "filename", json_string(name));
	if (crypt)
		json_object_set_new(f, "crypt-mode", json_string(crypt));
	if (sorted)
		json_object_set_new(f, "filename", json_string(name));
	if (size >= 0)
		json_object_set_new(f, "size", json_integer(size));
	json_array_append_new(files, f);
}

/* Files that lie in the directory and are not yet listed. */
static void
add_strays(json_t *files, const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		size_t i, n = strlen(e->d_name);
		json_t *f;

		if (e->d_name[0] == '.' || (n < 5 || (strcmp(e->d_name + n - 5, ".blob") && strcmp(e->d_name + n - 5, ".fidx") &&
		    strcmp(e->d_name + n - 5, ".didx"))))
			continue;
		json_array_foreach(files, i, f)
			if (strcmp(json_string_value(json_object_get(f, "filename")), e->d_name) == 0)
				break;
		if (i == json_array_size(files))
			add_file(files, e->d_name, NULL, -1, 0);
	}
	if (d)
		closedir(d);
}

static json_t *
manifest_files(json_t *m, size_t raw_len, int sorted)
{
	json_t *files = json_array(), *f, *list = json_object_get(m, "files");
	size_t i;

	json_array_foreach(list, i, f)
		if (json_is_string(json_object_get(f, "filename")))
			add_file(files, json_string_value(json_object_get(f, "filename")),
			    json_string_value(json_object_get(f, "crypt-mode")), json_integer_value(json_object_get(f, "size")), sorted);
	add_file(files, "index.json.blob", json_is_string(json_object_get(m, "signature")) ? "sign-only" : "none", (json_int_t)raw_len,
	    sorted);
	return files;
}

json_t *
store_files(const char *dir)
{
	size_t len = 0;
	json_t *m = read_manifest(dir, &len), *files = NULL;

	if (m) {
		files = manifest_files(m, len, 1);
		add_strays(files, dir);
	}
	json_decref(m);
	return files;
}

static json_t *
first_line(const char *s)
{
	return json_stringn(s, strcspn(s, "\n"));
}

static json_t *
owner(const char *group)
{
	size_t len;
	char *text = slurp(group, "owner", &len);
	json_t *o = text ? first_line(text) : NULL;

	free(text);
	return o;
}

/* What the manifest's unprotected part says of the snapshot. */
static void
describe(json_t *o, json_t *m, const char *dir, size_t raw_len)
{
	json_t *un = json_object_get(m, "unprotected"), *v, *files, *f;
	json_int_t total = 0;
	size_t i;

	if ((v = json_object_get(un, "notes")))
		json_object_set_new(o, "comment", first_line(json_string_value(v)));
	if ((v = json_object_get(un, "verify_state"))) {
		json_t *s = json_object();
		json_object_set(s, "upid", json_object_get(v, "upid"));
		json_object_set(s, "state", json_object_get(v, "state"));
		json_object_set_new(o, "verification", s);
	}
	if (json_is_string((v = json_object_get(un, "key-fingerprint"))))
		json_object_set(o, "fingerprint", v);
	files = m ? manifest_files(m, raw_len, 0) : json_array();
	json_array_foreach(files, i, f)
		total += json_integer_value(json_object_get(f, "size"));
	add_strays(files, dir);
	json_object_set_new(o, "files", files);
	if (m)
		json_object_set_new(o, "size", json_integer(total));
}

/* -1 for what is no snapshot's name. */
static int64_t
parse_time(const char *name)
{
	struct tm tm = { 0 };
	const char *end = strptime(name, "%Y-%m-%dT%H:%M:%SZ", &tm);

	return end && *end == '\0' ? (int64_t)timegm(&tm) : -1;
}

/* A snapshot as the list shows it. */
static json_t *
snapshot(const char *group, const char *type, const char *id, const char *name, json_t *who)
{
	char dir[PATH_CAP], mark[PATH_CAP + 16];
	json_t *o = json_object(), *m;
	size_t len = 0;

	snprintf(dir, sizeof(dir), "%.3900s/%s", group, name);
	snprintf(mark, sizeof(mark), "%s/.protected", dir);
	json_object_set_new(o, "backup-type", json_string(type));
	json_object_set_new(o, "backup-id", json_string(id));
	json_object_set_new(o, "backup-time", json_integer(parse_time(name)));
	m = read_manifest(dir, &len);
	describe(o, m, dir, len);
	json_decref(m);
	json_object_set(o, "owner", who);
	json_object_set_new(o, "protected", json_boolean(access(mark, F_OK) == 0));
	return o;
}

static void
group_snapshots(json_t *list, const char *group, const char *type, const char *id)
{
	json_t *who = owner(group);
	DIR *d = who ? opendir(group) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (parse_time(e->d_name) >= 0)
			json_array_append_new(list, snapshot(group, type, id, e->d_name, who));
	if (d)
		closedir(d);
	json_decref(who);
}

/* Unfinished snapshots do not count, as with the real server. */
static void
group_summary(json_t *list, const char *group, const char *type, const char *id)
{
	json_t *who = owner(group), *o, *files = json_array();
	DIR *d = who ? opendir(group) : NULL;
	struct dirent *e;
	json_int_t count_ = 0, newest = 0;
	char path[PATH_CAP], best[300] = "";

	while (d && (e = readdir(d))) {
		int64_t t = parse_time(e->d_name);

		snprintf(path, sizeof(path), "%.3700s/%s/index.json.blob", group, e->d_name);
		if (t < 0 || access(path, F_OK) < 0)
			continue;
		count_++;
		if (t > newest) {
			newest = t;
			snprintf(best, sizeof(best), "%s", e->d_name);
		}
	}
	if (d)
		closedir(d);
	if (best[0]) {
		json_t *all = json_array(), *f;
		size_t i;

		snprintf(path, sizeof(path), "%.3700s/%s", group, best);
		add_strays(all, path);
		json_array_foreach(all, i, f)
			json_array_append(files, json_object_get(f, "filename"));
		json_decref(all);
	}
	o = json_pack("{s:I,s:s,s:s,s:o,s:I,s:o}", "backup-count", count_, "backup-id", id, "backup-type", type, "files", files,
	    "last-backup", newest, "owner", who ? who : json_null());
	if (who)
		json_array_append(list, o);
	json_decref(o);
}

static json_t *
each_group(const char *ns, const char *type, const char *id, void (*fn)(json_t *, const char *, const char *, const char *))
{
	char base[PATH_CAP], dir[PATH_CAP], group[PATH_CAP];
	json_t *list;
	struct dirent *e;

	if (store_ns_dir(ns, base, sizeof(base)) < 0 || access(base, F_OK) < 0)
		return NULL;
	list = json_array();
	for (size_t i = 0; i < 3; i++) {
		DIR *d;

		if (*type && strcmp(type, types[i]) != 0)
			continue;
		snprintf(dir, sizeof(dir), "%.4000s/%s", base, types[i]);
		d = opendir(dir);
		while (d && (e = readdir(d))) {
			if (!safe(e->d_name, strlen(e->d_name)) || (*id && strcmp(id, e->d_name) != 0))
				continue;
			snprintf(group, sizeof(group), "%.3800s/%s", dir, e->d_name);
			fn(list, group, types[i], e->d_name);
		}
		if (d)
			closedir(d);
	}
	return list;
}

json_t *
store_snapshots(const char *ns, const char *type, const char *id)
{
	return each_group(ns, type, id, group_snapshots);
}

json_t *
store_groups(const char *ns)
{
	return each_group(ns, "", "", group_summary);
}

/* Depth first, each before its children. */
static void
add_namespaces(json_t *list, const char *ns, int64_t depth)
{
	char dir[PATH_CAP], sub[1024];
	struct dirent *e;
	DIR *d;

	json_array_append_new(list, json_pack("{s:s}", "ns", ns));
	if (depth == 0 || store_ns_dir(ns, dir, sizeof(dir) - 4) < 0)
		return;
	strcat(dir, "/ns");
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		if (!safe(e->d_name, strlen(e->d_name)) || strlen(ns) + strlen(e->d_name) + 2 > sizeof(sub))
			continue;
		snprintf(sub, sizeof(sub), "%.500s%s%.255s", ns, *ns ? "/" : "", e->d_name);
		add_namespaces(list, sub, depth - 1);
	}
	if (d)
		closedir(d);
}

json_t *
store_namespaces(const char *parent, int64_t depth)
{
	char dir[PATH_CAP];
	json_t *list;

	if (store_ns_dir(parent, dir, sizeof(dir)) < 0 || access(dir, F_OK) < 0)
		return NULL;
	list = json_array();
	add_namespaces(list, parent, depth);
	return list;
}

int
store_index(const char *path, void (*fn)(void *, const uint8_t *), void *ctx)
{
	static const uint8_t fixed[8] = { 0x2f, 0x7f, 0x41, 0xed, 0x91, 0xfd, 0x0f, 0xcd };
	static const uint8_t dynamic[8] = { 0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd };
	struct stat st;
	const uint8_t *p = MAP_FAILED;
	size_t entry = 0, len = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= 4096) {
		len = (size_t)st.st_size;
		p = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	}
	if (fd >= 0)
		close(fd);
	if (p == MAP_FAILED)
		return -1;
	if (memcmp(p, fixed, 8) == 0)
		entry = 32;
	if (memcmp(p, dynamic, 8) == 0)
		entry = 40;
	for (size_t at = 4096; entry && at + entry <= len; at += entry)
		fn(ctx, p + at + entry - 32);
	munmap((void *)(uintptr_t)p, len);
	return entry ? 0 : -1;
}
