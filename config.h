/*
 * Compile-time limits and defaults, each with its unit and reason.
 * Nothing here is needed to use the program; options override what a user
 * may want to change.
 */
#ifndef CONFIG_H
#define CONFIG_H

#define PBSMAP_VERSION "0.1"

/* Where mappings live; the official client's directory, so that each undoes
 * the other's mappings. */
#define RUN_DIR "/run/pbs-loopdev"

/* Formats (bytes).  A blob's data is at most 128 MiB by the reference
 * implementation, a chunk's at most 16 MiB. */
#define BLOB_MAX (128u << 20)
#define CHUNK_MAX (16u << 20)
#define FIXED_CHUNK_MIN (64u << 10)
#define FIXED_CHUNK_MAX (4u << 20)
#define MANIFEST_MAX (16u << 20)	/* the raw blob and its data, each */
#define KEY_FILE_MAX (64u << 10)
#define SECRET_MAX 1024			/* one line: password, token, passphrase */
#define SCRYPT_MEM_MAX (256ull << 20)	/* refuse key files that want more */
#define PBKDF2_ITER_MAX 10000000u	/* about 10 s; today's files have 65535 */

/* The cache of verified chunks (bytes). */
#define CACHE_DEFAULT (64ull << 20)
#define CACHE_MIN (8ull << 20)

/* Fetching. */
#define LOADS_MAX 64			/* chunks on their way at once, at most */
#define LOADS_DEFAULT 16
#define WORKERS_MAX 64
#define STORE_READERS 4			/* threads that read chunk files: keeps disks busy */

/* Reads (FUSE). */
#define READ_MAX (1u << 20)		/* the kernel's largest request, bytes */
#define READS_MAX 1024			/* outstanding requests before the kernel has to wait */
#define READ_TIMEOUT 120		/* s until a waiting read gets EIO */

#endif
