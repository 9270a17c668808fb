/* Partition tables: made by sgdisk, sfdisk, parted and mkfs (test/corpus/part), then damaged. */
#include <stdio.h>

#include "t.h"
#include "sparse.h"
#include "../part.h"

#define MIB (1ull << 20)

static struct sparse disk;
static struct part_table table;
static struct err why;

static void
load(const char *name)
{
	static uint8_t bytes[65536];
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "test/corpus/part/%s", name);
	f = fopen(path, "rb");
	if (!check(f != NULL))
		exit(1);
	check_int(sparse_load(&disk, bytes, fread(bytes, 1, sizeof bytes, f)), 0);
	fclose(f);
}

static int
scan(void)
{
	disk.reads = 0;
	return part_scan(sparse_read, &disk, disk.size, &table, &why);
}

static const struct part *
part(unsigned nr)
{
	static const struct part none;

	for (int i = 0; i < table.count; i++)
		if (table.part[i].nr == nr)
			return &table.part[i];
	return &none;
}

static void
is(unsigned nr, uint64_t sector, uint64_t sectors, const char *type, const char *name)
{
	const struct part *p = part(nr);

	check_int(p->start / 512, sector);
	check_int(p->size / 512, sectors);
	check_str(p->type, type);
	check_str(p->name, name);
}

static void
test_gpt(void)
{
	load("sgdisk-gpt");
	check_int(scan(), 0);
	check_int(table.kind, PART_GPT);
	check_int(table.sector, 512);
	check_int(table.from_backup, 0);
	check_int(table.count, 4);
	is(1, 2048, 2048, "EFI system", "EFI system partition");
	check_int(part(2)->start / 512, 4096);
	check(strncmp(part(2)->name, "w\xc3\xb6rk \"\xe3\x83\x87\xe3\x83\xbc\xe3\x82\xbf\"", 15) == 0);
	is(5, 20480, 16384, "Linux LVM", "");
	check_str(part(128)->name, "last");
	check_str(part(128)->type, "Linux RAID");
	/* The backup is at the far end, where a read may be slow: not asked for. */
	check(disk.reads <= 8);
	load("sfdisk-gpt");
	check_int(scan(), 0);
	check_int(table.count, 3);
	is(1, 2048, 8192, "Linux swap", "");
	is(2, 10240, 8192, "Linux filesystem", "root");
	is(3, 18432, 45056, "0fc63daf-8483-4772-8e79-000000000000", "");
}

static void
test_gpt_4096(void)
{
	load("gpt4k");
	check_int(scan(), 0);
	check_int(table.kind, PART_GPT);
	check_int(table.sector, 4096);
	check_int(table.count, 2);
	is(1, 256 * 8, 8192, "Linux filesystem", "four");
	check_str(part(2)->type, "Linux swap");
	sparse_sector(&disk, 8, 0)[0] ^= 1;
	check_int(scan(), 0);
	check_int(table.sector, 4096);
	check_int(table.from_backup, 1);
	check_int(table.count, 2);
}

/* Wherever the primary header or its table is damaged, the backup stands in; with both gone there is no table. */
static void
test_backup(void)
{
	static const unsigned places[] = { 0, 9, 14, 17, 24, 31, 72, 80, 84, 88 };

	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		load("sgdisk-gpt");
		sparse_sector(&disk, 1, 0)[places[i]] ^= 0x40;
		check_int(scan(), 0);
		check_int(table.from_backup, 1);
		check_int(table.count, 4);
		is(1, 2048, 2048, "EFI system", "EFI system partition");
		sparse_sector(&disk, disk.size / 512 - 1, 0)[places[i]] ^= 0x40;
		check_int(scan(), 0);
		check_int(table.kind, PART_NONE);
		check_int(table.count, 0);
		check_int(table.sector, 512);
	}
	load("sgdisk-gpt");
	sparse_sector(&disk, 2, 0)[40] ^= 1;	/* an entry */
	check_int(scan(), 0);
	check_int(table.from_backup, 1);
	check_int(table.count, 4);
}

