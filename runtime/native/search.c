/* Checks what a caller of the search functions gives, and chooses among the instruction sets. */
#include "search.h"

#include <stddef.h>

#include "search_unit.h"

static const SearchUnit *unit_of(int32_t isa)
{
    const int32_t level = isa & EDGE_ISA_MASK;
    (void)level;
#ifdef EDGE_HAVE_VPOPCNT
    if (isa >= 0 && (isa & EDGE_VPOPCNT))
        return &edge_search_unit_vpopcnt;
#endif
#ifdef EDGE_HAVE_AVX2
    if (isa >= 0 && level >= EDGE_AVX2 && level <= EDGE_AVX512VNNI)
        return &edge_search_unit_avx2;
#endif
#ifdef EDGE_HAVE_NEON
    if (isa >= 0 && level >= EDGE_NEON && level <= EDGE_I8MM)
        return &edge_search_unit_neon;
#endif
    return &edge_search_unit_baseline;
}

static int is_sound(const EdgeCodes *codes)
{
    return codes && codes->words && codes->width >= 1 && codes->width <= EDGE_MOST_WORDS && codes->count >= 0 &&
           codes->count <= codes->stride && codes->stride <= EDGE_MOST_CODES;
}

/* Whether there is a code at each place. */
static int are_places(const int64_t *places, int64_t count, int64_t codes)
{
    int outside = 0;
    for (int64_t i = 0; i < count; i++)
        outside |= (uint64_t)places[i] >= (uint64_t)codes; /* a negative one becomes a large one */
    return !outside;
}

int32_t edge_distances(int32_t isa, const EdgeCodes *codes, const uint64_t *query, uint16_t *distances)
{
    if (!is_sound(codes) || !query || !distances)
        return EDGE_BAD_ARGUMENT;
    unit_of(isa)->scan(codes, 0, codes->count, query, distances);
    return 0;
}

int32_t edge_distances_at(int32_t isa, const EdgeCodes *codes, const int64_t *places, int64_t count,
                          const uint64_t *query, uint16_t *distances)
{
    if (!is_sound(codes) || !places || count < 0 || count > EDGE_MOST_CODES || !query || !distances)
        return EDGE_BAD_ARGUMENT;
    if (!are_places(places, count, codes->count))
        return EDGE_BAD_PLACE;
    unit_of(isa)->gather(codes, places, count, query, distances);
    return 0;
}

int32_t edge_nearest(int32_t isa, const EdgeCodes *codes, const int64_t *places, int64_t count, const uint64_t *query,
                     int64_t wanted, int64_t *found, uint16_t *distances, int64_t room, EdgeCut *cut)
{
    if (!is_sound(codes) || !query || !found || !distances || !cut || count < 0 || count > EDGE_MOST_CODES)
        return EDGE_BAD_ARGUMENT;
    if (wanted < 1 || wanted >= count || (!places && count != codes->count))
        return EDGE_BAD_ARGUMENT;
    if (room < count && room < wanted + EDGE_BLOCK)
        return EDGE_BAD_SIZE;
    if (places && !are_places(places, count, codes->count))
        return EDGE_BAD_PLACE;
    EdgeNearest nearest = {found, distances, room, wanted};
    unit_of(isa)->select(codes, places, count, query, &nearest, cut);
    return 0;
}

/* Whether sums of eight numbers that stand together fit in 16 bits. */
static int fits(const int16_t *query, int64_t dim)
{
    for (int64_t start = 0; start < dim; start += 8) {
        int32_t size = 0;
        for (int64_t i = start; i < start + 8 && i < dim; i++)
            size += query[i] < 0 ? -query[i] : query[i];
        if (size > INT16_MAX)
            return 0;
    }
    return 1;
}

int32_t edge_signs(int32_t isa, const EdgeCodes *codes, const int64_t *places, int64_t count, const int16_t *query,
                   int64_t dim, int16_t *table, int32_t *sums)
{
    if (!is_sound(codes) || !query || !table || !sums || dim < 0 || dim > 64 * codes->width)
        return EDGE_BAD_ARGUMENT;
    if (count < 0 || count > EDGE_MOST_CODES || (!places && count != codes->count) || !fits(query, dim))
        return EDGE_BAD_ARGUMENT;
    if (places && !are_places(places, count, codes->count))
        return EDGE_BAD_PLACE;
    unit_of(isa)->signs(codes, places, count, query, dim, table, sums);
    return 0;
}

int32_t edge_int8_scores(int32_t isa, const int8_t *codes, int64_t stride, int64_t count, int64_t dim,
                         const float *scales, const double *query, double step, float *scores)
{
    if (!codes || !scales || !query || !scores || dim < 1 || dim > EDGE_MOST_DIM || stride < dim ||
        stride > 2 * EDGE_MOST_DIM)
        return EDGE_BAD_ARGUMENT;
    if (count < 0 || count > EDGE_MOST_CODES)
        return EDGE_BAD_ARGUMENT;
    unit_of(isa)->scores(codes, stride, count, dim, scales, query, step, scores);
    return 0;
}
