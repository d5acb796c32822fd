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

#define VL 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef int8_t act;
#define ACT_OFFSET 128

INLINE vf vfma(vf a, vf b, vf c)
{
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

INLINE vf vmin(vf a, vf b)
{
    return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b);
}

INLINE vf vmax(vf a, vf b)
{
    return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
}

INLINE vi vbytes(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
    return (vi)vmovl_s16(vget_low_s16(vmovl_s8(bytes)));
}

INLINE float vfold(vf x)
{
    const float32x2_t y = vadd_f32(vget_low_f32((float32x4_t)x), vget_high_f32((float32x4_t)x));
    return vget_lane_f32(y, 0) + vget_lane_f32(y, 1);
}

INLINE float vtop(vf x)
{
    return vmaxvq_f32((float32x4_t)x);
}

/* The low bytes of the bit patterns of 16 floats. */
INLINE void put_codes(act *to, const vf r[4])
{
    const uint8x16_t low = vuzp1q_u8((uint8x16_t)r[0], (uint8x16_t)r[1]);
    const uint8x16_t high = vuzp1q_u8((uint8x16_t)r[2], (uint8x16_t)r[3]);
    vst1q_s8(to, vreinterpretq_s8_u8(vuzp1q_u8(low, high)));
}

INLINE void transpose4(const float *from, int64_t from_stride, float *to, int64_t to_stride)
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
INLINE void transpose16(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    for (int r = 0; r < 16; r += 4)
        for (int c = 0; c < 16; c += 4)
            transpose4(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
}

/* The thread may have been set to round in another way, or to take tiny numbers for 0: not while the encoder runs. */
typedef uint64_t FloatMode;

INLINE FloatMode float_mode(void)
{
    FloatMode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    if (before)
        __asm__ volatile("msr fpcr, %0" : : "r"((FloatMode)0));
    return before;
}

INLINE void restore_float_mode(FloatMode before)
{
    if (before)
        __asm__ volatile("msr fpcr, %0" : : "r"(before));
}

/* --- sums[rows][16] = init[16] + codes[rows][k] x weights[k][16]; k is a multiple of 16. A panel of weights holds 4
 * inputs of 16 outputs at a time: 64 bytes, in 4 vectors of 4 outputs each. */
#define TILE_PANELS 1

#if defined(EDGE_ISA_I8MM)

#define TILE_ROWS 6

/* smmla takes 2 rows x 8 codes and 2 columns x 8 weights, which are zipped of two neighbouring steps, and adds to 2 x 2
 * sums. A last row without a partner is its own. */
INLINE int8x16_t two_rows(const act *first, const act *second)
{
    return vcombine_s8(vld1_s8(first), vld1_s8(second));
}

INLINE void sums_of_pairs(const int pairs, const act *const row[], const int8_t *w, int64_t k, int32x4_t s[][8])
{
    for (int m = 0; m < pairs; m++)
        for (int v = 0; v < 8; v++)
            s[m][v] = vdupq_n_s32(0);
    for (int64_t i = 0; i < k; i += 8, w += 128) {
        int8x16_t codes[TILE_ROWS / 2];
        for (int m = 0; m < pairs; m++)
            codes[m] = two_rows(row[2 * m] + i, row[2 * m + 1] + i);
        for (int v = 0; v < 4; v++) {
            const int32x4_t x = vreinterpretq_s32_s8(vld1q_s8(w + 16 * v));
            const int32x4_t y = vreinterpretq_s32_s8(vld1q_s8(w + 64 + 16 * v));
            for (int m = 0; m < pairs; m++) {
                s[m][2 * v] = vmmlaq_s32(s[m][2 * v], codes[m], vreinterpretq_s8_s32(vzip1q_s32(x, y)));
                s[m][2 * v + 1] = vmmlaq_s32(s[m][2 * v + 1], codes[m], vreinterpretq_s8_s32(vzip2q_s32(x, y)));
            }
        }
    }
}

/* The same for 6 rows: 24 sums, 3 vectors of codes and 5 of weights are all 32 registers, and compilers move them about
 * as often as they multiply. */
#define PAIR(v, codes, w) "smmla v" #v ".4s, v" #codes ".16b, v" #w ".16b\n\t"
#define PAIRS(a, b, c, w) PAIR(a, 24, w) PAIR(b, 25, w) PAIR(c, 26, w)
#define CODES(v, first, second) "ldr d" #v ", [" first "], #8\n\tld1 {v" #v ".d}[1], [" second "], #8\n\t"
#define CLEAR(v) "movi v" #v ".4s, #0\n\t"
#define CLEAR4(a, b, c, d) CLEAR(a) CLEAR(b) CLEAR(c) CLEAR(d)
#define STORE(a, b) "stp q" #a ", q" #b ", [%[s]], #32\n\t"
#define STORE4(a, b, c, d) STORE(a, b) STORE(c, d)

INLINE void sums_of_6_rows(const act *const row[6], const int8_t *w, int64_t k, int32x4_t s[3][8])
{
    const act *r0 = row[0], *r1 = row[1], *r2 = row[2], *r3 = row[3], *r4 = row[4], *r5 = row[5];
    int32x4_t *to = s[0];
    __asm__ volatile(
        CLEAR4(0, 1, 2, 3) CLEAR4(4, 5, 6, 7) CLEAR4(8, 9, 10, 11) CLEAR4(12, 13, 14, 15) CLEAR4(16, 17, 18, 19)
        CLEAR4(20, 21, 22, 23)
        "1:\n\t"
        CODES(24, "%[r0]", "%[r1]") CODES(25, "%[r2]", "%[r3]") CODES(26, "%[r4]", "%[r5]")
        "ldp q27, q30, [%[w]]\n\t"
        "ldp q28, q31, [%[w], #64]\n\t"
        "subs %[k], %[k], #8\n\t"
        "zip1 v29.4s, v27.4s, v28.4s\n\t"
        "zip2 v27.4s, v27.4s, v28.4s\n\t"
        "zip1 v28.4s, v30.4s, v31.4s\n\t"
        "zip2 v30.4s, v30.4s, v31.4s\n\t"
        PAIRS(0, 8, 16, 29) PAIRS(1, 9, 17, 27) PAIRS(2, 10, 18, 28) PAIRS(3, 11, 19, 30)
        "ldp q27, q30, [%[w], #32]\n\t"
        "ldp q28, q31, [%[w], #96]\n\t"
        "add %[w], %[w], #128\n\t"
        "zip1 v29.4s, v27.4s, v28.4s\n\t"
        "zip2 v27.4s, v27.4s, v28.4s\n\t"
        "zip1 v28.4s, v30.4s, v31.4s\n\t"
        "zip2 v30.4s, v30.4s, v31.4s\n\t"
        PAIRS(4, 12, 20, 29) PAIRS(5, 13, 21, 27) PAIRS(6, 14, 22, 28) PAIRS(7, 15, 23, 30)
        "b.ne 1b\n\t"
        STORE4(0, 1, 2, 3) STORE4(4, 5, 6, 7) STORE4(8, 9, 10, 11) STORE4(12, 13, 14, 15) STORE4(16, 17, 18, 19)
        STORE4(20, 21, 22, 23)
        : [r0] "+r"(r0), [r1] "+r"(r1), [r2] "+r"(r2), [r3] "+r"(r3), [r4] "+r"(r4), [r5] "+r"(r5), [w] "+r"(w),
          [k] "+r"(k), [s] "+r"(to)
        :
        : "memory", "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
          "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29",
          "v30", "v31");
}

INLINE void tile(const int rows, const int panels, const act *a, int64_t a_stride, const int8_t *w, int64_t panel_bytes,
                 int64_t k, const int32_t *init, int32_t *sums, const int8_t *next)
{
    (void)panels, (void)panel_bytes, (void)next;
    const int pairs = (rows + 1) / 2;
    const act *row[TILE_ROWS];
    int32x4_t s[TILE_ROWS / 2][8];
    for (int m = 0; m < 2 * pairs; m++)
        row[m] = a + (m < rows ? m : rows - 1) * a_stride;
    if (pairs == 3)
        sums_of_6_rows(row, w, k, s);
    else
        sums_of_pairs(pairs, row, w, k, s);
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++) {
            const int64x2_t x = vreinterpretq_s64_s32(s[m / 2][2 * v]);
            const int64x2_t y = vreinterpretq_s64_s32(s[m / 2][2 * v + 1]);
            const int32x4_t sum = vreinterpretq_s32_s64(m % 2 ? vzip2q_s64(x, y) : vzip1q_s64(x, y));
            vst1q_s32(sums + 16 * m + 4 * v, vaddq_s32(sum, vld1q_s32(init + 4 * v)));
        }
}

