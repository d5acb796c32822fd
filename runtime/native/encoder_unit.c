/* The encoder for one instruction set: compiled once for each, with EDGE_ISA and the set's flags.
 *
 * A layer runs in two parts. Attention goes by strips of heads: queries, keys and values of 64 columns, then attention,
 * so that nothing of them leaves the cache. What follows, from the context to the layer's output, goes by tiles of
 * rows. */
#include "attention.h"
#include "linear.h"
#include "unit.h"

/* ---- once for each model */

/* Whether no weight is -128 and no pair of neighbours beyond -128..128, so that two products with codes of 0..255 fit
 * into 16 bits. */
static int weights_fit(const int8_t *w, int64_t bytes)
{
    for (int64_t start = 0; start < bytes; start += 4096) {
        const int64_t end = start + 4096 < bytes ? start + 4096 : bytes;
        int beyond = 0;
        for (int64_t i = start; i < end; i += 2) {
            const int sum = w[i] + w[i + 1];
            beyond |= (sum > 128) | (sum < -128) | (w[i] == -128) | (w[i + 1] == -128);
        }
        if (beyond)
            return 0;
    }
    return 1;
}

/* What the zero point adds to each sum, taken away: the product of a row of zero points, by the same tiles. */
static int32_t finish_linear(const Linear *l, int32_t zero_point)
{
    static const int32_t zeros[SUM_STRIDE];
    act row[WIDEST];
    int32_t sums[TILE_ROWS * SUM_STRIDE];
    if (!weights_fit(l->weight, l->k * l->n))
        return EDGE_BAD_WEIGHT;
    memset(row, (unsigned char)(zero_point - ACT_OFFSET), (size_t)l->k);
    for (int64_t n = 0; n < l->n; n += PANEL) {
        narrow_tile(1, row, l->k, l->weight + n * l->k, l->k, zeros, sums, l->weight + (n + PANEL) * l->k);
        for (int64_t i = 0; i < PANEL; i++)
            l->init[n + i] = -sums[i];
    }
    return 0;
}

static int32_t finish(Prepared *p)
{
    int32_t error = p->projected ? finish_linear(&p->project, p->project_in.zero_point) : 0;
    for (int32_t i = 0; i < p->layer_count && !error; i++) {
        const Layer *l = &p->layers[i];
        const Linear *linears[] = {&l->query, &l->key, &l->value, &l->out, &l->up, &l->down};
        const Rounding *roundings[] = {&l->query_in, &l->query_in, &l->query_in, &l->out_in, &l->up_in, &l->down_in};
        for (int j = 0; j < 6 && !error; j++)
            error = finish_linear(linears[j], roundings[j]->zero_point);
    }
    return error;
}

/* ---- a call */

typedef struct {
    const Prepared *p;
    const Batch *batch;
    const Workspace *w;
} Call;

static int stopped(const Call *call)
{
    return call->batch->stop && *call->batch->stop;
}

static float scale_at(const unsigned char *scales, int64_t index)
{
    float scale;
    memcpy(&scale, scales + index * 4, 4);
    return scale;
}

/* Rows of the tables, their norm, and the codes that the projection or the first layer reads. */
static void embed_text(const Call *call, int64_t token, int64_t length)
{
    const Prepared *p = call->p;
    const Rounding *next = p->projected ? &p->project_in : &p->layers[0].query_in;
    const Coder c = coder(next);
    for (int64_t s = 0; s < length; s++, token++) {
        const int64_t id = call->batch->ids[token];
        const int8_t *word = p->word + id * p->embedding, *position = p->position + s * p->embedding;
        const v16 word_scale = v_set(scale_at(p->word_scale, id));
        const v16 position_scale = v_set(scale_at(p->position_scale, s));
        float *x = call->w->x + token * p->embedding;
        for (int64_t d = 0; d < p->embedding; d += 16)
            v_store(x + d, v_fma(v_bytes(position + d), position_scale, v_mul(v_bytes(word + d), word_scale)));
        layer_norm(&p->embedding_norm, p->epsilon, x, p->embedding, next, &c,
                   (act *)call->w->codes + token * p->embedding);
    }
}

