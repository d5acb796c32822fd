/* A small model from the numbers of an input, sound at first; then some of its numbers are made wrong. */
#ifndef EDGE_FUZZ_MODEL_H
#define EDGE_FUZZ_MODEL_H

#include "encoder.h"
#include "fuzz.h"

enum {
    MOST_LAYERS = 2,
    MOST_TENSORS = EDGE_MODEL_TENSORS + MOST_LAYERS * EDGE_LAYER_TENSORS,
    MOST_SITES = 1 + MOST_LAYERS * EDGE_LAYER_SITES,
    MOST_TENSOR_BYTES = 1 << 20
};

/* What stands in a tensor. */
typedef enum { ABSENT, WEIGHTS, TABLE, POSITIVE, ANY, FACTORS } Content;

typedef struct {
    Memory memory;
    EdgeModel model;
    EdgeTensor *tensors;
    EdgeSite *sites;
    int32_t *intermediate;
    Content contents[MOST_TENSORS];
    uint32_t state;
    int changed; /* whether something may be wrong */
} Made;

static inline void plan(Made *made, int64_t index, Content content, int64_t count)
{
    made->contents[index] = content;
    made->tensors[index].bytes = content == ABSENT ? 0 : content == WEIGHTS || content == TABLE ? count : 4 * count;
}

static inline void plan_linear(Made *made, Input *input, int64_t index, int64_t k, int64_t n, int smooth)
{
    const uint8_t present = take_byte(input);
    plan(made, index, smooth && present % 2 ? FACTORS : ABSENT, k);
    plan(made, index + 1, WEIGHTS, k * n);
    plan(made, index + 2, POSITIVE, n);
    plan(made, index + 3, present % 8 == 7 ? ABSENT : ANY, n);
}

static inline void plan_norm(Made *made, int64_t index, int64_t width)
{
    plan(made, index, ANY, width);
    plan(made, index + 1, ANY, width);
}

static inline void plan_layer(Made *made, Input *input, int32_t number)
{
    const EdgeModel *m = &made->model;
    const int64_t t = EDGE_MODEL_TENSORS + (int64_t)number * EDGE_LAYER_TENSORS;
    const int64_t inner = m->heads * m->head_size, wide = made->intermediate[number];
    plan_linear(made, input, t + EDGE_QUERY, m->hidden, inner, 1);
    plan_linear(made, input, t + EDGE_KEY, m->hidden, inner, 0);
    plan_linear(made, input, t + EDGE_VALUE, m->hidden, inner, 0);
    plan_linear(made, input, t + EDGE_OUT, inner, m->hidden, 1);
    plan_norm(made, t + EDGE_ATTENTION_NORM, m->hidden);
    plan_linear(made, input, t + EDGE_UP, m->hidden, wide, 1);
    plan_linear(made, input, t + EDGE_DOWN, wide, m->hidden, 1);
    plan_norm(made, t + EDGE_OUTPUT_NORM, m->hidden);
}

/* Sizes, and which tensors there are with how many bytes. */
static inline void plan_model(Made *made, Input *input)
{
    EdgeModel *m = &made->model;
    m->version = EDGE_MODEL_VERSION;
    m->layers = 1 + (int32_t)take_below(input, MOST_LAYERS);
    m->hidden = 16 * (1 + (int32_t)take_below(input, 9));
    m->heads = 1 + (int32_t)take_below(input, 5);
    m->head_size = 16 * (1 + (int32_t)take_below(input, 3));
    m->vocabulary = 1 + (int32_t)take_below(input, 40);
    m->positions = 1 + (int32_t)take_below(input, 200);
    m->pooling = take_byte(input) % 2;
    m->epsilon = 1e-12f;
    m->tensor_count = EDGE_MODEL_TENSORS + m->layers * EDGE_LAYER_TENSORS;
    m->site_count = 1 + m->layers * EDGE_LAYER_SITES;
    const uint8_t parts = take_byte(input);
    m->embedding = parts % 4 == 3 ? 16 * (1 + (int32_t)take_below(input, 5)) : m->hidden;
    made->intermediate = allocate(&made->memory, (size_t)m->layers * sizeof(int32_t), 4);
    made->sites = allocate(&made->memory, (size_t)m->site_count * sizeof(EdgeSite), 4);
    made->tensors = allocate(&made->memory, (size_t)m->tensor_count * sizeof(EdgeTensor), 8);
    memset(made->tensors, 0, (size_t)m->tensor_count * sizeof(EdgeTensor));
    m->intermediate = made->intermediate, m->sites = made->sites, m->tensors = made->tensors;
    for (int32_t i = 0; i < m->layers; i++)
        made->intermediate[i] = 16 * (1 + (int32_t)take_below(input, 9));
    plan(made, EDGE_WORD, TABLE, (int64_t)m->vocabulary * m->embedding);
    plan(made, EDGE_WORD_SCALE, POSITIVE, m->vocabulary);
    plan(made, EDGE_POSITION, TABLE, (int64_t)m->positions * m->embedding);
    plan(made, EDGE_POSITION_SCALE, POSITIVE, m->positions);
    plan_norm(made, EDGE_EMBEDDING_NORM, m->embedding);
    if (parts % 4 >= 2)
        plan_linear(made, input, EDGE_PROJECT, m->embedding, m->hidden, 1);
    if (parts % 8 >= 4)
        plan(made, EDGE_RELATIVE, ANY, (int64_t)m->heads * 2 * m->positions);
    for (int32_t i = 0; i < m->layers; i++)
        plan_layer(made, input, i);
}

