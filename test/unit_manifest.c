/* Manifests: golden ones and their signatures, canonical form, every way to be wrong. */
#include <errno.h>

#include "t.h"
#include "golden.h"
#include "../canonical.h"
#include "../manifest.h"

#define CSUM "4e92bc9c3048c648eb58fd7b94e06b2f983cb2a08f7da5085ac6c4040b1aac45"
#define HEAD "{\"backup-type\":\"vm\",\"backup-id\":\"1\",\"backup-time\":5,\"files\":["
#define FILE1 "{\"filename\":\"a.img.fidx\",\"crypt-mode\":\"none\",\"size\":9,\"csum\":\"" CSUM "\"}"

static int
parse(const char *json, struct err *e)
{
	struct manifest m;
	int rc = manifest_parse(json, strlen(json), &m, e);

	manifest_free(&m);
	return rc;
}

static void
test_golden(void)
{
	struct manifest m;
	struct err e;
	size_t len;
	char *json = golden_manifest("vm/101", &len), got[96];

	check_int(manifest_parse(json, len, &m, &e), 0);
	check_str(m.type, "vm");
	check_str(m.id, "101");
	check_int(m.time, 1767323045);
	check_int(m.count, 3);
	check_str(m.files[1].name, "drive-scsi1.img.fidx");
	check_int(m.files[1].size, 8388608);
	check_int(m.files[1].crypt, CRYPT_ENCRYPT);
	hex_encode(got, m.files[1].csum, 32);
	check_str(got, "92b2c25972babeb3762a1da4b6c097f24ea35e16f109a4775d0892a77369b706");
	check(m.has_fingerprint && m.has_signature);
	check(manifest_find(&m, "drive-scsi1.img.fidx") == &m.files[1]);
	check(manifest_find(&m, "drive-scsi1.img") == NULL);
	manifest_free(&m);
	free(json);

	json = golden_manifest("vm/100", &len);
	check_int(manifest_parse(json, len, &m, &e), 0);
	check_int(m.files[0].crypt, CRYPT_NONE);
	check(!m.has_fingerprint && !m.has_signature);
	manifest_free(&m);
	free(json);
}

/* Any change to what is signed is noticed, any to what is not is none of its business. */
static void
verify_flips(const char *json, size_t len, const struct key *key)
{
	const char *open = strstr(json, "\"unprotected\"");
	char *copy = malloc(len);
	struct manifest m;
	struct err e;
	size_t i;

	check(open != NULL);
	for (i = 0; i < len; i++) {
		memcpy(copy, json, len);
		copy[i] ^= 1;
		if (manifest_parse(copy, len, &m, &e) != 0)
			continue;
		if (manifest_verify(&m, copy, len, key, 1, &e) == 0 && json + i < open &&
		    strchr("\n ", json[i]) == NULL) {
			t_bad++;
			printf("# byte %zu changed, and nobody noticed\n", i);
		}
		manifest_free(&m);
	}
	free(copy);
}

static void
test_signature(void)
{
	static const char *const signed_ones[] = { "host/signed", "vm/101" };
	struct manifest m;
	struct key key, other;
	struct err e;
	size_t i, len;
	char *json;

	golden_key(&key);
	for (i = 0; i < 2; i++) {
		json = golden_manifest(signed_ones[i], &len);
		json[len] = '\0';
		check_int(manifest_parse(json, len, &m, &e), 0);
		check_int(manifest_verify(&m, json, len, &key, 1, &e), 0);
		check_int(manifest_verify(&m, json, len, NULL, 0, &e), 0);
		check_int(manifest_verify(&m, json, len, NULL, 1, &e), -ENOKEY);
		check_int(e.status, ST_TRUST);
		check(strstr(e.text, "--keyfile with the key of fingerprint 67:d0:f3:") != NULL);
		/* One of them is signed alone. */
		check(strstr(e.text, "encrypted") == NULL);
		other = key;
		other.id_key[31] ^= 1;
		check_int(manifest_verify(&m, json, len, &other, 1, &e), -EACCES);
		check(strstr(e.text, "wrong signature") != NULL);
		check_int(e.status, ST_TRUST);
		other = key;
		other.fingerprint[0] = 0xff;
		check_int(manifest_verify(&m, json, len, &other, 0, &e), -EACCES);
		check(strstr(e.text, "fingerprint 67:d0:") && strstr(e.text, "one's is ff:d0:"));
		verify_flips(json, len, &key);
		manifest_free(&m);
		free(json);
	}
}

