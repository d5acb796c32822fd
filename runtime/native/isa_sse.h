/* x86-64 without FMA: vectors of 4 floats, a fused multiply-add by way of doubles, and the product of int8 for two
 * kinds of CPU.
 *
 *   baseline  SSE2, which every x86-64 has: codes and weights as int16, pmaddwd
 *   ssse3     Core 2 to Ivy Bridge, Atoms up to Tremont: pmaddubsw; exact, as pairs of weights add up to at most 128 */
#ifndef EDGE_ISA_SSE_H
#define EDGE_ISA_SSE_H

#include <emmintrin.h>

#include "exact_fma.h"
#include "mxcsr.h"

#define VL 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint8_t act;
#define ACT_OFFSET 0

/* Two lanes of exact_fma's last steps: s moved where it was rounded to the middle between two floats. */
INLINE __m128d round_pair_to_odd(__m128d p, __m128d c, __m128d s)
{
    const __m128d from_c = _mm_sub_pd(s, p);
    const __m128d error = _mm_add_pd(_mm_sub_pd(p, _mm_sub_pd(s, from_c)), _mm_sub_pd(c, from_c));
    const __m128i one = _mm_set_epi32(0, 1, 0, 1), bits = _mm_castpd_si128(s);
    /* 1 where there is an error and the last bit of s is 0; the error of an infinite s is NaN, which is none */
    const __m128d some = _mm_cmpneq_pd(error, _mm_setzero_pd()), number = _mm_cmpord_pd(error, error);
    const __m128i wrong = _mm_castpd_si128(_mm_and_pd(some, number));
    const __m128i step = _mm_andnot_si128(bits, _mm_and_si128(wrong, one));
    /* +1 where error and s have one sign, else -1 */
    const __m128i other_sign = _mm_srli_epi64(_mm_xor_si128(_mm_castpd_si128(error), bits), 63);
    const __m128i down = _mm_slli_epi64(_mm_and_si128(step, other_sign), 1);
    return _mm_castsi128_pd(_mm_sub_epi64(_mm_add_epi64(bits, step), down));
}

INLINE vf vfma(vf a, vf b, vf c)
{
    const __m128d a0 = _mm_cvtps_pd((__m128)a), a1 = _mm_cvtps_pd(_mm_movehl_ps((__m128)a, (__m128)a));
    const __m128d b0 = _mm_cvtps_pd((__m128)b), b1 = _mm_cvtps_pd(_mm_movehl_ps((__m128)b, (__m128)b));
    const __m128d c0 = _mm_cvtps_pd((__m128)c), c1 = _mm_cvtps_pd(_mm_movehl_ps((__m128)c, (__m128)c));
    const __m128d p0 = _mm_mul_pd(a0, b0), p1 = _mm_mul_pd(a1, b1);
    __m128d s0 = _mm_add_pd(p0, c0), s1 = _mm_add_pd(p1, c1);
    const __m128i low = _mm_castps_si128(
        _mm_shuffle_ps(_mm_castpd_ps(s0), _mm_castpd_ps(s1), _MM_SHUFFLE(2, 0, 2, 0)));
    const __m128i middle = _mm_cmpeq_epi32(_mm_slli_epi32(low, 4), _mm_setzero_si128());
    if (__builtin_expect(_mm_movemask_epi8(middle) != 0, 0)) {
        s0 = round_pair_to_odd(p0, c0, s0);
        s1 = round_pair_to_odd(p1, c1, s1);
    }
    return (vf)_mm_movelh_ps(_mm_cvtpd_ps(s0), _mm_cvtpd_ps(s1));
}

INLINE vf vmin(vf a, vf b)
{
    return (vf)_mm_min_ps((__m128)a, (__m128)b);
}

INLINE vf vmax(vf a, vf b)
{
    return (vf)_mm_max_ps((__m128)a, (__m128)b);
}

INLINE vi vbytes(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    __m128i x = _mm_cvtsi32_si128(four);
    x = _mm_unpacklo_epi8(x, x); /* each byte twice, then four times: the highest is the one with the sign */
    return (vi)_mm_srai_epi32(_mm_unpacklo_epi16(x, x), 24);
}

INLINE float vfold(vf x)
{
    const __m128 y = _mm_add_ps((__m128)x, _mm_movehl_ps((__m128)x, (__m128)x));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}

INLINE float vtop(vf x)
{
    const __m128 y = _mm_max_ps((__m128)x, _mm_movehl_ps((__m128)x, (__m128)x));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}

/* The low bytes of the bit patterns of 16 floats. */
INLINE void put_codes(act *to, const vf r[4])
{
    const __m128i low = _mm_set1_epi32(0xff);
    const __m128i a = _mm_packs_epi32(_mm_and_si128((__m128i)r[0], low), _mm_and_si128((__m128i)r[1], low));
    const __m128i b = _mm_packs_epi32(_mm_and_si128((__m128i)r[2], low), _mm_and_si128((__m128i)r[3], low));
    _mm_storeu_si128((__m128i *)(void *)to, _mm_packus_epi16(a, b));
}

