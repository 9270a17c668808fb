/* Any bytes as an archive: the whole tree is walked, each name looked up, each attribute read. Ends, and reads nothing
 * outside. */
#include "pxlook.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pxlook l;

	/* Split, when its length is odd. */
	pxlook(&l, data, size, size & 1 ? 1 << 20 : 0);
	return 0;
}
