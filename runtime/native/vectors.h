/* Vectors of sixteen floats, whatever the CPU's registers hold: every sum has the same sixteen lanes, and so the same bits
 * everywhere.
 *
 * The file of an instruction set (isa_*.h) gives
 *   VL, vf, vi                 floats in a register; vectors of VL floats and VL int32, with the compiler's + - *
 *   vfma(a, b, c)              a * b + c, rounded once
 *   vmin, vmax                 of vf
 *   vbytes(p)                  VL int8 -> vi
 *   vfold(x), vtop(x)          the sum of the lanes, always the upper half on the lower; the largest lane
 *   act, ACT_OFFSET            a code of an activation: uint8_t and 0, or int8_t (code - 128) and 128
 *   put_codes(to, r)           the low bytes of 16 floats' bits, r[LANES]
 *   transpose16(from, from_stride, to, to_stride)   16 x 16 floats; strides in floats
 *   TILE_ROWS, TILE_PANELS     the largest tile of a product: rows, and panels of 16 columns
 *   tile(rows, panels, ...)    see linear.h
 *   ATTENTION_ROWS, ATTENTION_VECTORS   the registers' block in attention: queries x vectors of 16
 *   FloatMode, float_mode(), restore_float_mode(mode)   round to nearest, denormals as numbers */
#ifndef EDGE_VECTORS_H
#define EDGE_VECTORS_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "floats are computed in wider registers here: compile with -msse2 -mfpmath=sse"
#endif
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "the compiler may change the order of sums here: compile without -ffast-math"
#endif

#define INLINE static inline __attribute__((always_inline))
/* For what is called with registers full of sums: inlined into more, gcc runs out of them. */
#define APART static __attribute__((noinline))
/* Before loops over registers: gcc leaves arrays in memory unless each loop over them is gone early. */
#define UNROLL _Pragma("GCC unroll 16")

#if defined(EDGE_ISA_AVX512VNNI)
#include "isa_avx512.h"
#elif defined(EDGE_ISA_AVX2) || defined(EDGE_ISA_AVXVNNI)
#include "isa_avx2.h"
#elif defined(EDGE_ISA_SSSE3) || (defined(EDGE_ISA_BASELINE) && defined(__SSE2__))
#include "isa_sse.h"
#elif defined(EDGE_ISA_NEON) || defined(EDGE_ISA_DOTPROD) || defined(EDGE_ISA_I8MM)
#include "isa_neon.h"
#elif defined(EDGE_ISA_BASELINE)
#include "isa_plain.h"
#else
#error "no encoder for this instruction set"
#endif

#define LANES (16 / VL)

typedef struct {
    vf part[LANES];
} v16;

/* The same at any address: memcpy would do, but gcc splits it into pieces that are slow to read back. */
typedef vf unaligned_vf __attribute__((aligned(1), may_alias));
typedef vi unaligned_vi __attribute__((aligned(1), may_alias));

#define EACH UNROLL for (int lane = 0; lane < LANES; lane++)

INLINE v16 v_set(float x)
{
    v16 y;
    EACH y.part[lane] = x - (vf){0};
    return y;
}

INLINE v16 v_load(const float *p)
{
    v16 y;
    EACH y.part[lane] = *(const unaligned_vf *)(p + lane * VL);
    return y;
}

INLINE void v_store(float *p, v16 x)
{
    EACH *(unaligned_vf *)(p + lane * VL) = x.part[lane];
}

INLINE v16 v_add(v16 a, v16 b)
{
    EACH a.part[lane] = a.part[lane] + b.part[lane];
    return a;
}

INLINE v16 v_sub(v16 a, v16 b)
{
    EACH a.part[lane] = a.part[lane] - b.part[lane];
    return a;
}

INLINE v16 v_mul(v16 a, v16 b)
{
    EACH a.part[lane] = a.part[lane] * b.part[lane];
    return a;
}

INLINE v16 v_fma(v16 a, v16 b, v16 c)
{
    EACH a.part[lane] = vfma(a.part[lane], b.part[lane], c.part[lane]);
    return a;
}

INLINE v16 v_min(v16 a, v16 b)
{
    EACH a.part[lane] = vmin(a.part[lane], b.part[lane]);
    return a;
}

INLINE v16 v_max(v16 a, v16 b)
{
    EACH a.part[lane] = vmax(a.part[lane], b.part[lane]);
    return a;
}

/* a where all bits of `which` are set, b where none is. */
INLINE v16 v_choose(v16 which, v16 a, v16 b)
{
    EACH a.part[lane] = (vf)(((vi)a.part[lane] & (vi)which.part[lane]) | ((vi)b.part[lane] & ~(vi)which.part[lane]));
    return a;
}

/* 16 int32 as floats. */
INLINE v16 v_ints(const int32_t *p)
{
    v16 y;
    EACH y.part[lane] = __builtin_convertvector(*(const unaligned_vi *)(p + lane * VL), vf);
    return y;
}

/* 16 int8 as floats. */
INLINE v16 v_bytes(const int8_t *p)
{
    v16 y;
    EACH y.part[lane] = __builtin_convertvector(vbytes(p + lane * VL), vf);
    return y;
}

/* ((0 + 8) + (4 + 12)) + ...: the upper half of the lanes on the lower, four times. */
INLINE float v_sum(v16 x)
{
    for (int width = LANES / 2; width; width /= 2)
        for (int lane = 0; lane < width; lane++)
            x.part[lane] = x.part[lane] + x.part[lane + width];
    return vfold(x.part[0]);
}

INLINE float v_top(v16 x)
{
    for (int width = LANES / 2; width; width /= 2)
        for (int lane = 0; lane < width; lane++)
            x.part[lane] = vmax(x.part[lane], x.part[lane + width]);
    return vtop(x.part[0]);
}

#endif
