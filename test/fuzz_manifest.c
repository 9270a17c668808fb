/* Manifests: any text.  What parses has safe names; the canonical form of a canonical form is itself. */
#include <stdlib.h>
#include <string.h>

#include "../canonical.h"
#include "../manifest.h"
#include "../repo.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char *const none[] = { NULL };
	static const struct key key = { .key = { 1 } };
	char *once, *twice;
	struct manifest m;
	size_t i, n1, n2;

	if (manifest_parse((const char *)p, n, &m, NULL) == 0) {
		for (i = 0; i < m.count; i++)
			if (!safe_id(m.files[i].name, strlen(m.files[i].name)) ||
			    manifest_find(&m, m.files[i].name) != &m.files[i])
				abort();
		manifest_verify(&m, (const char *)p, n, &key, 1, NULL);
		manifest_free(&m);
	}
	if (canonical_json((const char *)p, n, none, &once, &n1, NULL) != 0)
		return 0;
	if (n1 > n || canonical_json(once, n1, none, &twice, &n2, NULL) != 0 ||
	    n1 != n2 || memcmp(once, twice, n1) != 0)
		abort();
	free(once);
	free(twice);
	return 0;
}
