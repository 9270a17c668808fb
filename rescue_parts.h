/* What rescue.c (the way through, the end) and rescue_ask.c (the questions) share. */
#ifndef RESCUE_PARTS_H
#define RESCUE_PARTS_H

#include "menu.h"
#include "opt.h"
#include "origin.h"
#include "trust.h"

/* What a step found; else a negative errno. */
enum step { PASSED = 1, ASKED, BACK, QUIT };

struct rescue {
	struct opts o;			/* what was given; then also what was found out */
	struct menu menu;
	struct origin origin;
	struct snapshot at;
	int repository_asked, password_asked, ns_asked;
	int key_wanted;			/* the archive needs one */
	char key_fingerprint[96];	/*   that the manifest names; empty: none */
	int kind;			/* enum archive_kind */
	uint64_t size;			/* of the archive, bytes */
	const char *action;
	int make_directory;
	char parts[4][300];		/* of a repository: host, port, datastore, user */
	char repository[4300], ns[NS_MAX], snapshot[ID_MAX + 64], archive[256], keyfile[MENU_TEXT], target[MENU_TEXT];
	char fingerprint[FINGERPRINT_TEXT];
};

#define STEPS 9
extern int (*const rescue_steps[STEPS])(struct rescue *r, struct err *e);
extern const int rescue_namespace;	/* the number of the step that wants the list of the one before */

/* Opens the repository, and gets its namespaces into the menu. */
int rescue_get_in(struct rescue *r, struct err *e);

#endif
