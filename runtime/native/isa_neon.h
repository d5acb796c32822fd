/* 64-bit ARM: vectors of 4 floats, and the product of int8 for three kinds of CPU.
 *
 *   neon     Armv8.0: products of bytes as int16, two of them added there, then pairs of those added to int32
 *   dotprod  sdot: four products of bytes added to an int32
 *   i8mm     smmla: 2 rows x 8 by 8 x 2 columns added to four int32
 *
 * Activations are kept as code - 128, so that both factors have a sign. All results are exact: a weight is within
 * -127..127, so two products fit int16 (2 * 128 * 127 = 32512). */
#ifndef EDGE_ISA_NEON_H
#define EDGE_ISA_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#define VL 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef int8_t act;
#define ACT_OFFSET 128

static inline __attribute__((always_inline)) vf vfma(vf a, vf b, vf c)
{
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

static inline __attribute__((always_inline)) vf vmin(vf a, vf b)
{
    return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b);
}

static inline __attribute__((always_inline)) vf vmax(vf a, vf b)
{
    return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
}

/* The low bytes of the bit patterns of 16 floats. */
static inline __attribute__((always_inline)) void put_codes(act *to, const vf r[4])
{
    const uint8x16_t low = vuzp1q_u8((uint8x16_t)r[0], (uint8x16_t)r[1]);
    const uint8x16_t high = vuzp1q_u8((uint8x16_t)r[2], (uint8x16_t)r[3]);
    vst1q_s8(to, vreinterpretq_s8_u8(vuzp1q_u8(low, high)));
}

static inline __attribute__((always_inline)) void transpose4(const float *from, int64_t from_stride, float *to,
                                                             int64_t to_stride)
{
    const float32x4_t a = vld1q_f32(from), b = vld1q_f32(from + from_stride);
    const float32x4_t c = vld1q_f32(from + 2 * from_stride), d = vld1q_f32(from + 3 * from_stride);
    const float64x2_t ab_even = vreinterpretq_f64_f32(vtrn1q_f32(a, b));
    const float64x2_t ab_odd = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
    const float64x2_t cd_even = vreinterpretq_f64_f32(vtrn1q_f32(c, d));
    const float64x2_t cd_odd = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
    vst1q_f32(to, vreinterpretq_f32_f64(vtrn1q_f64(ab_even, cd_even)));
    vst1q_f32(to + to_stride, vreinterpretq_f32_f64(vtrn1q_f64(ab_odd, cd_odd)));
    vst1q_f32(to + 2 * to_stride, vreinterpretq_f32_f64(vtrn2q_f64(ab_even, cd_even)));
    vst1q_f32(to + 3 * to_stride, vreinterpretq_f32_f64(vtrn2q_f64(ab_odd, cd_odd)));
}

