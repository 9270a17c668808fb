/*
 * Progress on stderr. A serial console has 9600 baud, and a script's log is no terminal: both get a line every
 * tenth of the way; a terminal that is faster gets one line, rewritten at most twice a second.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "clock.h"
#include "human.h"
#include "progress.h"

#define LINE_MS 500
#define JSON_MS 1000
#define VT_MAJOR 4			/* below minor 64: consoles; above: serial lines */
#define PTS_MAJOR 136			/* to 143: pseudo-terminals */

/* Consoles and pseudo-terminals say 38400, and mean nothing by it; less than that is meant: ssh hands on what a serial
 * console says. */
int
progress_fast(int fd)
{
	struct termios t;
	struct stat st;

	if (tcgetattr(fd, &t) < 0 || fstat(fd, &st) < 0)
		return 0;
	if ((major(st.st_rdev) == VT_MAJOR && minor(st.st_rdev) < 64) ||
	    (major(st.st_rdev) >= PTS_MAJOR && major(st.st_rdev) < PTS_MAJOR + 8))
		return cfgetospeed(&t) >= B38400;
	return cfgetospeed(&t) > B38400;
}

void
progress_begin(struct progress *p, enum progress_mode mode, const char *what, uint64_t total)
{
	memset(p, 0, sizeof(*p));
	p->mode = mode != PROGRESS_AUTO ? mode : progress_fast(2) ? PROGRESS_LINE : PROGRESS_LINES;
	p->what = what;
	p->total = total;
	p->began = p->shown = clock_ms();
}

/* Bytes a second until now, and seconds left. */
static uint64_t
rate(const struct progress *p, uint64_t *left)
{
	uint64_t ms = (uint64_t)(clock_ms() - p->began) + 1;
	uint64_t per_s = (uint64_t)((double)(p->done - p->before) * 1000 / (double)ms);

	*left = per_s ? (p->total - p->done) / per_s : 0;
	return per_s;
}

/* At most 79 columns: a line that wraps cannot be rewritten. */
static int
format(const struct progress *p, char *out, size_t cap)
{
	char done[10], total[10], per_s[10], zeros[10], time[8];
	uint64_t left, r = rate(p, &left);
	unsigned percent = p->total ? (unsigned)((double)p->done / (double)p->total * 100) : 100;

	return snprintf(out, cap, "%3u%% %s of %s %s, %s/s%s%s%s, %s left", percent,
	    human_size(p->done, done), human_size(p->total, total), p->what, human_size(r, per_s),
	    p->zeros ? ", " : "", p->zeros ? human_size(p->zeros, zeros) : "", p->zeros ? " zeros" : "",
	    human_time(left, time));
}

static void
show_json(const struct progress *p)
{
	uint64_t left, r = rate(p, &left);

	fprintf(stderr, "{\"total\":%llu,\"done\":%llu,\"zeros\":%llu,\"rate\":%llu,\"left\":%llu}\n",
	    (unsigned long long)p->total, (unsigned long long)p->done, (unsigned long long)p->zeros,
	    (unsigned long long)r, (unsigned long long)left);
}

static void
show_line(struct progress *p)
{
	char text[128];
	int n = format(p, text, sizeof(text));

	/* No cursor tricks: a shorter line is filled up with blanks. */
	fprintf(stderr, "\r%-*s", p->width, text);
	p->width = n;
}

int
progress_tick(struct progress *p)
{
	int64_t now = clock_ms();
	int every = p->mode == PROGRESS_JSON ? JSON_MS : LINE_MS;
	unsigned tenth = p->total ? (unsigned)((double)p->done / (double)p->total * 10) : 0;
	char text[128];

	if (p->mode == PROGRESS_QUIET)
		return JSON_MS;
	if (p->mode == PROGRESS_LINES) {
		/* What is over in a moment needs no lines. */
		if (tenth > p->tenth && tenth < 10 && now - p->shown >= JSON_MS) {
			format(p, text, sizeof(text));
			fprintf(stderr, "%s\n", text);
			p->tenth = tenth;
			p->shown = now;
		}
		return JSON_MS;
	}
	if (now - p->shown < every)
		return (int)(p->shown + every - now);
	p->shown = now;
	if (p->mode == PROGRESS_JSON)
		show_json(p);
	else
		show_line(p);
	return every;
}

void
progress_clear(struct progress *p)
{
	if (p->width > 0)
		fprintf(stderr, "\r%*s\r", p->width, "");
	p->width = 0;
}

void
progress_end(struct progress *p)
{
	if (p->mode == PROGRESS_JSON)
		show_json(p);
	progress_clear(p);
}
