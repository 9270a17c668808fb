/* Targets that are files, the state of a restore, comparing by digest, progress where stderr is no terminal. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../bytes.h"
#include "../disk.h"
#include "../progress.h"
#include "../resume.h"
#include "../scan.h"
#include "../target.h"
#include "../walk.h"
#include "fake.h"
#include "t.h"

#define MIB (1u << 20)

static char dir[] = "/tmp/unit_target.XXXXXX", path[64], state[64];
static uint8_t *page, *back;		/* page aligned, 2 MiB each */

static int
open_target(struct target *t, uint64_t size, int sparse)
{
	struct target_conf c = { .path = path, .size = size, .yes = 1, .sparse = sparse, .stop = -1 };
	struct err e;

	return target_open(t, &c, &e);
}

static long
blocks(void)
{
	struct stat st;

	return stat(path, &st) == 0 ? (long)st.st_blocks * 512 : -1;
}

static void
fill(uint8_t *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 2654435761u >> 11 | 1);
}

static int
same(const struct target *t, size_t n)
{
	memset(back, 0x55, 2 * MIB);
	return target_read(t, 0, back, n) == 0 && memcmp(page, back, n) == 0;
}

static void
test_holes(void)
{
	static const size_t at[] = { 0, 65536, 5 * 65536, MIB - 65536, MIB };
	struct target t;
	size_t i;

	unlink(path);
	check_int(open_target(&t, MIB + 100, 0), 0);
	check_int(t.kind, TARGET_FILE);
	check(t.made && t.fresh);
	memset(page, 0, 2 * MIB);
	for (i = 0; i < 5; i++)
		page[at[i] + 99] = (uint8_t)(i + 1);
	check_int(target_write_sparse(&t, 0, page, MIB + 100), 0);
	check_int(target_sync(&t), 0);
	check(same(&t, MIB + 100));
	check(blocks() <= 6 * 65536);
	target_close(&t);
	/* Not fresh: zeros are written over what is there. */
	check_int(open_target(&t, MIB + 100, 0), 0);
	check(!t.made && !t.fresh);
	fill(page, 2 * MIB);
	check_int(target_write(&t, 0, page, MIB + 100), 0);
	memset(page, 0, MIB);
	check_int(target_write_sparse(&t, 0, page, MIB), 0);
	check(same(&t, MIB + 100));
	target_close(&t);
}

static void
test_odd_pieces(void)
{
	static const size_t pieces[] = { 1, 4095, 4096, 4097, 65536 - 1, 65536 + 1, 300000 };
	struct target t;
	size_t i, at = 0;

	unlink(path);
	fill(page, 2 * MIB);
	memset(page + 100000, 0, 200000);
	check_int(open_target(&t, MIB, 0), 0);
	for (i = 0; i < 7; at += pieces[i++])
		check_int(target_write_sparse(&t, at, page + at, pieces[i]), 0);
	check(same(&t, at));
	target_close(&t);
}

static void
test_zero(void)
{
	struct target t;

	unlink(path);
	check_int(open_target(&t, 2 * MIB, 0), 0);
	t.fresh = 0;
	fill(page, 2 * MIB);
	check_int(target_write(&t, 0, page, 2 * MIB), 0);
	check_int(target_zero(&t, 1000, MIB), 0);
	memset(page + 1000, 0, MIB);
	check(same(&t, 2 * MIB));
	t.fresh = 1;
	check_int(target_zero(&t, 0, 2 * MIB), 0);	/* known to be zero: nothing is done */
	check(same(&t, 2 * MIB));
	target_close(&t);
}

static void
test_length(void)
{
	struct target t;
	struct stat st;

	unlink(path);
	check_int(open_target(&t, 2 * MIB, 0), 0);
	target_close(&t);
	check_int(open_target(&t, 5000, 0), 0);
	check(stat(path, &st) == 0 && st.st_size == 2 * MIB);	/* only cut at the end */
	check_int(target_sync(&t), 0);
	check(stat(path, &st) == 0 && st.st_size == 5000);
	check_int(target_read(&t, 4999, back, 1), 0);
	check_int(target_read(&t, 4999, back, 2), -EIO);
	target_close(&t);
	target_close(&t);
}

static void
test_state(void)
{
	struct manifest_file f = { .name = "a.img.fidx", .csum = { 1, 2, 3 } };
	struct index x = { .count = 20, .size = 20 << 16 };
	struct resume r;
	struct err e;
	uint8_t done[3] = { 0 }, again[3] = { 0 };

	check_int(resume_open(&r, state, &f, &x, done, &e), 0);
	bit_set(done, 0);
	bit_set(done, 19);
	check_int(resume_save(&r, done), 0);
	resume_close(&r, 0);
	check_int(resume_open(&r, state, &f, &x, again, &e), 1);
	check(memcmp(done, again, 3) == 0);
	resume_close(&r, 0);
	f.csum[31] = 1;
	check_int(resume_open(&r, state, &f, &x, again, &e), -EINVAL);
	check_int(e.status, ST_BUSY);
	resume_close(&r, 0);
	f.csum[31] = 0;
	/* Cut anywhere in the bits: what is left counts; in the head: no state. */
	memset(again, 0, 3);
	check_int(truncate(state, 57), 0);
	check_int(resume_open(&r, state, &f, &x, again, &e), 1);
	check(again[0] == 1 && again[2] == 0);
	resume_close(&r, 0);
	check_int(truncate(state, 55), 0);
	check_int(resume_open(&r, state, &f, &x, again, &e), -EINVAL);
	resume_close(&r, 1);
	check_int(access(state, F_OK), -1);
}