/* Taken away: noticed where a key was used, no matter where none was. */
static void
test_unsigned(void)
{
	static const struct { const char *rest; int rc; } t[] = {
	    { FILE1 "]}", 0 },
	    { "{\"filename\":\"b\",\"crypt-mode\":\"encrypt\",\"size\":9,\"csum\":\"" CSUM "\"}]}", -EACCES },
	    { FILE1 ",{\"filename\":\"b\",\"crypt-mode\":\"sign-only\",\"size\":9,\"csum\":\"" CSUM "\"}"
	      "],\"signature\":null}", -EACCES },
	    { "],\"unprotected\":{\"key-fingerprint\":\""
	      "67d0f36db756194bf8adc1bfd191ff4e654f5dc8a99d74e791c80b4905958ab9\"}}", -EACCES },
	};
	struct manifest m;
	struct key key;
	struct err e;
	char text[1000];
	size_t i, len;

	golden_key(&key);
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		len = (size_t)sprintf(text, HEAD "%s", t[i].rest);
		check_int(manifest_parse(text, len, &m, &e), 0);
		check_int(manifest_verify(&m, text, len, NULL, 0, &e), 0);
		check_int(manifest_verify(&m, text, len, &key, 0, &e), t[i].rc);
		if (t[i].rc != 0)
			check(strstr(e.text, "no signature") != NULL);
		manifest_free(&m);
	}
}

/* Other white space, other order, more in `unprotected`: the signature stays right. */
static void
test_reordered(void)
{
	static char text[70000 + 1000];
	static const char signature[] =
	    "60a2ca54f16a2f7e0ed94564a1ad4953c91d797cea2a3f1513e7128e5f818381";
	struct manifest m;
	struct key key;
	struct err e;
	size_t len;

	golden_key(&key);
	len = (size_t)sprintf(text, "{\"signature\":\"%s\",\"files\":[{\"size\":8388608,\"csum\":"
	    "\"a93008e9c551a3f9fb58b1474e5b38e68ef738fc99f144c09eda910efd3897ee\","
	    "\"filename\":\"drive-scsi1.img.f\\u0069dx\",\"crypt-mode\":\"sign-only\"}],"
	    "\"backup-type\":\"host\" , \"unprotected\":{\"a\":{},\"notes\":\"", signature);
	memset(text + len, 'n', 65536);
	len += 65536;
	len += (size_t)sprintf(text + len, "\",\"a\":[1.5]},\"backup-time\":1767323045,"
	    "\"backup-id\":\"signed\"}");
	check_int(manifest_parse(text, len, &m, &e), 0);
	check_int(m.has_fingerprint, 0);
	check_int(manifest_verify(&m, text, len, &key, 1, &e), 0);
	memcpy(strstr(text, "8388608"), "8388609", 7);
	check_int(manifest_verify(&m, text, len, &key, 1, &e), -EACCES);
	manifest_free(&m);
}

static void
canonical(const char *json, const char *want)
{
	static const char *const without[] = { "out", NULL };
	struct err e;
	char *out, text[1000];
	size_t n;

	if (canonical_json(json, strlen(json), without, &out, &n, &e) != 0) {
		check_str(e.text, want);
		return;
	}
	snprintf(text, sizeof(text), "%.*s", (int)n, out);
	check_str(text, want);
	free(out);
}