/* 16 x 16 floats: to[c][r] = from[r][c]. */
static inline __attribute__((always_inline)) void transpose16(const float *from, int64_t from_stride, float *to,
                                                              int64_t to_stride)
{
    for (int r = 0; r < 16; r += 4)
        for (int c = 0; c < 16; c += 4)
            transpose4(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
}

/* The thread may have been set to round in another way, or to take tiny numbers for 0: not while the encoder runs. */
typedef uint64_t FloatMode;

static inline FloatMode float_mode(void)
{
    FloatMode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    if (before)
        __asm__ volatile("msr fpcr, %0" : : "r"((FloatMode)0));
    return before;
}

static inline void restore_float_mode(FloatMode before)
{
    if (before)
        __asm__ volatile("msr fpcr, %0" : : "r"(before));
}

/* --- sums[rows][16] = init[16] + codes[rows][k] x weights[k][16]; k is a multiple of 16. A panel of weights holds 4
 * inputs of 16 outputs at a time: 64 bytes, in 4 vectors of 4 outputs each. */
#define TILE_PANELS 1

#if defined(EDGE_ISA_I8MM)

#define TILE_ROWS 6

/* A vector of 2 rows x 8 codes: what smmla takes, by zipping two rows; that of 2 columns x 8 weights is zipped of two
 * neighbouring steps. A last row without a partner is its own. */
static inline __attribute__((always_inline)) void tile(const int rows, const int panels, const act *a, int64_t lda,
                                                       const int8_t *w, int64_t panel_bytes, int64_t k,
                                                       const int32_t *init, int32_t *sums)
{
    (void)panels, (void)panel_bytes;
    const int pairs = (rows + 1) / 2;
    int32x4_t s[TILE_ROWS / 2][8];
    for (int m = 0; m < pairs; m++)
        for (int v = 0; v < 8; v++)
            s[m][v] = vdupq_n_s32(0);
    for (int64_t i = 0; i < k; i += 16) {
        int8x16_t codes[2][TILE_ROWS / 2];
        for (int m = 0; m < pairs; m++) {
            const int second = 2 * m + 1 < rows ? 2 * m + 1 : 2 * m;
            const int64x2_t x = vreinterpretq_s64_s8(vld1q_s8(a + 2 * m * lda + i));
            const int64x2_t y = vreinterpretq_s64_s8(vld1q_s8(a + second * lda + i));
            codes[0][m] = vreinterpretq_s8_s64(vzip1q_s64(x, y));
            codes[1][m] = vreinterpretq_s8_s64(vzip2q_s64(x, y));
        }
        for (int half = 0; half < 2; half++, w += 128)
            for (int v = 0; v < 4; v++) {
                const int32x4_t x = vreinterpretq_s32_s8(vld1q_s8(w + 16 * v));
                const int32x4_t y = vreinterpretq_s32_s8(vld1q_s8(w + 64 + 16 * v));
                const int8x16_t left = vreinterpretq_s8_s32(vzip1q_s32(x, y));
                const int8x16_t right = vreinterpretq_s8_s32(vzip2q_s32(x, y));
                for (int m = 0; m < pairs; m++)
                    s[m][2 * v] = vmmlaq_s32(s[m][2 * v], codes[half][m], left);
                for (int m = 0; m < pairs; m++)
                    s[m][2 * v + 1] = vmmlaq_s32(s[m][2 * v + 1], codes[half][m], right);
            }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++) {
            const int64x2_t x = vreinterpretq_s64_s32(s[m / 2][2 * v]);
            const int64x2_t y = vreinterpretq_s64_s32(s[m / 2][2 * v + 1]);
            const int32x4_t row = vreinterpretq_s32_s64(m % 2 ? vzip2q_s64(x, y) : vzip1q_s64(x, y));
            vst1q_s32(sums + 16 * m + 4 * v, vaddq_s32(row, vld1q_s32(init + 4 * v)));
        }
}

#elif defined(EDGE_ISA_DOTPROD)

#define TILE_ROWS 6

static inline __attribute__((always_inline)) void tile(const int rows, const int panels, const act *a, int64_t lda,
                                                       const int8_t *w, int64_t panel_bytes, int64_t k,
                                                       const int32_t *init, int32_t *sums)
{
    (void)panels, (void)panel_bytes;
    int32x4_t s[TILE_ROWS][4];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++)
            s[m][v] = vld1q_s32(init + 4 * v);
    for (int64_t i = 0; i < k; i += 16, w += 256) {
        int8x16_t codes[TILE_ROWS];
        for (int m = 0; m < rows; m++)
            codes[m] = vld1q_s8(a + m * lda + i);
        for (int v = 0; v < 4; v++) {
            const int8x16_t x = vld1q_s8(w + 16 * v);
            for (int m = 0; m < rows; m++)
                s[m][v] = vdotq_laneq_s32(s[m][v], x, codes[m], 0);
        }
        for (int v = 0; v < 4; v++) {
            const int8x16_t x = vld1q_s8(w + 64 + 16 * v);
            for (int m = 0; m < rows; m++)
                s[m][v] = vdotq_laneq_s32(s[m][v], x, codes[m], 1);
        }
        for (int v = 0; v < 4; v++) {
            const int8x16_t x = vld1q_s8(w + 128 + 16 * v);
            for (int m = 0; m < rows; m++)
                s[m][v] = vdotq_laneq_s32(s[m][v], x, codes[m], 2);
        }
        for (int v = 0; v < 4; v++) {
            const int8x16_t x = vld1q_s8(w + 192 + 16 * v);
            for (int m = 0; m < rows; m++)
                s[m][v] = vdotq_laneq_s32(s[m][v], x, codes[m], 3);
        }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++)
            vst1q_s32(sums + 16 * m + 4 * v, s[m][v]);
}

#else

#define TILE_ROWS 2

static inline __attribute__((always_inline)) int8x16_t four_codes(const act *from)
{
    return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(const void *)from));
}

/* Two steps at a time: each lane of int16 has one product of both. Half a vector of weights has 2 outputs, whose sums
 * lie in two lanes each until the end. */
static inline __attribute__((always_inline)) void tile(const int rows, const int panels, const act *a, int64_t lda,
                                                       const int8_t *w, int64_t panel_bytes, int64_t k,
                                                       const int32_t *init, int32_t *sums)
{
    (void)panels, (void)panel_bytes;
    int32x4_t s[TILE_ROWS][8];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 8; v++)
            s[m][v] = vdupq_n_s32(0);
    for (int64_t i = 0; i < k; i += 8, w += 128) {
        int8x16_t first[TILE_ROWS], second[TILE_ROWS];
        for (int m = 0; m < rows; m++) {
            first[m] = four_codes(a + m * lda + i);
            second[m] = four_codes(a + m * lda + i + 4);
        }
        for (int v = 0; v < 4; v++) {
            const int8x16_t x = vld1q_s8(w + 16 * v), y = vld1q_s8(w + 64 + 16 * v);
            for (int m = 0; m < rows; m++) {
                int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(first[m]));
                int16x8_t high = vmull_high_s8(x, first[m]);
                low = vmlal_s8(low, vget_low_s8(y), vget_low_s8(second[m]));
                high = vmlal_high_s8(high, y, second[m]);
                s[m][2 * v] = vpadalq_s16(s[m][2 * v], low);
                s[m][2 * v + 1] = vpadalq_s16(s[m][2 * v + 1], high);
            }
        }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++)
            vst1q_s32(sums + 16 * m + 4 * v,
                      vaddq_s32(vpaddq_s32(s[m][2 * v], s[m][2 * v + 1]), vld1q_s32(init + 4 * v)));
}

#endif
/* Scores that attention has in registers at a time: rows x vectors of 16 floats. */
#define ATTENTION_ROWS 6
#define ATTENTION_VECTORS 1

#endif
