/* The loops of a search, compiled once for each instruction set: see popcount.h for what differs between them. */
#include "search_unit.h"

#include <string.h>

#include "popcount.h"
#include "signs.h"

/* Codes that are fetched before their turn, where they lie anywhere in memory. */
enum { AHEAD = 32 };

static void scan(const EdgeCodes *codes, int64_t start, int64_t count, const uint64_t *query, uint16_t *distances)
{
    const int64_t whole = count - count % STEP;
    for (int64_t i = 0; i < whole; i += STEP)
        count_step(codes->words + start + i, codes->stride, codes->width, query, distances + i);
    for (int64_t i = whole; i < count; i++)
        distances[i] = count_one(codes, start + i, query);
}

static void gather(const EdgeCodes *codes, const int64_t *places, int64_t count, const uint64_t *query,
                   uint16_t *distances)
{
    for (int64_t i = 0; i < count; i++)
        distances[i] = count_one(codes, places[i], query);
}

/* The state of a selection. Of all codes seen so far, `last` is the distance of the nearest number `wanted`, once there
 * are so many; before, the largest distance there is. */
typedef struct {
    int64_t last;
    int64_t below;                          /* codes seen with a distance below `last` */
    int64_t stored;                         /* codes in the caller's arrays, by place */
    int64_t seen[64 * EDGE_MOST_WORDS + 1]; /* codes seen of each distance up to `last` */
} Selection;

/* A code no farther than `last`. One that `wanted` others come before cannot be among the nearest any more. */
static void take(Selection *state, EdgeNearest *nearest, int64_t place, uint16_t distance)
{
    if (distance > state->last) /* it has become smaller since the block was compared with it */
        return;
    const int64_t before = state->below + (distance == state->last ? state->seen[distance] : 0);
    state->seen[distance]++;
    if (before < nearest->wanted) {
        nearest->places[state->stored] = place;
        nearest->distances[state->stored++] = distance;
    }
    if (distance < state->last && ++state->below >= nearest->wanted)
        do
            state->below -= state->seen[--state->last];
        while (state->below >= nearest->wanted);
}

/* Leave out all that are not among the nearest any more. */
static void tidy(Selection *state, EdgeNearest *nearest)
{
    int64_t kept = 0, equal = nearest->wanted - state->below;
    for (int64_t i = 0; i < state->stored; i++) {
        const uint16_t distance = nearest->distances[i];
        if (distance > state->last || (distance == state->last && equal-- <= 0))
            continue;
        nearest->places[kept] = nearest->places[i];
        nearest->distances[kept++] = distance;
    }
    state->stored = kept;
}

static void select_nearest(const EdgeCodes *codes, const int64_t *places, int64_t count, const uint64_t *query,
                           EdgeNearest *nearest, EdgeCut *cut)
{
    uint16_t distances[EDGE_BLOCK] __attribute__((aligned(64)));
    Selection state;
    state.last = 64 * codes->width;
    state.below = state.stored = 0;
    memset(state.seen, 0, sizeof state.seen[0] * (size_t)(state.last + 1));
    for (int64_t start = 0; start < count; start += EDGE_BLOCK) {
        const int64_t size = count - start < EDGE_BLOCK ? count - start : EDGE_BLOCK;
        if (places)
            gather(codes, places + start, size, query, distances);
        else
            scan(codes, start, size, query, distances);
        if (state.stored + size > nearest->room)
            tidy(&state, nearest);
        memset(distances + size, 0xff, sizeof(uint16_t) * (size_t)(EDGE_BLOCK - size)); /* farther than all */
        for (int64_t i = 0; i < size; i += MASKED)
            for (uint64_t near = near_mask(distances + i, (uint16_t)state.last); near; near &= near - 1) {
                const int64_t at = i + mask_index(near);
                take(&state, nearest, places ? places[start + at] : start + at, distances[at]);
            }
    }
    tidy(&state, nearest);
    cut->last = state.last;
    cut->taken = nearest->wanted - state.below;
    cut->equal = state.seen[state.last];
}

/* Fetch a code into the cache, while others are looked at. */
static inline void fetch_code(const EdgeCodes *codes, int64_t place)
{
    for (int64_t k = 0; k < codes->width; k++)
        __builtin_prefetch(codes->words + k * codes->stride + place);
}

static void sign_sums(const EdgeCodes *codes, const int64_t *places, int64_t count, const int16_t *query,
                      int64_t dim, int16_t *table, int32_t *sums)
{
    for (int64_t i = 0; places && i < count && i < AHEAD; i++)
        fetch_code(codes, places[i]);
    const EdgeSigns signs = prepare_signs(query, dim, codes->width, table);
    for (int64_t i = 0; i < count; i++) {
        if (places && i + AHEAD < count)
            fetch_code(codes, places[i + AHEAD]);
        sums[i] = sign_sum(codes, places ? places[i] : i, &signs);
    }
}

static void scores(const int8_t *codes, int64_t stride, int64_t count, int64_t dim, const float *scales,
                   const double *query, double step, float *found)
{
    for (int64_t i = 0; i < count; i++) {
        const int8_t *code = codes + i * stride;
        double sums[LANES] = {0}, sum = 0; /* whole numbers below 2^53: exact in any order */
        int64_t k = 0;
        for (; k + LANES <= dim; k += LANES)
            for (int lane = 0; lane < LANES; lane++)
                sums[lane] += (double)code[k + lane] * query[k + lane];
        for (; k < dim; k++)
            sum += (double)code[k] * query[k];
        for (int lane = 0; lane < LANES; lane++)
            sum += sums[lane];
        found[i] = (float)(sum * (double)scales[i] * step);
    }
}

const SearchUnit EDGE_NAME(edge_search_unit) = {scan, gather, select_nearest, sign_sums, scores};
