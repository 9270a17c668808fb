/*
 * Header blocks of HTTP/2 to fields, and the block of a GET.
 *
 * Knows nothing of frames or of what the fields mean. The table below must stay in
 * step with the peer's encoder: every block has to be decoded, also those of streams
 * nobody waits for any more.
 */
#include "hpack.h"

#include <errno.h>
#include <string.h>

/* The static table (RFC 7541, appendix A), entries 1 to 61: name, blank, value. */
#define STATIC_ENTRIES 61
static const char fixed[] =
    ":authority \n:method GET\n:method POST\n:path /\n:path /index.html\n:scheme http\n:scheme https\n"
    ":status 200\n:status 204\n:status 206\n:status 304\n:status 400\n:status 404\n:status 500\n"
    "accept-charset \naccept-encoding gzip, deflate\naccept-language \naccept-ranges \naccept \n"
    "access-control-allow-origin \nage \nallow \nauthorization \ncache-control \ncontent-disposition \n"
    "content-encoding \ncontent-language \ncontent-length \ncontent-location \ncontent-range \n"
    "content-type \ncookie \ndate \netag \nexpect \nexpires \nfrom \nhost \nif-match \n"
    "if-modified-since \nif-none-match \nif-range \nif-unmodified-since \nlast-modified \nlink \n"
    "location \nmax-forwards \nproxy-authenticate \nproxy-authorization \nrange \nreferer \nrefresh \n"
    "retry-after \nserver \nset-cookie \nstrict-transport-security \ntransfer-encoding \nuser-agent \n"
    "vary \nvia \nwww-authenticate \n";

/* The Huffman code (appendix B) is canonical: the number of codes of each length, and the bytes in the order of their
 * codes, are all of it. The last code of 30 bits, EOS, is not in the list. */
#define CODE_BITS 30
static const uint8_t code_count[CODE_BITS + 1] = {
	0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4,
};
static const uint8_t code_order[256] = {
	48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55,
	56, 57, 61, 65, 95, 98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68,
	69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89,
	106, 107, 113, 118, 119, 120, 121, 122, 38, 42, 44, 59, 88, 90, 33, 34, 40, 41, 63, 39,
	43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123, 92, 195, 208, 128, 130,
	131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230, 129,
	132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
	196, 198, 228, 232, 233, 1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157,
	158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159,
	171, 206, 215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219,
	238, 240, 242, 243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250,
	251, 252, 253, 254, 2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20,
	21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220, 249, 10, 13, 22,
};

struct reader {
	const uint8_t *p, *end;
	struct err *e;
};

#define bad(r, ...) err_set((r)->e, ST_FAIL, -EPROTO, __VA_ARGS__)

void
hpack_init(struct hpack *h, uint32_t limit)
{
	h->limit = h->max = limit;
	h->size = 0;
	h->count = 0;
	h->must_update = 0;
}

/* --- the dynamic table --- */

static void
evict(struct hpack *h, uint32_t room)
{
	while (h->size > room) {
		h->count--;
		h->size -= 32u + h->entry[h->count].name + h->entry[h->count].value;
	}
}

void
hpack_limit(struct hpack *h, uint32_t limit)
{
	if (limit < h->max)
		h->must_update = 1;
	h->limit = limit;
}

/* Name and value stand in h->field, one after the other, each with its NUL. */
static void
insert(struct hpack *h, size_t name, size_t value)
{
	size_t need = name + value + 32;

	if (need > h->max) {
		evict(h, 0);		/* no error: this is how a peer empties the table */
		return;
	}
	evict(h, h->max - (uint32_t)need);
	memmove(h->data + name + value, h->data, h->size - 32u * h->count);
	memcpy(h->data, h->field, name);
	memcpy(h->data + name, h->field + name + 1, value);
	memmove(h->entry + 1, h->entry, h->count * sizeof(h->entry[0]));
	h->entry[0].name = (uint16_t)name;
	h->entry[0].value = (uint16_t)value;
	h->count++;
	h->size += (uint32_t)need;
}