/* ELECTRA's: from the tables' width to the layers', and the codes that the first layer reads. */
static void project(const Call *call)
{
    const Prepared *p = call->p;
    const int64_t tokens = call->batch->tokens;
    const Rounding *next = &p->layers[0].query_in;
    const Coder c = coder(next);
    const Result to = {.floats = call->w->x, .stride = p->hidden};
    linear(TO_FLOATS, &p->project, 0, p->hidden, call->w->codes, tokens, &to, p->layers[0].query.weight);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t d = 0; d < p->hidden; d += 16)
            put((act *)call->w->codes + t * p->hidden + d, v_load(call->w->x + t * p->hidden + d),
                v_load(next->factor + d), &c);
}

/* Texts that are computed together: from text `text` and token `token` on. */
typedef struct {
    int64_t text, token, texts, tokens;
} Block;

static Block next_block(const Batch *batch, int64_t text, int64_t token)
{
    Block block = {text, token, 0, 0};
    for (; text < batch->texts; text++) {
        const int64_t length = batch->lengths[text];
        if (block.texts && block.tokens + length > BLOCK)
            break;
        block.texts++;
        block.tokens += length;
    }
    return block;
}

static void heads_of(const Linear *l, const Block *block, const Call *call, int64_t first, int64_t last, float *floats,
                     const int8_t *after)
{
    const Prepared *p = call->p;
    const Result to = {
        .floats = floats, .stride = call->w->rows * p->head_size, .head_size = p->head_size, .first = first};
    linear(TO_HEADS, l, first, last, (const act *)call->w->codes + block->token * p->hidden, block->tokens, &to,
           after);
}

/* The heads first..last of one block of texts; 0 where the call is to end. */
static int attend_block(const Call *call, const Layer *l, const Block *block, int64_t first, int64_t last)
{
    const Prepared *p = call->p;
    const Workspace *w = call->w;
    const int64_t size = p->head_size;
    const int64_t start_bytes = first * size * p->hidden;
    const int8_t *after = last < p->heads ? l->query.weight + last * size * p->hidden : l->out.weight;
    heads_of(&l->query, block, call, first * size, last * size, w->q, l->key.weight + start_bytes);
    heads_of(&l->key, block, call, first * size, last * size, w->k, l->value.weight + start_bytes);
    heads_of(&l->value, block, call, first * size, last * size, w->v, after);
    int64_t row = 0;
    for (int64_t t = 0; t < block->texts; t++) {
        if (stopped(call))
            return 0;
        const int64_t length = call->batch->lengths[block->text + t];
        const v16 real = real_keys(length);
        for (int64_t head = first; head < last; head++) {
            const int64_t start = ((head - first) * w->rows + row) * size;
            Head h = {.length = length, .padded = (length + 15) / 16 * 16, .head_size = size};
            h.q = w->q + start, h.v = w->v + start, h.transposed = w->transposed;
            h.scores = w->scores, h.stride = w->score_stride;
            h.relative = p->relative ? p->relative + head * p->relative_stride + SLACK_KEYS + p->positions - 1 : NULL;
            h.context = (act *)w->context + (block->token + row) * p->inner + head * size;
            h.context_stride = p->inner;
            h.factor = l->out_in.factor + head * size;
            h.coder = coder(&l->out_in);
            h.real = real;
            transpose_keys(w->k + start, &h, w->transposed);
            attend(&h);
        }
        row += length;
    }
    return 1;
}

/* From the codes of all tokens to their context; 0 where the call is to end. */
static int attention(const Call *call, const Layer *l)
{
    const Prepared *p = call->p;
    const int64_t strip = strip_heads(p);
    for (int64_t head = 0; head < p->heads; head += strip) {
        const int64_t last = head + strip < p->heads ? head + strip : p->heads;
        Block block = next_block(call->batch, 0, 0);
        while (block.texts) {
            if (!attend_block(call, l, &block, head, last))
                return 0;
            block = next_block(call->batch, block.text + block.texts, block.token + block.tokens);
        }
    }
    return 1;
}

