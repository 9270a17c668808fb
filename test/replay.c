/*
 * main() for a fuzz target where there is no libFuzzer: gives it each file
 * named, and prints a TAP line for it once it has survived. The bytes are in a
 * block of just their length, so that ASan sees a read past the end.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int
replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;
	size_t len = 0;
	long size;
	int rc = -1;

	if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0)
		goto out;
	rewind(f);
	len = (size_t)size;
	data = malloc(len ? len : 1);
	if (!data || fread(data, 1, len, f) != len)
		goto out;
	LLVMFuzzerTestOneInput(data, len);
	rc = 0;
out:
	free(data);
	if (f)
		fclose(f);
	return rc;
}

int
main(int argc, char **argv)
{
	int i, failed = 0;

	for (i = 1; i < argc; i++) {
		const char *name = strrchr(argv[i], '/');
		int rc = replay(argv[i]);

		printf("%s %d - %s\n", rc ? "not ok" : "ok", i, name ? name + 1 : argv[i]);
		fflush(stdout);
		failed += rc != 0;
	}
	printf("1..%d\n", argc - 1);
	return failed != 0;
}
