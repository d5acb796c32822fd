/* The encoder's public functions: they check everything that comes from outside, lay memory out, and leave computing to
 * the unit of the CPU's instruction set. */
#include "encoder.h"
#include "arena.h"
#include "prepared.h"

#include <stddef.h>
#include <string.h>

#define MARK UINT64_C(0x6564676531373031)

enum { MOST_LAYERS = 1024, MOST_POSITIONS = 32768, MOST_TOKENS = 1 << 26 };

/* ---- units */

extern const EncoderUnit edge_encoder_unit_baseline, edge_encoder_unit_ssse3, edge_encoder_unit_avx2,
    edge_encoder_unit_avxvnni, edge_encoder_unit_avx512vnni, edge_encoder_unit_neon, edge_encoder_unit_dotprod,
    edge_encoder_unit_i8mm;

static const EncoderUnit *unit_of(int32_t isa)
{
    switch (isa & EDGE_ISA_MASK) {
#ifdef EDGE_HAVE_AVX512VNNI
    case EDGE_AVX512VNNI: return &edge_encoder_unit_avx512vnni;
#endif
#ifdef EDGE_HAVE_AVXVNNI
    case EDGE_AVXVNNI: return &edge_encoder_unit_avxvnni;
#endif
#ifdef EDGE_HAVE_AVX2
    case EDGE_AVX512: /* without VNNI wider vectors gain nothing, and the CPU may slow its clock */
    case EDGE_AVX2: return &edge_encoder_unit_avx2;
#endif
#ifdef EDGE_HAVE_SSSE3
    case EDGE_SSSE3: return &edge_encoder_unit_ssse3;
#endif
#ifdef EDGE_HAVE_I8MM
    case EDGE_I8MM: return &edge_encoder_unit_i8mm;
#endif
#ifdef EDGE_HAVE_DOTPROD
    case EDGE_DOTPROD: return &edge_encoder_unit_dotprod;
#endif
#ifdef EDGE_HAVE_NEON
    case EDGE_NEON: return &edge_encoder_unit_neon;
#endif
    case EDGE_BASELINE: return &edge_encoder_unit_baseline;
    default: return NULL;
    }
}

/* ---- checks */

static int within(int64_t value, int64_t low, int64_t high)
{
    return low <= value && value <= high;
}

static int is_width(int64_t value)
{
    return within(value, PANEL, WIDEST) && value % PANEL == 0;
}

static float float_at(const void *data, int64_t index)
{
    float value;
    memcpy(&value, (const unsigned char *)data + index * 4, 4);
    return value;
}

