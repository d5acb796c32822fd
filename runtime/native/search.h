/* Search over binary codes and int8 codes. All memory is the caller's; whatever CPU, the results are equal to the bit:
 * they are counts of bits, and sums of whole numbers that float64 and int32 hold exactly.
 *
 * isa: what edge_isa() gave; a number of another CPU falls back to what every CPU of this kind has. */
#ifndef EDGE_SEARCH_H
#define EDGE_SEARCH_H

#include "edge_embed.h"

/* The largest width of a code in words of 64 bits, and the largest number of codes. */
#define EDGE_MOST_WORDS 64
#define EDGE_MOST_CODES (INT64_C(1) << 40)
/* The largest number of dimensions of int8 codes: all sums stay exact in float64. */
#define EDGE_MOST_DIM 16384
/* Codes that are compared before those that are too far are left out. */
#define EDGE_BLOCK 2048
/* Numbers of a table for edge_signs: 256 for each byte of a code. */
#define EDGE_TABLE(width) (2048 * (width))

/* Errors, all negative. */
enum {
    EDGE_BAD_ARGUMENT = -101, /* a pointer that is NULL, or a number outside its limits */
    EDGE_BAD_PLACE = -102,    /* a place where there is no code */
    EDGE_BAD_SIZE = -103      /* an array of the caller is too small */
};

/* Codes word by word: word k of code i is words[k * stride + i]. width in 1..EDGE_MOST_WORDS, count <= stride. */
typedef struct {
    const uint64_t *words;
    int64_t stride;
    int64_t count;
    int64_t width;
} EdgeCodes;

/* What a scan left out. */
typedef struct {
    int64_t last;  /* the largest distance among those found */
    int64_t taken; /* how many of those found have it */
    int64_t equal; /* how many there are of all that were scanned */
} EdgeCut;

/* Bits in which codes differ from a query [width]: distances [count]. */
EDGE_API int32_t edge_distances(int32_t isa, const EdgeCodes *codes, const uint64_t *query, uint16_t *distances);

/* The same of the codes at some places [count], in any order. */
EDGE_API int32_t edge_distances_at(int32_t isa, const EdgeCodes *codes, const int64_t *places, int64_t count,
                                   const uint64_t *query, uint16_t *distances);

/* The `wanted` codes with the fewest bits different from a query, of equally distant ones the first, in the order of
 * their places. wanted: at least 1 and less than `count`: who wants all needs no distances.
 *
 * places:    scan these alone [count], ascending; NULL for all codes, and count is that of the codes then
 * found:     where they are, and `distances` [room], of which the first `wanted` are set
 * room:      of both arrays, at least wanted + EDGE_BLOCK, or `count` where that is less
 * cut:       set */
EDGE_API int32_t edge_nearest(int32_t isa, const EdgeCodes *codes, const int64_t *places, int64_t count,
                              const uint64_t *query, int64_t wanted, int64_t *found, uint16_t *distances, int64_t room,
                              EdgeCut *cut);

/* Sums of the numbers of a query [dim], each with the sign that its bit says: + where the bit of a code is set.
 *
 * query: of numbers 8 i .. 8 i + 7 the absolute values sum up to less than 2^15, so that a table of their sums is small
 * enough for the first cache. dim: at most 64 * width, what is missing counts as zero
 * table: room for EDGE_TABLE(width) numbers
 * sums:  [count] of the codes at these places; places NULL: of all */
EDGE_API int32_t edge_signs(int32_t isa, const EdgeCodes *codes, const int64_t *places, int64_t count,
                            const int16_t *query, int64_t dim, int16_t *table, int32_t *sums);

/* Dot products of a query [dim] with int8 codes, times the scale of each code.
 *
 * codes:  code i begins at codes + i * stride; stride at most 2 * EDGE_MOST_DIM
 * query:  whole numbers of at most 2^30, so that all sums are exact in float64
 * scores: [count], (float)(sum * scale * step), rounded after each product in this order */
EDGE_API int32_t edge_int8_scores(int32_t isa, const int8_t *codes, int64_t stride, int64_t count, int64_t dim,
                                  const float *scales, const double *query, double step, float *scores);

#endif
