/* Known fingerprints: the file is read, added to, and never made worse. */
#include "t.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../known.h"

static char dir[] = "/tmp/unit_known.XXXXXX";
static char file[200];			/* dir/a/b/fingerprints */

#define ONES "11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11"
#define TWOS "2222222222222222222222222222222222222222222222222222222222222222"

static uint8_t ones[32], out[32];

static void
put(const char *text)
{
	FILE *f = fopen(file, "w");

	check(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

static const char *
get(void)
{
	static char text[2000];
	FILE *f = fopen(file, "r");

	check(f != NULL);
	text[f ? fread(text, 1, sizeof text - 1, f) : 0] = 0;
	if (f)
		fclose(f);
	return text;
}

static void
test_path(void)
{
	char path[100];

	setenv("XDG_CONFIG_HOME", "/x", 1);
	setenv("HOME", "/h", 1);
	check_int(known_path(path, sizeof path), 0);
	check_str(path, "/x/proxmox-backup/fingerprints");
	unsetenv("XDG_CONFIG_HOME");
	check_int(known_path(path, sizeof path), 0);
	check_str(path, "/h/.config/proxmox-backup/fingerprints");
	check_int(known_path(path, 10), -ENOENT);
	setenv("HOME", "", 1);
	check_int(known_path(path, sizeof path), -ENOENT);
	unsetenv("HOME");
	check_int(known_path(path, sizeof path), -ENOENT);
}

static void
test_add(void)
{
	struct err e;
	struct stat st;

	check_int(known_find(file, "h", out, &e), -ENOENT);
	check_int(known_add(file, "h", ones, &e), 0);
	check_str(get(), "h " ONES "\n");
	check(stat(file, &st) == 0 && (st.st_mode & 0777) == 0600);
	check_int(known_find(file, "h", out, &e), 0);
	check(memcmp(out, ones, 32) == 0);
	check_int(known_find(file, "H", out, &e), -ENOENT);
	check_int(known_find(file, "h2", out, &e), -ENOENT);
}

static void
test_keeps_others(void)
{
	struct err e;

	put("# odd line\n\nother  " TWOS "\nh " TWOS "\nhh " TWOS "\nh " TWOS "\nlast");
	check_int(known_find(file, "h", out, &e), 0);
	check(out[0] == 0x22);
	check_int(known_add(file, "h", ones, &e), 0);
	check_str(get(), "# odd line\n\nother  " TWOS "\nhh " TWOS "\nlast\nh " ONES "\n");
	check_int(known_find(file, "other", out, &e), 0);
	check(out[31] == 0x22);
}

static void
test_ipv6(void)
{
	struct err e;

	put("[::1] " TWOS "\r\n");
	check_int(known_find(file, "::1", out, &e), 0);
	check(out[0] == 0x22);
	check_int(known_add(file, "::1", ones, &e), 0);
	check_str(get(), "[::1] " ONES "\n");
	check_int(known_find(file, "::1", out, &e), 0);
	check(memcmp(out, ones, 32) == 0);
}

static void
test_malformed(void)
{
	char *big = malloc((1 << 20) + 10);
	struct err e;

	put("h\n");
	check_int(known_find(file, "h", out, &e), -EINVAL);
	check_int(e.status, ST_TRUST);
	check(strstr(e.text, "the line of h has no fingerprint") != NULL);
	put("h 1234\n");
	check_int(known_find(file, "h", out, &e), -EINVAL);
	put("x 1234\n");
	check_int(known_find(file, "h", out, &e), -ENOENT);
	memset(big, 'x', (1 << 20) + 9);
	big[(1 << 20) + 9] = 0;
	put(big);
	check_int(known_find(file, "h", out, &e), -EFBIG);
	check_int(known_add(file, "h", ones, &e), -EFBIG);
	free(big);
	unlink(file);
	check_int(mkdir(file, 0700), 0);
	check_int(known_find(file, "h", out, &e), -EISDIR);
	check(known_add(file, "h", ones, &e) < 0);
	check(strstr(e.text, "cannot note the fingerprint in /tmp/unit_known") != NULL);
	rmdir(file);
	check(known_add("/proc/x/fingerprints", "h", ones, &e) < 0);
}

/* Several at once: no line is lost, no other file stays. */
static void
test_at_once(void)
{
	char host[20], command[300];
	struct err e;
	int i, status;

	for (i = 0; i < 8; i++) {
		if (fork() == 0) {
			snprintf(host, sizeof host, "host%d", i);
			_exit(known_add(file, host, ones, &e) != 0);
		}
	}
	for (i = 0; i < 8; i++)
		check(wait(&status) > 0 && status == 0);
	for (i = 0; i < 8; i++) {
		snprintf(host, sizeof host, "host%d", i);
		check_int(known_find(file, host, out, &e), 0);
	}
	snprintf(command, sizeof command, "[ \"$(ls %s/a/b)\" = fingerprints ]", dir);
	check_int(system(command), 0);
}

int
main(void)
{
	char command[300];

	memset(ones, 0x11, sizeof ones);
	if (!mkdtemp(dir))
		return 1;
	snprintf(file, sizeof file, "%s/a/b/fingerprints", dir);
	run(test_path);
	run(test_add);
	run(test_keeps_others);
	run(test_ipv6);
	run(test_malformed);
	run(test_at_once);
	snprintf(command, sizeof command, "rm -r %s", dir);
	check_int(system(command), 0);
	return t_end();
}
