/*
 * Partition tables: bytes in, a list of partitions out.  Knows no device and
 * no file; reads through its caller's function and never past the image.
 *
 * What counts as a table, and which numbers partitions get, follows Linux
 * (block/partitions), so that a mapping looks the same on a kernel that has
 * the parsers and on one that has not.  One thing is done better: a damaged
 * primary GPT header is replaced by the backup at the image's end.
 */
#include "part.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "crc32.h"

#define SECTOR_MAX 4096u
#define GPT_HEAD 92u			/* bytes of a header that mean something */
#define GPT_ENTRY 128u
#define GPT_TABLE_MAX (1u << 20)	/* bytes; real ones have 16 KiB */
#define NR_MAX 255u			/* the kernel has no higher partition numbers */

struct scan {
	part_read rd;
	void *ctx;
	uint64_t size;			/* bytes of the image */
	struct part_table *t;
	struct err *e;
};

/* The chain of extended partitions, while it is followed (bytes). */
struct chain {
	uint64_t first, size;		/* the outermost one */
	uint64_t seen[PARTS_MAX];	/* tables read so far: a chain that bites its tail ends */
	unsigned count;
	unsigned nr;			/* number of the next logical partition */
};

static const struct {
	uint8_t id;
	char name[24];
} mbr_types[] = {
	{ 0x01, "FAT12" }, { 0x04, "FAT16 <32M" }, { 0x05, "Extended" }, { 0x06, "FAT16" },
	{ 0x07, "NTFS/exFAT" }, { 0x0b, "FAT32" }, { 0x0c, "FAT32 (LBA)" },
	{ 0x0e, "FAT16 (LBA)" }, { 0x0f, "Extended (LBA)" }, { 0x27, "Windows recovery" },
	{ 0x82, "Linux swap" }, { 0x83, "Linux" }, { 0x85, "Linux extended" },
	{ 0x8e, "Linux LVM" }, { 0xa5, "FreeBSD" }, { 0xa6, "OpenBSD" }, { 0xa9, "NetBSD" },
	{ 0xbf, "Solaris" }, { 0xee, "GPT" }, { 0xef, "EFI system" }, { 0xfd, "Linux RAID" },
};