/* A header whose CRCs are right is believed only as far as the disk goes. */
static void
test_gpt_hostile(void)
{
	static const struct { unsigned at; uint64_t v; int wide, count; } c[] = {
		{ 80, 0xffffffff, 0, -1 }, { 80, 0, 0, 0 }, { 80, 1, 0, 1 }, { 80, 8192, 0, 4 },
		{ 80, 8193, 0, -1 }, { 84, 0, 0, -1 }, { 84, 64, 0, -1 }, { 84, 129, 0, -1 },
		{ 84, 0x80000000, 0, -1 }, { 84, 8192, 0, -1 }, { 72, 0, 1, -1 },
		{ 72, UINT64_MAX, 1, -1 }, { 72, 1ull << 55, 1, -1 }, { 72, 131071, 1, -1 },
		{ 12, 91, 0, -1 }, { 12, 513, 0, -1 }, { 12, 92, 0, 4 }, { 12, 512, 0, 4 },
		{ 12, 0xffffffff, 0, -1 }, { 24, 2, 1, -1 },
	};

	for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
		uint8_t *h;

		load("sgdisk-gpt");
		sparse_sector(&disk, disk.size / 512 - 1, 0)[0] = 0;
		h = sparse_sector(&disk, 1, 0);
		if (c[i].wide)
			sparse_put64(h + c[i].at, c[i].v);
		else
			sparse_put32(h + c[i].at, (uint32_t)c[i].v);
		sparse_fix(&disk, 1, 512);
		check_int(scan(), 0);
		if (c[i].at != 72 || c[i].v != 0) {	/* LBA 0 holds no entries: rubbish, kept in bounds */
			check_int(table.kind, c[i].count < 0 ? PART_NONE : PART_GPT);
			check_int(table.count, c[i].count < 0 ? 0 : c[i].count);
		}
	}
}

static void
test_gpt_entries(void)
{
	uint8_t *entry;

	load("sgdisk-gpt");
	entry = sparse_sector(&disk, 2, 0);
	sparse_put64(entry + 40, UINT64_MAX);			/* 1: beyond the end: cut */
	sparse_put64(entry + 128 + 32, 1ull << 60);		/* 2: begins beyond it */
	sparse_put64(sparse_sector(&disk, 3, 0) + 40, 20479);	/* 5: ends before it begins */
	sparse_fix(&disk, 1, 512);
	check_int(scan(), 0);
	check_int(table.count, 2);
	is(1, 2048, 131072 - 2048, "EFI system", "EFI system partition");
	check_int(part(128)->nr, 128);
}

static void
test_gpt_big_entries(void)
{
	uint8_t *h, *entry;

	load("sgdisk-gpt");
	h = sparse_sector(&disk, 1, 0);
	sparse_put32(h + 80, 4);
	sparse_put32(h + 84, 512);
	entry = sparse_sector(&disk, 3, 1);
	memcpy(entry, sparse_sector(&disk, 2, 0), 128);
	sparse_fix(&disk, 1, 512);
	check_int(scan(), 0);
	check_int(table.count, 2);
	check_int(part(2)->start / 512, 2048);
}

/* More entries than are kept, and numbers the kernel does not have. */
static void
test_gpt_many(void)
{
	uint8_t *h;

	load("sgdisk-gpt");
	h = sparse_sector(&disk, 1, 0);
	sparse_put32(h + 80, 600);
	for (unsigned i = 0; i < 600; i++) {
		uint8_t *p = sparse_sector(&disk, 2 + i / 4, 1) + i % 4 * 128;

		memset(p, 0, 128);
		if (i >= 200)
			sparse_put64(p, 1);
		sparse_put64(p + 32, 4096 + i);
		sparse_put64(p + 40, 4096 + i);
	}
	sparse_fix(&disk, 1, 512);
	check_int(scan(), 0);
	check_int(table.count, 55);
	check_int(table.part[54].nr, 255);
	for (unsigned i = 0; i < 200; i++)
		sparse_put64(sparse_sector(&disk, 2 + i / 4, 1) + i % 4 * 128, 1);
	sparse_fix(&disk, 1, 512);
	check_int(scan(), 0);
	check_int(table.count, PARTS_MAX);
}

static void
name_is(const uint16_t *units, const char *want)
{
	uint8_t *p;

	load("sgdisk-gpt");
	p = sparse_sector(&disk, 2, 0) + 56;
	memset(p, 0, 72);
	for (unsigned i = 0; i < 36 && units[i]; i++) {
		p[2 * i] = (uint8_t)units[i];
		p[2 * i + 1] = (uint8_t)(units[i] >> 8);
	}
	sparse_fix(&disk, 1, 512);
	check_int(scan(), 0);
	check_str(part(1)->name, want);
}

