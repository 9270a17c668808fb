#include "verify.h"
#include "log.h"
int verify_run(const struct opts *o)
{
	(void)o;
	say("not yet");
	return 1;
}
