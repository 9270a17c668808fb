/* HPACK: the RFC's examples, every code of Huffman's, what is refused, the encoder. */
#include <errno.h>
#include <stdlib.h>

#include "../bytes.h"
#include "../hpack.h"
#include "t.h"

static struct hpack d;
static char seen[20000];
static size_t seen_len;

static int
got(void *ctx, const char *name, size_t nlen, const char *value, size_t vlen)
{
	(void)ctx;
	check_int(name[nlen], 0);
	check_int(value[vlen], 0);
	seen_len += (size_t)snprintf(seen + seen_len, sizeof(seen) - seen_len, "%s: %s\n", name, value);
	return strcmp(name, "stop") == 0 ? -ECANCELED : 0;
}

/* Decodes hex, in memory of its own so that reading beyond its end shows. */
static int
decode_part(const char *hex, size_t n, struct err *e)
{
	uint8_t *p = malloc(n ? n : 1);
	int rc;

	hex_decode(p, n, hex, 2 * n);
	seen_len = 0;
	seen[0] = 0;
	rc = hpack_decode(&d, p, n, got, NULL, e);
	free(p);
	return rc;
}

static int
decode(const char *hex)
{
	return decode_part(hex, strlen(hex) / 2, NULL);
}

#define DATE "date: Mon, 21 Oct 2013 20:13:2"
#define LOC "location: https://www.example.com\n"
#define REQ ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
#define REQ2 REQ "cache-control: no-cache\n"
#define REQ3 ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n"
#define RES1 ":status: 302\ncache-control: private\n" DATE "1 GMT\n" LOC
#define RES2 ":status: 307\ncache-control: private\n" DATE "1 GMT\n" LOC
#define RES3 ":status: 200\ncache-control: private\n" DATE "2 GMT\n" LOC "content-encoding: gzip\n" \
	"set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"

/* RFC 7541, appendix C. table: 0 begins a new decoder of this size, else the old one goes on. */
static const struct { const char *hex, *fields; uint32_t begin, size; } rfc[] = {
	{ "400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key: custom-header\n", 4096, 55 },
	{ "040c2f73616d706c652f70617468", ":path: /sample/path\n", 4096, 0 },
	{ "100870617373776f726406736563726574", "password: secret\n", 4096, 0 },
	{ "82", ":method: GET\n", 4096, 0 },
	{ "828684410f7777772e6578616d706c652e636f6d", REQ, 4096, 57 },
	{ "828684be58086e6f2d6361636865", REQ2, 0, 110 },
	{ "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", REQ3, 0, 164 },
	{ "828684418cf1e3c2e5f23a6ba0ab90f4ff", REQ, 4096, 57 },
	{ "828684be5886a8eb10649cbf", REQ2, 0, 110 },
	{ "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", REQ3, 0, 164 },
	{ "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e17"
	    "68747470733a2f2f7777772e6578616d706c652e636f6d", RES1, 256, 222 },
	{ "4803333037c1c0bf", RES2, 0, 222 },
	{ "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d41"
	    "53444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
	    RES3, 0, 215 },
	{ "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97"
	    "c8e9ae82ae43d3", RES1, 256, 222 },
	{ "4883640effc1c0bf", RES2, 0, 222 },
	{ "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b"
	    "3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007", RES3, 0, 215 },
};

static void
test_rfc(void)
{
	size_t i;

	for (i = 0; i < sizeof(rfc) / sizeof(rfc[0]); i++) {
		if (rfc[i].begin)
			hpack_init(&d, rfc[i].begin);
		check_int(decode(rfc[i].hex), 0);
		check_str(seen, rfc[i].fields);
		check_int(d.size, rfc[i].size);
	}
}

/* Cut anywhere, a block is an error or a block of fewer fields; never more. */
static void
test_cut(void)
{
	size_t i, n;

	for (i = 0; i < sizeof(rfc) / sizeof(rfc[0]); i++)
		for (n = 0; n < strlen(rfc[i].hex) / 2; n++) {
			int rc;

			hpack_init(&d, 4096);
			rc = decode_part(rfc[i].hex, n, NULL);
			check(rc == 0 || rc == -EPROTO);
			if (rfc[i].begin)
				check(strncmp(seen, rfc[i].fields, seen_len) == 0 && seen_len < strlen(rfc[i].fields));
		}
}

