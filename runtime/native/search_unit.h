/* What search_unit.c gives for each instruction set. Arguments are checked before. */
#ifndef EDGE_SEARCH_UNIT_H
#define EDGE_SEARCH_UNIT_H

#include "search.h"
#include "unit.h"

/* Nearest codes, as they are found. */
typedef struct {
    int64_t *places;
    uint16_t *distances;
    int64_t room;
    int64_t wanted;
} EdgeNearest;

#define EDGE_SEARCH_UNIT(isa)                                                                                          \
    void edge_scan_##isa(const EdgeCodes *codes, int64_t start, int64_t count, const uint64_t *query,                  \
                         uint16_t *distances);                                                                         \
    void edge_gather_##isa(const EdgeCodes *codes, const int64_t *places, int64_t count, const uint64_t *query,        \
                           uint16_t *distances);                                                                       \
    void edge_select_##isa(const EdgeCodes *codes, const int64_t *places, int64_t count, const uint64_t *query,        \
                           EdgeNearest *nearest, EdgeCut *cut);                                                        \
    void edge_signs_##isa(const EdgeCodes *codes, const int64_t *places, int64_t count, const int16_t *query,          \
                          int64_t dim, int16_t *table, int32_t *sums);                                                 \
    void edge_scores_##isa(const int8_t *codes, int64_t stride, int64_t count, int64_t dim, const float *scales,       \
                           const double *query, double step, float *scores);

EDGE_SEARCH_UNIT(baseline)
EDGE_SEARCH_UNIT(avx2)
EDGE_SEARCH_UNIT(vpopcnt)
EDGE_SEARCH_UNIT(neon)

#endif
