/* AVX512 with VNNI: registers of 16 floats, products with vpdpbusd of four panels at once. */
#ifndef EDGE_ISA_AVX512_H
#define EDGE_ISA_AVX512_H

#include <immintrin.h>

#include "mxcsr.h"

#define VL 16
typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));

INLINE vf vfma(vf a, vf b, vf c)
{
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

INLINE vf vmin(vf a, vf b)
{
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
}

INLINE vf vmax(vf a, vf b)
{
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
}

INLINE vi vbytes(const int8_t *p)
{
    return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}

INLINE float vfold(vf x)
{
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

INLINE float vtop(vf x)
{
    const __m256 h = _mm256_max_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

typedef uint8_t act;
#define ACT_OFFSET 0

INLINE void put_codes(act *to, const vf r[1])
{
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)r[0]));
}

INLINE void transpose16(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    __m512 r[16], t[16];
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_ps(from + i * from_stride);
    /* pairs of rows, then fours, within quarters of a register; then the quarters themselves */
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_ps(to + i * to_stride, _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88));
        _mm512_storeu_ps(to + (i + 8) * to_stride, _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd));
        _mm512_storeu_ps(to + (i + 4) * to_stride, _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88));
        _mm512_storeu_ps(to + (i + 12) * to_stride, _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd));
    }
}

#define TILE_ROWS 6
#define TILE_PANELS 4

INLINE void tile(const int rows, const int panels, const act *a, int64_t a_stride, const int8_t *w,
                 int64_t panel_bytes, int64_t k, const int32_t *init, int32_t *sums, const int8_t *next)
{
    __m512i acc[TILE_ROWS][TILE_PANELS];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int p = 0; p < panels; p++)
            acc[r][p] = _mm512_loadu_si512(init + p * PANEL);
    for (int64_t i = 0; i < k; i += 4, w += 64, next += 64 * panels) {
        __m512i weights[TILE_PANELS];
        UNROLL
        for (int p = 0; p < panels; p++) {
            weights[p] = _mm512_loadu_si512(w + p * panel_bytes);
            _mm_prefetch((const char *)next + 64 * p, _MM_HINT_T1);
        }
        UNROLL
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, a + r * a_stride + i, 4);
            const __m512i codes = _mm512_set1_epi32(four);
            UNROLL
            for (int p = 0; p < panels; p++)
                acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], codes, weights[p]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int p = 0; p < panels; p++)
            _mm512_storeu_si512(sums + (r * TILE_PANELS + p) * PANEL, acc[r][p]);
}

#define ATTENTION_ROWS 12
#define ATTENTION_VECTORS 2

#endif
