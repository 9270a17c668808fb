/*
 * Unit tests: each test is a function, each prints one TAP line.
 *
 *	static void test_x(void) { check(1 + 1 == 2); check_str(s, "abc"); }
 *	int main(void) { run(test_x); return t_end(); }
 */
#ifndef T_H
#define T_H

#include <stdio.h>
#include <string.h>

static int t_count, t_failed, t_bad;

#define check(cond) ((cond) ? 1 : (t_bad++, \
    printf("# %s:%d: not so: %s\n", __FILE__, __LINE__, #cond), 0))

#define check_int(a, b) do { \
	long long a_ = (long long)(a), b_ = (long long)(b); \
	if (a_ != b_) { \
		t_bad++; \
		printf("# %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, a_, b_); \
	} \
} while (0)

#define check_str(a, b) do { \
	const char *a_ = (a), *b_ = (b); \
	if (strcmp(a_, b_) != 0) { \
		t_bad++; \
		printf("# %s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #a, a_, b_); \
	} \
} while (0)

#define run(fn) do { \
	t_bad = 0; \
	fn(); \
	t_failed += t_bad != 0; \
	printf("%s %d - %s\n", t_bad ? "not ok" : "ok", ++t_count, #fn); \
	fflush(stdout); \
} while (0)

static int
t_end(void)
{
	printf("1..%d\n", t_count);
	return t_failed != 0;
}

#endif
