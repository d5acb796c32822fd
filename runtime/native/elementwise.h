/* What happens to numbers between products: rounding to codes, GELU, exponentials, layer norm. */
#ifndef EDGE_ELEMENTWISE_H
#define EDGE_ELEMENTWISE_H

#include <math.h>

#include "prepared.h"
#include "vectors.h"

/* 1.5 * 2^23: a float of this size has no fraction, so adding it rounds to the nearest integer, half to even, and leaves
 * that integer in the low bits. */
#define ROUNDER 12582912.0f

/* Codes of 16 numbers: round(x * factor + zero point). */
typedef struct {
    v16 zero, low, high;
} Coder;

INLINE Coder coder(const Rounding *rounding)
{
    const float start = ROUNDER - ACT_OFFSET;
    return (Coder){v_set(start + (float)rounding->zero_point), v_set(start), v_set(start + 255.0f)};
}

INLINE void put(act *to, v16 x, v16 factor, const Coder *c)
{
    /* floats of one sign are ordered as their bits are, so 0..255 can be clamped to behind the sum, at any size of x */
    const v16 r = v_min(v_max(v_fma(x, factor, c->zero), c->low), c->high);
    put_codes(to, r.part);
}

/* 2^x for x <= 0, to 3e-6 of itself; below -126 as at -126. Polynomial: minimax on -0.5..0.5. */
INLINE v16 exp2_below_0(v16 x)
{
    x = v_max(x, v_set(-126.0f));
    const v16 shifted = v_add(x, v_set(ROUNDER));
    const v16 r = v_sub(x, v_sub(shifted, v_set(ROUNDER)));
    v16 y = v_set(0.009582852944731712f);
    y = v_fma(y, r, v_set(0.055906426161527634f));
    y = v_fma(y, r, v_set(0.24024099111557007f));
    y = v_fma(y, r, v_set(0.6931241750717163f));
    y = v_fma(y, r, v_set(1.0f));
    EACH y.part[lane] = (vf)((vi)y.part[lane] + ((vi)shifted.part[lane] << 23));
    return y;
}

/* x * (0.5 + erf(x / sqrt 2) / 2), to 5e-5 within -4..4, where the function ends in all but 5e-5 of x: codes are coarser.
 * The odd polynomial is minimax for the error times x. */
INLINE v16 gelu(v16 x)
{
    const v16 z = v_min(v_max(x, v_set(-4.0f)), v_set(4.0f));
    const v16 s = v_mul(z, z);
    v16 y = v_set(-1.2757401801621882e-09f);
    y = v_fma(y, s, v_set(1.0269209838043025e-07f));
    y = v_fma(y, s, v_set(-3.621515361373895e-06f));
    y = v_fma(y, s, v_set(7.44212229619734e-05f));
    y = v_fma(y, s, v_set(-0.001003613113425672f));
    y = v_fma(y, s, v_set(0.009495305828750134f));
    y = v_fma(y, s, v_set(-0.06587129086256027f));
    y = v_fma(y, s, v_set(0.3986643850803375f));
    return v_mul(x, v_fma(y, z, v_set(0.5f)));
}

/* x [width], in place; codes: NULL, or takes the codes for the next linear layer. */
INLINE void layer_norm(const Norm *norm, float epsilon, float *x, int64_t width, const Rounding *next, const Coder *c,
                       act *codes)
{
    v16 sum = v_set(0), squares = v_set(0);
    for (int64_t i = 0; i < width; i += 16)
        sum = v_add(sum, v_load(x + i));
    const v16 mean = v_set(v_sum(sum) / (float)width);
    for (int64_t i = 0; i < width; i += 16) {
        const v16 centred = v_sub(v_load(x + i), mean);
        squares = v_fma(centred, centred, squares);
    }
    const v16 inverse = v_set(1.0f / sqrtf(v_sum(squares) / (float)width + epsilon));
    for (int64_t i = 0; i < width; i += 16) {
        const v16 unit = v_mul(v_sub(v_load(x + i), mean), inverse);
        const v16 y = v_fma(unit, v_load(norm->weight + i), v_load(norm->bias + i));
        v_store(x + i, y);
        if (codes)
            put(codes + i, y, v_load(next->factor + i), c);
    }
}

#endif
