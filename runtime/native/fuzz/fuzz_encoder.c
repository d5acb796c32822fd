/* Fuzz target of the encoder: models and texts from the input, right and wrong ones, in memory that is exactly as long
 * as they say. What the encoder accepts gives finite vectors of length 1, and the same bits on each instruction set,
 * beside other texts, and whatever stood in the workspace before; what it refuses, it refuses with one of its errors. */
#include "model.h"

enum { MOST_TEXTS = 5, SHORT = 24, MOST_WORKSPACE = 1 << 26 };

static const char *const ISAS[] = {"baseline", "ssse3", "avx2", "avxvnni", "avx512vnni", "neon", "dotprod", "i8mm"};
enum { ISA_COUNT = sizeof ISAS / sizeof ISAS[0] };

typedef struct {
    int32_t *lengths, *ids;
    int64_t texts, room; /* room: of ids */
} Texts;

static int is_error(int64_t status)
{
    return EDGE_NOT_FINITE <= status && status <= EDGE_BAD_VERSION;
}

/* Lengths and ids, now and then just out of bounds or far; as many ids as the sound lengths need. */
static void take_texts(Made *made, Input *input, Texts *texts)
{
    const EdgeModel *m = &made->model;
    const int64_t positions = m->positions < 1 || m->positions > 200 ? 1 : m->positions;
    texts->texts = take_below(input, MOST_TEXTS + 1);
    texts->lengths = allocate(&made->memory, (size_t)texts->texts * sizeof(int32_t), 4);
    texts->room = 0;
    const uint8_t wrong = take_byte(input);
    for (int64_t i = 0; i < texts->texts; i++) {
        const uint8_t length = take_byte(input); /* mostly short ones, which are fast */
        texts->lengths[i] = (int32_t)(length < 224 && positions > SHORT ? 1 + length % SHORT : 1 + length % positions);
        texts->room += texts->lengths[i];
    }
    if (wrong % 8 == 7 && texts->texts)
        texts->lengths[take_below(input, texts->texts)] = (int32_t)(positions + 1 + take_below(input, 2));
    if (wrong % 8 == 6 && texts->texts)
        texts->lengths[take_below(input, texts->texts)] = -(int32_t)take_below(input, 3);
    texts->ids = allocate(&made->memory, (size_t)texts->room * sizeof(int32_t), 4);
    for (int64_t i = 0; i < texts->room; i++)
        texts->ids[i] = (int32_t)(next_random(&made->state) % (uint32_t)(m->vocabulary > 0 ? m->vocabulary : 1));
    if (wrong % 8 == 5 && texts->room)
        texts->ids[take_below(input, texts->room)] = wrong & 8 ? m->vocabulary : (int32_t)odd_number(input);
}

/* The model prepared, in memory of exactly its size; NULL with the error where it is refused. */
static void *prepared_for(Made *made, int64_t *status)
{
    const int64_t size = edge_encoder_size(&made->model);
    void *small = allocate(&made->memory, 64, 0);
    *status = size;
    REQUIRE(size > 0 || is_error(size));
    if (size < 0 || size > MOST_WORKSPACE) {
        REQUIRE(edge_encoder_prepare(&made->model, small, 64) < 0);
        return NULL;
    }
    uint8_t *prepared = allocate(&made->memory, (size_t)size, 0);
    memset(prepared, 0xa5, (size_t)size);
    REQUIRE(edge_encoder_prepare(&made->model, prepared, size - 1) == EDGE_BAD_MEMORY);
    REQUIRE(edge_encoder_prepare(&made->model, prepared + 1, size) == EDGE_BAD_MEMORY);
    REQUIRE(edge_encoder_prepare(&made->model, NULL, size) == EDGE_BAD_MEMORY);
    REQUIRE(edge_encoder_workspace(prepared, 1) == EDGE_BAD_MEMORY); /* it is not prepared yet */
    *status = edge_encoder_prepare(&made->model, prepared, size);
    REQUIRE(*status == 0 || is_error(*status));
    return *status == 0 ? prepared : NULL;
}

/* One call with a workspace that is just large enough and full of `rubbish`. */
static int32_t encode(Made *made, const void *prepared, const Texts *texts, float *vectors, uint8_t rubbish)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < texts->texts; i++)
        tokens += texts->lengths[i] > 0 ? texts->lengths[i] : 0;
    const int64_t size = edge_encoder_workspace(prepared, tokens);
    REQUIRE(size > 0 || (size == 0 && tokens == 0));
    uint8_t *workspace = allocate(&made->memory, (size_t)size, 0);
    memset(workspace, rubbish, (size_t)size);
    if (size > 0 && texts->texts) {
        REQUIRE(edge_encoder_run(prepared, texts->ids, texts->lengths, texts->texts, vectors, workspace, size - 1, NULL) < 0);
        REQUIRE(edge_encoder_run(prepared, texts->ids, texts->lengths, texts->texts, vectors, workspace + 1, size, NULL) < 0);
    }
    return edge_encoder_run(prepared, texts->ids, texts->lengths, texts->texts, vectors, workspace, size, NULL);
}