static void
test_gpt_names(void)
{
	uint16_t full[37] = { 0 };
	char want[109] = "";

	name_is((uint16_t[36]){ 'a', 0x1b, '[', 0x7f, 0x9b, 0x202e, 0x200b, 'z' }, "a?[????z");
	name_is((uint16_t[36]){ 0xd83d, 0xde00 }, "\xf0\x9f\x98\x80");
	name_is((uint16_t[36]){ 0xde00, 'x', 0xd83d, 'y', 0xd83d }, "?x?y?");
	name_is((uint16_t[36]){ 0xe9, 0x7ff, 0x800, 0xffff }, "\xc3\xa9\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf");
	for (int i = 0; i < 36; i++) {
		full[i] = 0x30c7;
		strcat(want, "\xe3\x83\x87");
	}
	name_is(full, want);
	full[35] = 0xd83d;	/* cut in the middle of a pair */
	strcpy(want + 105, "?");
	name_is(full, want);
}

static void
test_mbr(void)
{
	load("sfdisk-mbr");
	check_int(scan(), 0);
	check_int(table.kind, PART_MBR);
	check_int(table.count, 8);
	is(1, 2048, 8192, "0x0c FAT32 (LBA)", "");
	is(2, 10240, 8192, "0x83 Linux", "");
	is(3, 18432, 2, "0x05 Extended", "");
	is(4, 100352, 8192, "0x8e Linux LVM", "");
	is(5, 20480, 8192, "0x83 Linux", "");
	is(6, 30720, 8192, "0x82 Linux swap", "");
	is(7, 40960, 8192, "0xfd Linux RAID", "");
	is(8, 51200, 49152, "0x07 NTFS/exFAT", "");
	load("parted-mbr");
	check_int(scan(), 0);
	check_int(table.count, 4);
	is(2, 10240, 2, "0x0f Extended (LBA)", "");
	is(6, 22528, 4096, "0x83 Linux", "");
	load("fatmbr");		/* a FAT with a partition table of its own */
	check_int(scan(), 0);
	check_int(table.count, 1);
	is(1, 0, 16384, "0x0c FAT32 (LBA)", "");
}

static void
test_no_table(void)
{
	static const char *const names[] = { "fat", "ntfs", "exfat" };

	for (int i = 0; i < 3; i++) {
		load(names[i]);
		check_int(get16le(sparse_sector(&disk, 0, 0) + 510), 0xaa55);
		check_int(scan(), 0);
		check_int(table.kind, PART_NONE);
	}
	for (uint64_t size = 0; size < 600; size += 100) {
		memset(&disk, 0, sizeof disk);
		disk.size = size;
		check_int(scan(), 0);
		check_int(table.kind, PART_NONE);
	}
	load("sfdisk-mbr");
	sparse_sector(&disk, 0, 0)[511] = 0;
	check_int(scan(), 0);
	check_int(table.kind, PART_NONE);
	load("sfdisk-mbr");
	sparse_sector(&disk, 0, 0)[446 + 32] = 0x81;	/* code, not a boot flag */
	check_int(scan(), 0);
	check_int(table.kind, PART_NONE);
}

/* The protective entry decides; a GPT without one is what a former owner left. */
static void
test_protective(void)
{
	uint8_t *mbr;

	load("sgdisk-hybrid");
	check_int(scan(), 0);
	check_int(table.kind, PART_GPT);
	check_int(table.count, 2);
	mbr = sparse_sector(&disk, 0, 0) + 446;
	for (int i = 0; i < 4; i++)
		if (mbr[16 * i + 4] == 0xee)
			sparse_put32(mbr + 16 * i + 8, 2);
	check_int(scan(), 0);
	check_int(table.kind, PART_NONE);
	for (int i = 0; i < 4; i++)
		if (mbr[16 * i + 4] == 0xee)
			mbr[16 * i + 4] = 0x83;
	check_int(scan(), 0);
	check_int(table.kind, PART_MBR);
}

static void
entry(uint32_t lba, int i, uint8_t id, uint32_t start, uint32_t size)
{
	uint8_t *s = sparse_sector(&disk, lba, 1), *p = s + 446 + 16 * i;

	s[510] = 0x55;
	s[511] = 0xaa;
	memset(p, 0, 16);
	p[4] = id;
	sparse_put32(p + 8, start);
	sparse_put32(p + 12, size);
}

static void
begin(void)
{
	memset(&disk, 0, sizeof disk);
	disk.size = 64 * MIB;
	entry(0, 0, 0x05, 1000, 100000);
}

