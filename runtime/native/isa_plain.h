/* Any other CPU: C that a compiler turns into what it has. Vectors of 4 floats, codes times weights in int32. */
#ifndef EDGE_ISA_PLAIN_H
#define EDGE_ISA_PLAIN_H

#include "exact_fma.h"

#define VL 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint8_t act;
#define ACT_OFFSET 0

INLINE float one_fma(float a, float b, float c)
{
#if defined(__FP_FAST_FMAF)
    return __builtin_fmaf(a, b, c); /* an instruction of this CPU */
#else
    return exact_fma(a, b, c);
#endif
}

INLINE vf vfma(vf a, vf b, vf c)
{
    return (vf){one_fma(a[0], b[0], c[0]), one_fma(a[1], b[1], c[1]), one_fma(a[2], b[2], c[2]),
                one_fma(a[3], b[3], c[3])};
}

INLINE vf vmin(vf a, vf b)
{
    const vi smaller = a < b;
    return (vf)((smaller & (vi)a) | (~smaller & (vi)b));
}

INLINE vf vmax(vf a, vf b)
{
    const vi larger = a > b;
    return (vf)((larger & (vi)a) | (~larger & (vi)b));
}

INLINE vi vbytes(const int8_t *p)
{
    return (vi){p[0], p[1], p[2], p[3]};
}

INLINE float vfold(vf x)
{
    return (x[0] + x[2]) + (x[1] + x[3]);
}

INLINE float vtop(vf x)
{
    const float even = x[0] > x[2] ? x[0] : x[2], odd = x[1] > x[3] ? x[1] : x[3];
    return even > odd ? even : odd;
}

/* The low bytes of the bit patterns of 16 floats. */
INLINE void put_codes(act *to, const vf r[4])
{
    for (int i = 0; i < 16; i++)
        to[i] = (act)(((vi)r[i / 4])[i % 4] & 0xff);
}

/* 16 x 16 floats: to[c][r] = from[r][c]. */
INLINE void transpose16(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 16; c++)
            to[c * to_stride + r] = from[r * from_stride + c];
}

/* There is no portable way to ask how a thread rounds without the C library's floating-point environment. */
typedef int FloatMode;

INLINE FloatMode float_mode(void)
{
    return 0;
}

INLINE void restore_float_mode(FloatMode before)
{
    (void)before;
}

/* sums[rows][16] = init[16] + codes[rows][k] x weights[k][16]. A panel of weights holds 4 inputs of 16 outputs at a
 * time: 64 bytes. */
#define TILE_PANELS 1
#define TILE_ROWS 2

INLINE void tile(const int rows, const int panels, const act *a, int64_t a_stride, const int8_t *w, int64_t panel_bytes,
                 int64_t k, const int32_t *init, int32_t *sums, const int8_t *next)
{
    (void)panels, (void)panel_bytes, (void)next;
    for (int m = 0; m < rows; m++) {
        int32_t *row = sums + 16 * m;
        for (int c = 0; c < 16; c++)
            row[c] = init[c];
        for (int64_t i = 0; i < k; i += 4) {
            const act *four = a + m * a_stride + i;
            const int8_t *step = w + 16 * i;
            for (int c = 0; c < 16; c++)
                row[c] += four[0] * step[4 * c] + four[1] * step[4 * c + 1] + four[2] * step[4 * c + 2] +
                          four[3] * step[4 * c + 3];
        }
    }
}

/* Scores that attention has in registers at a time: rows x vectors of 16 floats. */
#define ATTENTION_ROWS 2
#define ATTENTION_VECTORS 1

#endif