static float *room_for(Made *made, int64_t texts)
{
    return allocate(&made->memory, (size_t)(texts * made->model.hidden) * sizeof(float), 4);
}

static void check_vectors(const Made *made, const float *vectors, int64_t texts)
{
    for (int64_t i = 0; i < texts; i++) {
        double sum = 0;
        for (int64_t j = 0; j < made->model.hidden; j++)
            sum += (double)vectors[i * made->model.hidden + j] * (double)vectors[i * made->model.hidden + j];
        REQUIRE((0.999 < sum && sum < 1.001) || (made->changed && sum < 1.001));
    }
}

/* Each text alone has the bits that it has among the others. */
static void check_alone(Made *made, const void *prepared, const Texts *texts, const float *vectors)
{
    const size_t bytes = (size_t)made->model.hidden * sizeof(float);
    Texts one = *texts;
    one.texts = 1;
    for (int64_t i = 0; i < texts->texts; i++, one.ids += *one.lengths++) {
        float *alone = room_for(made, 1);
        REQUIRE(encode(made, prepared, &one, alone, 0xff) == 0);
        REQUIRE(memcmp(alone, (const uint8_t *)vectors + (size_t)i * bytes, bytes) == 0);
    }
}

/* The same model and texts with another instruction set that this CPU has. */
static void check_other(Made *made, int32_t other, const Texts *texts, int64_t prepared_status, int32_t status,
                        const float *vectors)
{
    const size_t bytes = (size_t)(texts->texts * made->model.hidden) * sizeof(float);
    const int32_t isa = made->model.isa;
    int64_t found;
    made->model.isa = other;
    const void *prepared = prepared_for(made, &found);
    REQUIRE(found == prepared_status && prepared);
    float *again = room_for(made, texts->texts);
    REQUIRE(encode(made, prepared, texts, again, 0x11) == status);
    REQUIRE(status != 0 || memcmp(again, vectors, bytes) == 0);
    made->model.isa = isa;
}

static void try_calls(Made *made, const void *prepared, const Texts *texts)
{
    const volatile int32_t stop = 1;
    uint8_t *workspace = allocate(&made->memory, 64, 0);
    float *vectors = room_for(made, texts->texts);
    REQUIRE(edge_encoder_workspace(prepared, -1) == EDGE_BAD_LENGTH);
    REQUIRE(edge_encoder_workspace(prepared, INT64_MAX) == EDGE_BAD_LENGTH);
    REQUIRE(edge_encoder_run(prepared, texts->ids, texts->lengths, -1, vectors, workspace, 64, NULL) == EDGE_BAD_LENGTH);
    REQUIRE(edge_encoder_run(prepared, texts->ids, texts->lengths, INT64_MIN, vectors, workspace, 64, NULL) < 0);
    REQUIRE(edge_encoder_run(prepared, NULL, texts->lengths, 1, vectors, workspace, 64, NULL) == EDGE_BAD_MEMORY);
    if (!texts->texts)
        return;
    const int64_t size = edge_encoder_workspace(prepared, texts->room);
    REQUIRE(edge_encoder_run(prepared, texts->ids, texts->lengths, texts->texts, vectors,
                             allocate(&made->memory, (size_t)size, 0), size, &stop) == EDGE_STOPPED);
}

/* One that this CPU has. */
static int32_t take_isa(Input *input)
{
    const int32_t found = edge_isa(ISAS[take_byte(input) % ISA_COUNT]);
    return found < 0 ? edge_isa("") : found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, data + size};
    static Made made;
    memset(&made, 0, sizeof made);
    const int32_t one = take_isa(&input), other = take_isa(&input);
    make_model(&made, &input, one);
    int64_t found;
    const void *prepared = prepared_for(&made, &found);
    Texts texts;
    if (prepared) {
        take_texts(&made, &input, &texts);
        float *vectors = room_for(&made, texts.texts);
        const int32_t status = encode(&made, prepared, &texts, vectors, 0x5a);
        REQUIRE(status == 0 || is_error(status));
        REQUIRE(status == 0 || made.changed || status == EDGE_BAD_LENGTH || status == EDGE_BAD_TOKEN);
        check_other(&made, other, &texts, found, status, vectors);
        if (status == 0) {
            check_vectors(&made, vectors, texts.texts);
            check_alone(&made, prepared, &texts, vectors);
            try_calls(&made, prepared, &texts);
        }
    } else {
        REQUIRE(made.changed || found == EDGE_BAD_ISA);
    }
    free_all(&made.memory);
    return 0;
}