static void
test_scan(void)
{
	struct fake fake;
	struct target t;
	struct err e;
	struct progress p;
	uint8_t got[6] = { 0 }, skip[6] = { 0 };
	struct scan_conf c = { .target = &t, .index = &fake.index, .workers = 3, .stop = -1, .progress = &p };
	int i, n = 0;

	unlink(path);
	fake_init(&fake, 40 * 65536 + 7, 65536);
	progress_begin(&p, PROGRESS_QUIET, "compared", fake.size);
	check_int(open_target(&t, fake.size, 0), 0);
	check_int(target_write(&t, 0, fake.image, fake.size), 0);
	check_int(target_write(&t, 9 * 65536 + 5, (const uint8_t *)"x", 1), 0);
	bit_set(skip, 20);
	c.skip = skip;
	check_int(scan_run(&c, got, &e), 0);
	for (i = 0; i < 41; i++)
		n += bit_get(got, (uint32_t)i);
	check_int(n, 39);
	check(!bit_get(got, 9) && !bit_get(got, 20) && bit_get(got, 40));
	check_int(p.done, fake.size - 65536);
	/* What cannot be read is not there. */
	memset(got, 0, 6);
	check_int(truncate(path, 5 * 65536), 0);
	check_int(scan_run(&c, got, &e), 0);
	check_int(got[0], 0x1f);
	check_int(got[1] | got[2] | got[3] | got[4] | got[5], 0);
	target_close(&t);
	fake_free(&fake);
}

static void
test_content(void)
{
	char text[64];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	check_int(ftruncate(fd, 100000), 0);
	disk_content(fd, 100000, text, sizeof(text));
	check_str(text, "");
	check_int(pwrite(fd, "x", 1, 99999), 1);
	disk_content(fd, 100000, text, sizeof(text));
	check_str(text, "unknown data");
	check_int(pwrite(fd, "\x53\xef", 2, 0x438), 2);
	disk_content(fd, 100000, text, sizeof(text));
	check_str(text, "ext2/3/4");
	close(fd);
}

/* What stderr gets, as one text. */
static void
shown(enum progress_mode mode, int steps, char *out, size_t cap)
{
	int keep = dup(2), fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), i;
	struct progress p;
	ssize_t n;

	dup2(fd, 2);
	progress_begin(&p, mode, "restored", 1000);
	for (i = 1; i <= steps; i++) {
		p.done = 1000u * (unsigned)i / (unsigned)steps;
		p.shown -= 5000;		/* as if time had passed */
		progress_tick(&p);
	}
	progress_clear(&p);
	progress_end(&p);
	fflush(stderr);
	dup2(keep, 2);
	close(keep);
	n = pread(fd, out, cap - 1, 0);
	out[n < 0 ? 0 : n] = 0;
	close(fd);
}

static int
count(const char *text, char c)
{
	int n = 0;

	for (; *text; text++)
		n += *text == c;
	return n;
}

static void
test_progress(void)
{
	char text[16384];

	shown(PROGRESS_QUIET, 50, text, sizeof(text));
	check_str(text, "");
	shown(PROGRESS_LINES, 50, text, sizeof(text));
	check_int(count(text, '\n'), 9);
	check(strncmp(text, " 10% 100 B of 1000 B restored, ", 31) == 0);
	shown(PROGRESS_AUTO, 3, text, sizeof(text));	/* a file is no terminal */
	check_int(count(text, '\n'), 2);
	check_int(count(text, '\r'), 0);
	shown(PROGRESS_JSON, 5, text, sizeof(text));
	check_int(count(text, '\n'), 6);
	check(strstr(text, "{\"total\":1000,\"done\":200,\"zeros\":0,\"rate\":") == text);
	shown(PROGRESS_LINE, 5, text, sizeof(text));
	check_int(count(text, '\n'), 0);
	check_int(count(text, '\r'), 5 + 2);
	check(text[strlen(text) - 1] == '\r');
}

/* The widest there is: what is rewritten must not wrap. */
static void
test_width(void)
{
	const uint64_t gib = UINT64_C(1) << 30;
	struct progress p;
	int keep = dup(2), fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	dup2(fd, 2);
	progress_begin(&p, PROGRESS_LINE, "restored", 9999 * gib / 10);
	p.done = p.zeros = p.total - gib / 2;
	p.before = p.done - (UINT64_C(9999) << 20) / 10 * 10;
	p.began -= 10000;
	p.shown -= 5000;
	progress_tick(&p);
	dup2(keep, 2);
	close(keep);
	close(fd);
	check(p.width >= 60 && p.width <= 79);
}

int
main(void)
{
	if (mkdtemp(dir) == NULL || posix_memalign((void **)&page, 4096, 2 * MIB) != 0 ||
	    posix_memalign((void **)&back, 4096, 2 * MIB) != 0)
		return 1;
	snprintf(path, sizeof(path), "%s/target", dir);
	snprintf(state, sizeof(state), "%s/state", dir);
	run(test_holes);
	run(test_odd_pieces);
	run(test_zero);
	run(test_length);
	run(test_state);
	run(test_scan);
	run(test_content);
	run(test_progress);
	run(test_width);
	unlink(path);
	unlink(state);
	rmdir(dir);
	free(page);
	free(back);
	return t_end();
}
