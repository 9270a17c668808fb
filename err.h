/* Why something failed: text for people and an exit status for scripts. */
#ifndef ERR_H
#define ERR_H

enum status {
	ST_DONE = 0,
	ST_FAIL = 1,		/* everything not below */
	ST_USAGE = 2,		/* wrong usage */
	ST_BUSY = 3,		/* already mapped, held, target in use */
	ST_TRUST = 4,		/* certificate, password, permission, key, signature */
	ST_DAMAGED = 5,		/* missing or damaged chunk, index, manifest; crypt mode */
};

struct err {
	enum status status;
	char text[768];		/* one line, no prefix, no full stop, plain ASCII */
};

/* Fills *e (may be NULL) once, where the thing's name is known, and returns rc,
 * a negative errno, so that `return err_set(...)` reads well.  Bytes of the
 * result outside printable ASCII come out as '?'.  e->text may itself be an
 * argument: err_set(e, ST_DAMAGED, rc, "%s: %s", name, e->text) puts the name
 * before a reason. */
__attribute__((format(printf, 4, 5)))
int err_set(struct err *e, enum status status, int rc, const char *fmt, ...);
#ifdef ANALYZER				/* which cannot know that rc comes back */
#define err_set(e, status, rc, ...) (err_set(e, status, rc, __VA_ARGS__), (rc))
#endif

/* Makes s one line of printable ASCII: every other byte becomes '?'. */
void err_printable(char *s);

#endif
