/* The sum of a query's numbers [dim], each with the sign that its bit of a code says. With masks where there are some:
 * vectors of numbers whose bits are set are added up; else from a table, byte by byte.
 *
 * EdgeSigns, prepare_signs(), sign_sum() */
#ifndef EDGE_SIGNS_H
#define EDGE_SIGNS_H

#include <string.h>

#include "search.h"
#include "unit.h"

#if defined(EDGE_ISA_VPOPCNT)
#include <immintrin.h>

/* numbers: the query's, and zeros up to 64 * width; total: their sum */
typedef struct {
    const int16_t *numbers;
    int32_t total;
} EdgeSigns;

static inline EdgeSigns prepare_signs(const int16_t *query, int64_t dim, int64_t width, int16_t *table)
{
    int32_t total = 0;
    for (int64_t i = 0; i < dim; i++)
        total += query[i];
    memcpy(table, query, sizeof *table * (size_t)dim);
    memset(table + dim, 0, sizeof *table * (size_t)(64 * width - dim));
    return (EdgeSigns){table, total};
}

static inline int32_t sign_sum(const EdgeCodes *codes, int64_t place, const EdgeSigns *signs)
{
    const __m512i one = _mm512_set1_epi16(1);
    __m512i sums = _mm512_setzero_si512();
    for (int64_t k = 0; k < codes->width; k++) {
        const uint64_t word = codes->words[k * codes->stride + place];
        const int16_t *numbers = signs->numbers + 64 * k;
        const __m512i low = _mm512_maskz_loadu_epi16((__mmask32)word, numbers);
        const __m512i high = _mm512_maskz_loadu_epi16((__mmask32)(word >> 32), numbers + 32);
        sums = _mm512_add_epi32(sums, _mm512_madd_epi16(low, one));
        sums = _mm512_add_epi32(sums, _mm512_madd_epi16(high, one));
    }
    return 2 * _mm512_reduce_add_epi32(sums) - signs->total;
}

#else

/* table[256 * b + x]: what byte b of a code adds to the sum where it is x. */
typedef struct {
    const int16_t *table;
} EdgeSigns;

static inline EdgeSigns prepare_signs(const int16_t *query, int64_t dim, int64_t width, int16_t *table)
{
    for (int64_t b = 0; b < 8 * width; b++) {
        int16_t *sums = table + 256 * b;
        sums[0] = 0;
        for (int64_t i = 8 * b; i < 8 * b + 8 && i < dim; i++)
            sums[0] = (int16_t)(sums[0] - query[i]);
        for (int bit = 0; bit < 8; bit++) {
            const int64_t i = 8 * b + bit;
            const int32_t twice = i < dim ? 2 * query[i] : 0;
            for (int x = 0; x < 1 << bit; x++)
                sums[(1 << bit) + x] = (int16_t)(sums[x] + twice);
        }
    }
    return (EdgeSigns){table};
}

static inline int32_t sign_sum(const EdgeCodes *codes, int64_t place, const EdgeSigns *signs)
{
    int32_t even = 0, odd = 0;
    for (int64_t k = 0; k < codes->width; k++) {
        const uint64_t word = codes->words[k * codes->stride + place];
        const int16_t *part = signs->table + 2048 * k;
        for (int byte = 0; byte < 8; byte += 2) {
            even += part[256 * byte + (int64_t)(word >> 8 * byte & 0xff)];
            odd += part[256 * byte + 256 + (int64_t)(word >> (8 * byte + 8) & 0xff)];
        }
    }
    return even + odd;
}

#endif
#endif
