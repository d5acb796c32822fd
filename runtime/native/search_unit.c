/* The loops of a search, compiled once for each instruction set: see popcount.h for what differs between them. */
#include "search_unit.h"

#include <string.h>

#include "popcount.h"

void EDGE_NAME(edge_scan)(const EdgeCodes *codes, int64_t start, int64_t count, const uint64_t *query,
                          uint16_t *distances)
{
    const int64_t whole = count - count % STEP;
    for (int64_t i = 0; i < whole; i += STEP)
        count_step(codes->words + start + i, codes->stride, codes->width, query, distances + i);
    for (int64_t i = whole; i < count; i++)
        distances[i] = count_one(codes, start + i, query);
}

void EDGE_NAME(edge_gather)(const EdgeCodes *codes, const int64_t *places, int64_t count, const uint64_t *query,
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

void EDGE_NAME(edge_select)(const EdgeCodes *codes, const int64_t *places, int64_t count, const uint64_t *query,
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
            EDGE_NAME(edge_gather)(codes, places + start, size, query, distances);
        else
            EDGE_NAME(edge_scan)(codes, start, size, query, distances);
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

/* table[256 * b + x]: what byte b of a code adds to the sum where it is x. */
static void fill_table(const int16_t *query, int64_t dim, int64_t bytes, int16_t *table)
{
    for (int64_t b = 0; b < bytes; b++) {
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
}

void EDGE_NAME(edge_signs)(const EdgeCodes *codes, const int64_t *places, int64_t count, const int16_t *query,
                           int64_t dim, int16_t *table, int32_t *sums)
{
    const int64_t width = codes->width, stride = codes->stride;
    fill_table(query, dim, 8 * width, table);
    for (int64_t i = 0; i < count; i++) {
        const uint64_t *code = codes->words + (places ? places[i] : i);
        int32_t even = 0, odd = 0;
        for (int64_t k = 0; k < width; k++) {
            const uint64_t word = code[k * stride];
            const int16_t *part = table + 2048 * k;
            for (int byte = 0; byte < 8; byte += 2) {
                even += part[256 * byte + (int64_t)(word >> 8 * byte & 0xff)];
                odd += part[256 * byte + 256 + (int64_t)(word >> (8 * byte + 8) & 0xff)];
            }
        }
        sums[i] = even + odd;
    }
}

void EDGE_NAME(edge_scores)(const int8_t *codes, int64_t stride, int64_t count, int64_t dim, const float *scales,
                            const double *query, double step, float *scores)
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
        scores[i] = (float)(sum * (double)scales[i] * step);
    }
}