static void norm_rows(const Call *call, const Norm *norm, int64_t token, int64_t rows, const Rounding *next)
{
    const int64_t hidden = call->p->hidden;
    Coder c;
    if (next)
        c = coder(next);
    for (int64_t t = token; t < token + rows; t++)
        layer_norm(norm, call->p->epsilon, call->w->x + t * hidden, hidden, next, &c,
                   next ? (act *)call->w->codes + t * hidden : NULL);
}

/* From the context of a tile of rows to their state behind the layer. */
static void rest_of_layer(const Call *call, const Layer *l, int64_t token, int64_t rows)
{
    const Prepared *p = call->p;
    const Layer *next = l + 1 < p->layers + p->layer_count ? l + 1 : NULL;
    const int8_t *after = token + rows < call->batch->tokens || !next ? l->out.weight : next->query.weight;
    const Workspace *w = call->w;
    const Result state = {.floats = w->x + token * p->hidden, .stride = p->hidden};
    const Result middle = {.codes = w->middle, .next = &l->down_in, .stride = l->up.n};
    linear(ADDED, &l->out, 0, p->hidden, (const act *)w->context + token * p->inner, rows, &state,
           l->up.weight);
    norm_rows(call, &l->attention_norm, token, rows, &l->up_in);
    linear(TO_GELU, &l->up, 0, l->up.n, (const act *)w->codes + token * p->hidden, rows, &middle,
           l->down.weight);
    linear(ADDED, &l->down, 0, p->hidden, w->middle, rows, &state, after);
    norm_rows(call, &l->output_norm, token, rows, next ? &next->query_in : NULL);
}

/* One text's vector, of length 1, from its rows of states. */
static void pool(const Prepared *p, const float *x, int64_t length, float *vector)
{
    v16 squares = v_set(0);
    const int64_t pooled = p->pooling == EDGE_POOL_CLS ? 1 : length;
    for (int64_t d = 0; d < p->hidden; d += 16) {
        v16 sum = v_load(x + d);
        for (int64_t t = 1; t < pooled; t++)
            sum = v_add(sum, v_load(x + t * p->hidden + d));
        EACH sum.part[lane] = sum.part[lane] / (float)pooled;
        squares = v_fma(sum, sum, squares);
        v_store(vector + d, sum);
    }
    const float norm = sqrtf(v_sum(squares));
    const v16 inverse = v_set(1.0f / (norm > 1e-12f ? norm : 1e-12f));
    for (int64_t d = 0; d < p->hidden; d += 16)
        v_store(vector + d, v_mul(v_load(vector + d), inverse));
}

static int32_t layers(const Call *call)
{
    const Prepared *p = call->p;
    for (int32_t i = 0; i < p->layer_count; i++) {
        if (!attention(call, &p->layers[i]))
            return EDGE_STOPPED;
        for (int64_t t = 0; t < call->batch->tokens; t += ROW_TILE) {
            if (stopped(call))
                return EDGE_STOPPED;
            const int64_t left = call->batch->tokens - t;
            rest_of_layer(call, &p->layers[i], t, left < ROW_TILE ? left : ROW_TILE);
        }
    }
    return 0;
}

static int32_t run(const Prepared *p, const Batch *batch, const Workspace *w)
{
    const Call call = {p, batch, w};
    const FloatMode mode = float_mode();
    int64_t token = 0;
    for (int64_t i = 0; i < batch->texts; token += batch->lengths[i++])
        embed_text(&call, token, batch->lengths[i]);
    if (p->projected)
        project(&call);
    const int32_t error = layers(&call);
    token = 0;
    for (int64_t i = 0; i < batch->texts && !error; token += batch->lengths[i++])
        pool(p, w->x + token * p->hidden, batch->lengths[i], batch->vectors + i * p->hidden);
    restore_float_mode(mode);
    return error;
}

const EncoderUnit EDGE_NAME(edge_encoder_unit) = {finish, run};
