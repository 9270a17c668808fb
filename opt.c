/*
 * The command line. Adding an option: a line in `options`, a member of struct opts, a case
 * in set(), a word in pbsmap.1 (a test compares).
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "human.h"
#include "opt.h"

#define CMD_SOURCE (CMD_MAP | CMD_MOUNT | CMD_RESTORE | CMD_VERIFY)		/* commands that read a snapshot */
#define CMD_REPO (CMD_SOURCE | CMD_CHECK | CMD_LIST | CMD_KEY)
#define CMD_NAMED (CMD_REPO | CMD_RESCUE)
#define CMD_ALL (~0)

struct command_info {
	enum command id;
	const char *name, *operands, *what;
	int least, most;		/* operands */
	const char *more;		/* a warning or an explanation; NULL */
};

static const struct command_info commands[] = {
	{ CMD_MAP, "map", "SNAPSHOT ARCHIVE", "map an image to a loop device", 2, 2,
	    "Prints the device. Map only images you trust: the kernel's file systems were not\n"
	    "made for hostile disks. Mount read-only, dirty ones with -o ro,noload (ext4) or\n"
	    "ro,norecovery (xfs).\n" },
	{ CMD_MOUNT, "mount", "SNAPSHOT ARCHIVE DIR", "show a file archive as a file system", 3, 3,
	    "umount or pbsmap unmap ends it.\n" },
	{ CMD_UNMAP, "unmap", "[NAME|DEVICE|NUMBER]", "undo it; without argument: what status prints", 0, 1,
	    "A mount is named by its directory.\nNAME may be shortened from the left by whole components.\n" },
	{ CMD_STATUS, "status", "", "the mappings of this machine", 0, 0, NULL },
	{ CMD_LIST, "list", "[GROUP|SNAPSHOT]", "what can be mapped or restored", 0, 3,
	    "Groups; a group's snapshots; a snapshot's archives and what each is good for.\n"
	    "With SNAPSHOT ARCHIVE [PATH]: what is in a file archive.\n" },
	{ CMD_RESTORE, "restore", "SNAPSHOT ARCHIVE TARGET|-", "write an archive to a disk, a file, a pipe", 3, OPERANDS_MAX,
	    "Asks before it overwrites what is not empty; a script says --yes. What could not\n"
	    "be read is named and left as it was, with exit status 5.\n"
	    "A file archive: SNAPSHOT ARCHIVE DIR [PATH...], or '-' for DIR with --tar.\n" },
	{ CMD_VERIFY, "verify", "SNAPSHOT [ARCHIVE...]", "read and check everything", 1, OPERANDS_MAX, NULL },
	{ CMD_CHECK, "check", "[SNAPSHOT [ARCHIVE]]", "why it does not work, and how fast it would be", 0, 2,
	    "Without SNAPSHOT tries the newest. Status 0 only if map would work.\n" },
	{ CMD_RESCUE, "rescue", "[SNAPSHOT [ARCHIVE]]", "asks what is missing, then maps or restores", 0, 2,
	    "At a terminal pbsmap alone does the same.\n" },
	{ CMD_KEY, "key", "show|recover ...", "what a key file tells; a key by the master key", 2, 3,
	    "show FILE: fingerprint, protection and hint of a key file or paper key.\n"
	    "recover --master PRIVATE.pem SNAPSHOT|BLOB [OUT]: the key of a backup,\n"
	    "out of its rsa-encrypted.key.blob, to stdout or to a new file.\n" },
	{ CMD_COMPLETION, "completion", "bash|zsh", "a script that completes pbsmap's words", 1, 1,
	    "For bash: eval \"$(pbsmap completion bash)\"\n" },
};

/* Values of options that have no letter. */
enum { O_REPOSITORY = 256, O_NS, O_KEYFILE, O_KEYFD, O_CACHE, O_TIMEOUT, O_JSON, O_NO_DIRECT,
	O_NO_AHEAD, O_NO_ASYNC, O_NO_BACKGROUND, O_NO_LARGE, O_WORKERS, O_VERSION, O_SERVER, O_PORT, O_DATASTORE, O_AUTH_ID, O_FINGERPRINT, O_CA, O_CONFIG,
	O_STALL, O_CONNECTIONS, O_YES, O_SPARSE, O_VERIFY, O_DELTA, O_RESUME, O_QUIET, O_PROGRESS, O_LIMIT, O_SUBDIR, O_TAR, O_STRICT, O_MASTER, O_STORAGE };

#define CMD_WALK (CMD_RESTORE | CMD_VERIFY)

struct option_info {
	int val;			/* a letter, or one of the above */
	const char *name, *arg;		/* arg NULL: takes none */
	int commands;
	const char *what;
};

