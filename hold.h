/* Who uses a block device or its partitions, a file, or a mount: mounts, swap, device-mapper and md, open descriptors. */
#ifndef HOLD_H
#define HOLD_H

#include <stddef.h>
#include <sys/types.h>

/* Writes a list for people, one holder a line, "  /dev/loop0p1 is mounted on /mnt\n", "  /dev/loop0p2 is held by dm-3 (cryptroot)\n", "… is in use as swap", "  /dev/loop0 is open by
 * process 1234 (dd)\n", to out (cut at whole lines), leaving out process `self`. Returns the number of holders (also of those that were cut). */
int hold_list(int loop_nr, pid_t self, char *out, size_t cap);
/* The same of any block device, by its name in /sys: "sda", "nvme0n1p2". */
int hold_list_dev(const char *name, pid_t self, char *out, size_t cap);
/* The same of a regular file: loop devices, swap, open descriptors; by the file's name, so not when it goes by another one there. */
int hold_list_file(const char *path, char *out, size_t cap);

/* The same of the file system mounted on `point`: processes that have something of it open or are in it, mounts and
 * loop devices on what is in it. */
int hold_list_mount(const char *point, pid_t self, char *out, size_t cap);

#endif
