/* Bytes on a disk. */
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "spill.h"
#include "t.h"

static uint8_t data[300000];

static int
is_disk(const char *dir)
{
	struct statfs s;

	return statfs(dir, &s) == 0 && (uint32_t)s.f_type != 0x01021994 && (uint32_t)s.f_type != 0x858458f6 &&
	    (uint32_t)s.f_type != 0x794c7630;
}

static void
test_disk(void)
{
	const char *const dirs[] = { NULL, "/nonexistent", "build" };
	uint8_t *p = spill(spill_open(sizeof(data), dirs, 3), data, sizeof(data));

	if (!is_disk("build")) {
		printf("# build is on no disk\n");
		check(p == NULL);
		return;
	}
	if (!check(p != NULL))
		return;
	check(p != data && memcmp(p, data, sizeof(data)) == 0);
	spill_free(p, sizeof(data));
}

static void
test_no_disk(void)
{
	const char *const none[] = { NULL, "/nonexistent", "/proc" };
	const char *const shm[] = { "/dev/shm" };

	check(spill(spill_open(sizeof(data), none, 3), data, sizeof(data)) == NULL);
	check(spill(spill_open(sizeof(data), none, 0), data, sizeof(data)) == NULL);
	if (!is_disk("/dev/shm"))
		check(spill(spill_open(sizeof(data), shm, 1), data, sizeof(data)) == NULL);
}

/* What does not fit is not begun. */
static void
test_no_room(void)
{
	const char *const dirs[] = { "build" };

	check(spill(spill_open(SIZE_MAX / 4, dirs, 1), data, SIZE_MAX / 4) == NULL);
}

int
main(void)
{
	size_t i;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	run(test_disk);
	run(test_no_disk);
	run(test_no_room);
	return t_end();
}
