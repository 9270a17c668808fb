#ifndef NEWROOT_H
#define NEWROOT_H

/* Remembers where the system's root can be found later. Call early; without it, or where it is not allowed, newroot_follow() does
 * nothing. */
void newroot_keep(void);

/* When the file at this absolute path, which was there before, is gone: makes the root and the working directory of the
 * calling thread, which may share them with others until then, those that the system has now. Needs root. */
void newroot_follow(const char *path);

#endif
