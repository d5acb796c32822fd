/* Fuzz target of the search functions: sizes, places and numbers from the input, right and wrong ones, in memory that is
 * exactly as long as they say. What a function accepts must be what the plain loops here find, on each instruction set;
 * what is wrong must be refused. */
#include "fuzz.h"
#include "search.h"

enum { MOST_CODES = 6000, MOST_DIM = 300 };

static const char *const ISAS[] = {"", "baseline", "avx2", "avx512", "neon", "dotprod"};
enum { ISA_COUNT = sizeof ISAS / sizeof ISAS[0] };

/* One search that could be asked for. */
typedef struct {
    Memory memory;
    EdgeCodes codes;
    uint64_t *query;
    int64_t *places; /* or NULL */
    int64_t count;   /* of the places, or of the codes */
    int ascending, inside;
} Search;

/* Mostly a few, sometimes beyond a block. */
static int64_t take_count(Input *input)
{
    const int64_t small = take_byte(input);
    return small < 224 ? small : take_below(input, MOST_CODES);
}

static void take_places(Input *input, Search *search)
{
    uint32_t state = take_word(input) | 1;
    const int kind = take_byte(input) % 8;
    search->count = search->codes.count;
    search->inside = search->ascending = 1;
    if (kind < 4)
        return;
    search->count = take_count(input);
    search->places = allocate(&search->memory, (size_t)search->count * sizeof(int64_t), 8);
    const int64_t step = search->count ? search->codes.count / search->count : 0;
    search->inside = search->codes.count > 0 || search->count == 0;
    for (int64_t i = 0; i < search->count; i++)
        search->places[i] = kind < 6 && step ? i * step : (int64_t)(next_random(&state) % (uint32_t)(search->codes.count + 1));
    if (kind == 7 && search->count)
        search->places[take_below(input, search->count)] = odd_number(input);
    for (int64_t i = 0; i < search->count; i++) {
        search->inside &= search->places[i] >= 0 && search->places[i] < search->codes.count;
        search->ascending &= i == 0 || search->places[i - 1] < search->places[i];
    }
}

static void take_search(Input *input, Search *search)
{
    EdgeCodes *codes = &search->codes;
    uint32_t state = take_word(input) | 1;
    codes->width = 1 + take_below(input, 9);
    if (take_byte(input) == 7)
        codes->width = EDGE_MOST_WORDS;
    codes->count = take_count(input);
    codes->stride = codes->count + take_below(input, 5);
    /* the last word ends where the last code has it: what stands behind `count` in the last row is not there */
    const size_t words = codes->count ? (size_t)((codes->width - 1) * codes->stride + codes->count) : 0;
    uint64_t *made = allocate(&search->memory, words * sizeof(uint64_t), 8);
    /* few bits differ where the mask has few, so that many codes are equally near */
    const uint64_t mask = take_byte(input) % 2 ? ~UINT64_C(0) : UINT64_C(0x0101);
    for (size_t i = 0; i < words; i++)
        made[i] = ((uint64_t)next_random(&state) << 32 | next_random(&state)) & mask;
    codes->words = made;
    search->query = allocate(&search->memory, (size_t)codes->width * sizeof(uint64_t), 8);
    for (int64_t i = 0; i < codes->width; i++)
        search->query[i] = ((uint64_t)next_random(&state) << 32 | next_random(&state)) & mask;
    take_places(input, search);
}

static int64_t place_of(const Search *search, int64_t i)
{
    return search->places ? search->places[i] : i;
}

static uint16_t distance(const Search *search, int64_t place)
{
    int found = 0;
    for (int64_t k = 0; k < search->codes.width; k++)
        found += __builtin_popcountll(search->codes.words[k * search->codes.stride + place] ^ search->query[k]);
    return (uint16_t)found;
}

static void try_distances(int32_t isa, Search *search)
{
    uint16_t *found = allocate(&search->memory, (size_t)search->count * 2, 2);
    int32_t status;
    if (search->places)
        status = edge_distances_at(isa, &search->codes, search->places, search->count, search->query, found);
    else
        status = edge_distances(isa, &search->codes, search->query, found);
    REQUIRE(status == (search->inside ? 0 : EDGE_BAD_PLACE));
    for (int64_t i = 0; status == 0 && i < search->count; i++)
        REQUIRE(found[i] == distance(search, place_of(search, i)));
}