static const struct {
	char guid[37];
	char name[27];
} gpt_types[] = {
	{ "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system" },
	{ "21686148-6449-6e6f-744e-656564454649", "BIOS boot" },
	{ "0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux filesystem" },
	{ "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap" },
	{ "e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM" },
	{ "a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID" },
	{ "933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home" },
	{ "3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "Linux server data" },
	{ "bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux extended boot" },
	{ "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)" },
	{ "b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root (ARM-64)" },
	{ "ca7d7ccb-63ed-4c53-861c-1742536059cc", "Linux LUKS" },
	{ "e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved" },
	{ "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data" },
	{ "de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery" },
	{ "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "Microsoft LDM metadata" },
	{ "af9b60a0-1431-4f62-bc68-3311714a69ad", "Microsoft LDM data" },
	{ "6a898cc3-1dd2-11b2-99a6-080020736631", "ZFS" },
	{ "6a945a3b-1dd2-11b2-99a6-080020736631", "Solaris reserved" },
	{ "516e7cb4-6ecf-11d6-8ff8-00022d09712b", "FreeBSD data" },
	{ "516e7cb6-6ecf-11d6-8ff8-00022d09712b", "FreeBSD UFS" },
	{ "516e7cba-6ecf-11d6-8ff8-00022d09712b", "FreeBSD ZFS" },
	{ "48465300-0000-11aa-aa11-00306543ecac", "Apple HFS+" },
	{ "7c3457ef-0000-11aa-aa11-00306543ecac", "Apple APFS" },
};

/* 0; 1 when the image has no such bytes; a negative errno. */
static int
get(struct scan *s, uint64_t offset, void *buf, size_t len)
{
	int rc;

	if (offset > s->size || len > s->size - offset)
		return 1;
	rc = s->rd(s->ctx, offset, buf, len);
	if (rc < 0)
		err_set(s->e, ST_FAIL, rc, "cannot read the partition table (offset %llu): %s",
		    (unsigned long long)offset, strerror(-rc));
	return rc;
}

/* Takes a partition in, cut at the image's end; NULL when nothing is left of it. */
static struct part *
put(struct scan *s, unsigned nr, uint64_t start, uint64_t size)
{
	struct part_table *t = s->t;
	uint64_t end = s->size - s->size % t->sector;
	struct part *p;

	if (t->count == PARTS_MAX || nr > NR_MAX || start >= end || size == 0)
		return NULL;
	p = &t->part[t->count++];
	memset(p, 0, sizeof *p);
	p->nr = nr;
	p->start = start;
	p->size = size < end - start ? size : end - start;
	return p;
}

static void
name_mbr_type(struct part *p, uint8_t id)
{
	const char *name = "";

	for (size_t i = 0; i < sizeof mbr_types / sizeof mbr_types[0]; i++)
		if (mbr_types[i].id == id)
			name = mbr_types[i].name;
	snprintf(p->type, sizeof p->type, "0x%02x%s%s", id, *name ? " " : "", name);
}

/* A GUID's first three fields are little-endian. */
static void
name_gpt_type(struct part *p, const uint8_t g[16])
{
	snprintf(p->type, sizeof p->type,
	    "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", get32le(g), get16le(g + 4),
	    get16le(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
	for (size_t i = 0; i < sizeof gpt_types / sizeof gpt_types[0]; i++)
		if (strcmp(p->type, gpt_types[i].guid) == 0) {
			snprintf(p->type, sizeof p->type, "%s", gpt_types[i].name);
			return;
		}
}

/* What a terminal must not be sent: controls, and marks that turn text around. */
static int
is_unprintable(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) ||
	    (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
	    (c >= 0xd800 && c < 0xe000) || c > 0x10ffff;
}

/* UTF-16LE, at most 36 units, to UTF-8: 3 bytes a unit at most, so it fits. */
static void
decode_name(char *out, const uint8_t *p)
{
	for (unsigned i = 0; i < 36; i++) {
		uint32_t c = get16le(p + 2 * i), low;

		if (c == 0)
			break;
		if (c >= 0xd800 && c < 0xdc00 && i + 1 < 36 &&
		    (low = get16le(p + 2 * i + 2)) >= 0xdc00 && low < 0xe000) {
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			i++;
		}
		if (is_unprintable(c))
			c = '?';
		if (c < 0x80) {
			*out++ = (char)c;
			continue;
		}
		if (c >= 0x10000) {
			*out++ = (char)(0xf0 | c >> 18);
			*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		} else if (c >= 0x800) {
			*out++ = (char)(0xe0 | c >> 12);
		}
		*out++ = c < 0x800 ? (char)(0xc0 | c >> 6) : (char)(0x80 | (c >> 6 & 0x3f));
		*out++ = (char)(0x80 | (c & 0x3f));
	}
	*out = '\0';
}

static void
take_gpt_entry(struct scan *s, unsigned nr, const uint8_t *p)
{
	static const uint8_t unused[16];
	uint64_t first = get64le(p + 32), last = get64le(p + 40), end = s->size / s->t->sector;
	struct part *part;

	/* Partitions that begin on the disk are kept, cut at its end: what
	 * can be saved from a shortened image should be. */
	if (memcmp(p, unused, 16) == 0 || last < first || first >= end)
		return;
	if (last >= end)
		last = end - 1;
	part = put(s, nr, first * s->t->sector, (last - first + 1) * s->t->sector);
	if (part == NULL)
		return;
	name_gpt_type(part, p);
	decode_name(part->name, p + 56);
}

/* Reads the entries that header h (its CRC is right) points to. 0: a table; 1: none; a negative errno. */
static int
scan_gpt_entries(struct scan *s, const uint8_t *h)
{
	uint64_t lba = get64le(h + 72), bytes, done, offset;
	uint32_t count = get32le(h + 80), entry = get32le(h + 84), crc = 0;
	uint8_t buf[SECTOR_MAX];
	unsigned nr = 1;

	if (entry < GPT_ENTRY || entry > SECTOR_MAX || (entry & (entry - 1)) != 0)
		return 1;
	bytes = (uint64_t)count * entry;
	if (bytes > GPT_TABLE_MAX || lba > s->size / s->t->sector)
		return 1;
	offset = lba * s->t->sector;
	for (done = 0; done < bytes; done += SECTOR_MAX) {
		size_t n = bytes - done < SECTOR_MAX ? (size_t)(bytes - done) : SECTOR_MAX;
		int rc = get(s, offset + done, buf, n);

		if (rc != 0)
			return rc;
		crc = crc32_update(crc, buf, n);
		for (size_t i = 0; i < n; i += entry)
			take_gpt_entry(s, nr++, buf + i);
	}
	return crc == get32le(h + 88) ? 0 : 1;
}

/* Tries one place for a GPT header. 0: its table is in s->t; 1: none there; a negative errno. */
static int
scan_gpt_at(struct scan *s, unsigned sector, uint64_t lba)
{
	static const uint8_t zero[4];
	uint8_t h[SECTOR_MAX];
	uint32_t len, crc;
	int rc;

	s->t->count = 0;
	s->t->sector = sector;
	if (lba == 0 || lba > s->size / sector)
		return 1;
	rc = get(s, lba * sector, h, sector);
	if (rc != 0)
		return rc;
	len = get32le(h + 12);
	/* Its own CRC is taken with the field's four bytes as zero. */
	if (memcmp(h, "EFI PART", 8) != 0 || len < GPT_HEAD || len > sector)
		return 1;
	crc = crc32_update(0, h, 16);
	crc = crc32_update(crc, zero, 4);
	crc = crc32_update(crc, h + 20, len - 20);
	if (crc != get32le(h + 16) || get64le(h + 24) != lba)
		return 1;
	return scan_gpt_entries(s, h);
}

/* The sector size is the one at which a header is found. */
static int
scan_gpt(struct scan *s)
{
	static const unsigned sectors[] = { 512, SECTOR_MAX };

	for (int backup = 0; backup < 2; backup++)
		for (int i = 0; i < 2; i++) {
			uint64_t lba = backup ? s->size / sectors[i] - 1 : 1;
			int rc = scan_gpt_at(s, sectors[i], lba);

			s->t->from_backup = backup;
			if (rc <= 0) {
				s->t->kind = PART_GPT;
				return rc;
			}
		}
	return 1;
}

/* DOS's, Windows's and Linux's own. */
static int
is_extended(const uint8_t *p)
{
	return p[4] == 0x05 || p[4] == 0x0f || p[4] == 0x85;
}

static uint64_t
mbr_start(const uint8_t *p)
{
	return (uint64_t)get32le(p + 8) * 512;
}

static uint64_t
mbr_size(const uint8_t *p)
{
	return (uint64_t)get32le(p + 12) * 512;
}

static void
put_mbr(struct scan *s, unsigned nr, uint64_t start, uint64_t size, uint8_t id)
{
	struct part *p = put(s, nr, start, size);

	if (p != NULL)
		name_mbr_type(p, id);
}

/* The data partitions of one table of the chain, which covers this_size bytes from `at`. */
static void
take_logical(struct scan *s, struct chain *c, const uint8_t *p, uint64_t at, uint64_t this_size)
{
	for (int i = 0; i < 4; i++, p += 16) {
		uint64_t offset = mbr_start(p), size = mbr_size(p), start = at + offset;

		if (size == 0 || is_extended(p))
			continue;
		/* The third and fourth entry may be rubbish. */
		if (i >= 2 && (offset + size > this_size || start < c->first ||
		    start + size > c->first + c->size))
			continue;
		put_mbr(s, c->nr++, start, size, p[4]);
	}
}

/* Follows an extended partition's chain: each table names its data partitions
 * and, relative to the first table, the next one. */
static int
scan_chain(struct scan *s, struct chain *c, uint64_t first, uint64_t size)
{
	uint64_t at = first, this_size = size;
	uint8_t buf[512];

	c->first = first;
	c->size = size;
	while (c->count < PARTS_MAX && s->t->count < PARTS_MAX && c->nr <= NR_MAX) {
		const uint8_t *p = buf + 446;
		int rc, i;

		for (unsigned k = 0; k < c->count; k++)
			if (c->seen[k] == at)
				return 0;
		c->seen[c->count++] = at;
		rc = get(s, at, buf, sizeof buf);
		if (rc != 0)
			return rc < 0 ? rc : 0;
		if (get16le(buf + 510) != 0xaa55)
			return 0;
		take_logical(s, c, p, at, this_size);
		for (i = 0; i < 4; i++, p += 16)
			if (mbr_size(p) != 0 && is_extended(p))
				break;
		if (i == 4)
			return 0;
		at = first + mbr_start(p);
		this_size = mbr_size(p);
	}
	return 0;
}

static int
scan_mbr(struct scan *s, const uint8_t *mbr)
{
	struct chain c = { .nr = 5 };
	const uint8_t *p = mbr + 446;
	int rc = 0;

	s->t->kind = PART_MBR;
	s->t->sector = 512;
	for (unsigned nr = 1; nr <= 4; nr++, p += 16) {
		uint64_t size = mbr_size(p);

		/* As in the kernel: two sectors of an extended one, enough for
		 * a boot loader and too few for somebody's mkfs. */
		if (is_extended(p) && size > 1024)
			size = 1024;
		put_mbr(s, nr, mbr_start(p), size, p[4]);
	}
	for (p = mbr + 446; p < mbr + 510 && rc == 0; p += 16)
		if (is_extended(p) && mbr_size(p) != 0)
			rc = scan_chain(s, &c, mbr_start(p), mbr_size(p));
	return rc;
}

/* What the first sector says: PART_NONE covers boot sectors of file systems
 * too, which end in 55aa as well and have code where the entries would be. */
static enum part_table_kind
judge_mbr(const uint8_t *mbr)
{
	const uint8_t *p;
	int protective = 0;

	if (get16le(mbr + 510) != 0xaa55)
		return PART_NONE;
	for (p = mbr + 446; p < mbr + 510; p += 16)
		if (p[4] == 0xee && get32le(p + 8) == 1)
			return PART_GPT;
	for (p = mbr + 446; p < mbr + 510; p += 16) {
		if (p[0] != 0 && p[0] != 0x80)
			return PART_NONE;
		protective |= p[4] == 0xee;
	}
	return protective ? PART_NONE : PART_MBR;
}

int
part_scan(part_read rd, void *ctx, uint64_t size, struct part_table *t, struct err *e)
{
	struct scan s = { .rd = rd, .ctx = ctx, .size = size, .t = t, .e = e };
	uint8_t mbr[512];
	int rc;

	memset(t, 0, sizeof *t);
	t->sector = 512;
	/* An image shorter than a sector has no table either. */
	rc = get(&s, 0, mbr, sizeof mbr);
	if (rc == 0) {
		switch (judge_mbr(mbr)) {
		case PART_GPT:
			rc = scan_gpt(&s);
			break;
		case PART_MBR:
			rc = scan_mbr(&s, mbr);
			break;
		case PART_NONE:
			rc = 1;
			break;
		}
	}
	if (rc != 0 || (t->kind == PART_MBR && t->count == 0)) {
		memset(t, 0, sizeof *t);
		t->sector = 512;
	}
	return rc < 0 ? rc : 0;
}

/* Control characters of ASCII and, behind 0xc2, of Unicode; no end is none of ours. */
static int
tame(char *s, size_t cap)
{
	unsigned char before = 0;

	for (; cap && *s; s++, cap--) {
		if ((unsigned char)*s < ' ' || *s == 0x7f || (before == 0xc2 && (unsigned char)*s < 0xa0))
			*s = '?';
		before = (unsigned char)*s;
	}
	return cap ? 0 : -EINVAL;
}

int
part_check(struct part_table *t, uint64_t size)
{
	int i, rc = 0;

	if ((t->sector != 512 && t->sector != 4096) || t->count < 0 || t->count > PARTS_MAX || (unsigned)t->kind > PART_GPT)
		return -EINVAL;
	for (i = 0; rc == 0 && i < t->count; i++) {
		struct part *p = &t->part[i];

		if (p->nr == 0 || p->nr > NR_MAX || p->start > size || p->size == 0 || p->size > size - p->start)
			rc = -EINVAL;
		else if ((rc = tame(p->type, sizeof p->type)) == 0)
			rc = tame(p->name, sizeof p->name);
	}
	return rc;
}
