/*
 * File archives (.pxar): finding one's way without unpacking. Pure, over a function that reads;
 * whatever that returns as an error is handed on, so it may ask to be called again later.
 *
 * A node is known by its id alone: twice the offset of what describes it, its ENTRY, or for a
 * directory its end (odd: one more). Ids come from this module only and stay true.
 */
#ifndef PXAR_H
#define PXAR_H

#include <stddef.h>
#include <stdint.h>

#define PXAR_NAME 256			/* a name, with its NUL */
#define PXAR_TARGET 4096		/* a symbolic link's target, with its NUL */

#define PXAR_IS_DIR(id) ((int)((id) & 1))

/* Types of items. */
#define PXAR_XATTR 0x0dab0229b57dcd03
#define PXAR_ACL_USER 0x2ce8540a457d55b8
#define PXAR_ACL_GROUP 0x136e3eceb04c03ab
#define PXAR_ACL_GROUP_OBJ 0x10868031e9582876
#define PXAR_ACL_DEFAULT 0xbbbb13415a6896f5
#define PXAR_ACL_DEFAULT_USER 0xc89357b40532cd1f
#define PXAR_ACL_DEFAULT_GROUP 0xf90a8a5816038ffe
#define PXAR_FCAPS 0x2da9dd9db5f7fb67
#define PXAR_QUOTA_PROJID 0xe07540e82f7d1cbb

struct pxar {
	/* len bytes at offset of the archive, or of the payload archive. The range was checked. 0 or a negative errno. */
	int (*read)(void *ctx, int payload, uint64_t offset, void *buf, uint32_t len);
	void *ctx;
	uint64_t size;			/* bytes */
	uint64_t payload_size;		/* bytes of the payload archive; 0: there is none */
	uint64_t root, entry;		/* its id and its ENTRY's offset; of pxar_open() */
};

struct pxar_dir {
	uint64_t entry;			/* offset of its ENTRY */
	uint64_t goodbye;		/* offset of its table's item */
	uint64_t count;			/* children */
};

struct pxar_child {
	uint64_t start, end;		/* its FILENAME; no byte of it is behind end; within the directory */
	uint64_t at;			/* what follows the FILENAME; of pxar_name() and pxar_find() */
};

struct pxar_stat {
	uint64_t id;
	uint32_t mode, uid, gid, nsec;
	int64_t mtime;
	uint64_t size;			/* bytes of data or of a link's target */
	uint64_t data;			/* their offset, */
	int payload;			/*   in the payload archive */
	uint32_t major, minor;		/* of devices */
	uint64_t meta;			/* offset of the first item after the ENTRY */
	uint64_t limit;			/* the node's items are before this */
	int linked;			/* reached by a hard link that is not the first name */
};

/* All return 0 or a negative errno; -EBADMSG: damaged. */

/* Checks the beginning, sets the root. -ENOTSUP: a version that is not known. */
int pxar_open(struct pxar *p);
int pxar_dir(const struct pxar *p, uint64_t id, struct pxar_dir *d);
/* Child i of the table, which is in the order of hashes. */
int pxar_child(const struct pxar *p, const struct pxar_dir *d, uint64_t i, uint64_t *hash, struct pxar_child *c);
/* A name that may stand in a directory: no '/', not "." or "..". */
int pxar_name(const struct pxar *p, struct pxar_child *c, char name[PXAR_NAME]);
/* What is behind a child's name. */
int pxar_resolve(const struct pxar *p, const struct pxar_child *c, struct pxar_stat *st);
int pxar_stat(const struct pxar *p, uint64_t id, struct pxar_stat *st);
/* -ENOENT: no such child. */
int pxar_find(const struct pxar *p, const struct pxar_dir *d, const char *name, struct pxar_child *c);
/* From a directory along a path (empty components and "." are passed over, links are not followed); id in *st.
 * "..": -EINVAL. */
int pxar_path(const struct pxar *p, uint64_t id, const char *path, struct pxar_stat *st);
/* The target of a symbolic link. */
int pxar_target(const struct pxar *p, const struct pxar_stat *st, char out[PXAR_TARGET]);
/* Where the first name of a hard link is, as its item tells. */
int pxar_link_path(const struct pxar *p, const struct pxar_child *c, char out[PXAR_TARGET]);
/* Is the data of a regular file where it should be? Before it is read. */
int pxar_check_data(const struct pxar *p, const struct pxar_stat *st);
/* Calls fn for each item of metadata with its type and content; fn returns 0 to go on. */
int pxar_meta(const struct pxar *p, const struct pxar_stat *st,
    int (*fn)(void *ctx, uint64_t type, uint64_t offset, uint64_t len), void *ctx);

#endif
