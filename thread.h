/* Threads: how all of them are started. */
#ifndef THREAD_H
#define THREAD_H

#include <pthread.h>
#include <stddef.h>

/* Starts fn(arg) with `stack` bytes of stack (0: the default). Signals are the main thread's: this one blocks them, but for SIGSYS, which is
 * about what a thread does itself. id NULL: nobody joins it. 0 or a negative errno. */
int thread_new(pthread_t *id, size_t stack, void *(*fn)(void *), void *arg);

#endif
