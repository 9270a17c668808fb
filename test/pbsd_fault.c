/*
 * The state that commands change and all connections read: the weather, the
 * breakpoint, the rules; and the counters that they fill. Knows what may go
 * wrong, not how it is done.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "pbsd_fault.h"

#define RULES_MAX 64
#define TEXTS_MAX 32

int verbose;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct weather fair = { .auth_delay = 3000, .frame = 4 << 20 };
static struct weather weather = { .auth_delay = 3000, .frame = 4 << 20 };
static _Atomic uint64_t generation = 1;
static struct breakpoint breakpoint;
static int64_t break_times;
static struct rule rules[RULES_MAX];
static int rule_count;
static int64_t tokens, refilled;	/* of rate_all */
static _Atomic int64_t counters[N_COUNTERS];
static int64_t streams_max, open_now, open_max, violations;
static char texts[TEXTS_MAX][256];	/* of violations */
static struct seen {
	uint8_t digest[32];
	int64_t n;			/* 0: free */
} *seen;				/* open addressing; seen_cap is a power of two */
static size_t seen_cap, seen_used;

static const char *const counter_names[N_COUNTERS] = {
	"connections", "handshakes", "logins", "login_failures", "requests", "upgrades", "downloads", "chunks",
	"bytes_sent", "bytes_received", "client_rst", "client_goaway", "close_notify", "pings", "ping_acks",
	"faults", "refused",
};

/* The words of `set`: numbers, or one of the names. */
static const struct {
	const char *name;
	size_t at;
	const char *words[6];
} settings[] = {
	{ "rtt", offsetof(struct weather, rtt), { NULL } },
	{ "delay", offsetof(struct weather, delay), { NULL } },
	{ "handshake", offsetof(struct weather, handshake), { NULL } },
	{ "auth-delay", offsetof(struct weather, auth_delay), { NULL } },
	{ "rate", offsetof(struct weather, rate), { NULL } },
	{ "rate-all", offsetof(struct weather, rate_all), { NULL } },
	{ "record", offsetof(struct weather, record), { NULL } },
	{ "dribble", offsetof(struct weather, dribble), { NULL } },
	{ "frame", offsetof(struct weather, frame), { NULL } },
	{ "padding", offsetof(struct weather, padding), { NULL } },
	{ "continuation", offsetof(struct weather, continuation), { NULL } },
	{ "late", offsetof(struct weather, late), { NULL } },
	{ "no-ping", offsetof(struct weather, no_ping), { NULL } },
	{ "host-cookie", offsetof(struct weather, host_cookie), { NULL } },
	{ "front", offsetof(struct weather, front), { "tls", "http", "ssh", "close", "silent", NULL } },
	{ "upgrade", offsetof(struct weather, upgrade), { "ok", "html", "strip", "close", "plain", NULL } },
};

static const char *const rule_names[] = {
	"status", "rst", "corrupt", "short", "long", "garbage", "empty", "nolength", "hang", "delay", "cut", "stall",
	"inject", "trailer", NULL
};
static const char *const break_names[] = { "none", "cut", "rst", "stall", "freeze", NULL };
static const char *const scope_names[] = { "none", "api", "h2", "all", NULL };

int
weather_renew(uint64_t *gen, struct weather *w, struct breakpoint *b)
{
	if (*gen == atomic_load(&generation))
		return 0;
	pthread_mutex_lock(&lock);
	*gen = atomic_load(&generation);
	*w = weather;
	*b = breakpoint;
	pthread_mutex_unlock(&lock);
	return 1;
}

int
breakpoint_take(void)
{
	int yes;

	pthread_mutex_lock(&lock);
	yes = break_times != 0;
	if (break_times > 0 && --break_times == 0) {
		breakpoint.kind = BREAK_NONE;
		atomic_fetch_add(&generation, 1);
	}
	pthread_mutex_unlock(&lock);
	if (yes)
		count(N_FAULTS, 1);
	return yes;
}

/* Counts the request, whether the rule strikes or not. */
static int
rule_hits(struct rule *r, int what, const char *name)
{
	if (!(r->what & what) || (r->name[0] && strcmp(r->name, name) != 0))
		return 0;
	r->seen++;
	if (r->times == 0 || (r->nth > 0 && r->seen < r->nth))
		return 0;
	if (r->times > 0)
		r->times--;
	return 1;
}

