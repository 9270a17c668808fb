/*
 * pbsmap: maps disk images of a Proxmox Backup Server to block devices.
 * The command line to the commands, nothing else.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "completion.h"
#include "check.h"
#include "conf.h"
#include "config.h"
#include "err.h"
#include "keycmd.h"
#include "list.h"
#include "log.h"
#include "map.h"
#include "mount.h"
#include "opt.h"
#include "pxlist.h"
#include "pxrestore.h"
#include "rescue.h"
#include "restore.h"
#include "unmap.h"
#include "verify.h"

static int
run(const struct opts *o, struct err *e)
{
	struct unmap_opts u = { .all = o->all, .force = o->force, .json = o->json };

	if (o->config && conf_load(o->config, e) < 0)
		return (int)e->status;

	switch (o->command) {
	case CMD_MAP:
		return map_run(o);
	case CMD_MOUNT:
		return mount_run(o);
	case CMD_RESTORE:
		return pxrestore_wanted(o) ? pxrestore_run(o, e) : restore_run(o);
	case CMD_VERIFY:
		return verify_run(o);
	case CMD_LIST:
		if (o->operands > 1)
			return pxlist_run(o, e);
		return list_run(o, e) < 0 ? (int)e->status : ST_DONE;
	case CMD_UNMAP:
		u.what = o->operands ? o->operand[0] : NULL;
		return unmap_run(&u, e) < 0 ? (int)e->status : ST_DONE;
	case CMD_CHECK:
		return check_run(o);
	case CMD_KEY:
		return keycmd_run(o, e) < 0 ? (int)e->status : ST_DONE;
	case CMD_COMPLETION:
		return completion_script(o->operand[0], e) < 0 ? (int)e->status : ST_DONE;
	case CMD_RESCUE:
		return rescue_run(o, run, e);
	case CMD_STATUS:
		return status_run(o->json, e) < 0 ? (int)e->status : ST_DONE;
	}
	return ST_USAGE;
}

/* Started with 0, 1 or 2 closed (`>&-`, some cron), what is opened first would get these numbers, and messages
 * would be written into it. */
static void
hold_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

int
main(int argc, char **argv)
{
	char *asks[] = { argv[0], (char[]){ "rescue" }, NULL };
	struct err e = { ST_FAIL, "" };
	struct opts o;
	int st;

	hold_standard();
	if (argc == 1 && rescue_terminal()) {
		argc = 2;
		argv = asks;
	}
	if (argc > 2 && strcmp(argv[1], "__complete") == 0)
		return completion_words(argv[2], argv[3]);
	if (opt_parse(argc, argv, &o, &e) < 0) {
		st = (int)e.status;
	} else if (o.help) {
		opt_usage(o.command);
		st = ST_DONE;
	} else if (o.version) {
		printf("pbsmap %s\n", PBSMAP_VERSION);
		st = ST_DONE;
	} else {
		log_verbose = o.verbose;
		/* How systemd, and initramfs scripts after it, are told whom not to kill. */
		if (o.storage_daemon)
			argv[0][0] = '@';
		st = run(&o, &e);
	}
	if (e.text[0])
		say("%s", e.text);
	/* What is longer than the buffer was written, or was not, before. */
	if ((ferror(stdout) || fflush(stdout) < 0) && st == ST_DONE) {
		say("cannot write all of it to stdout");
		st = ST_FAIL;
	}
	return st;
}
