/* What edge_encoder_prepare makes of a model, and the memory of one call: shared by the checks (encoder.c) and by the
 * units that compute (encoder_unit.c). */
#ifndef EDGE_PREPARED_H
#define EDGE_PREPARED_H

#include "encoder.h"

/* Columns of a panel of weights, and the multiple that all widths are of; the largest width. */
enum { PANEL = 16, WIDEST = 16384 };

/* y = sum(code * weight) * scale + bias; `init` takes what zero points add to the sums away. */
typedef struct {
    int64_t k, n;          /* inputs and outputs */
    const int8_t *weight;  /* panels [n/16][k/4][16][4], the caller's */
    int32_t *init;         /* [n] */
    float *scale, *bias;   /* [n] */
} Linear;

/* code = round(x * factor) + zero point, within 0..255. */
typedef struct {
    float *factor; /* [width]: smooth / scale */
    int32_t zero_point;
} Rounding;

typedef struct {
    float *weight, *bias; /* [width] */
} Norm;

typedef struct {
    Rounding query_in, out_in, up_in, down_in;
    Linear query, key, value, out, up, down;
    Norm attention_norm, output_norm;
} Layer;

typedef struct {
    uint64_t mark; /* says that this memory was prepared by this library */
    int64_t bytes;
    int32_t isa, layer_count, pooling, projected;
    int64_t hidden, embedding, heads, head_size, inner, widest, vocabulary, positions;
    float epsilon;
    const int8_t *word, *position;                     /* the caller's */
    const unsigned char *word_scale, *position_scale; /* floats at any address */
    Norm embedding_norm;
    Rounding project_in;
    Linear project;
    float *relative; /* [heads][relative_stride], SLACK_KEYS before the first column; or NULL */
    int64_t relative_stride;
    Layer *layers;
} Prepared;

/* Rows whose intermediate activations are held at a time, so that they stay in the second-level cache. */
enum { ROW_TILE = 96 };
/* Short texts whose queries, keys and values are computed together, in tokens. */
enum { BLOCK = 96 };
/* What kernels may read and compute beyond the last row or key, without its having a meaning. */
enum { SLACK_ROWS = 16, SLACK_KEYS = 64 };

/* The arrays of one call, in the caller's workspace. Codes are bytes, signed or not as the unit has them. */
typedef struct {
    float *x;           /* [tokens][hidden]: the state of each token */
    void *codes;        /* [tokens][hidden or embedding]: what the next linear layer reads */
    void *context;      /* [tokens][inner] */
    void *middle;       /* [ROW_TILE][widest intermediate] */
    float *q, *k, *v;   /* [heads of a strip][rows][head_size] */
    float *transposed;  /* keys of one text and head */
    float *scores;      /* [SLACK_ROWS][keys] */
    int64_t rows;       /* of q, k, v */
    int64_t score_stride;
} Workspace;

typedef struct {
    const int32_t *ids, *lengths;
    int64_t texts, tokens;
    float *vectors;
    const volatile int32_t *stop;
} Batch;

/* Heads whose queries, keys and values are computed together: 64 columns, the widest tile of any unit. */
static inline int64_t strip_heads(const Prepared *p)
{
    const int64_t many = 64 / p->head_size;
    return many < 1 ? 1 : many < p->heads ? many : p->heads;
}

/* An encoder for one instruction set. */
typedef struct {
    int32_t (*finish)(Prepared *p); /* checks weights and fills `init` of every linear layer */
    int32_t (*run)(const Prepared *p, const Batch *batch, const Workspace *w);
} EncoderUnit;

#endif
