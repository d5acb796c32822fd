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

/* The loops for one instruction set. */
typedef struct {
    void (*scan)(const EdgeCodes *codes, int64_t start, int64_t count, const uint64_t *query, uint16_t *distances);
    void (*gather)(const EdgeCodes *codes, const int64_t *places, int64_t count, const uint64_t *query,
                   uint16_t *distances);
    void (*select)(const EdgeCodes *codes, const int64_t *places, int64_t count, const uint64_t *query,
                   EdgeNearest *nearest, EdgeCut *cut);
    void (*signs)(const EdgeCodes *codes, const int64_t *places, int64_t count, const int16_t *query, int64_t dim,
                  int16_t *table, int32_t *sums);
    void (*scores)(const int8_t *codes, int64_t stride, int64_t count, int64_t dim, const float *scales,
                   const double *query, double step, float *scores);
} SearchUnit;

extern const SearchUnit edge_search_unit_baseline, edge_search_unit_avx2, edge_search_unit_vpopcnt,
    edge_search_unit_neon;

#endif
