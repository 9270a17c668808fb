/*
 * Kernel modules that a mapping cannot do without, loaded where nobody else does it: rescue systems have neither
 * udev nor, often, modprobe. Knows nothing of what they are for.
 */
#ifndef MODULES_H
#define MODULES_H

/* Opens the character device /dev/NAME (O_RDWR); what is missing is made on the way: the module and the node, which
 * has the number 10:minor. A descriptor, or the negative errno of the last attempt. */
int modules_open(const char *module, const char *name, unsigned minor);

#endif
