/*
 * What this CPU has beyond its architecture's base, asked at run time, and the
 * choice of a path through code that makes use of it.
 */
#ifndef CPU_H
#define CPU_H

#include <stddef.h>

struct cpu_path {
	const char *name;
	int (*there)(void);		/* NULL: everywhere */
};

/* The index of the first path that is there (and called name, unless that is NULL); -1: none. */
int cpu_choose(const struct cpu_path *paths, size_t n, const char *name);

#if defined(__x86_64__) || defined(__i386__)
#define CPU_X86 1
#define CPU_ARM64 0

#include <cpuid.h>

static inline int
cpu_leaf1_ecx(unsigned bits)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bits) == bits;
}

/* SHA extensions, with the SSSE3 and SSE4.1 that their use takes. */
static inline int
cpu_has_shani(void)
{
	unsigned a, b, c, d;

	return cpu_leaf1_ecx(bit_SSSE3 | bit_SSE4_1) &&
	    __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA) != 0;
}

static inline int
cpu_has_pclmul(void)
{
	return cpu_leaf1_ecx(bit_PCLMUL);
}

/* Older clang knows these instructions only where the whole program may use them. */
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && \
    (!defined(__clang__) || __clang_major__ >= 16)
#define CPU_X86 0
#define CPU_ARM64 1

#include <sys/auxv.h>

/* The kernel's HWCAP bits, part of its interface. */
#define CPU_HWCAP_SHA2 (1ul << 6)
#define CPU_HWCAP_CRC32 (1ul << 7)

#ifdef __clang__
#define CPU_TARGET_SHA2 __attribute__((target("sha2")))
#define CPU_TARGET_CRC32 __attribute__((target("crc")))
#else
#define CPU_TARGET_SHA2 __attribute__((target("+crypto")))
#define CPU_TARGET_CRC32 __attribute__((target("+crc")))
#endif

static inline int
cpu_has_sha2(void)
{
	return (getauxval(AT_HWCAP) & CPU_HWCAP_SHA2) != 0;
}

static inline int
cpu_has_crc32(void)
{
	return (getauxval(AT_HWCAP) & CPU_HWCAP_CRC32) != 0;
}

#else
#define CPU_X86 0
#define CPU_ARM64 0
#endif

#endif