static void
test_chain(void)
{
	begin();		/* bites its tail */
	entry(1000, 0, 0x83, 100, 100);
	entry(1000, 1, 0x05, 500, 100);
	entry(1500, 0, 0x83, 100, 100);
	entry(1500, 1, 0x05, 0, 100);
	check_int(scan(), 0);
	check_int(table.count, 3);
	check_int(part(6)->start / 512, 1600);
	check(disk.reads <= 3);
	begin();		/* points beyond the disk */
	entry(1000, 0, 0x83, 100, 100);
	entry(1000, 1, 0x05, 0xffffffff, 100);
	check_int(scan(), 0);
	check_int(table.count, 2);
	begin();		/* the link first, the data after; rubbish in the last two entries */
	entry(1000, 0, 0x05, 500, 100);
	entry(1000, 1, 0x83, 100, 100);
	entry(1000, 2, 0x83, 99990, 100);
	entry(1000, 3, 0x83, 300, 100);
	check_int(scan(), 0);
	check_int(table.count, 3);
	check_int(part(5)->start / 512, 1100);
	check_int(part(6)->start / 512, 1300);
	begin();		/* an extended one within itself, no signature, two of them */
	entry(0, 0, 0x05, 0, 1);
	entry(0, 1, 0x0f, 3000, 1);
	entry(3000, 0, 0x83, 10, 10);
	sparse_sector(&disk, 3000, 0)[510] = 0;
	check_int(scan(), 0);
	check_int(table.kind, PART_MBR);
	check(disk.reads <= 4);
}

static void
test_long_chain(void)
{
	begin();
	for (uint32_t i = 0; i < 300; i++) {
		entry(1000 + i * 100, 0, 0x83, 10, 10);
		entry(1000 + i * 100, 1, 0x05, (i + 1) * 100, 100);
	}
	check_int(scan(), 0);
	check_int(table.count, PARTS_MAX);
	begin();		/* nothing but links */
	for (uint32_t i = 0; i < 3000; i++)
		entry(1000 + i, 1, 0x05, i + 1, 1);
	check_int(scan(), 0);
	check_int(table.count, 1);
	check(disk.reads <= PARTS_MAX + 1);
}

static void
test_mbr_end(void)
{
	begin();
	entry(0, 0, 0x83, 130000, 0xffffffff);
	entry(0, 1, 0x83, 131072, 1);
	entry(0, 2, 0x83, 0xffffffff, 0xffffffff);
	entry(0, 3, 0x77, 131071, 1);
	disk.size += 100;	/* less than a sector */
	check_int(scan(), 0);
	check_int(table.count, 2);
	is(1, 130000, 1072, "0x83 Linux", "");
	is(4, 131071, 1, "0x77", "");
}

static void
test_read_fails(void)
{
	load("sgdisk-gpt");
	disk.fail = 512;
	check_int(scan(), -EIO);
	check(strstr(why.text, "offset 512") != NULL);
	check_int(table.kind, PART_NONE);
	check_int(table.count, 0);
	disk.fail = 1024;
	check_int(scan(), -EIO);
	load("sfdisk-mbr");
	disk.fail = 512;
	check_int(scan(), -EIO);
	check_int(table.count, 0);
}

/* A table that another process tells: numbers within the device, texts with an end and nothing that a terminal obeys. */
static void
test_told(void)
{
	static struct part_table good, t;

	good = (struct part_table){ .kind = PART_GPT, .sector = 512, .count = 1, .part = { { .nr = 1, .start = 512, .size = 512 } } };
	memcpy(good.part[0].name, "a\033b\302\205\303\244", 8);
	t = good;
	check_int(part_check(&t, 1024), 0);
	check(memcmp(t.part[0].name, "a?b\302?\303\244", 8) == 0);
#define BAD(change, size) do { t = good; change; check_int(part_check(&t, size), -EINVAL); } while (0)
	BAD((void)0, 1023);
	BAD(t.sector = 513, 1024);
	BAD(t.count = -1, 1024);
	BAD(t.count = PARTS_MAX + 1, 1024);
	BAD(t.kind = (enum part_table_kind)9, 1024);
	BAD(t.part[0].nr = 0, 1024);
	BAD(t.part[0].nr = 256, 1024);
	BAD(t.part[0].size = 0, 1024);
	BAD(t.part[0].start = UINT64_MAX, 1024);
	BAD(t.part[0].size = UINT64_MAX - 511, 1024);
	BAD(memset(t.part[0].type, 'x', sizeof t.part[0].type), 1024);
	BAD(memset(t.part[0].name, 'x', sizeof t.part[0].name), 1024);
}

int
main(void)
{
	run(test_gpt);
	run(test_gpt_4096);
	run(test_backup);
	run(test_gpt_hostile);
	run(test_gpt_entries);
	run(test_gpt_big_entries);
	run(test_gpt_many);
	run(test_gpt_names);
	run(test_mbr);
	run(test_no_table);
	run(test_protective);
	run(test_chain);
	run(test_long_chain);
	run(test_mbr_end);
	run(test_read_fails);
	run(test_told);
	return t_end();
}
