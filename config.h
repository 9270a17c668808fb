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
#define SCRYPT_WORK_MAX (1ull << 24)	/* n * r * p, about 4 s; today's files have 2^19 */
#define PBKDF2_ITER_MAX 10000000u	/* about 10 s; today's files have 65535 */

/* The cache of verified chunks (bytes). */
#define CACHE_DEFAULT (64ull << 20)
#define CACHE_MIN (8ull << 20)

/* An index larger than this is put on a disk, if there is one: 32 bytes for 4 MiB of an image. */
#define INDEX_RAM (16u << 20)

/* Fetching. */
#define LOADS_MAX 64			/* chunks on their way at once, at most */
#define WORKERS_MAX 64
#define RAW_KEPT (2u << 20)		/* bytes of a raw blob's buffer that keep their memory */
#define LATE_COUNTS 8			/* a chunk that is late makes up for so many that are in time; */
#define LATE_MANY 128			/*   above this, read-ahead gets 3/4 of the cache instead of half, */
#define LATE_LONG 1024			/*   for the next chunks, as many as this less that */
#define STORE_READERS 4			/* threads that open chunk files */
#define STORE_DEPTH 16			/* chunk files open at once: keeps disks busy */

/* Reads (FUSE). */
#define READ_MAX (1u << 20)		/* the kernel's largest request, bytes */
#define READ_SMALL (128u << 10)		/* the same before Linux 4.20, and with --no-large-reads */
#define READS_MAX 1024			/* outstanding requests before the kernel has to wait */
#define READ_PIECES 19			/* chunks in one request: READ_MAX / FIXED_CHUNK_MIN + 3 */
#define READ_BUFS 4			/* requests that span chunks and wait: bounds memory */
#define AHEAD_MAX 16			/* chunks to be ahead of a sequential reader, as far as the cache allows */
#define READ_TIMEOUT 120		/* s until a waiting read gets EIO */

/* HTTP/1.1 answers. A line may hold a cookie with a ticket (below 1 KiB, or some KiB behind single sign-on). */
#define HTTP_LINE_MAX 8192		/* bytes of a header line or a chunk-size line */
#define HTTP_HEAD_MAX (64u << 10)	/* bytes of all of them, interim answers and trailers too */
#define HTTP_INTERIM_MAX 16		/* 1xx answers before the answer */

/* HTTP/2. Real answers have 100 bytes of header; bodies go straight to their place, so windows cost no memory. */
#define HPACK_TABLE_MAX 4096		/* bytes a peer may use before it has read our settings (RFC 7541) */
#define HPACK_FIELD_MAX 8192		/* bytes of one name and value */
#define H2_BLOCK_MAX (16u << 10)	/* bytes of a coded header block, and of a control frame */
#define H2_LIST_MAX (16u << 10)		/* bytes of a header list as RFC 9113 counts them */
#define H2_STREAMS_MAX (LOADS_MAX + 2)	/* chunks, a file, a spare */
#define H2_OUT_MAX (32u << 10)		/* bytes waiting to be sent: more means a flood */
#define H2_FRAME_MAX (1u << 20)		/* bytes of a frame's payload we accept */
#define H2_CONN_WINDOW (1u << 30)	/* bytes of credit for the connection: never the limit */
#define H2_STREAM_WINDOW (128u << 10)	/* bytes a stream may send before it is given credit */
#define H2_CONTROL_MAX 2000		/* frames that bring nothing, between two ticks (1 s) */
#define LINK_REFUSED_MAX 100		/* streams refused in a row until the connection is made anew, after a pause */
#define H2_RESETS_KEPT 256		/* reset streams remembered, whose late frames are no offence */

/* The kernel's side of a mapping, as measured: many requests in flight make random reads
 * fast, read-ahead makes sequential ones so. */
#define FUSE_BACKGROUND 64
#define LOOP_READ_AHEAD (8u << 20)	/* bytes */

#define MOUNT_READ_AHEAD (4u << 20)	/* bytes; of a reader of a file in a mounted archive */

/* The id, user and group, of processes that need no rights: one that nobody else has ("pbsm"). */
#define PART_ID 0x7062736du

#define TEARDOWN_MS 5000		/* until a device that is still held is left to autoclear */

/* Sessions with a server (ms unless said). */
#define STALL_DEFAULT 30		/* s without a byte, while an answer is awaited, until the connection is given up */
#define CONNECT_TIMEOUT 30000		/* name, TCP, TLS and upgrade together */
#define LINKS_MAX 4			/* connections of one session */
#define LINK_FULL (2u << 20)		/* bytes on the way of one flow, half of what servers allow it: another one may help */
#define LINK_BUSY 900			/* ms of a second that a connection's thread works: the same */
#define INFLIGHT_DEFAULT 16		/* chunks on the wire for each connection; for all that are made by themselves */
#define LINK_SPARE 8			/* demands on the wire beyond the limit, which read-ahead may fill */
#define LINK_SLICE_MAX (2u << 20)	/* bytes of credit that a read-ahead has at a time; on slow lines less, */
#define LINK_AHEAD 250			/*   so that a demand waits for about as long as this (ms) */
#define LINK_INDEXES 64			/* index files of a snapshot, read here */
#define LINK_PING 15000			/* silence after which an idle connection is tried; below NAT's 30 s */
#define BACKOFF_MIN 100
#define BACKOFF_MAX 10000
#define BACKOFF_REFUSED 60000		/* after a wrong password: servers lock accounts */
#define TICKET_FRESH 300000		/* a younger ticket is used again for a new connection */
#define TICKET_RENEW 5400000		/* a ticket that is the only secret is renewed: servers take it for 2 h */
#define COOKIE_MAX 6144			/* bytes of a ticket, percent-encoded */

#endif
