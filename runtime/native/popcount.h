/* Counting bits with one instruction set. Each part gives:
 *
 * STEP, count_step(): the distances of STEP codes that follow each other
 * MASKED, near_mask(), mask_index(): which of MASKED distances are at most `limit`, and where the first is
 * LANES: sums of float64 that are kept apart, as many as pay */
#ifndef EDGE_POPCOUNT_H
#define EDGE_POPCOUNT_H

#include "search.h"
#include "unit.h"

#if defined(EDGE_ISA_AVX2) || defined(EDGE_ISA_VPOPCNT)
#include <immintrin.h>
#elif defined(EDGE_ISA_NEON)
#include <arm_neon.h>
#endif

/* Words whose counts are added up as bytes, 8 bits each, before a byte can overflow. */
#define BYTE_WORDS 31

#if defined(EDGE_ISA_BASELINE)
/* Bits of each byte of x. */
static inline uint64_t byte_counts(uint64_t x)
{
    x -= (x >> 1) & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + ((x >> 2) & UINT64_C(0x3333333333333333));
    return (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
}

static inline uint16_t count_word(uint64_t x)
{
    return (uint16_t)((byte_counts(x) * UINT64_C(0x0101010101010101)) >> 56);
}
#else
static inline uint16_t count_word(uint64_t x)
{
    return (uint16_t)__builtin_popcountll(x); /* one instruction with POPCNT, three with NEON */
}
#endif

static inline uint16_t count_one(const EdgeCodes *codes, int64_t place, const uint64_t *query)
{
    uint16_t total = 0;
    for (int64_t k = 0; k < codes->width; k++)
        total = (uint16_t)(total + count_word(codes->words[k * codes->stride + place] ^ query[k]));
    return total;
}

#if defined(EDGE_ISA_VPOPCNT)
enum { STEP = 32, MASKED = 32, LANES = 32 };

static inline void count_step(const uint64_t *words, int64_t stride, int64_t width, const uint64_t *query,
                              uint16_t *distances)
{
    __m512i totals[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                         _mm512_setzero_si512()};
    for (int64_t k = 0; k < width; k++) {
        const __m512i asked = _mm512_set1_epi64((int64_t)query[k]);
        for (int j = 0; j < 4; j++) {
            const __m512i word = _mm512_loadu_si512(words + k * stride + 8 * j);
            totals[j] = _mm512_add_epi64(totals[j], _mm512_popcnt_epi64(_mm512_xor_si512(word, asked)));
        }
    }
    for (int j = 0; j < 4; j++)
        _mm_storeu_si128((__m128i *)(distances + 8 * j), _mm512_cvtepi64_epi16(totals[j]));
}

static inline uint64_t near_mask(const uint16_t *distances, uint16_t limit)
{
    return _mm512_cmple_epu16_mask(_mm512_loadu_si512(distances), _mm512_set1_epi16((int16_t)limit));
}

static inline int64_t mask_index(uint64_t mask)
{
    return __builtin_ctzll(mask);
}

#elif defined(EDGE_ISA_AVX2)
enum { STEP = 16, MASKED = 32, LANES = 32 };

/* 16 sums of 64 bits, sums[j] of the codes 4 j .. 4 j + 3, as 16 numbers of 16 bits in the order of the codes. */
static inline __m256i narrowed(const __m256i sums[4])
{
    const __m256i mixed = _mm256_or_si256(_mm256_or_si256(sums[0], _mm256_slli_epi64(sums[1], 16)),
                                          _mm256_or_si256(_mm256_slli_epi64(sums[2], 32),
                                                          _mm256_slli_epi64(sums[3], 48)));
    /* each half holds codes 0 4 8 12 | 1 5 9 13: their pairs 0 1 | 4 5 | 8 9 | 12 13, and so on */
    const __m256i pairs = _mm256_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15, 0, 1, 8, 9, 2, 3, 10,
                                           11, 4, 5, 12, 13, 6, 7, 14, 15);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(mixed, pairs), order);
}

static inline void count_step(const uint64_t *words, int64_t stride, int64_t width, const uint64_t *query,
                              uint16_t *distances)
{
    const __m256i zero = _mm256_setzero_si256(), low = _mm256_set1_epi8(15);
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1,
                                            2, 2, 3, 2, 3, 3, 4);
    __m256i sums[4] = {zero, zero, zero, zero};
    for (int64_t first = 0; first < width; first += BYTE_WORDS) {
        const int64_t stop = first + BYTE_WORDS < width ? first + BYTE_WORDS : width;
        __m256i bytes[4] = {zero, zero, zero, zero};
        for (int64_t k = first; k < stop; k++) {
            const __m256i asked = _mm256_set1_epi64x((int64_t)query[k]);
            for (int j = 0; j < 4; j++) {
                const __m256i word = _mm256_loadu_si256((const __m256i *)(words + k * stride + 4 * j));
                const __m256i differs = _mm256_xor_si256(word, asked);
                const __m256i high = _mm256_and_si256(_mm256_srli_epi16(differs, 4), low);
                const __m256i bits = _mm256_add_epi8(_mm256_shuffle_epi8(counts, _mm256_and_si256(differs, low)),
                                                     _mm256_shuffle_epi8(counts, high));
                bytes[j] = _mm256_add_epi8(bytes[j], bits);
            }
        }
        for (int j = 0; j < 4; j++)
            sums[j] = _mm256_add_epi64(sums[j], _mm256_sad_epu8(bytes[j], zero));
    }
    _mm256_storeu_si256((__m256i *)distances, narrowed(sums));
}