static void
test_canonical(void)
{
	canonical("{}", "{}");
	canonical(" { \"b\" : [ 1 , 2 , { \"z\" : null , \"y\" : true } , [ ] , { } ] , \"a\" : \"x\" } ",
	    "{\"a\":\"x\",\"b\":[1,2,{\"y\":true,\"z\":null},[],{}]}");
	/* Bytewise: upper case first, prefixes first, by the key and not by its escaped form. */
	canonical("{\"b\":1,\"B\":2,\"ab\":3,\"a\":4,\"\":5,\"\xc3\xa9\":6,\"a\\\"\":7,\"aZ\":8}",
	    "{\"\":5,\"B\":2,\"a\":4,\"a\\\"\":7,\"aZ\":8,\"ab\":3,\"b\":1,\"\xc3\xa9\":6}");
	canonical("{\"s\":\"\\u0000\\u0007\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\\\/\\u007f\\u00e9\\ud83d\\ude00\"}",
	    "{\"s\":\"\\u0000\\u0007\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\/\x7f\xc3\xa9\xf0\x9f\x98\x80\"}");
	canonical("{\"out\":{\"a\":1,\"a\":2},\"n\":[{\"out\":1}],\"out\":3}", "{\"n\":[{\"out\":1}]}");
	canonical("{\"c\":{\"f\":{\"h\":1,\"g\":2},\"e\":3},\"a\":{\"d\":[{\"k\":1,\"j\":2}],\"b\":4}}",
	    "{\"a\":{\"b\":4,\"d\":[{\"j\":2,\"k\":1}]},\"c\":{\"e\":3,\"f\":{\"g\":2,\"h\":1}}}");
	canonical("{\"a\":1,\"b\":2,\"a\":3}", "a key is doubled");
	canonical("{\"x\":{\"a\":1,\"\\u0061\":3}}", "a key is doubled");
	canonical("[]", "not an object");
	canonical("1", "not an object");
	canonical("{", "no valid JSON: it ends too early at byte 1");
	canonical("{\"n\":-12,\"m\":18446744073709551615,\"f\":1.50}",
	    "{\"f\":1.50,\"m\":18446744073709551615,\"n\":-12}");
}

static void
test_canonical_limits(void)
{
	static char text[65536], *out;
	static const char *const without[] = { NULL };
	struct err e;
	size_t len, n;
	int i, count;

	for (count = 1024; count <= 1025; count++) {
		for (len = 0, i = 0; i < count; i++)
			len += (size_t)sprintf(text + len, "%c\"%d\":0", i == 0 ? '{' : ',', i);
		text[len++] = '}';
		check_int(canonical_json(text, len, without, &out, &n, &e), count > 1024 ? -EINVAL : 0);
		if (count == 1024)
			check_int(n, len);
		free(out);
	}
	memset(text, 'x', sizeof(text));
	memcpy(text, "{\"a\":\"", 6);
	memcpy(text + 5000, "\"}", 2);
	check_int(canonical_json(text, 5002, without, &out, &n, &e), -EINVAL);
	check_str(e.text, "a text is too long");
}