int
rule_take(int what, const char *name, struct rule *out, int64_t *ms)
{
	int found = 0;

	*ms = 0;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < rule_count; i++) {
		struct rule *r = &rules[i];

		if (r->kind != RULE_DELAY && found)
			continue;
		if (!rule_hits(r, what, name))
			continue;
		count(N_FAULTS, 1);
		if (r->kind == RULE_DELAY)
			*ms += r->ms;
		else {
			*out = *r;
			found = 1;
		}
	}
	pthread_mutex_unlock(&lock);
	return found;
}

int64_t
rate_take(int64_t rate, int64_t want, int64_t now)
{
	int64_t burst = rate / 50 + 1500;

	pthread_mutex_lock(&lock);
	tokens += rate * (now - refilled) / 1000;
	refilled = now;
	if (tokens > burst)
		tokens = burst;
	if (want > tokens)
		want = tokens > 0 ? tokens : 0;
	tokens -= want;
	pthread_mutex_unlock(&lock);
	return want;
}

void
rate_return(int64_t n)
{
	pthread_mutex_lock(&lock);
	tokens += n;
	pthread_mutex_unlock(&lock);
}

void
count(enum counter c, int64_t n)
{
	atomic_fetch_add_explicit(&counters[c], n, memory_order_relaxed);
}

/* There is room for one more: count_digest() sees to it. */
static void
seen_add(const uint8_t digest[32], int64_t n)
{
	size_t i;

	memcpy(&i, digest, sizeof(i));
	for (i &= seen_cap - 1; seen[i].n && memcmp(seen[i].digest, digest, 32) != 0; i = (i + 1) & (seen_cap - 1))
		;
	if (!seen[i].n)
		seen_used++;
	memcpy(seen[i].digest, digest, 32);
	seen[i].n += n;
}

void
count_digest(const uint8_t digest[32])
{
	struct seen *old;
	size_t cap;

	pthread_mutex_lock(&lock);
	if (2 * (seen_used + 1) > seen_cap) {
		old = seen;
		cap = seen_cap;
		seen_cap = cap ? 2 * cap : 1024;
		seen_used = 0;
		seen = calloc(seen_cap, sizeof(*seen));
		if (!seen)
			abort();
		for (size_t i = 0; i < cap; i++)
			if (old[i].n)
				seen_add(old[i].digest, old[i].n);
		free(old);
	}
	seen_add(digest, 1);
	pthread_mutex_unlock(&lock);
}

void
count_streams(int64_t open)
{
	pthread_mutex_lock(&lock);
	if (open > streams_max)
		streams_max = open;
	pthread_mutex_unlock(&lock);
}

void
count_open(int64_t delta)
{
	pthread_mutex_lock(&lock);
	open_now += delta;
	if (open_now > open_max)
		open_max = open_now;
	pthread_mutex_unlock(&lock);
}

void
violation(int conn, const char *fmt, ...)
{
	va_list ap;
	char text[256];

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p; p++)	/* a client's bytes may be in it */
		if (*p < ' ' || *p > '~')
			*p = '?';
	pthread_mutex_lock(&lock);
	if (violations < TEXTS_MAX)
		memcpy(texts[violations], text, sizeof(text));
	violations++;
	pthread_mutex_unlock(&lock);
	logline(conn, "VIOLATION: %s", text);
}

void
logline(int conn, const char *fmt, ...)
{
	va_list ap;
	char text[512];

	if (!verbose)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "pbsd: [%d] %s\n", conn, text);
}

static int
word_in(const char *const *words, const char *w)
{
	for (int i = 0; words[i]; i++)
		if (strcmp(words[i], w) == 0)
			return i;
	return -1;
}

static int
number(const char *s, int64_t *v)
{
	char *end;

	*v = strtoll(s, &end, 0);
	return *s && !*end ? 0 : -1;
}