#elif defined(EDGE_ISA_DOTPROD)

#define TILE_ROWS 6

INLINE void tile(const int rows, const int panels, const act *a, int64_t a_stride, const int8_t *w, int64_t panel_bytes,
                 int64_t k, const int32_t *init, int32_t *sums, const int8_t *next)
{
    (void)panels, (void)panel_bytes, (void)next;
    int32x4_t s[TILE_ROWS][4];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 4; v++)
            s[m][v] = vld1q_s32(init + 4 * v);
    for (int64_t i = 0; i < k; i += 16, w += 256) {
        int8x16_t codes[TILE_ROWS];
        for (int m = 0; m < rows; m++)
            codes[m] = vld1q_s8(a + m * a_stride + i);
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

/* 4 codes, four times; goes on to the next. */
INLINE int8x16_t four_codes(const act **from)
{
    int8x16_t codes;
    __asm__ volatile("ld1r {%[codes].4s}, [%[from]], #4"
            : [codes] "=w"(codes), [from] "+r"(*from)
            : "m"(*(const int32_t *)(const void *)*from));
    return codes;
}

/* 4 inputs and the next 4 of 4 outputs, x and y: each lane of int16 has one product of both. Half a vector of weights
 * has 2 outputs, whose sums lie in two lanes each until the end. In assembler, because compilers that see equal halves
 * in a vector of codes take the halves of the weights apart instead; volatile, because they would load too much ahead;
 * two rows at a time, so that CPUs which execute in order need not wait. */
INLINE void add_products(int32x4_t sums[2], int8x16_t x, int8x16_t y, int8x16_t first, int8x16_t second)
{
    int16x8_t low, high;
    __asm__ volatile("smull %[low].8h, %[x].8b, %[first].8b\n\t"
            "smull2 %[high].8h, %[x].16b, %[first].16b\n\t"
            "smlal %[low].8h, %[y].8b, %[second].8b\n\t"
            "smlal2 %[high].8h, %[y].16b, %[second].16b\n\t"
            "sadalp %[s0].4s, %[low].8h\n\t"
            "sadalp %[s1].4s, %[high].8h"
            : [low] "=&w"(low), [high] "=&w"(high), [s0] "+w"(sums[0]), [s1] "+w"(sums[1])
            : [x] "w"(x), [y] "w"(y), [first] "w"(first), [second] "w"(second));
}

INLINE void add_products_of_2(int32x4_t sums[2], int32x4_t other[2], int8x16_t x, int8x16_t y, const int8x16_t *first,
                              const int8x16_t *second)
{
    int16x8_t low, high, low1, high1;
    __asm__ volatile("smull %[low].8h, %[x].8b, %[first].8b\n\t"
            "smull2 %[high].8h, %[x].16b, %[first].16b\n\t"
            "smull %[low1].8h, %[x].8b, %[first1].8b\n\t"
            "smull2 %[high1].8h, %[x].16b, %[first1].16b\n\t"
            "smlal %[low].8h, %[y].8b, %[second].8b\n\t"
            "smlal2 %[high].8h, %[y].16b, %[second].16b\n\t"
            "smlal %[low1].8h, %[y].8b, %[second1].8b\n\t"
            "smlal2 %[high1].8h, %[y].16b, %[second1].16b\n\t"
            "sadalp %[s0].4s, %[low].8h\n\t"
            "sadalp %[s1].4s, %[high].8h\n\t"
            "sadalp %[s2].4s, %[low1].8h\n\t"
            "sadalp %[s3].4s, %[high1].8h"
            : [low] "=&w"(low), [high] "=&w"(high), [low1] "=&w"(low1), [high1] "=&w"(high1), [s0] "+w"(sums[0]),
              [s1] "+w"(sums[1]), [s2] "+w"(other[0]), [s3] "+w"(other[1])
            : [x] "w"(x), [y] "w"(y), [first] "w"(first[0]), [second] "w"(second[0]), [first1] "w"(first[1]),
              [second1] "w"(second[1]));
}

/* The next 8 inputs of 16 outputs. */
INLINE void add_step(const int rows, const act **row, const int8_t *w, int32x4_t s[][8])
{
    int8x16_t first[TILE_ROWS], second[TILE_ROWS];
    for (int m = 0; m < rows; m++) {
        first[m] = four_codes(row + m);
        second[m] = four_codes(row + m);
    }
    UNROLL for (int v = 0; v < 4; v += 2) {
        const int8x16_t x[2] = {vld1q_s8(w + 16 * v), vld1q_s8(w + 16 * v + 16)};
        const int8x16_t y[2] = {vld1q_s8(w + 64 + 16 * v), vld1q_s8(w + 80 + 16 * v)};
        UNROLL for (int i = 0; i < 2; i++) {
            if (rows == 2)
                add_products_of_2(s[0] + 2 * (v + i), s[TILE_ROWS - 1] + 2 * (v + i), x[i], y[i], first, second);
            else
                add_products(s[0] + 2 * (v + i), x[i], y[i], first[0], second[0]);
        }
    }
}

INLINE void tile(const int rows, const int panels, const act *a, int64_t a_stride, const int8_t *w, int64_t panel_bytes,
                 int64_t k, const int32_t *init, int32_t *sums, const int8_t *next)
{
    (void)panels, (void)panel_bytes, (void)next;
    const act *row[TILE_ROWS];
    int32x4_t s[TILE_ROWS][8];
    for (int m = 0; m < rows; m++) {
        row[m] = a + m * a_stride;
        for (int v = 0; v < 8; v++)
            s[m][v] = vdupq_n_s32(0);
    }
    for (int64_t steps = k / 16; steps; steps--, w += 256) {
        add_step(rows, row, w, s);
        add_step(rows, row, w + 128, s);
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
