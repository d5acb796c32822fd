/* AVX2 with FMA: products with vpmaddubsw, or with AVX-VNNI's vpdpbusd. Both are exact: weights are such that two products
 * of a code and a weight fit into 16 bits (see encoder_unit.c). */
#ifndef EDGE_ISA_AVX2_H
#define EDGE_ISA_AVX2_H

#include <immintrin.h>

#include "mxcsr.h"

#define VL 8
typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));

INLINE vf vfma(vf a, vf b, vf c)
{
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

INLINE vf vmin(vf a, vf b)
{
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
}

INLINE vf vmax(vf a, vf b)
{
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
}

INLINE vi vbytes(const int8_t *p)
{
    return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

INLINE float vfold(vf x)
{
    __m128 y = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

INLINE float vtop(vf x)
{
    __m128 y = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

typedef uint8_t act;
#define ACT_OFFSET 0

INLINE void put_codes(act *to, const vf r[2])
{
    /* the low byte of each of the four numbers of a half goes to its first four bytes */
    const __m256i low = _mm256_set1_epi32(0x0c080400);
    const __m256i a = _mm256_shuffle_epi8((__m256i)r[0], low), b = _mm256_shuffle_epi8((__m256i)r[1], low);
    const __m128i first = _mm_unpacklo_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i second = _mm_unpacklo_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi64(first, second));
}

INLINE void transpose8(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++)
        r[i] = _mm256_loadu_ps(from + i * from_stride);
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

INLINE void transpose16(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 16; j += 8)
            transpose8(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
}

#ifdef EDGE_ISA_AVXVNNI
#define TILE_ROWS 6
#else
#define TILE_ROWS 4 /* six would take more than the 16 registers there are */
#endif
#define TILE_PANELS 1

/* acc + the sums of four products of neighbouring bytes. */
INLINE __m256i dot4(__m256i acc, __m256i codes, __m256i weights)
{
#if defined(EDGE_ISA_AVXVNNI) && defined(EDGE_EVEX_FORM) /* for tests, on CPUs that have only AVX512's form */
    return _mm256_dpbusd_epi32(acc, codes, weights);
#elif defined(EDGE_ISA_AVXVNNI)
    return _mm256_dpbusd_avx_epi32(acc, codes, weights);
#else
    const __m256i pairs = _mm256_maddubs_epi16(codes, weights);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

INLINE void tile(const int rows, const int panels, const act *a, int64_t a_stride, const int8_t *w,
                 int64_t panel_bytes, int64_t k, const int32_t *init, int32_t *sums, const int8_t *next)
{
    __m256i acc[TILE_ROWS][2];
    (void)panels, (void)panel_bytes;
    UNROLL
    for (int r = 0; r < rows; r++) {
        acc[r][0] = _mm256_loadu_si256((const __m256i *)init);
        acc[r][1] = _mm256_loadu_si256((const __m256i *)(init + 8));
    }
    for (int64_t i = 0; i < k; i += 4, w += 64, next += 64) {
        _mm_prefetch((const char *)next, _MM_HINT_T1);
        const __m256i left = _mm256_loadu_si256((const __m256i *)w);
        const __m256i right = _mm256_loadu_si256((const __m256i *)(w + 32));
        UNROLL
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, a + r * a_stride + i, 4);
            const __m256i codes = _mm256_set1_epi32(four);
            acc[r][0] = dot4(acc[r][0], codes, left);
            acc[r][1] = dot4(acc[r][1], codes, right);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_si256((__m256i *)(sums + r * PANEL), acc[r][0]);
        _mm256_storeu_si256((__m256i *)(sums + r * PANEL + 8), acc[r][1]);
    }
}

#define ATTENTION_ROWS 6
#define ATTENTION_VECTORS 1

#endif
