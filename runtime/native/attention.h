/* Attention of one text and head: blocks of queries against all keys; their scores stay in the first level of the cache.
 * Each score is a sum over the head's numbers in their order, each context a sum over the keys in theirs. */
#ifndef EDGE_ATTENTION_H
#define EDGE_ATTENTION_H

#include "elementwise.h"

#define LOG2_E 1.44269504f
/* Lower than any score: 2^x of it is 2^-126, which no sum that holds a 1 notices. */
#define HIDDEN -1e30f

enum { KEY_BLOCK = 16 * ATTENTION_VECTORS, HALF_ROWS = ATTENTION_ROWS / 2 };

typedef struct {
    int64_t length, padded; /* keys; the same as a multiple of 16 */
    int64_t head_size;
    const float *q, *v;       /* [length][head_size] */
    const float *transposed;  /* keys [padded / KEY_BLOCK][head_size][KEY_BLOCK] */
    const float *relative;    /* what is added to query 0's scores; query i's begin i numbers before; or NULL */
    float *scores;            /* [ATTENTION_ROWS][stride] */
    int64_t stride;
    v16 real;                 /* of the last 16 keys: all bits of those that there are */
    act *context;             /* the head's codes of the first token */
    int64_t context_stride;
    const float *factor;      /* of the rounding of the head's numbers */
    Coder coder;
} Head;

/* Keys as columns; behind the last key stands what has no meaning. */
INLINE void transpose_keys(const float *k, const Head *h, float *to)
{
    for (int64_t s = 0; s < h->padded; s += 16)
        for (int64_t d = 0; d < h->head_size; d += 16)
            transpose16(k + s * h->head_size + d, h->head_size,
                        to + (s / KEY_BLOCK * h->head_size + d) * KEY_BLOCK + s % KEY_BLOCK, KEY_BLOCK);
}

/* Scores of `rows` queries from `query` on and 16 * `vectors` keys from `key` on. */
INLINE void score_block(const int rows, const int vectors, const Head *h, int64_t query, int64_t key)
{
    const float *q = h->q + query * h->head_size;
    const float *k = h->transposed + key * h->head_size;
    v16 s[ATTENTION_ROWS][ATTENTION_VECTORS];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int j = 0; j < vectors; j++)
            s[r][j] = h->relative ? v_load(h->relative + key + j * 16 - query - r) : v_set(0);
    for (int64_t d = 0; d < h->head_size; d++, k += KEY_BLOCK) {
        v16 keys[ATTENTION_VECTORS];
        UNROLL
        for (int j = 0; j < vectors; j++)
            keys[j] = v_load(k + j * 16);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const v16 number = v_set(q[r * h->head_size + d]);
            UNROLL
            for (int j = 0; j < vectors; j++)
                s[r][j] = v_fma(number, keys[j], s[r][j]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int j = 0; j < vectors; j++)
            v_store(h->scores + r * h->stride + key + j * 16, s[r][j]);
}

INLINE v16 real_keys(int64_t length)
{
    int32_t bits[16];
    v16 real;
    for (int i = 0; i < 16; i++)
        bits[i] = i <= (length - 1) % 16 ? -1 : 0;
    memcpy(&real, bits, sizeof real);
    return real;
}

/* A row of scores becomes weights that are not divided by their sum yet; gives 1 / sum. */
INLINE float soften(const Head *h, float *row)
{
    /* single numbers, stored here, would make the next load of all sixteen wait */
    v_store(row + h->padded - 16, v_choose(h->real, v_load(row + h->padded - 16), v_set(HIDDEN)));
    v16 top = v_load(row), sum = v_set(0);
    for (int64_t i = 16; i < h->padded; i += 16)
        top = v_max(top, v_load(row + i));
    const v16 offset = v_set(v_top(top) * -LOG2_E);
    for (int64_t i = 0; i < h->padded; i += 16) {
        const v16 weight = exp2_below_0(v_fma(v_load(row + i), v_set(LOG2_E), offset));
        v_store(row + i, weight);
        sum = v_add(sum, weight);
    }
    return 1.0f / v_sum(sum);
}

/* Codes of 16 * `vectors` numbers, from d on, of the context of `rows` queries, of which `real` are written. */
INLINE void context_block(const int rows, const int vectors, const Head *h, int64_t query, int64_t real, int64_t d,
                          const float *inverse)
{
    v16 c[ATTENTION_ROWS][ATTENTION_VECTORS];
    const float *v = h->v + d;
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int j = 0; j < vectors; j++)
            c[r][j] = v_set(0);
    for (int64_t i = 0; i < h->length; i++, v += h->head_size) {
        v16 values[ATTENTION_VECTORS];
        UNROLL
        for (int j = 0; j < vectors; j++)
            values[j] = v_load(v + j * 16);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const v16 weight = v_set(h->scores[r * h->stride + i]);
            UNROLL
            for (int j = 0; j < vectors; j++)
                c[r][j] = v_fma(weight, values[j], c[r][j]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors && r < real; j++)
            put(h->context + (query + r) * h->context_stride + d + j * 16, v_mul(c[r][j], v_set(inverse[r])),
                v_load(h->factor + d + j * 16), &h->coder);
}

INLINE void query_block(const int rows, const Head *h, int64_t query)
{
    float inverse[ATTENTION_ROWS];
    int64_t key = 0, d = 0;
    for (; key + KEY_BLOCK <= h->padded; key += KEY_BLOCK)
        score_block(rows, ATTENTION_VECTORS, h, query, key);
    for (; ATTENTION_VECTORS > 1 && key < h->padded; key += 16)
        score_block(rows, 1, h, query, key);
    const int64_t real = h->length - query < rows ? h->length - query : rows;
    for (int64_t r = 0; r < real; r++)
        inverse[r] = soften(h, h->scores + r * h->stride);
    for (int64_t r = real; r < rows; r++)
        inverse[r] = 0;
    for (; d + 16 * ATTENTION_VECTORS <= h->head_size; d += 16 * ATTENTION_VECTORS)
        context_block(rows, ATTENTION_VECTORS, h, query, real, d, inverse);
    for (; ATTENTION_VECTORS > 1 && d < h->head_size; d += 16)
        context_block(rows, 1, h, query, real, d, inverse);
}

APART void large_block(const Head *h, int64_t query)
{
    query_block(ATTENTION_ROWS, h, query);
}

APART void small_block(const Head *h, int64_t query)
{
    query_block(HALF_ROWS, h, query);
}

/* All queries. The last block begins earlier where it can, and computes some rows a second time, to the same bits. */
static void attend(const Head *h)
{
    int64_t query = 0;
    for (; h->length - query > HALF_ROWS; query += ATTENTION_ROWS)
        large_block(h, h->length >= ATTENTION_ROWS && h->length - query < ATTENTION_ROWS ? h->length - ATTENTION_ROWS
                                                                                        : query);
    if (query < h->length)
        small_block(h, h->length >= HALF_ROWS ? h->length - HALF_ROWS : query);
}

#endif