/* What edge_nearest has to find, by counting how many codes have each distance. */
static void check_nearest(const Search *search, int64_t wanted, const int64_t *found, const uint16_t *distances,
                          const EdgeCut *cut)
{
    int64_t many[64 * EDGE_MOST_WORDS + 1] = {0}, below = 0, last = 0, next = 0, left;
    for (int64_t i = 0; i < search->count; i++)
        many[distance(search, place_of(search, i))]++;
    while (below + many[last] < wanted)
        below += many[last++];
    left = wanted - below;
    REQUIRE(cut->last == last && cut->taken == left && cut->equal == many[last]);
    for (int64_t i = 0; i < search->count; i++) {
        const int64_t place = place_of(search, i);
        const uint16_t here = distance(search, place);
        if (here > last || (here == last && left-- <= 0))
            continue;
        REQUIRE(next < wanted && found[next] == place && distances[next] == here);
        next++;
    }
    REQUIRE(next == wanted);
}

static void try_nearest(int32_t isa, Input *input, Search *search)
{
    const int odd = take_byte(input) % 16;
    int64_t wanted = odd == 0 ? odd_number(input) : 1 + take_below(input, search->count);
    int64_t room = wanted + EDGE_BLOCK < search->count ? wanted + EDGE_BLOCK : search->count;
    if (odd == 1)
        room -= 1 + take_byte(input);
    const size_t real = room > 0 && room < 1 << 20 ? (size_t)room : 0;
    int64_t *found = allocate(&search->memory, real * 8, 8);
    uint16_t *distances = allocate(&search->memory, real * 2, 2);
    EdgeCut cut = {0, 0, 0};
    const int32_t status = edge_nearest(isa, &search->codes, search->places, search->count, search->query, wanted,
                                        found, distances, room, &cut);
    const int fits = wanted >= 1 && wanted < search->count && odd != 1 && search->inside;
    REQUIRE(fits ? status == 0 || !search->ascending : status < 0);
    if (status == 0 && search->ascending)
        check_nearest(search, wanted, found, distances, &cut);
}

/* Numbers of a query, and the largest sum of eight of them that belong to one byte of a code. */
static int64_t fill_query(Input *input, int16_t *query, int64_t dim)
{
    uint32_t state = take_word(input) | 1;
    const uint32_t most = take_byte(input) % 8 == 0 ? 32768 : 4096;
    int64_t largest = 0, sum = 0;
    for (int64_t i = 0; i < dim; i++) {
        query[i] = (int16_t)((int32_t)(next_random(&state) % (2 * most)) - (int32_t)most);
        sum = (i % 8 ? sum : 0) + (query[i] < 0 ? -query[i] : query[i]);
        largest = sum > largest ? sum : largest;
    }
    return largest;
}

static void try_signs(int32_t isa, Input *input, Search *search)
{
    const int64_t dim = take_byte(input) == 9 ? odd_number(input) : take_below(input, 64 * search->codes.width + 1);
    const int64_t real = dim >= 0 && dim <= 64 * EDGE_MOST_WORDS ? dim : 0;
    int16_t *query = allocate(&search->memory, (size_t)real * 2, 2);
    int16_t *table = allocate(&search->memory, (size_t)EDGE_TABLE(search->codes.width) * 2, 2);
    int32_t *sums = allocate(&search->memory, (size_t)search->count * 4, 4);
    const int64_t largest = fill_query(input, query, real);
    const int32_t status = edge_signs(isa, &search->codes, search->places, search->count, query, dim, table, sums);
    const int fits = dim >= 0 && dim <= 64 * search->codes.width && largest < 1 << 15;
    REQUIRE(status == (!fits ? EDGE_BAD_ARGUMENT : search->inside ? 0 : EDGE_BAD_PLACE));
    for (int64_t i = 0; status == 0 && i < search->count; i++) {
        int64_t sum = 0;
        for (int64_t j = 0; j < dim; j++) {
            const uint64_t word = search->codes.words[j / 64 * search->codes.stride + place_of(search, i)];
            sum += word >> j % 64 & 1 ? query[j] : -(int64_t)query[j];
        }
        REQUIRE(sums[i] == sum);
    }
}

