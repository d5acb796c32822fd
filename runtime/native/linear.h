/* Linear layers in int8: tiles of rows times panels of 16 columns, and what follows a product while it is in the first
 * level of the cache.
 *
 * The instruction set gives
 *   tile(rows, panels, a, a_stride, w, panel_bytes, k, init, sums, next)
 * which is always inlined, with constants for rows (1..TILE_ROWS) and panels (1 or TILE_PANELS):
 *   sums[r * 16 * TILE_PANELS + c] = init[c] + sum over i < k of a[r * a_stride + i] * weight[i][c],  c < 16 * panels
 * where panel p of the packed weights begins at w + p * panel_bytes. It reads nothing beyond those rows and panels,
 * and may fetch into the cache what stands at `next`, at any address: as many bytes as it reads of weights. */
#ifndef EDGE_LINEAR_H
#define EDGE_LINEAR_H

#include "elementwise.h"

enum { SUM_STRIDE = PANEL * TILE_PANELS };

#define ROWS_CASE(count)                                                                                            \
    case count:                                                                                                     \
        tile(count, panels, a, a_stride, w, panel_bytes, k, init, sums, next);                                      \
        break;

INLINE void tile_of(int64_t rows, const int panels, const act *a, int64_t a_stride, const int8_t *w, int64_t k,
                    const int32_t *init, int32_t *sums, const int8_t *next)
{
    const int64_t panel_bytes = k * PANEL;
    switch (rows) {
        ROWS_CASE(1)
        ROWS_CASE(2)
#if TILE_ROWS > 2
        ROWS_CASE(3)
        ROWS_CASE(4)
#endif
#if TILE_ROWS > 4
        ROWS_CASE(5)
        ROWS_CASE(6)
#endif
#if TILE_ROWS > 6
        ROWS_CASE(7)
        ROWS_CASE(8)
#endif
    }
}

APART void wide_tile(int64_t rows, const act *a, int64_t a_stride, const int8_t *w, int64_t k, const int32_t *init,
                     int32_t *sums, const int8_t *next)
{
    tile_of(rows, TILE_PANELS, a, a_stride, w, k, init, sums, next);
}

#if TILE_PANELS > 1
APART void narrow_tile(int64_t rows, const act *a, int64_t a_stride, const int8_t *w, int64_t k, const int32_t *init,
                       int32_t *sums, const int8_t *next)
{
    tile_of(rows, 1, a, a_stride, w, k, init, sums, next);
}
#else
#define narrow_tile wide_tile
#endif

/* What becomes of a product. */
enum {
    TO_HEADS,  /* floats [heads][rows][head_size], of the columns from `first` on */
    TO_FLOATS, /* floats [rows][n] */
    ADDED,     /* likewise, on what is there */
    TO_GELU    /* codes of GELU [rows][n] */
};

typedef struct {
    float *floats;
    act *codes;
    const Rounding *next; /* of codes */
    int64_t stride;       /* of a row; of TO_HEADS, of a head */
    int64_t head_size, first;
} Result;

/* One tile's sums, of `panels` panels at column n, become its part of the result. */
INLINE void finish_tile(const int how, const Linear *l, const Result *to, int64_t row, int64_t rows, int64_t n,
                        int64_t panels, const int32_t *sums)
{
    Coder c;
    if (how == TO_GELU)
        c = coder(to->next);
    for (int64_t p = 0; p < panels; p++) {
        const int64_t column = n + p * PANEL;
        const v16 scale = v_load(l->scale + column), bias = v_load(l->bias + column);
        float *out = to->floats;
        int64_t stride = to->stride;
        if (how == TO_HEADS) {
            const int64_t own = column - to->first;
            out += own / to->head_size * stride + own % to->head_size;
            stride = to->head_size;
        } else if (how != TO_GELU) {
            out += column;
        }
        for (int64_t r = 0; r < rows; r++) {
            const v16 y = v_fma(v_ints(sums + r * SUM_STRIDE + p * PANEL), scale, bias);
            if (how == TO_GELU)
                put(to->codes + (row + r) * stride + column, gelu(y), v_load(to->next->factor + column), &c);
            else if (how == ADDED)
                v_store(out + (row + r) * stride, v_add(y, v_load(out + (row + r) * stride)));
            else
                v_store(out + (row + r) * stride, y);
        }
    }
}

/* Columns first..last of a linear layer, for `rows` rows of codes [k]. Panels outside, so that one stays in the cache
 * for all rows. While it does, the next one is fetched: with short texts, most of the time goes into waiting for weights.
 * after: the weights that are read behind these. */
INLINE void linear(const int how, const Linear *l, int64_t first, int64_t last, const act *a, int64_t rows,
                   const Result *to, const int8_t *after)
{
    int32_t sums[TILE_ROWS * SUM_STRIDE];
    for (int64_t n = first; n < last;) {
        const int8_t *w = l->weight + n * l->k;
        const int64_t panels = last - n >= SUM_STRIDE ? TILE_PANELS : 1;
        const int64_t behind = n + panels * PANEL;
        const int8_t *fetched = behind < last ? l->weight + behind * l->k : after;
        for (int64_t row = 0; row < rows; row += TILE_ROWS) {
            const int64_t some = rows - row < TILE_ROWS ? rows - row : TILE_ROWS;
            (panels == TILE_PANELS ? wide_tile : narrow_tile)(some, a + row * l->k, l->k, w, l->k, l->init + n, sums,
                                                              fetched);
            finish_tile(how, l, to, row, some, n, panels, sums);
        }
        n = behind;
    }
}

#endif
