/*
 * What `map` prints when a mapping stands. stdout has what a script wants and nothing else;
 * the sentence on stderr is the official client's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

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

void
report_parts(const char *disk, const struct part_table *t)
{
	const struct part *p;
	char size[10], end = disk[0] ? disk[strlen(disk) - 1] : 'x';

	if (t->from_backup)
		fprintf(stderr, "  (partitions from the backup GPT: the primary one is damaged)\n");
	for (p = t->part; p < t->part + t->count; p++)
		fprintf(stderr, "  %s%s%-3u %9s  %s%s%s\n", disk, end >= '0' && end <= '9' ? "p" : "", p->nr,
		    human_size(p->size, size), p->type, p->name[0] ? "  " : "", p->name);
}

int
report_map(const struct opts *o, const struct report_map *r)
{
	char name[4096], dev[24];

	errno = 0;
	run_unescape(r->name, name, sizeof(name));
	snprintf(dev, sizeof(dev), "/dev/loop%d", r->loop_nr);
	if (o->json)
		report_json(r, name);
	else
		printf("%s\n", dev);
	if (fflush(stdout) < 0 || ferror(stdout))
		return errno ? -errno : -EIO;
	fprintf(stderr, "Image '%s' mapped on %s\n", name, dev);
	report_parts(dev, r->table);
	return 0;
}
