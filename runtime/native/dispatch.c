/* Which instruction set this CPU has. Compiled for the oldest CPU of its kind, as it runs before that is known. */
#include "edge_embed.h"

#include <stddef.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__) && defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bundles are little-endian, and so is this library"
#endif

#if (defined(__x86_64__) || defined(__i386__)) && defined(__AVX__)
#error "this part runs on every CPU of its kind: compile without -mavx and what includes it"
#endif

typedef struct {
    int32_t isa;
    const char *name;
} Isa;

/* The instruction sets of this kind of CPU; those of others have no name here. */
static const Isa ISAS[] = {
    {EDGE_BASELINE, "baseline"},
#if defined(__x86_64__) || defined(__i386__)
    {EDGE_SSSE3, "ssse3"},
    {EDGE_AVX2, "avx2"},
    {EDGE_AVXVNNI, "avxvnni"},
    {EDGE_AVX512, "avx512"},
    {EDGE_AVX512VNNI, "avx512vnni"},
#elif defined(__aarch64__)
    {EDGE_NEON, "neon"},
    {EDGE_DOTPROD, "dotprod"},
    {EDGE_I8MM, "i8mm"},
#endif
};
enum { ISA_COUNT = sizeof ISAS / sizeof ISAS[0] };

/* Bit n: this CPU has the instruction set n, and its units are in this library. Bit 31: VPOPCNTDQ. */
#define BIT(isa) (UINT32_C(1) << (isa))
#define VPOPCNT_BIT BIT(31)

#if defined(__x86_64__) || defined(__i386__)
/* The registers that the operating system saves when it changes between processes; 0 where it saves none of AVX. */
static uint32_t saved_registers(uint32_t leaf1_ecx)
{
    const uint32_t osxsave = UINT32_C(1) << 27;
    if (!(leaf1_ecx & osxsave))
        return 0;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static uint32_t cpu_has(void)
{
    uint32_t a, b, c, d, has = BIT(EDGE_BASELINE);
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return has;
    if (c & UINT32_C(1) << 9)
        has |= BIT(EDGE_SSSE3);
    const uint32_t fma = UINT32_C(1) << 12, popcnt = UINT32_C(1) << 23, avx = UINT32_C(1) << 28;
    const uint32_t needed = fma | popcnt | avx;
    const uint32_t saved = saved_registers(c);
    if ((c & needed) != needed || (saved & 0x6) != 0x6)
        return has;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & UINT32_C(1) << 5))
        return has;
    const uint32_t leaf7_b = b, leaf7_c = c, subleaves = a;
    has |= BIT(EDGE_AVX2);
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & UINT32_C(1) << 4))
        has |= BIT(EDGE_AVXVNNI);
    const uint32_t f = UINT32_C(1) << 16, dq = UINT32_C(1) << 17, bw = UINT32_C(1) << 30, vl = UINT32_C(1) << 31;
    const uint32_t avx512 = f | dq | bw | vl;
    if ((leaf7_b & avx512) == avx512 && (saved & 0xe6) == 0xe6) {
        has |= BIT(EDGE_AVX512);
        if (leaf7_c & UINT32_C(1) << 11)
            has |= BIT(EDGE_AVX512VNNI);
        if (leaf7_c & UINT32_C(1) << 14)
            has |= VPOPCNT_BIT;
    }
    return has;
}
#elif defined(__aarch64__)
#if defined(__APPLE__)
static int reported(const char *name)
{
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value;
}
#endif

static uint32_t cpu_has(void)
{
    int dotprod = 0, i8mm = 0;
#if defined(__linux__)
    /* HWCAP_ASIMDDP and HWCAP2_I8MM; older headers lack the names */
    dotprod = (getauxval(AT_HWCAP) & (1UL << 20)) != 0;
    i8mm = (getauxval(AT_HWCAP2) & (1UL << 13)) != 0;
#elif defined(__APPLE__)
    dotprod = reported("hw.optional.arm.FEAT_DotProd");
    i8mm = reported("hw.optional.arm.FEAT_I8MM");
#elif defined(_WIN32)
    /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE and PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE */
    dotprod = IsProcessorFeaturePresent(43) != 0;
    i8mm = IsProcessorFeaturePresent(66) != 0;
#endif
    uint32_t has = BIT(EDGE_BASELINE) | BIT(EDGE_NEON);
    if (dotprod)
        has |= BIT(EDGE_DOTPROD);
    /* units of i8mm use the dot product too */
    if (dotprod && i8mm)
        has |= BIT(EDGE_I8MM);
    return has;
}
#else
static uint32_t cpu_has(void)
{
    return BIT(EDGE_BASELINE);
}
#endif

static uint32_t library_has(void)
{
    uint32_t has = BIT(EDGE_BASELINE);
#ifdef EDGE_HAVE_SSSE3
    has |= BIT(EDGE_SSSE3);
#endif
#ifdef EDGE_HAVE_AVX2
    has |= BIT(EDGE_AVX2);
#endif
#ifdef EDGE_HAVE_AVXVNNI
    has |= BIT(EDGE_AVXVNNI);
#endif
#ifdef EDGE_HAVE_AVX512
    has |= BIT(EDGE_AVX512);
#endif
#ifdef EDGE_HAVE_AVX512VNNI
    has |= BIT(EDGE_AVX512VNNI);
#endif
#ifdef EDGE_HAVE_VPOPCNT
    has |= VPOPCNT_BIT;
#endif
#ifdef EDGE_HAVE_NEON
    has |= BIT(EDGE_NEON);
#endif
#ifdef EDGE_HAVE_DOTPROD
    has |= BIT(EDGE_DOTPROD);
#endif
#ifdef EDGE_HAVE_I8MM
    has |= BIT(EDGE_I8MM);
#endif
    return has;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

int32_t edge_abi(void)
{
    return EDGE_ABI;
}

int32_t edge_isa(const char *limit)
{
    int32_t most = EDGE_I8MM;
    if (limit && *limit) {
        most = EDGE_UNKNOWN_ISA;
        for (int i = 0; i < ISA_COUNT; i++)
            if (same(limit, ISAS[i].name))
                most = ISAS[i].isa;
        if (most == EDGE_UNKNOWN_ISA)
            return EDGE_UNKNOWN_ISA;
    }
    const uint32_t has = cpu_has() & library_has();
    int32_t best = EDGE_BASELINE;
    for (int i = 0; i < ISA_COUNT; i++)
        if (ISAS[i].isa <= most && (has & BIT(ISAS[i].isa)))
            best = ISAS[i].isa;
    if ((has & VPOPCNT_BIT) && (best == EDGE_AVX512 || best == EDGE_AVX512VNNI))
        best |= EDGE_VPOPCNT;
    return best;
}

const char *edge_isa_name(int32_t isa)
{
    for (int i = 0; i < ISA_COUNT; i++)
        if (ISAS[i].isa == (isa & EDGE_ISA_MASK))
            return ISAS[i].name;
    return "";
}
