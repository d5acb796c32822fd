/* How a thread of an x86 CPU computes with floats: its register MXCSR. */
#ifndef EDGE_MXCSR_H
#define EDGE_MXCSR_H

#include <xmmintrin.h>

/* The thread may have been set to round in another way, or to take tiny numbers for 0: not while the encoder runs. */
typedef uint32_t FloatMode;

INLINE FloatMode float_mode(void)
{
    const FloatMode before = _mm_getcsr(), usual = 0x1f80; /* nearest, no traps, denormals as numbers */
    _mm_setcsr(usual);
    return before;
}

INLINE void restore_float_mode(FloatMode before)
{
    _mm_setcsr(before);
}

#endif