static void
test_wrong(void)
{
	static const struct { const char *json, *why; } t[] = {
	    { "", "no valid JSON: it ends too early at byte 0" },
	    { "[]", "it is not an object" },
	    { HEAD "]", "no valid JSON: it ends too early at byte 62" },
	    { "{\"backup-id\":\"1\",\"backup-time\":5,\"files\":[]}", "backup-type is missing" },
	    { "{\"backup-type\":\"vm\",\"backup-time\":5,\"files\":[]}", "backup-id is missing" },
	    { "{\"backup-type\":\"vm\",\"backup-id\":\"1\",\"files\":[]}", "backup-time is missing" },
	    { "{\"backup-type\":\"vm\",\"backup-id\":\"1\",\"backup-time\":5}", "files is missing" },
	    { "{\"backup-type\":\"vx\",\"backup-id\":\"1\",\"backup-time\":5,\"files\":[]}",
	      "backup-type is unknown" },
	    { "{\"backup-type\":\"vm\",\"backup-id\":\"../1\",\"backup-time\":5,\"files\":[]}",
	      "backup-id is not valid" },
	    { "{\"backup-type\":\"vm\",\"backup-id\":1,\"backup-time\":5,\"files\":[]}",
	      "backup-id is not text that fits" },
	    { HEAD "1]}", "files[] is not an object" },
	    { HEAD "{}]}", "files[].filename is missing" },
	    { HEAD FILE1 "," FILE1 "]}", "a.img.fidx is listed twice" },
	    { HEAD FILE1 "],\"files\":[" FILE1 "]}", "files is doubled" },
	    { HEAD "{\"filename\":\"../a\",\"size\":9,\"csum\":\"" CSUM "\"}]}", "../a is no safe file name" },
	    { HEAD "{\"filename\":\"\",\"size\":9,\"csum\":\"" CSUM "\"}]}", " is no safe file name" },
	    { HEAD "{\"filename\":\"a\\u0000b\",\"size\":9,\"csum\":\"" CSUM "\"}]}",
	      "files[].filename is not text that fits" },
	    { HEAD "{\"filename\":\"a\",\"size\":-9,\"csum\":\"" CSUM "\"}]}",
	      "files[].size is not a natural number" },
	    { HEAD "{\"filename\":\"a\",\"size\":9,\"csum\":\"12\"}]}", "a has no valid csum" },
	    { HEAD "{\"filename\":\"a\",\"size\":9,\"csum\":\"" CSUM "\",\"crypt-mode\":\"x\"}]}",
	      "a has an unknown crypt-mode" },
	    { HEAD "{\"filename\":\"a\",\"size\":9,\"size\":9,\"csum\":\"" CSUM "\"}]}",
	      "files[].size is doubled" },
	    { HEAD "],\"signature\":\"00\"}", "signature is not valid" },
	    { HEAD "],\"signature\":null,\"signature\":\"" CSUM "\"}", "signature is doubled" },
	    { HEAD "],\"unprotected\":{},\"unprotected\":{}}", "unprotected is doubled" },
	    { HEAD "],\"unprotected\":{\"key-fingerprint\":\"67:d0\"}}",
	      "unprotected.key-fingerprint is not valid" },
	    { HEAD "]}x", "no valid JSON: more after the end at byte 63" },
	};
	char want[200];
	struct err e;
	size_t i;

	check_int(parse(HEAD FILE1 "]}", &e), 0);
	check_int(parse(HEAD "{\"filename\":\"a\",\"size\":9,\"csum\":\"" CSUM "\"}]}", &e), 0);
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		check_int(parse(t[i].json, &e), -EINVAL);
		snprintf(want, sizeof(want), "manifest (index.json.blob): %s", t[i].why);
		check_str(e.text, want);
		check_int(e.status, ST_DAMAGED);
	}
}

static void
test_many_files(void)
{
	static char text[5000 * 130];
	struct err e;
	size_t len;
	int i, count;

	for (count = 4096; count <= 4097; count++) {
		len = (size_t)sprintf(text, HEAD);
		for (i = 0; i < count; i++)
			len += (size_t)sprintf(text + len, "%s{\"filename\":\"f%d\",\"size\":1,\"csum\":\"" CSUM "\"}",
			    i == 0 ? "" : ",", i);
		sprintf(text + len, "]}");
		check_int(parse(text, &e), count > 4096 ? -EINVAL : 0);
	}
}

int
main(void)
{
	run(test_golden);
	run(test_signature);
	run(test_unsigned);
	run(test_reordered);
	run(test_canonical);
	run(test_canonical_limits);
	run(test_wrong);
	run(test_many_files);
	return t_end();
}