static void try_scores(int32_t isa, Input *input, Memory *memory)
{
    uint32_t state = take_word(input) | 1;
    const int odd = take_byte(input) % 8;
    int64_t dim = 1 + take_below(input, MOST_DIM), count = take_byte(input), stride = dim + take_below(input, 9);
    const size_t bytes = count ? (size_t)((count - 1) * stride + dim) : 0;
    int8_t *codes = allocate(memory, bytes, 1);
    float *scales = allocate(memory, (size_t)count * 4, 4), *scores = allocate(memory, (size_t)count * 4, 4);
    double *query = allocate(memory, (size_t)dim * 8, 8);
    const double step = (double)random_float(&state);
    for (size_t i = 0; i < bytes; i++)
        codes[i] = (int8_t)next_random(&state);
    for (int64_t i = 0; i < count; i++)
        scales[i] = take_byte(input) == 3 ? odd_float(input) : random_float(&state);
    for (int64_t i = 0; i < dim; i++)
        query[i] = (double)((int32_t)(next_random(&state) % (1u << 31)) - (1 << 30));
    if (odd == 1)
        dim = odd_number(input);
    if (odd == 2)
        stride = -1 - (int64_t)take_word(input);
    if (odd == 3)
        count = -1 - (int64_t)take_word(input);
    if (dim > (int64_t)MOST_DIM || (odd == 1 && dim > 0))
        return; /* there is no memory for so many */
    const int32_t status = edge_int8_scores(isa, codes, stride, count, dim, scales, query, step, scores);
    REQUIRE(status == (odd == 0 || odd > 3 ? 0 : EDGE_BAD_ARGUMENT));
    for (int64_t i = 0; status == 0 && i < count; i++) {
        double sum = 0;
        for (int64_t j = 0; j < dim; j++)
            sum += (double)codes[i * stride + j] * query[j];
        const float expected = (float)(sum * (double)scales[i] * step);
        REQUIRE(memcmp(&expected, &scores[i], sizeof expected) == 0 || (expected != expected && scores[i] != scores[i]));
    }
}

/* Each argument that may be NULL or out of bounds. */
static void try_wrong(int32_t isa, Input *input, Search *search)
{
    EdgeCodes wrong = search->codes;
    uint16_t distances[1];
    const int which = take_byte(input) % 6;
    if (which == 0)
        wrong.width = take_byte(input) % 2 ? 0 : EDGE_MOST_WORDS + 1 + odd_number(input) % 1000;
    if (which == 1)
        wrong.count = -1 - (int64_t)take_word(input);
    if (which == 2)
        wrong.stride = wrong.count - 1 - (int64_t)take_word(input);
    if (which == 3)
        wrong.words = NULL;
    if (which == 4)
        wrong.stride = INT64_MAX - (int64_t)take_word(input);
    if (which == 0 && wrong.width >= 1 && wrong.width <= EDGE_MOST_WORDS)
        return;
    REQUIRE(edge_distances(isa, which == 5 ? NULL : &wrong, search->query, distances) == EDGE_BAD_ARGUMENT);
    REQUIRE(edge_distances(isa, &search->codes, NULL, distances) == EDGE_BAD_ARGUMENT);
    REQUIRE(edge_distances(isa, &search->codes, search->query, NULL) == EDGE_BAD_ARGUMENT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, data + size};
    Search search = {0};
    const uint8_t what = take_byte(&input);
    const char *limit = ISAS[take_byte(&input) % ISA_COUNT];
    int32_t isa = edge_isa(limit);
    if (isa < 0)
        isa = edge_isa("");
    if (what == 255)
        isa = (int32_t)take_word(&input) & 0x7f; /* a number that is of no CPU, or another's: plain code */
    if (isa > edge_isa("") && what == 255)
        isa = EDGE_BASELINE;
    take_search(&input, &search);
    switch (what % 5) {
    case 0: try_distances(isa, &search); break;
    case 1: try_nearest(isa, &input, &search); break;
    case 2: try_signs(isa, &input, &search); break;
    case 3: try_scores(isa, &input, &search.memory); break;
    default: try_wrong(isa, &input, &search); break;
    }
    free_all(&search.memory);
    return 0;
}