/* All settings are non-negative, so -1 can stand for what was not understood. */
static int
set_one(const char *name, const char *value, char *err, size_t cap)
{
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		int64_t v;

		if (strcmp(settings[i].name, name) != 0)
			continue;
		if (settings[i].words[0])
			v = word_in(settings[i].words, value);
		else if (number(value, &v) < 0)
			v = -1;
		if (v < 0) {
			snprintf(err, cap, "bad value of %s: %s", name, value);
			return -1;
		}
		memcpy((char *)&weather + settings[i].at, &v, sizeof(v));
		return 0;
	}
	snprintf(err, cap, "nothing is called %s", name);
	return -1;
}

/* A word KEY=VALUE: its value when the key is this one. */
static const char *
value_of(const char *word, const char *key)
{
	size_t n = strlen(key);

	return strncmp(word, key, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

static int
times_of(const char *s, int64_t *v)
{
	if (strcmp(s, "all") != 0)
		return number(s, v);
	*v = ALWAYS;
	return 0;
}

/* Keys: nth times at code ms by text digest file on=chunk|file|any; in text "+" stands for a blank. */
static int
rule_word(struct rule *r, const char *w)
{
	const char *v;

	if ((v = value_of(w, "nth")))
		return number(v, &r->nth);
	if ((v = value_of(w, "times")))
		return times_of(v, &r->times);
	if ((v = value_of(w, "at")))
		return number(v, &r->at);
	if ((v = value_of(w, "code")))
		return number(v, &r->code);
	if ((v = value_of(w, "ms")))
		return number(v, &r->ms);
	if ((v = value_of(w, "by")))
		return number(v, &r->by);
	if ((v = value_of(w, "text"))) {
		snprintf(r->text, sizeof(r->text), "%s", v);
		for (char *p = r->text; (p = strchr(p, '+')); p++)
			*p = ' ';
		return 0;
	}
	if ((v = value_of(w, "digest")) || (v = value_of(w, "file"))) {
		r->what = w[0] == 'd' ? REQ_CHUNK : REQ_FILE;
		snprintf(r->name, sizeof(r->name), "%s", v);
		return 0;
	}
	if ((v = value_of(w, "on"))) {
		r->what = strcmp(v, "file") == 0 ? REQ_FILE : strcmp(v, "any") == 0 ? REQ_FILE | REQ_CHUNK : REQ_CHUNK;
		return 0;
	}
	return -1;
}

/* Once, for chunks, before the headers: unless the words say otherwise. */
static int
rule_add(char **words, int n, char *err, size_t cap)
{
	struct rule r = { .what = REQ_CHUNK, .times = 1, .at = -1, .by = 1, .code = -1 };
	int kind = n > 1 ? word_in(rule_names, words[1]) : -1;

	if (kind < 0 || rule_count == RULES_MAX) {
		snprintf(err, cap, "no such rule, or too many");
		return -1;
	}
	r.kind = (enum rule_kind)kind;
	if (r.code < 0)
		r.code = kind == RULE_STATUS ? 500 : 2;
	for (int i = 2; i < n; i++) {
		if (rule_word(&r, words[i]) < 0) {
			snprintf(err, cap, "not understood: %s", words[i]);
			return -1;
		}
	}
	rules[rule_count++] = r;
	return 0;
}

static int
break_set(char **words, int n, char *err, size_t cap)
{
	struct breakpoint b = { .scope = SCOPE_H2 };
	int kind = n > 1 ? word_in(break_names, words[1]) : -1, bad = kind < 0, scope;
	int64_t times = 1;
	const char *v;

	for (int i = 2; i < n; i++) {
		if ((v = value_of(words[i], "after")))
			bad |= number(v, &b.after) < 0;
		else if ((v = value_of(words[i], "times")))
			bad |= times_of(v, &times) < 0;
		else if ((v = value_of(words[i], "scope")) && (scope = word_in(scope_names, v)) > 0)
			b.scope = scope;
		else
			bad = 1;
	}
	if (bad) {
		snprintf(err, cap, "break KIND [after=N] [times=N|all] [scope=h2|api|all]");
		return -1;
	}
	b.kind = (enum breakage)kind;
	breakpoint = b;
	break_times = times;
	return 0;
}

/* Connections that are open stay counted as open. */
static void
zero(void)
{
	for (int i = 0; i < N_COUNTERS; i++)
		atomic_store(&counters[i], 0);
	streams_max = violations = 0;
	open_max = open_now;
	free(seen);
	seen = NULL;
	seen_cap = seen_used = 0;
}

int
fault_command(char **words, int n, char *err, size_t cap)
{
	int known = 1;

	err[0] = '\0';
	pthread_mutex_lock(&lock);
	if (strcmp(words[0], "set") == 0) {
		for (int i = 1; i + 1 < n; i += 2)
			if (set_one(words[i], words[i + 1], err, cap) < 0)
				break;
	} else if (strcmp(words[0], "rule") == 0)
		rule_add(words, n, err, cap);
	else if (strcmp(words[0], "break") == 0)
		break_set(words, n, err, cap);
	else if (strcmp(words[0], "clear") == 0) {
		int64_t auth = weather.auth_delay;

		weather = fair;
		weather.auth_delay = auth;
		breakpoint.kind = BREAK_NONE;
		break_times = rule_count = 0;
	} else if (strcmp(words[0], "zero") == 0)
		zero();
	else
		known = 0;
	atomic_fetch_add(&generation, 1);
	pthread_mutex_unlock(&lock);
	return known;
}

int
kick_parse(char **words, int n, struct kick *k, char *err, size_t cap)
{
	static const char *const kinds[] = { "none", "break", "resume", "goaway", "settings", "ping", "inject", "flood", NULL };
	int kind = n > 1 ? word_in(kinds, words[1]) : -1, how = n > 1 ? word_in(break_names, words[1]) : -1, bad, scope;
	const char *v;

	memset(k, 0, sizeof(*k));
	k->scope = SCOPE_ALL;
	k->last = -1;
	k->kind = how > 0 ? KICK_BREAK : (enum kick_kind)kind;
	k->how = how > 0 ? (enum breakage)how : BREAK_CUT;
	bad = how <= 0 && kind <= 0;
	for (int i = 2; i < n; i++) {
		if ((v = value_of(words[i], "scope")) && (scope = word_in(scope_names, v)) > 0)
			k->scope = scope;
		else if ((v = value_of(words[i], "code")))
			bad |= number(v, &k->code) < 0;
		else if ((v = value_of(words[i], "last")))
			bad |= number(v, &k->last) < 0;
		else if ((v = value_of(words[i], "close")))
			bad |= number(v, &k->close) < 0;
		else if ((v = value_of(words[i], "id")))
			bad |= number(v, &k->id) < 0;
		else if ((v = value_of(words[i], "value")) || (v = value_of(words[i], "count")))
			bad |= number(v, &k->value) < 0;
		else if ((v = value_of(words[i], "name")))
			snprintf(k->name, sizeof(k->name), "%s", v);
		else
			bad = 1;
	}
	if (bad)
		snprintf(err, cap, "kick cut|rst|stall|freeze|resume|goaway|settings|ping|inject|flood [key=value]...");
	return bad ? -1 : 0;
}

char *
stats_json(void)
{
	json_t *o = json_object(), *list = json_array(), *digests = json_object();
	char hex[65], *text;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < N_COUNTERS; i++)
		json_object_set_new(o, counter_names[i], json_integer(atomic_load(&counters[i])));
	json_object_set_new(o, "streams_max", json_integer(streams_max));
	json_object_set_new(o, "open", json_integer(open_now));
	json_object_set_new(o, "open_max", json_integer(open_max));
	json_object_set_new(o, "violations", json_integer(violations));
	for (int i = 0; i < TEXTS_MAX && i < violations; i++)
		json_array_append_new(list, json_stringn_nocheck(texts[i], strlen(texts[i])));
	for (size_t i = 0; i < seen_cap; i++) {
		if (!seen[i].n)
			continue;
		for (int j = 0; j < 32; j++)
			snprintf(hex + 2 * j, 3, "%02x", seen[i].digest[j]);
		json_object_set_new(digests, hex, json_integer(seen[i].n));
	}
	pthread_mutex_unlock(&lock);
	json_object_set_new(o, "violation_texts", list);
	json_object_set_new(o, "digests", digests);
	text = json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(o);
	return text;
}

void
fault_free(void)
{
	free(seen);
}
