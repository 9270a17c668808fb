/*
 * What `map` prints when a mapping stands. stdout has what a script wants and nothing else;
 * the sentence on stderr is the official client's.
 */
#include <errno.h>
#include <stdio.h>

#include "human.h"
#include "jsonout.h"
#include "report.h"
#include "run.h"

static void
report_json(const struct report_map *r, const char *name)
{
	const struct part *p;
	int i;

	printf("{\"device\":\"/dev/loop%d\",\"number\":%d,\"size\":%llu,\"image-size\":%llu,\"pid\":%ld,\"name\":",
	    r->loop_nr, r->loop_nr, (unsigned long long)r->size, (unsigned long long)r->image_size, (long)r->pid);
	json_out(stdout, name);
	printf(",\"partitions\":[");
	for (i = 0; i < r->table->count; i++) {
		p = &r->table->part[i];
		printf("%s{\"device\":\"/dev/loop%dp%u\",\"number\":%u,\"start\":%llu,\"size\":%llu,\"type\":",
		    i ? "," : "", r->loop_nr, p->nr, p->nr, (unsigned long long)p->start, (unsigned long long)p->size);
		json_out(stdout, p->type);
		printf(",\"name\":");
		json_out(stdout, p->name);
		printf("}");
	}
	printf("]}\n");
}

int
report_map(const struct opts *o, const struct report_map *r)
{
	const struct part *p;
	char name[4096], size[10];
	int i;

	errno = 0;
	run_unescape(r->name, name, sizeof(name));
	if (o->json)
		report_json(r, name);
	else
		printf("/dev/loop%d\n", r->loop_nr);
	if (fflush(stdout) < 0 || ferror(stdout))
		return errno ? -errno : -EIO;
	fprintf(stderr, "Image '%s' mapped on /dev/loop%d\n", name, r->loop_nr);
	if (r->table->from_backup)
		fprintf(stderr, "  (partitions from the backup GPT: the primary one is damaged)\n");
	for (i = 0; i < r->table->count; i++) {
		p = &r->table->part[i];
		human_size(p->size, size);
		fprintf(stderr, "  /dev/loop%dp%-3u %9s  %s%s%s\n", r->loop_nr, p->nr, size, p->type,
		    p->name[0] ? "  " : "", p->name);
	}
	return 0;
}
