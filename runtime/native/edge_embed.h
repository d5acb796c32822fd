/* The public functions of edge_embed's native library, and what they have in common.
 *
 * The library has no state: all memory is the caller's, and the instruction set is a number that the caller gets from
 * edge_isa() and hands on. EDGE_ABI grows with every change of a function or a struct here; the Python package refuses
 * a library with another number than its own. */
#ifndef EDGE_EMBED_H
#define EDGE_EMBED_H

#include <stdint.h>

#define EDGE_ABI 1

#if defined(_WIN32)
#define EDGE_API __declspec(dllexport)
#else
#define EDGE_API __attribute__((visibility("default")))
#endif

/* Instruction sets, the better ones later. A CPU has some of one family. */
enum {
    EDGE_BASELINE = 0, /* what every CPU of this kind has: plain x86-64, Armv8.0, or portable C */
    EDGE_SSSE3 = 1,
    EDGE_AVX2 = 2, /* with FMA and POPCNT */
    EDGE_AVXVNNI = 3,
    EDGE_AVX512 = 4, /* F, BW, DQ, VL */
    EDGE_AVX512VNNI = 5,
    EDGE_NEON = 16,
    EDGE_DOTPROD = 17,
    EDGE_I8MM = 18,
    EDGE_ISA_MASK = 0xff,
    EDGE_VPOPCNT = 0x100 /* beside AVX512: VPOPCNTDQ */
};

enum {
    EDGE_UNKNOWN_ISA = -1 /* edge_isa: this kind of CPU has no instruction set of this name */
};

/* EDGE_ABI of the library. The only function that may be called before the number is known to fit. */
EDGE_API int32_t edge_abi(void);

/* The best instruction set that this CPU, its operating system and this library have; at most `limit`, the name of one
 * (NULL or "": no limit). EDGE_BASELINE .. EDGE_I8MM, with EDGE_VPOPCNT where there is that, or EDGE_UNKNOWN_ISA. */
EDGE_API int32_t edge_isa(const char *limit);

/* The name of an instruction set, such as "avx2"; "" for a number that is none. */
EDGE_API const char *edge_isa_name(int32_t isa);

#endif
