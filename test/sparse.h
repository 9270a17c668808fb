/*
 * A disk of which only some sectors are given, for tests of partition tables:
 * u32 sectors of 512 bytes, u8 1 to put the right CRCs into GPT headers, u16
 * bytes beyond the last sector; then u32 number, 512 bytes of each sector.
 * Little-endian; later ones win; all others are zero.
 */
#ifndef SPARSE_H
#define SPARSE_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../bytes.h"
#include "../crc32.h"

#define SPARSE_MAX 4096u		/* sectors given */

struct sparse {
	uint64_t size;
	unsigned count;
	uint32_t lba[SPARSE_MAX];
	uint8_t data[SPARSE_MAX][512];
	uint64_t fail;			/* offset from which on reads fail with EIO; 0: never */
	unsigned reads;
};

static inline uint8_t *
sparse_sector(struct sparse *d, uint64_t lba, int make)
{
	for (unsigned i = d->count; i-- > 0;)
		if (d->lba[i] == lba)
			return d->data[i];
	if (!make || d->count == SPARSE_MAX)
		return NULL;
	d->lba[d->count] = (uint32_t)lba;
	memset(d->data[d->count], 0, 512);
	return d->data[d->count++];
}

/* A part_read. A read beyond the end is a fault of the caller's. */
static inline int
sparse_read(void *ctx, uint64_t offset, void *buf, size_t len)
{
	struct sparse *d = ctx;
	uint8_t *out = buf;

	d->reads++;
	if (offset > d->size || len > d->size - offset)
		abort();
	if (d->fail && offset >= d->fail)
		return -EIO;
	for (size_t i = 0; i < len; i++) {
		const uint8_t *s = sparse_sector(d, (offset + i) / 512, 0);
		size_t at = (size_t)((offset + i) % 512), n = 512 - at < len - i ? 512 - at : len - i;

		if (s)
			memcpy(out + i, s + at, n);
		else
			memset(out + i, 0, n);
		i += n - 1;
	}
	return 0;
}

static inline void
sparse_put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static inline void
sparse_put64(uint8_t *p, uint64_t v)
{
	sparse_put32(p, (uint32_t)v);
	sparse_put32(p + 4, (uint32_t)(v >> 32));
}

/* Puts the CRCs right of the header at lba, of this sector size. */
static inline void
sparse_fix(struct sparse *d, uint64_t lba, unsigned sector)
{
	uint8_t *h = sparse_sector(d, lba * sector / 512, 0), buf[4096];
	uint64_t table, bytes, size = d->size;
	uint32_t crc = 0, len;

	if (!h || memcmp(h, "EFI PART", 8) != 0)
		return;
	table = get64le(h + 72) * sector;
	bytes = (uint64_t)get32le(h + 80) * get32le(h + 84);
	if (bytes <= 2u << 20 && table < size && bytes <= size - table) {
		for (uint64_t i = 0; i < bytes; i += 512) {
			size_t n = bytes - i < 512 ? (size_t)(bytes - i) : 512;

			if (sparse_read(d, table + i, buf, n) < 0)
				return;
			crc = crc32_update(crc, buf, n);
		}
		sparse_put32(h + 88, crc);
	}
	len = get32le(h + 12);
	sparse_put32(h + 16, 0);
	if (len <= sector && lba * sector + len <= size && sparse_read(d, lba * sector, buf, len) == 0)
		sparse_put32(h + 16, crc32_update(0, buf, len));
}

static inline int
sparse_load(struct sparse *d, const uint8_t *p, size_t len)
{
	memset(d, 0, sizeof *d);
	if (len < 7)
		return -1;
	d->size = (uint64_t)get32le(p) * 512 + get16le(p + 5) % 512;
	for (size_t at = 7; len - at >= 516; at += 516) {
		uint8_t *s = sparse_sector(d, get32le(p + at), 1);

		if (s)
			memcpy(s, p + at + 4, 512);
	}
	if (p[4] & 1)
		for (unsigned i = 0; i < 2; i++) {
			unsigned sector = i ? 4096 : 512;

			sparse_fix(d, 1, sector);
			if (d->size >= 2 * sector)
				sparse_fix(d, d->size / sector - 1, sector);
		}
	return 0;
}

#endif