static int is_finite(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

static int all_finite(const void *data, int64_t count, int positive)
{
    for (int64_t i = 0; i < count; i++) {
        const float value = float_at(data, i);
        if (!is_finite(value) || (positive && value <= 0))
            return 0;
    }
    return 1;
}

static int32_t check_shape(const EdgeModel *m)
{
    const int64_t inner = (int64_t)m->heads * m->head_size;
    if (m->version != EDGE_MODEL_VERSION || m->reserved)
        return EDGE_BAD_VERSION;
    if (!unit_of(m->isa))
        return EDGE_BAD_ISA;
    if (!within(m->layers, 1, MOST_LAYERS) || !within(m->positions, 1, MOST_POSITIONS) || m->vocabulary < 1)
        return EDGE_BAD_SHAPE;
    if (!is_width(m->hidden) || !is_width(m->embedding) || !is_width(m->head_size) || m->heads < 1 || !is_width(inner))
        return EDGE_BAD_SHAPE;
    if (m->pooling != EDGE_POOL_MEAN && m->pooling != EDGE_POOL_CLS)
        return EDGE_BAD_SHAPE;
    if (m->tensor_count != EDGE_MODEL_TENSORS + m->layers * EDGE_LAYER_TENSORS || !m->tensors)
        return EDGE_BAD_SHAPE;
    if (m->site_count != 1 + m->layers * EDGE_LAYER_SITES || !m->sites || !m->intermediate)
        return EDGE_BAD_SHAPE;
    for (int32_t i = 0; i < m->layers; i++)
        if (!is_width(m->intermediate[i]))
            return EDGE_BAD_SHAPE;
    if (m->embedding != m->hidden && !m->tensors[EDGE_PROJECT + 1].data)
        return EDGE_BAD_SHAPE;
    return is_finite(m->epsilon) && m->epsilon >= 0 ? 0 : EDGE_BAD_NUMBER;
}

/* ---- from tensors to what the units read; the first error stays in `error` */

typedef struct {
    const EdgeModel *model;
    Arena arena;
    int32_t error;
} Maker;

static void fail(Maker *maker, int32_t error)
{
    if (!maker->error)
        maker->error = error;
}

/* The data of a tensor that must have so many bytes; `optional`: or none. */
static const void *tensor(Maker *maker, int64_t index, int64_t bytes, int optional)
{
    const EdgeTensor *found = &maker->model->tensors[index];
    if (!found->data) {
        if (!optional || found->bytes)
            fail(maker, EDGE_BAD_TENSOR);
        return NULL;
    }
    if (found->bytes != bytes) {
        fail(maker, EDGE_BAD_TENSOR);
        return NULL;
    }
    return found->data;
}

/* A copy of a vector of floats; where it is missing, of `otherwise`. */
static float *vector(Maker *maker, int64_t index, int64_t count, int optional, float otherwise)
{
    const void *data = tensor(maker, index, count * 4, optional);
    float *copy = take(&maker->arena, count * 4);
    if (!copy || maker->error)
        return copy;
    for (int64_t i = 0; i < count; i++)
        copy[i] = data ? float_at(data, i) : otherwise;
    if (!all_finite(copy, count, 0))
        fail(maker, EDGE_BAD_NUMBER);
    return copy;
}

static const void *scales(Maker *maker, int64_t index, int64_t count)
{
    const void *data = tensor(maker, index, count * 4, 0);
    if (data && maker->arena.base && !all_finite(data, count, 1))
        fail(maker, EDGE_BAD_NUMBER);
    return data;
}

static Norm norm(Maker *maker, int64_t index, int64_t width)
{
    Norm made;
    made.weight = vector(maker, index, width, 0, 0);
    made.bias = vector(maker, index + 1, width, 0, 0);
    return made;
}

/* smooth / scale, of the linear layer at `index`. */
static Rounding rounding(Maker *maker, int64_t index, int64_t site, int64_t width)
{
    const EdgeSite *found = &maker->model->sites[site];
    Rounding made = {vector(maker, index, width, 1, 1.0f), found->zero_point};
    if (!is_finite(found->scale) || found->scale <= 0 || !within(found->zero_point, 0, 255))
        fail(maker, EDGE_BAD_NUMBER);
    if (!made.factor || maker->error)
        return made;
    for (int64_t i = 0; i < width; i++)
        made.factor[i] /= found->scale;
    if (!all_finite(made.factor, width, 0))
        fail(maker, EDGE_BAD_NUMBER);
    return made;
}

static Linear linear(Maker *maker, int64_t index, int64_t site, int64_t k, int64_t n)
{
    Linear made = {k, n, NULL, NULL, NULL, NULL};
    made.weight = tensor(maker, index + 1, k * n, 0);
    (void)scales(maker, index + 2, n);
    made.scale = vector(maker, index + 2, n, 0, 0);
    made.bias = vector(maker, index + 3, n, 1, 0);
    made.init = take(&maker->arena, n * 4);
    if (!made.scale || maker->error)
        return made;
    for (int64_t i = 0; i < n; i++)
        made.scale[i] *= maker->model->sites[site].scale;
    if (!all_finite(made.scale, n, 0))
        fail(maker, EDGE_BAD_NUMBER);
    return made;
}

static void layer(Maker *maker, Layer *made, int32_t number)
{
    const EdgeModel *m = maker->model;
    const int64_t t = EDGE_MODEL_TENSORS + (int64_t)number * EDGE_LAYER_TENSORS;
    const int64_t s = 1 + (int64_t)number * EDGE_LAYER_SITES;
    const int64_t hidden = m->hidden, inner = (int64_t)m->heads * m->head_size, wide = m->intermediate[number];
    made->query_in = rounding(maker, t + EDGE_QUERY, s + EDGE_SITE_QUERY, hidden);
    made->query = linear(maker, t + EDGE_QUERY, s + EDGE_SITE_QUERY, hidden, inner);
    if (m->tensors[t + EDGE_KEY].data || m->tensors[t + EDGE_VALUE].data)
        fail(maker, EDGE_BAD_TENSOR);
    made->key = linear(maker, t + EDGE_KEY, s + EDGE_SITE_QUERY, hidden, inner);
    made->value = linear(maker, t + EDGE_VALUE, s + EDGE_SITE_QUERY, hidden, inner);
    made->out_in = rounding(maker, t + EDGE_OUT, s + EDGE_SITE_OUT, inner);
    made->out = linear(maker, t + EDGE_OUT, s + EDGE_SITE_OUT, inner, hidden);
    made->attention_norm = norm(maker, t + EDGE_ATTENTION_NORM, hidden);
    made->up_in = rounding(maker, t + EDGE_UP, s + EDGE_SITE_UP, hidden);
    made->up = linear(maker, t + EDGE_UP, s + EDGE_SITE_UP, hidden, wide);
    made->down_in = rounding(maker, t + EDGE_DOWN, s + EDGE_SITE_DOWN, wide);
    made->down = linear(maker, t + EDGE_DOWN, s + EDGE_SITE_DOWN, wide, hidden);
    made->output_norm = norm(maker, t + EDGE_OUTPUT_NORM, hidden);
}

/* MPNet's bias, each head's row with room on both sides for queries and keys that are computed but have no meaning. */
static void relative(Maker *maker, Prepared *p)
{
    const int64_t width = 2 * p->positions;
    const void *data = tensor(maker, EDGE_RELATIVE, p->heads * width * 4, 1);
    p->relative_stride = width + 2 * SLACK_KEYS;
    p->relative = NULL;
    if (!data)
        return;
    p->relative = take(&maker->arena, p->heads * p->relative_stride * 4);
    if (!p->relative)
        return;
    if (!all_finite(data, p->heads * width, 0))
        fail(maker, EDGE_BAD_NUMBER);
    memset(p->relative, 0, (size_t)(p->heads * p->relative_stride * 4));
    for (int64_t h = 0; h < p->heads; h++)
        memcpy(p->relative + h * p->relative_stride + SLACK_KEYS, (const unsigned char *)data + h * width * 4,
               (size_t)(width * 4));
}

static void describe(const EdgeModel *m, Prepared *p)
{
    memset(p, 0, sizeof *p);
    p->isa = m->isa;
    p->layer_count = m->layers;
    p->pooling = m->pooling;
    p->projected = m->tensors[EDGE_PROJECT + 1].data != NULL;
    p->hidden = m->hidden, p->embedding = m->embedding;
    p->heads = m->heads, p->head_size = m->head_size, p->inner = p->heads * p->head_size;
    p->vocabulary = m->vocabulary, p->positions = m->positions;
    p->epsilon = m->epsilon;
    for (int32_t i = 0; i < m->layers; i++)
        if (m->intermediate[i] > p->widest)
            p->widest = m->intermediate[i];
}

/* Everything but the work of the unit: into `base` of `bytes` bytes, or with NULL only its size, which `bytes` gets. */
static int32_t make(const EdgeModel *m, unsigned char *base, int64_t *bytes)
{
    int32_t error = m ? check_shape(m) : EDGE_BAD_VERSION;
    if (error)
        return error;
    Maker maker = {m, open_arena(base, *bytes), 0};
    Prepared counted, *p = take(&maker.arena, sizeof *p);
    p = p ? p : &counted;
    describe(m, p);
    p->layers = take(&maker.arena, (int64_t)sizeof(Layer) * m->layers);
    p->word = tensor(&maker, EDGE_WORD, p->vocabulary * p->embedding, 0);
    p->word_scale = scales(&maker, EDGE_WORD_SCALE, p->vocabulary);
    p->position = tensor(&maker, EDGE_POSITION, p->positions * p->embedding, 0);
    p->position_scale = scales(&maker, EDGE_POSITION_SCALE, p->positions);
    p->embedding_norm = norm(&maker, EDGE_EMBEDDING_NORM, p->embedding);
    if (p->projected) {
        p->project_in = rounding(&maker, EDGE_PROJECT, 0, p->embedding);
        p->project = linear(&maker, EDGE_PROJECT, 0, p->embedding, p->hidden);
    }
    relative(&maker, p);
    for (int32_t i = 0; i < m->layers && !maker.error; i++) {
        Layer made;
        layer(&maker, &made, i);
        if (p->layers)
            p->layers[i] = made;
    }
    *bytes = p->bytes = maker.arena.used;
    return maker.error;
}

int64_t edge_encoder_size(const EdgeModel *model)
{
    int64_t bytes = 0;
    const int32_t error = make(model, NULL, &bytes);
    return error ? error : bytes;
}

static int is_aligned(const void *memory)
{
    return memory && (uintptr_t)memory % 64 == 0;
}

int32_t edge_encoder_prepare(const EdgeModel *model, void *prepared, int64_t size)
{
    int64_t bytes = edge_encoder_size(model);
    if (bytes < 0)
        return (int32_t)bytes;
    if (!is_aligned(prepared) || size < bytes)
        return EDGE_BAD_MEMORY;
    int32_t error = make(model, prepared, &bytes);
    Prepared *p = prepared;
    if (!error)
        error = unit_of(model->isa)->finish(p);
    p->mark = error ? 0 : MARK;
    return error;
}

/* ---- calls */

static int is_prepared(const Prepared *p)
{
    return is_aligned(p) && p->mark == MARK;
}

/* The arrays of a call: in `base` of `size` bytes, or with NULL only counted. */
static int64_t lay_out(const Prepared *p, int64_t tokens, unsigned char *base, int64_t size, Workspace *w)
{
    Arena arena = open_arena(base, size);
    const int64_t longest = tokens < p->positions ? tokens : p->positions;
    const int64_t block = tokens < BLOCK ? tokens : BLOCK;
    const int64_t tile = tokens < ROW_TILE ? tokens : ROW_TILE;
    const int64_t wide = p->hidden > p->embedding ? p->hidden : p->embedding;
    w->rows = (longest > block ? longest : block) + SLACK_ROWS;
    w->score_stride = (longest + SLACK_KEYS - 1) / SLACK_KEYS * SLACK_KEYS;
    const int64_t strip = strip_heads(p) * p->head_size * w->rows * 4;
    w->x = take(&arena, tokens * wide * 4);
    w->codes = take(&arena, tokens * wide);
    w->context = take(&arena, tokens * p->inner);
    w->middle = take(&arena, tile * p->widest);
    w->q = take(&arena, strip), w->k = take(&arena, strip), w->v = take(&arena, strip);
    w->transposed = take(&arena, w->score_stride * p->head_size * 4);
    w->scores = take(&arena, w->score_stride * SLACK_ROWS * 4);
    return arena.used;
}

int64_t edge_encoder_workspace(const void *prepared, int64_t tokens)
{
    Workspace w;
    if (!is_prepared(prepared))
        return EDGE_BAD_MEMORY;
    return within(tokens, 0, MOST_TOKENS) ? lay_out(prepared, tokens, NULL, 0, &w) : EDGE_BAD_LENGTH;
}

/* The number of tokens, or an error. */
static int64_t check_texts(const Prepared *p, const Batch *batch)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < batch->texts; i++) {
        if (!within(batch->lengths[i], 1, p->positions))
            return EDGE_BAD_LENGTH;
        tokens += batch->lengths[i];
        if (tokens > MOST_TOKENS)
            return EDGE_BAD_LENGTH;
    }
    for (int64_t i = 0; i < tokens; i++)
        if (!within(batch->ids[i], 0, p->vocabulary - 1))
            return EDGE_BAD_TOKEN;
    return tokens;
}

int32_t edge_encoder_run(const void *prepared, const int32_t *ids, const int32_t *lengths, int64_t texts,
                         float *vectors, void *workspace, int64_t size, const volatile int32_t *stop)
{
    const Prepared *p = prepared;
    if (!is_prepared(p))
        return EDGE_BAD_MEMORY;
    if (!within(texts, 0, MOST_TOKENS))
        return EDGE_BAD_LENGTH;
    if (texts == 0)
        return 0;
    if (!ids || !lengths || !vectors || !is_aligned(workspace))
        return EDGE_BAD_MEMORY;
    Batch batch = {ids, lengths, texts, 0, vectors, stop};
    batch.tokens = check_texts(p, &batch);
    if (batch.tokens < 0)
        return (int32_t)batch.tokens;
    Workspace w;
    if (lay_out(p, batch.tokens, NULL, 0, &w) > size)
        return EDGE_BAD_MEMORY;
    lay_out(p, batch.tokens, workspace, size, &w);
    const int32_t error = unit_of(p->isa)->run(p, &batch, &w);
    if (error)
        return error;
    return all_finite(vectors, texts * p->hidden, 0) ? 0 : EDGE_NOT_FINITE;
}