/* 0xffff where a distance is at most the limit. */
static inline __m256i at_most(const uint16_t *distances, uint16_t limit)
{
    const __m256i given = _mm256_loadu_si256((const __m256i *)distances);
    return _mm256_cmpeq_epi16(_mm256_min_epu16(given, _mm256_set1_epi16((int16_t)limit)), given);
}

static inline uint64_t near_mask(const uint16_t *distances, uint16_t limit)
{
    const __m256i bytes = _mm256_packs_epi16(at_most(distances, limit), at_most(distances + 16, limit));
    return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(bytes, 0xd8));
}

static inline int64_t mask_index(uint64_t mask)
{
    return __builtin_ctzll(mask);
}

#elif defined(EDGE_ISA_NEON)
enum { STEP = 8, MASKED = 16, LANES = 8 };

static inline void count_step(const uint64_t *words, int64_t stride, int64_t width, const uint64_t *query,
                              uint16_t *distances)
{
    uint16x8_t total = vdupq_n_u16(0);
    for (int64_t first = 0; first < width; first += BYTE_WORDS) {
        const int64_t stop = first + BYTE_WORDS < width ? first + BYTE_WORDS : width;
        uint8x16_t bytes[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
        for (int64_t k = first; k < stop; k++) {
            const uint64x2_t asked = vdupq_n_u64(query[k]);
            for (int j = 0; j < 4; j++) {
                const uint64x2_t word = vld1q_u64(words + k * stride + 2 * j);
                bytes[j] = vaddq_u8(bytes[j], vcntq_u8(vreinterpretq_u8_u64(veorq_u64(word, asked))));
            }
        }
        /* 8 bytes a code -> 4 sums -> 2 -> 1, codes stay in their order */
        const uint16x8_t left = vpaddq_u16(vpaddlq_u8(bytes[0]), vpaddlq_u8(bytes[1]));
        const uint16x8_t right = vpaddq_u16(vpaddlq_u8(bytes[2]), vpaddlq_u8(bytes[3]));
        total = vaddq_u16(total, vpaddq_u16(left, right));
    }
    vst1q_u16(distances, total);
}

/* Four bits for each distance, so that one instruction makes 64 of 128. */
static inline uint64_t near_mask(const uint16_t *distances, uint16_t limit)
{
    const uint16x8_t most = vdupq_n_u16(limit);
    const uint8x8_t first = vmovn_u16(vcleq_u16(vld1q_u16(distances), most));
    const uint8x8_t second = vmovn_u16(vcleq_u16(vld1q_u16(distances + 8), most));
    const uint8x8_t bits = vshrn_n_u16(vreinterpretq_u16_u8(vcombine_u8(first, second)), 4);
    return vget_lane_u64(vreinterpret_u64_u8(bits), 0) & UINT64_C(0x1111111111111111);
}

static inline int64_t mask_index(uint64_t mask)
{
    return __builtin_ctzll(mask) >> 2;
}

#else
enum { STEP = 8, MASKED = 16, LANES = 4 };

static inline void count_step(const uint64_t *words, int64_t stride, int64_t width, const uint64_t *query,
                              uint16_t *distances)
{
    uint16_t totals[STEP] = {0};
    for (int64_t first = 0; first < width; first += BYTE_WORDS) {
        const int64_t stop = first + BYTE_WORDS < width ? first + BYTE_WORDS : width;
        uint64_t bytes[STEP] = {0};
        for (int64_t k = first; k < stop; k++)
            for (int j = 0; j < STEP; j++)
                bytes[j] += byte_counts(words[k * stride + j] ^ query[k]);
        for (int j = 0; j < STEP; j++)
            for (int shift = 0; shift < 64; shift += 8)
                totals[j] = (uint16_t)(totals[j] + ((bytes[j] >> shift) & 0xff));
    }
    for (int j = 0; j < STEP; j++)
        distances[j] = totals[j];
}

static inline uint64_t near_mask(const uint16_t *distances, uint16_t limit)
{
    uint64_t mask = 0;
    for (int i = 0; i < MASKED; i++)
        mask |= (uint64_t)(distances[i] <= limit) << i;
    return mask;
}

static inline int64_t mask_index(uint64_t mask)
{
    return __builtin_ctzll(mask);
}
#endif

#endif
