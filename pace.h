/* Keeping to a rate: bytes that came are paid for with time. */
#ifndef PACE_H
#define PACE_H

#include <stdint.h>

struct pace {
	uint64_t rate;			/* bytes a second; 0: no limit */
	uint64_t seen;			/* bytes paid for */
	int64_t next;			/* ms: nothing more before this */
};

/* `total` bytes have come until now (ms). Returns the ms to wait before asking for more. What was not used in
 * the past is not saved up. */
static inline int
pace_wait(struct pace *p, uint64_t total, int64_t now)
{
	if (p->rate == 0)
		return 0;
	if (p->next < now)
		p->next = now;
	if (total > p->seen)
		p->next += (int64_t)((total - p->seen) * 1000 / p->rate);
	p->seen = total;
	return p->next - now > 1000 ? 1000 : (int)(p->next - now);
}

#endif