/* All 256 bytes in a row, as another implementation writes them. */
static void
test_huffman(void)
{
	static const char codes[] =
	    "ffc7fffd8fffffe2fffffe3fffffe4fffffe5fffffe6fffffe7fffffe8ffffeafffffff3fffffa7fffffabffffffdfffffebffff"
	    "fecfffffedfffffeefffffefffffff0ffffff1ffffff2fffffffbfffffcffffffd3fffffd7fffffdbfffffdffffffe3fffffe7ff"
	    "fffebfffffed4fe3f9ffaffcabf1febfafefe7fdfd2cbb00089969b71d79fb9f7fff20ffbff3ff50ddbd7f061c58f265cd9f469d"
	    "5af66dddbf871e5f9cff7ff7fffc3ff9ffe45fff4719242cb34e6e9d68a6a3d7dac426defe3cfaf7fffbfe7ffbffdffffffcfffe"
	    "6ffff4bfff9ffffa3fffd3ffff53fffd5ffffb3fffeb7fffdaffffb7ffff73fffeeffffdeffffebffffbfffffd9ffffdbfffebff"
	    "ffe0ffffeeffffc3ffff8bffff1ffffe4fffee7fffb1ffff97fffd9ffffcdffff9fffffbffffdafffeeffff4ffffb7fffee7fffe"
	    "8ffffd3fffdeffffd5fffeeffffbdffffe1fffdfffff7fffff5ffffecffff07fff87fffe0ffff17fffedffff87ffff77fffeffff"
	    "eaffff8bfffe3ffff93ffff87fffcbffff37ffff1fffff83ffffe1fffebfffe3ffff3fffff2ffffa3ffffd9fffff17ffffc7ffff"
	    "f27ffffdefffffbffffff2fffff8fffffb7fff97fff8fffffe6fffffc1fffff87ffffe7fffffc5ffffe5fffe4ffff2fffffd1fff"
	    "ff4ffffffefffffe3fffffc9fffff97fffb3ffffcffffb7fffcdffff4ffff9ffffd1ffffcffffeaffffafffffddffffeffffff4f"
	    "ffff5fffffabffffa7ffffd7fffff9bffffecfffffb7fffff3fffffe8fffffd3fffffabfffff5fffffff7ffffecfffffdbfffffb"
	    "bfffff7ffffff0fffffbbf";
	static char block[1200 + 20];
	size_t len = strlen(codes) / 2, i;
	uint8_t p[600];

	snprintf(block, sizeof(block), "000178ff%02x%02x%s", (unsigned)((len - 127) & 127) | 128,
	    (unsigned)((len - 127) >> 7), codes);
	hpack_init(&d, 0);
	check_int(hex_decode(p, len + 6, block, 2 * len + 12), 0);
	check_int(hpack_decode(&d, p, len + 6, got, NULL, NULL), 0);
	for (i = 0; i < 256; i++)
		check_int((uint8_t)d.field[2 + i], i);
	check_int(d.field[2 + 256], 0);
	check_int(decode("0001788107"), 0);	/* one 0, three ones of padding */
	check_str(seen, "x: 0\n");
	check_int(decode("00017880"), 0);
	check_str(seen, "x: \n");
}

static void
test_refused(void)
{
	static const struct { const char *hex, *error; } t[] = {
		{ "80", "no table" }, { "be", "no table" }, { "ff8001", "no table" }, { "ffffffffff0f", "too large" },
		{ "ffffffff7f", "no table" }, { "ff808080808000", "too large" }, { "7f", "in the middle" }, { "40", "in the middle" },
		{ "400161", "in the middle" }, { "40016101", "longer than its block" }, { "400261", "longer than its block" },
		{ "00017881ff", "padding" }, { "0001788100", "padding" }, { "00017882ffff", "padding" }, { "00017884fffffffc", "end-of-string" },
		{ "00017881fe", "padding" }, { "3fe21f", "allowed are 4096" }, { "8220", "after a header field" },
	};
	struct err e;
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		hpack_init(&d, 4096);
		e.text[0] = 0;
		check_int(decode_part(t[i].hex, strlen(t[i].hex) / 2, &e), -EPROTO);
		if (!check(strstr(e.text, t[i].error) != NULL))
			printf("# %s: %s\n", t[i].hex, e.text);
	}
	hpack_init(&d, 4096);
	check_int(decode("000473746f70" "0161" "82"), -ECANCELED);
	check_str(seen, "stop: a\n");
}

