/* The native encoder: texts as token ids -> one vector each, for models of BERT's shape with int8 weights.
 *
 * Post-norm layers, GELU, optionally ELECTRA's projection of the embeddings and MPNet's relative attention bias; mean or
 * CLS pooling; vectors of length 1. All memory is the caller's; nothing is allocated, no file is read, no thread is
 * started. A text's vector has the same bits on every instruction set and beside any other texts.
 *
 *     edge_encoder_size(&model)                       -> bytes for `prepared`
 *     edge_encoder_prepare(&model, prepared, size)    once; checks everything that the model's files say
 *     edge_encoder_workspace(prepared, tokens)        -> bytes for calls of up to so many tokens in all
 *     edge_encoder_run(prepared, ids, lengths, ...)   any number of times; threads need a workspace each
 *
 * `prepared` points into the model's tensors: they have to stay where they are. It belongs to this process. */
#ifndef EDGE_ENCODER_H
#define EDGE_ENCODER_H

#include "edge_embed.h"

/* What functions return that is below 0. */
enum {
    EDGE_BAD_VERSION = -101,  /* EdgeModel.version is not EDGE_MODEL_VERSION */
    EDGE_BAD_ISA = -102,      /* this library has no encoder for EdgeModel.isa, or this CPU has it not */
    EDGE_BAD_SHAPE = -103,    /* a size is out of bounds or no multiple of 16, or sizes do not fit each other */
    EDGE_BAD_TENSOR = -104,   /* a tensor is missing, or has another number of bytes than the shape says */
    EDGE_BAD_NUMBER = -105,   /* a scale, factor or table that is not finite, a scale <= 0, a zero point beyond 0..255 */
    EDGE_BAD_WEIGHT = -106,   /* a weight of -128, or a pair of weights that could overflow (see `pairs`) */
    EDGE_BAD_MEMORY = -107,   /* `prepared` or `workspace` is too small, not aligned to 64 bytes, or not prepared */
    EDGE_BAD_LENGTH = -108,   /* a text of 0 tokens or of more than the model's positions, or too many in all */
    EDGE_BAD_TOKEN = -109,    /* a token id that is not in the vocabulary */
    EDGE_STOPPED = -110,      /* `*stop` was not 0 */
    EDGE_NOT_FINITE = -111    /* a vector has a number that is not finite: the model's numbers are broken */
};

#define EDGE_MODEL_VERSION 1

enum { EDGE_POOL_MEAN = 0, EDGE_POOL_CLS = 1 };

/* Little-endian, without gaps, at any address (multiples of 64 are read faster). NULL and 0 bytes where there is none. */
typedef struct {
    const void *data;
    int64_t bytes;
} EdgeTensor;

/* How activations become codes: round(x * smooth / scale) + zero_point, within 0..255. */
typedef struct {
    float scale;
    int32_t zero_point;
} EdgeSite;

/* The places of tensors in EdgeModel.tensors: EDGE_MODEL_TENSORS for the model, then EDGE_LAYER_TENSORS for each layer.
 * A linear layer has four: smooth float [K] or none, weight int8 [N/16, K/4, 16, 4], scale float [N], bias float [N] or
 * none. Element [p, s, c, i] of a weight is that from input 4 s + i to output 16 p + c. */
enum {
    EDGE_WORD = 0,             /* int8  [vocabulary, embedding] */
    EDGE_WORD_SCALE = 1,       /* float [vocabulary] */
    EDGE_POSITION = 2,         /* int8  [positions, embedding] */
    EDGE_POSITION_SCALE = 3,   /* float [positions] */
    EDGE_EMBEDDING_NORM = 4,   /* weight and bias, float [embedding] */
    EDGE_PROJECT = 6,          /* linear, embedding -> hidden; none where they are the same and nothing is projected */
    EDGE_RELATIVE = 10,        /* float [heads, 2 * positions], column key - query + positions - 1; or none */
    EDGE_MODEL_TENSORS = 11
};
enum {
    EDGE_QUERY = 0,           /* linear, hidden -> heads * head_size; scores are multiplied by nothing more */
    EDGE_KEY = 4,             /* linear; reads the codes of EDGE_QUERY, so its place for smooth is empty */
    EDGE_VALUE = 8,           /* linear, likewise */
    EDGE_OUT = 12,            /* linear, heads * head_size -> hidden */
    EDGE_ATTENTION_NORM = 16, /* weight and bias, float [hidden] */
    EDGE_UP = 18,             /* linear, hidden -> intermediate */
    EDGE_DOWN = 22,           /* linear, intermediate -> hidden */
    EDGE_OUTPUT_NORM = 26,    /* weight and bias, float [hidden] */
    EDGE_LAYER_TENSORS = 28
};
/* The places in EdgeModel.sites: one for EDGE_PROJECT (present or not), then four for each layer. */
enum { EDGE_SITE_QUERY = 0, EDGE_SITE_OUT = 1, EDGE_SITE_UP = 2, EDGE_SITE_DOWN = 3, EDGE_LAYER_SITES = 4 };

typedef struct {
    int32_t version;   /* EDGE_MODEL_VERSION */
    int32_t isa;       /* what edge_isa() gave */
    int32_t layers;    /* 1..1024 */
    int32_t hidden;    /* all widths: multiples of 16, up to 16384 */
    int32_t embedding; /* width of the tables; other than `hidden` only with EDGE_PROJECT */
    int32_t heads;
    int32_t head_size;
    int32_t vocabulary;
    int32_t positions;   /* the longest text, up to 32768 */
    int32_t pooling;     /* EDGE_POOL_MEAN, EDGE_POOL_CLS */
    float epsilon;       /* of the norms */
    int32_t tensor_count; /* EDGE_MODEL_TENSORS + layers * EDGE_LAYER_TENSORS */
    int32_t site_count;   /* 1 + layers * EDGE_LAYER_SITES */
    int32_t reserved;     /* 0 */
    const int32_t *intermediate; /* [layers] */
    const EdgeTensor *tensors;   /* [tensor_count] */
    const EdgeSite *sites;       /* [site_count] */
} EdgeModel;

/* Bytes that edge_encoder_prepare needs, or an error. Checks all of the model but what stands in its tensors. */
EDGE_API int64_t edge_encoder_size(const EdgeModel *model);

/* 0, or an error. prepared: `size` bytes, aligned to 64. */
EDGE_API int32_t edge_encoder_prepare(const EdgeModel *model, void *prepared, int64_t size);

/* Bytes that edge_encoder_run needs for texts of up to `tokens` tokens in all, or an error. */
EDGE_API int64_t edge_encoder_workspace(const void *prepared, int64_t tokens);

/* 0, or an error; then `vectors` has no meaning.
 *
 * ids:       [sum of lengths], one text after the other, without padding
 * lengths:   [texts]
 * vectors:   [texts, hidden], of length 1
 * workspace: `size` bytes, aligned to 64
 * stop:      NULL, or what is read between texts and tiles: another thread sets it to end the call early */
EDGE_API int32_t edge_encoder_run(const void *prepared, const int32_t *ids, const int32_t *lengths, int64_t texts,
                                  float *vectors, void *workspace, int64_t size, const volatile int32_t *stop);

#endif