/* 16 x 16 floats: to[c][r] = from[r][c]. */
INLINE void transpose16(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    for (int r = 0; r < 16; r += 4)
        for (int c = 0; c < 16; c += 4) {
            const float *f = from + r * from_stride + c;
            float *t = to + c * to_stride + r;
            __m128 a0 = _mm_loadu_ps(f), a1 = _mm_loadu_ps(f + from_stride);
            __m128 a2 = _mm_loadu_ps(f + 2 * from_stride), a3 = _mm_loadu_ps(f + 3 * from_stride);
            _MM_TRANSPOSE4_PS(a0, a1, a2, a3);
            _mm_storeu_ps(t, a0);
            _mm_storeu_ps(t + to_stride, a1);
            _mm_storeu_ps(t + 2 * to_stride, a2);
            _mm_storeu_ps(t + 3 * to_stride, a3);
        }
}

INLINE int32_t four_codes(const act *from)
{
    int32_t codes;
    memcpy(&codes, from, sizeof codes);
    return codes;
}

/* --- sums[rows][16] = init[16] + codes[rows][k] x weights[k][16]. A panel of weights holds 4 inputs of 16 outputs at a
 * time: 64 bytes, in 4 vectors of 4 outputs each. */
#define TILE_PANELS 1
#define TILE_ROWS 2

#if defined(EDGE_ISA_SSSE3)

/* In assembler, because compilers copy sums about. pmaddubsw adds two products in int16. */
INLINE __m128i add_products(__m128i sums, __m128i codes, __m128i weights, __m128i ones)
{
    __m128i products;
    __asm__("movdqa %[codes], %[products]\n\t"
            "pmaddubsw %[weights], %[products]\n\t"
            "pmaddwd %[ones], %[products]\n\t"
            "paddd %[products], %[sums]"
            : [products] "=&x"(products), [sums] "+x"(sums)
            : [codes] "x"(codes), [weights] "x"(weights), [ones] "x"(ones));
    return sums;
}

INLINE void tile(const int rows, const int panels, const act *a, int64_t a_stride, const int8_t *w, int64_t panel_bytes,
                 int64_t k, const int32_t *init, int32_t *sums, const int8_t *next)
{
    (void)panels, (void)panel_bytes, (void)next;
    const __m128i ones = _mm_set1_epi16(1);
    __m128i s[TILE_ROWS][4];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++)
            s[m][v] = _mm_loadu_si128((const __m128i *)(const void *)(init + 4 * v));
    for (int64_t i = 0; i < k; i += 4, w += 64) {
        __m128i codes[TILE_ROWS];
        for (int m = 0; m < rows; m++)
            codes[m] = _mm_set1_epi32(four_codes(a + m * a_stride + i));
        for (int v = 0; v < 4; v++) {
            const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(w + 16 * v));
            for (int m = 0; m < rows; m++)
                s[m][v] = add_products(s[m][v], codes[m], x, ones);
        }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++)
            _mm_storeu_si128((__m128i *)(void *)(sums + 16 * m + 4 * v), s[m][v]);
}

#else

/* 8 outputs at a time: their sums lie in two lanes each until the end, and there are 16 registers. */
INLINE void tile_half(const int rows, const act *a, int64_t a_stride, const int8_t *w, int64_t k, const int32_t *init,
                      int32_t *sums)
{
    const __m128i zero = _mm_setzero_si128();
    __m128i s[TILE_ROWS][4];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++)
            s[m][v] = zero;
    for (int64_t i = 0; i < k; i += 4, w += 64) {
        __m128i codes[TILE_ROWS];
        for (int m = 0; m < rows; m++) {
            const __m128i four = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four_codes(a + m * a_stride + i)), zero);
            codes[m] = _mm_unpacklo_epi64(four, four);
        }
        for (int v = 0; v < 2; v++) {
            const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(w + 16 * v));
            const __m128i low = _mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8);
            const __m128i high = _mm_srai_epi16(_mm_unpackhi_epi8(x, x), 8);
            for (int m = 0; m < rows; m++) {
                s[m][2 * v] = _mm_add_epi32(s[m][2 * v], _mm_madd_epi16(codes[m], low));
                s[m][2 * v + 1] = _mm_add_epi32(s[m][2 * v + 1], _mm_madd_epi16(codes[m], high));
            }
        }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 2; v++) {
            const __m128 x = _mm_castsi128_ps(s[m][2 * v]), y = _mm_castsi128_ps(s[m][2 * v + 1]);
            const __m128i even = _mm_castps_si128(_mm_shuffle_ps(x, y, _MM_SHUFFLE(2, 0, 2, 0)));
            const __m128i odd = _mm_castps_si128(_mm_shuffle_ps(x, y, _MM_SHUFFLE(3, 1, 3, 1)));
            const __m128i first = _mm_loadu_si128((const __m128i *)(const void *)(init + 4 * v));
            _mm_storeu_si128((__m128i *)(void *)(sums + 16 * m + 4 * v),
                             _mm_add_epi32(first, _mm_add_epi32(even, odd)));
        }
}

INLINE void tile(const int rows, const int panels, const act *a, int64_t a_stride, const int8_t *w, int64_t panel_bytes,
                 int64_t k, const int32_t *init, int32_t *sums, const int8_t *next)
{
    (void)panels, (void)panel_bytes, (void)next;
    tile_half(rows, a, a_stride, w, k, init, sums);
    tile_half(rows, a, a_stride, w + 32, k, init + 8, sums + 8);
}

#endif

/* Scores that attention has in registers at a time: rows x vectors of 16 floats. */
#define ATTENTION_ROWS 2
#define ATTENTION_VECTORS 1

#endif