/* Finds entry i of both tables. 0, or -1 when there is none. */
static int
lookup(const struct hpack *h, uint32_t i, const char **name, size_t *name_len, const char **value, size_t *value_len)
{
	const char *s;
	uint32_t k;

	if (i == 0)
		return -1;
	if (i <= STATIC_ENTRIES) {
		for (s = fixed; --i; )
			s = strchr(s, '\n') + 1;
		*name = s;
		*name_len = (size_t)(strchr(s, ' ') - s);
		*value = s + *name_len + 1;
		*value_len = (size_t)(strchr(*value, '\n') - *value);
		return 0;
	}
	i -= STATIC_ENTRIES + 1;
	if (i >= h->count)
		return -1;
	for (s = h->data, k = 0; k < i; k++)
		s += h->entry[k].name + h->entry[k].value;
	*name = s;
	*name_len = h->entry[i].name;
	*value = s + *name_len;
	*value_len = h->entry[i].value;
	return 0;
}

/* --- numbers and strings --- */

/* A number whose first byte holds `bits` bits of it. Nothing here is larger than 2^28. */
static int
number(struct reader *r, unsigned bits, uint32_t *out)
{
	uint32_t max = (1u << bits) - 1, v;
	unsigned shift;

	if (r->p == r->end)
		return bad(r, "header block ends in the middle");
	v = *r->p++ & max;
	if (v == max) {
		for (shift = 0; ; shift += 7) {
			if (r->p == r->end)
				return bad(r, "header block ends in the middle");
			if (shift > 21)
				return bad(r, "number in a header block too large");
			v += (uint32_t)(*r->p & 0x7f) << shift;
			if (!(*r->p++ & 0x80))
				break;
		}
	}
	*out = v;
	return 0;
}

/* Decodes Huffman-coded bytes by counting up through the lengths, a bit at a time: real headers are short. */
static int
huffman(struct reader *r, const uint8_t *p, size_t n, char *out, size_t cap, size_t *len)
{
	uint32_t code = 0, first = 0, index = 0;
	unsigned bits = 0, ones = 0;
	size_t i, k = 0;

	for (i = 0; i < n * 8; i++) {
		unsigned bit = p[i / 8] >> (7 - i % 8) & 1;

		code = code << 1 | bit;
		first <<= 1;
		ones = bit ? ones + 1 : 0;
		bits++;
		if (code - first < code_count[bits]) {
			index += code - first;
			if (index >= sizeof(code_order))
				return bad(r, "end-of-string code within a header string");
			if (k == cap)
				return bad(r, "header field longer than %d bytes", HPACK_FIELD_MAX);
			out[k++] = (char)code_order[index];
			code = first = index = bits = ones = 0;
		} else {
			index += code_count[bits];
			first += code_count[bits];
		}
	}
	/* The rest of the last byte is the beginning of EOS: ones, fewer than eight. */
	if (bits > 7 || ones < bits)
		return bad(r, "bad padding of a Huffman-coded header string");
	*len = k;
	return 0;
}

static int
string(struct reader *r, char *out, size_t cap, size_t *len)
{
	int coded = r->p < r->end && (*r->p & 0x80), rc;
	const uint8_t *p;
	uint32_t n;

	rc = number(r, 7, &n);
	if (rc < 0)
		return rc;
	if (n > (size_t)(r->end - r->p))
		return bad(r, "header string longer than its block");
	p = r->p;
	r->p += n;
	if (coded)
		return huffman(r, p, n, out, cap, len);
	if (n > cap)
		return bad(r, "header field longer than %d bytes", HPACK_FIELD_MAX);
	memcpy(out, p, n);
	*len = n;
	return 0;
}

/* --- the block --- */

/* Puts a field's name into h->field: from the table, or spelled out. */
static int
take_name(struct hpack *h, struct reader *r, unsigned bits, size_t *len)
{
	const char *name, *value;
	size_t value_len;
	uint32_t i;
	int rc = number(r, bits, &i);

	if (rc < 0)
		return rc;
	if (i == 0)
		return string(r, h->field, HPACK_FIELD_MAX, len);
	if (lookup(h, i, &name, len, &value, &value_len) < 0)
		return bad(r, "header field %u is in no table", i);
	memcpy(h->field, name, *len);
	return 0;
}

