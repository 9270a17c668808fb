/* `restore` of a file archive: into a directory, or as a tar to standard output. */
#ifndef PXRESTORE_H
#define PXRESTORE_H

#include "pace.h"
#include "progress.h"
#include "pxwalk.h"

/* Is this command's archive a file archive? */
int pxrestore_wanted(const struct opts *o);
/* Returns an exit status. */
int pxrestore_run(const struct opts *o, struct err *e);

/* What both kinds begin and end with. */
struct pxout {
	const struct opts *o;
	struct view view;
	const char *base;		/* the path that is being restored; "": all */
	int (*entry)(void *ctx, const struct pxwalk_entry *ent);	/* what makes something of an entry */
	struct progress progress;
	uint64_t start;			/* byte of the archive where base begins, */
	uint64_t before;		/*   and what was done before it: progress goes by place. Of split archives by data */
	struct pace pace;
	unsigned long long bad;		/* entries that are damaged: named one by one */
	unsigned long long lacking;	/* what could not be made as it was: */
	struct pxlack {
		unsigned long long n;
		char first[512];	/* the first one, and why */
	} lack[8];
};

enum pxlack_kind { LACK_OWNER, LACK_MODE, LACK_XATTR, LACK_ACL, LACK_TIME, LACK_NODE, LACK_LINK, LACK_SOCKET };

void pxout_bad(struct pxout *x, const struct pxwalk_entry *ent, int rc);
/* Of what the target or our rights lack: counted and, at the end, told. */
void pxout_lack(struct pxout *x, enum pxlack_kind what, const char *path, int err);
/* Is the first name of a linked entry among what was restored before? Its path to out. */
int pxout_link(struct pxout *x, const struct pxwalk_entry *ent, char out[PXAR_TARGET]);
/* Hands the data of a file to fn, in pieces of at most PXOUT_PIECE bytes, in order. 0 or a negative errno: -EIO and
 * -EBADMSG are the archive's, -EINTR; others fn's. */
int pxout_data(struct pxout *x, const struct pxar_stat *st, int (*fn)(void *ctx, const uint8_t *data, size_t len), void *ctx);
#define PXOUT_PIECE (256u << 10)

/* tar.c: an entry for pxwalk(); the two blocks of zeros. */
int tar_entry(void *ctx, const struct pxwalk_entry *ent);
int tar_end(void);

#endif