static inline float content_float(Content content, uint32_t *state)
{
    const float found = random_float(state);
    if (content == POSITIVE)
        return 0.0001f + 0.02f * found * found;
    return content == FACTORS ? 1.0f + 0.5f * found : found;
}

/* The tensor's memory, as many bytes as it says, at an address that is no multiple of 4 now and then. */
static inline void fill(Made *made, int64_t index, size_t offset)
{
    EdgeTensor *tensor = &made->tensors[index];
    const Content content = made->contents[index];
    if (content == ABSENT)
        return;
    const size_t bytes = tensor->bytes < 0 || tensor->bytes > MOST_TENSOR_BYTES ? 0 : (size_t)tensor->bytes;
    uint8_t *data = allocate(&made->memory, bytes, offset);
    /* within -64..64 a pair of weights keeps its bound; tables take all of int8 */
    for (size_t i = 0; i < bytes && (content == WEIGHTS || content == TABLE); i++)
        data[i] = (uint8_t)(content == TABLE ? next_random(&made->state) : next_random(&made->state) % 129 - 64);
    for (size_t i = 0; i + 4 <= bytes && content != WEIGHTS && content != TABLE; i += 4) {
        const float value = content_float(content, &made->state);
        memcpy(data + i, &value, 4);
    }
    tensor->data = data;
}

/* One number of the model's struct. */
static inline void change_shape(Made *made, Input *input)
{
    EdgeModel *m = &made->model;
    int32_t *numbers[] = {&m->version, &m->isa,       &m->layers,    &m->hidden,  &m->embedding,    &m->heads,
                          &m->head_size, &m->vocabulary, &m->positions, &m->pooling, &m->tensor_count, &m->site_count,
                          &m->reserved};
    const int which = take_byte(input) % 15;
    if (which == 13)
        m->epsilon = odd_float(input);
    else if (which == 14)
        made->intermediate[take_below(input, m->layers > 0 && m->layers <= MOST_LAYERS ? m->layers : 1)] =
            (int32_t)odd_number(input);
    else
        *numbers[which] = (int32_t)odd_number(input);
}

/* Before the tensors have memory: bytes that do not fit the shape. */
static inline void change_bytes(Made *made, Input *input, int64_t count)
{
    EdgeTensor *tensor = &made->tensors[take_below(input, count)];
    const int how = take_byte(input) % 4;
    if (how == 0)
        tensor->bytes -= 1 + take_byte(input) % 20;
    else if (how == 1)
        tensor->bytes += 1 + take_byte(input) % 20;
    else
        tensor->bytes = how == 2 ? INT64_MAX - take_byte(input) : INT64_MIN + take_byte(input);
}

/* Once they have: none where one should be, a float that is no number, a weight out of bounds. */
static inline void change_data(Made *made, Input *input, int64_t count)
{
    EdgeTensor *tensor = &made->tensors[take_below(input, count)];
    uint8_t *data = (uint8_t *)(uintptr_t)tensor->data;
    const int how = take_byte(input) % 4;
    if (how == 0) {
        tensor->data = NULL;
        tensor->bytes = take_byte(input) % 2 ? tensor->bytes : 0;
        return;
    }
    if (!data || tensor->bytes < 4 || tensor->bytes > MOST_TENSOR_BYTES)
        return;
    const int64_t at = (int64_t)take_word(input) % (tensor->bytes / 4);
    const float value = odd_float(input);
    if (how == 1)
        data[at] = take_byte(input);
    else
        memcpy(data + 4 * at, &value, 4);
}

static inline void make_model(Made *made, Input *input, int32_t isa)
{
    plan_model(made, input);
    made->model.isa = isa;
    made->state = take_word(input) | 1;
    const int64_t tensors = made->model.tensor_count, sites = made->model.site_count;
    for (int64_t i = 0; i < sites; i++)
        made->sites[i] = (EdgeSite){0.002f + 0.05f * (float)take_byte(input) / 255.0f, take_byte(input)};
    const uint8_t changes = take_byte(input), offset = take_byte(input);
    made->changed = changes > 127;
    if (made->changed && changes % 4 == 0)
        change_bytes(made, input, tensors);
    for (int64_t i = 0; i < tensors; i++)
        fill(made, i, offset > 127 ? offset % 64 : 0);
    for (int i = 0; made->changed && i < changes % 4; i++) {
        const int how = take_byte(input) % 4;
        if (how == 0)
            change_shape(made, input);
        else if (how == 1)
            made->sites[take_below(input, sites)].scale = odd_float(input);
        else if (how == 2)
            made->sites[take_below(input, sites)].zero_point = (int32_t)odd_number(input);
        else
            change_data(made, input, tensors);
    }
}

#endif