static int
literal(struct hpack *h, struct reader *r, unsigned bits, int keep, size_t *name, size_t *value)
{
	int rc = take_name(h, r, bits, name);

	if (rc < 0)
		return rc;
	h->field[*name] = 0;
	rc = string(r, h->field + *name + 1, HPACK_FIELD_MAX - *name, value);
	if (rc < 0)
		return rc;
	h->field[*name + 1 + *value] = 0;
	if (keep)
		insert(h, *name, *value);
	return 0;
}

/* A field that stands whole in a table. Copied, so that the caller has its NULs and the table may change. */
static int
indexed(struct hpack *h, struct reader *r, size_t *name_len, size_t *value_len)
{
	const char *name, *value;
	uint32_t i;
	int rc = number(r, 7, &i);

	if (rc < 0)
		return rc;
	if (lookup(h, i, &name, name_len, &value, value_len) < 0)
		return bad(r, "header field %u is in no table", i);
	memcpy(h->field, name, *name_len);
	h->field[*name_len] = 0;
	memcpy(h->field + *name_len + 1, value, *value_len);
	h->field[*name_len + 1 + *value_len] = 0;
	return 0;
}

/* The peer chooses its table's size, within what we allow. */
static int
update(struct hpack *h, struct reader *r)
{
	uint32_t n;
	int rc = number(r, 5, &n);

	if (rc < 0)
		return rc;
	if (n > h->limit)
		return bad(r, "header table of %u bytes, allowed are %u", n, h->limit);
	h->max = n;
	h->must_update = 0;
	evict(h, n);
	return 0;
}

int
hpack_decode(struct hpack *h, const uint8_t *p, size_t n, hpack_field fn, void *ctx, struct err *e)
{
	struct reader r = { p, p + n, e };
	size_t name = 0, value = 0;
	int rc = 0, fields = 0;

	while (rc == 0 && r.p < r.end) {
		if ((*r.p & 0xe0) == 0x20) {
			if (fields)
				return bad(&r, "table size update after a header field");
			rc = update(h, &r);
			continue;
		}
		if (h->must_update)
			return bad(&r, "no table size update after the table was made smaller");
		fields = 1;
		if (*r.p & 0x80)
			rc = indexed(h, &r, &name, &value);
		else if (*r.p & 0x40)
			rc = literal(h, &r, 6, 1, &name, &value);
		else
			rc = literal(h, &r, 4, 0, &name, &value);
		if (rc == 0)
			rc = fn(ctx, h->field, name, h->field + name + 1, value);
	}
	return rc;
}

/* --- the encoder --- */

/* A literal without indexing whose name is entry `index` of the static table; the value plain, as it stands. */
static size_t
put_literal(uint8_t *out, size_t at, size_t cap, uint8_t index, const char *value)
{
	size_t n = strlen(value), k = n;

	if (at > cap || cap - at < 6 || n > cap - at - 6 || n >= 1u << 21)
		return cap + 1;
	out[at++] = index;
	if (k < 127) {
		out[at++] = (uint8_t)k;
	} else {
		out[at++] = 127;
		for (k -= 127; k >= 128; k >>= 7)
			out[at++] = (uint8_t)(k | 0x80);
		out[at++] = (uint8_t)k;
	}
	memcpy(out + at, value, n);
	return at + n;
}

int
hpack_get(uint8_t *out, size_t cap, const char *authority, const char *path)
{
	size_t n;

	if (cap < 2)
		return -ENOBUFS;
	out[0] = 0x80 | 2;		/* :method GET */
	out[1] = 0x80 | 7;		/* :scheme https */
	n = put_literal(out, 2, cap, 1, authority);
	n = put_literal(out, n, cap, 4, path);
	return n > cap ? -ENOBUFS : (int)n;
}