/* Strings at and beyond the buffer, plain and coded. */
static void
test_long(void)
{
	static const struct { size_t n; int rc; } t[] = { { HPACK_FIELD_MAX - 1, 0 }, { HPACK_FIELD_MAX, -EPROTO }, { 100000, -EPROTO } };
	uint8_t *p = calloc(1, 100010);
	size_t i, k, n, coded;

	for (i = 0; i < 3; i++)
		for (coded = 0; coded < 2; coded++) {
			size_t len = coded ? t[i].n * 5 / 8 + (t[i].n * 5 % 8 != 0) : t[i].n;

			memcpy(p, "\x00\x01x\x7f", 4);
			p[3] |= (uint8_t)(coded << 7);
			for (n = 4, k = len - 127; k >= 128; k >>= 7)
				p[n++] = (uint8_t)(k | 128);
			p[n++] = (uint8_t)k;
			memset(p + n, coded ? 0 : 'a', len);
			if (coded && t[i].n * 5 % 8)
				p[n + len - 1] = (uint8_t)(0xff >> (t[i].n * 5 % 8));
			hpack_init(&d, 4096);
			seen_len = 0;
			check_int(hpack_decode(&d, p, n + len, got, NULL, NULL), t[i].rc);
		}
	free(p);
}

static void
test_table(void)
{
	struct err e;

	hpack_init(&d, 4096);
	check_int(decode("400161" "0162" "3f" "09"), -EPROTO);
	hpack_init(&d, 4096);
	check_int(decode("400161" "0162" "400163" "0164" "be" "bf"), 0);
	check_str(seen, "a: b\nc: d\nc: d\na: b\n");
	check_int(d.size, 68);
	check_int(decode("3f" "0f" "be"), 0);	/* 46 bytes: the older entry goes */
	check_str(seen, "c: d\n");
	check_int(d.count, 1);
	check_int(decode("bf"), -EPROTO);
	/* A name from the entry that its own insertion drives out. */
	check_int(decode("7e" "0165"), 0);
	check_str(seen, "c: e\n");
	check_int(d.count, 1);
	/* Larger than the table: empties it. */
	check_int(decode("4002616102" "6262" "4001610f" "313233343536373839303132333435"), 0);
	check_int(d.count, 0);
	/* Made smaller by us: the peer has to say so first. */
	hpack_init(&d, 4096);
	check_int(decode("400161" "0162"), 0);
	hpack_limit(&d, 0);
	check_int(decode_part("82", 1, &e), -EPROTO);
	check(strstr(e.text, "no table size update") != NULL);
	check_int(decode("2082"), 0);
	check_int(d.count, 0);
	check_int(decode("82"), 0);
	check_int(decode("2182"), -EPROTO);
	check_int(decode("4001610162" "be"), -EPROTO);	/* not kept */
}

static void
test_get(void)
{
	char path[300], want[400];
	uint8_t out[600];
	size_t i;
	int n;

	for (i = 0; i < 3; i++) {
		size_t len = i == 0 ? 1 : i == 1 ? 127 : 299;

		memset(path, 'p', len);
		path[len] = 0;
		n = hpack_get(out, sizeof(out), "h:8007", path);
		check(n > 0);
		hpack_init(&d, 0);
		seen_len = 0;
		check_int(hpack_decode(&d, out, (size_t)n, got, NULL, NULL), 0);
		snprintf(want, sizeof(want), ":method: GET\n:scheme: https\n:authority: h:8007\n:path: %s\n", path);
		check_str(seen, want);
	}
	for (i = 0; i < 20; i++) {
		n = hpack_get(out, i, "a", "/");
		check(n == -ENOBUFS || n == 8);
	}
	check_int(n, 8);
}

int
main(void)
{
	run(test_rfc);
	run(test_cut);
	run(test_huffman);
	run(test_refused);
	run(test_long);
	run(test_table);
	run(test_get);
	return t_end();
}