static const struct option_info options[] = {
	{ O_REPOSITORY, "repository", "REPO", CMD_NAMED, "[[AUTH@]HOST[:PORT]:]STORE or a datastore's directory" },
	{ O_SERVER, "server", "HOST", CMD_NAMED, "the same in parts: host name or address," },
	{ O_PORT, "port", "N", CMD_NAMED, "    port (8007)," },
	{ O_DATASTORE, "datastore", "STORE", CMD_NAMED, "    datastore," },
	{ O_AUTH_ID, "auth-id", "AUTH", CMD_NAMED, "    user@realm[!token] (root@pam)" },
	{ O_FINGERPRINT, "fingerprint", "HEX", CMD_NAMED, "SHA-256 of the server's certificate" },
	{ O_CA, "ca", "FILE", CMD_NAMED, "trust servers that these authorities certify" },
	{ O_CONFIG, "config", "FILE", CMD_NAMED, "KEY=VALUE lines, as the environment" },
	{ O_NS, "ns", "NS", CMD_NAMED, "namespace, as a/b" },
	{ O_KEYFILE, "keyfile", "FILE", CMD_NAMED, "encryption key (key file or paper key)" },
	{ O_KEYFD, "keyfd", "N", CMD_NAMED, "read the encryption key from descriptor N" },
	{ O_CACHE, "cache", "SIZE", CMD_SOURCE | CMD_CHECK, "memory for verified chunks (64M)" },
	{ O_TIMEOUT, "timeout", "S", CMD_REPO, "seconds until a waiting read fails (120)" },
	{ O_STALL, "stall", "S", CMD_REPO, "seconds of silence until reconnecting (30)" },
	{ O_CONNECTIONS, "connections", "N", CMD_SOURCE, "connections to the server (by itself: 1 to 4)" },
	{ O_WORKERS, "workers", "N", CMD_SOURCE | CMD_CHECK, "threads that decode (one a CPU)" },
	{ O_NO_DIRECT, "no-direct-io", NULL, CMD_MAP, "buffered loop device (old kernels)" },
	{ O_NO_AHEAD, "no-read-ahead", NULL, CMD_MAP | CMD_MOUNT, "fetch only what is read" },
	{ O_NO_ASYNC, "no-async-io", NULL, CMD_MAP, "direct I/O one request after the other" },
	{ O_NO_BACKGROUND, "no-background", NULL, CMD_MAP, "12 requests in flight, not 64" },
	{ O_NO_LARGE, "no-large-reads", NULL, CMD_MAP, "requests of 128 KiB, not 1 MiB" },
	{ O_MASTER, "master", "FILE", CMD_KEY, "the RSA private key, in PEM" },
	{ O_STORAGE, "storage-daemon", NULL, CMD_MAP, "serve the root: memory locked, not killed" },
	{ O_JSON, "json", NULL, CMD_MAP | CMD_UNMAP | CMD_STATUS | CMD_LIST | CMD_KEY | CMD_CHECK, "print JSON" },
	{ O_YES, "yes", NULL, CMD_RESTORE, "overwrite without asking" },
	{ O_SPARSE, "sparse", NULL, CMD_RESTORE, "the target is known to be zero" },
	{ O_VERIFY, "verify", NULL, CMD_RESTORE, "read back and compare" },
	{ O_DELTA, "delta", NULL, CMD_RESTORE, "read the target, fetch and write what differs" },
	{ O_RESUME, "resume", "FILE", CMD_RESTORE, "keep in FILE what was done, go on from it" },
	{ O_LIMIT, "limit", "RATE", CMD_WALK, "bytes a second to read, as 10M" },
	{ O_QUIET, "quiet", NULL, CMD_WALK, "no progress" },
	{ O_PROGRESS, "progress", "KIND", CMD_WALK, "json: a line a second" },
	{ O_SUBDIR, "subdir", "PATH", CMD_MOUNT, "show only this directory of the archive" },
	{ 'o', "options", "OPTIONS", CMD_MOUNT, "mount options, as suid,dev,noexec" },
	{ 'a', "all", NULL, CMD_UNMAP, "all mappings" },
	{ 'r', "recursive", NULL, CMD_LIST, "all namespaces, all directories below, too" },
	{ 'l', "long", NULL, CMD_LIST, "of files in an archive: modes, owners, sizes, times" },
	{ O_TAR, "tar", NULL, CMD_RESTORE, "a file archive as tar to standard output" },
	{ O_STRICT, "strict", NULL, CMD_RESTORE, "of files: fail when owner, mode... cannot be set" },
	{ 'f', "force", NULL, CMD_UNMAP, "even while it is mounted or held" },
	{ 'v', "verbose", NULL, CMD_SOURCE, "stay in the foreground and log" },
	{ 'h', "help", NULL, CMD_ALL, "this text" },
	{ O_VERSION, "version", NULL, CMD_ALL, "the version" },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct command_info *
find_command(const char *name)
{
	size_t i;

	for (i = 0; i < COUNT(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int
number(const char *text, const char *name, long least, long most, int *out, struct err *e)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(text, &end, 10);
	if (errno || *text == 0 || *end || v < least || v > most)
		return err_set(e, ST_USAGE, -EINVAL, "--%s: '%s' is no number from %ld to %ld", name, text, least, most);
	*out = (int)v;
	return 0;
}

static int
set(struct opts *o, int val, const char *arg, struct err *e)
{
	switch (val) {
	case O_REPOSITORY: o->repository = arg; return 0;
	case O_NS: o->ns = arg; return 0;
	case O_SERVER: o->server = arg; return 0;
	case O_PORT: o->port = arg; return 0;
	case O_DATASTORE: o->datastore = arg; return 0;
	case O_AUTH_ID: o->auth_id = arg; return 0;
	case O_FINGERPRINT: o->fingerprint = arg; return 0;
	case O_CA: o->ca = arg; return 0;
	case O_CONFIG: o->config = arg; return 0;
	case O_STALL: return number(arg, "stall", 1, 3600, &o->stall, e);
	case O_CONNECTIONS: return number(arg, "connections", 1, 16, &o->connections, e);
	case O_KEYFILE: o->keyfile = arg; return 0;
	case O_KEYFD: return number(arg, "keyfd", 0, 1 << 20, &o->keyfd, e);
	case O_CACHE:
		if (human_parse(arg, &o->cache) < 0 || o->cache < CACHE_MIN)
			return err_set(e, ST_USAGE, -EINVAL, "--cache: '%s' is no size of at least %u MiB (as in 64M)",
			    arg, (unsigned)(CACHE_MIN >> 20));
		return 0;
	case O_TIMEOUT: return number(arg, "timeout", 1, 1000000, &o->timeout, e);
	case O_WORKERS: return number(arg, "workers", 1, WORKERS_MAX, &o->workers, e);
	case O_NO_DIRECT: o->no_direct = 1; return 0;
	case O_NO_AHEAD: o->no_ahead = 1; return 0;
	case O_NO_ASYNC: o->no_async = 1; return 0;
	case O_NO_BACKGROUND: o->no_background = 1; return 0;
	case O_NO_LARGE: o->no_large = 1; return 0;
	case O_YES: o->yes = 1; return 0;
	case O_SPARSE: o->sparse = 1; return 0;
	case O_VERIFY: o->compare = 1; return 0;
	case O_DELTA: o->delta = 1; return 0;
	case O_RESUME: o->resume = arg; return 0;
	case O_QUIET: o->quiet = 1; return 0;
	case O_PROGRESS:
		o->progress_json = strcmp(arg, "json") == 0;
		return o->progress_json ? 0 : err_set(e, ST_USAGE, -EINVAL, "--progress: '%s' is not json", arg);
	case O_LIMIT:
		if (human_parse(arg, &o->limit) < 0 || o->limit < 1024)
			return err_set(e, ST_USAGE, -EINVAL, "--limit: '%s' is no rate of at least 1K (as in 10M)", arg);
		return 0;
	case O_MASTER: o->master = arg; return 0;
	case O_STORAGE: o->storage_daemon = 1; return 0;
	case O_JSON: o->json = 1; return 0;
	case 'l': o->is_long = 1; return 0;
	case O_TAR: o->tar = 1; return 0;
	case O_STRICT: o->strict = 1; return 0;
	case O_SUBDIR: o->subdir = arg; return 0;
	case 'o': o->mount_options = arg; return 0;
	case 'a': o->all = 1; return 0;
	case 'r': o->recursive = 1; return 0;
	case 'f': o->force = 1; return 0;
	case 'v': o->verbose = 1; return 0;
	case 'h': o->help = 1; return 0;
	case O_VERSION: o->version = 1; return 0;
	}
	return -EINVAL;
}

/* getopt's tables, from ours: only the options of this command. */
static void
make_tables(int cmd, struct option *longs, char *letters)
{
	size_t i;

	*letters++ = ':';
	for (i = 0; i < COUNT(options); i++) {
		if (!(options[i].commands & cmd))
			continue;
		*longs++ = (struct option){ options[i].name,
			options[i].arg ? required_argument : no_argument, NULL, options[i].val };
		if (options[i].val < 256)
			*letters++ = (char)options[i].val;
		if (options[i].val < 256 && options[i].arg)
			*letters++ = ':';
	}
	*longs = (struct option){ NULL, 0, NULL, 0 };
	*letters = 0;
}

static int
parse_options(int argc, char **argv, int cmd, struct opts *o, struct err *e)
{
	struct option longs[COUNT(options) + 1];
	char letters[2 * COUNT(options) + 2];
	int c, rc = 0;

	make_tables(cmd, longs, letters);
	opterr = 0;
	optind = 0;	/* afresh: glibc keeps more than this, were it 1 */
	while (rc == 0 && (c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (c == '?' || c == ':')
			rc = err_set(e, ST_USAGE, c == ':' ? -ENODATA : -EINVAL, c == ':' ? "%s needs a value" :
			    "unknown option %s; see pbsmap --help", argv[optind - 1]);
		else
			rc = set(o, c, optarg, e);
	}
	return rc;
}

/* A mapping's name as the registry has it begins with '-' when it is of a directory: no option has a ':' in it. */
static int
take_names(int argc, char **argv, struct opts *o)
{
	int i, n = 1;

	for (i = 1; i < argc; i++)
		if (argv[i][0] == '-' && strstr(argv[i], "\\x3a") && o->operands < OPERANDS_MAX)
			o->operand[o->operands++] = argv[i];
		else
			argv[n++] = argv[i];
	return n;
}

int
opt_parse(int argc, char **argv, struct opts *o, struct err *e)
{
	const struct command_info *c = NULL;
	int i, rc;

	memset(o, 0, sizeof(*o));
	o->keyfd = -1;
	o->timeout = READ_TIMEOUT;
	if (argc > 1 && argv[1][0] != '-' && (c = find_command(argv[1])) == NULL)
		return err_set(e, ST_USAGE, -EINVAL, "unknown command '%s'; see pbsmap --help", argv[1]);
	if (c) {
		o->command = c->id;
		argc--;
		argv++;
	}
	if (c && c->id == CMD_UNMAP)
		argc = take_names(argc, argv, o);
	if ((rc = parse_options(argc, argv, c ? (int)c->id : 1 << 30, o, e)) < 0)
		return rc;
	if (o->help || o->version)
		return 0;
	if (c == NULL)
		return err_set(e, ST_USAGE, -EINVAL, "no command; see pbsmap --help");
	for (i = optind; i < argc && o->operands < OPERANDS_MAX; i++)
		o->operand[o->operands++] = argv[i];
	if (o->operands < c->least || o->operands > c->most)
		return err_set(e, ST_USAGE, -EINVAL, "usage: pbsmap %s [options]%s%s", c->name,
		    *c->operands ? " " : "", c->operands);
	return 0;
}

static void
print_options(int cmd)
{
	const struct option_info *p;
	char left[40];

	printf("Options:\n");
	for (p = options; p < options + COUNT(options); p++) {
		if (!(p->commands & cmd))
			continue;
		snprintf(left, sizeof(left), "%s--%s%s%s", p->val < 256 ? "" : "    ", p->name,
		    p->arg ? " " : "", p->arg ? p->arg : "");
		if (p->val < 256)
			printf("  -%c, %-19s %s\n", p->val, left, p->what);
		else
			printf("  %-23s %s\n", left, p->what);
	}
}

void
opt_names(enum command cmd, int are_options, void (*fn)(void *ctx, const char *name), void *ctx)
{
	char name[40];
	size_t i;

	for (i = 0; !are_options && i < COUNT(commands); i++)
		fn(ctx, commands[i].name);
	for (i = 0; are_options && i < COUNT(options); i++)
		if (options[i].commands & (cmd ? (int)cmd : 1 << 30)) {
			snprintf(name, sizeof(name), "--%s", options[i].name);
			fn(ctx, name);
		}
}

void
opt_usage(enum command cmd)
{
	const struct command_info *c;

	for (c = commands; c < commands + COUNT(commands); c++)
		if (c->id == cmd) {
			printf("usage: pbsmap %s [options]%s%s\n\n%s.\n\n", c->name, *c->operands ? " " : "",
			    c->operands, c->what);
			print_options((int)c->id);
			if (c->more)
				printf("\n%s", c->more);
			return;
		}
	printf("usage: pbsmap COMMAND [options] [operands]\n\n"
	    "Makes disk images of a Proxmox Backup Server, or of its datastore's directory,\n"
	    "appear as block devices.\n\nCommands:\n");
	for (c = commands; c < commands + COUNT(commands); c++)
		printf("  %-8s %-22s %s\n", c->name, c->operands, c->what);
	printf("\nSNAPSHOT is vm/100/2026-01-02T03:04:05Z, or vm/100 for its newest one.\n"
	    "Map only images you trust. 'pbsmap COMMAND --help' tells the options.\n"
	    "Exit status: 0 done; 2 usage; 3 busy or held; 4 not trusted or not allowed;\n"
	    "5 missing or damaged data; 1 everything else.\n");
}
