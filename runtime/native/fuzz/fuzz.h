/* What both fuzz targets use: numbers taken from the bytes of an input, memory that is exactly as long as it is said to
 * be, so that AddressSanitizer sees each byte beyond it, and a way to say what went wrong. */
#ifndef EDGE_FUZZ_H
#define EDGE_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bytes of an input; zeros when they have come to their end. */
typedef struct {
    const uint8_t *at, *end;
} Input;

static inline uint8_t take_byte(Input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

static inline uint32_t take_word(Input *input)
{
    uint32_t word = 0;
    for (int i = 0; i < 4; i++)
        word |= (uint32_t)take_byte(input) << 8 * i;
    return word;
}

/* 0 .. below - 1 */
static inline int64_t take_below(Input *input, int64_t below)
{
    const uint32_t found = below <= 256 ? take_byte(input) : take_word(input);
    return below > 0 ? (int64_t)found % below : 0;
}

/* Numbers that follow from a seed: what fills tensors, as inputs are too short for them (xorshift, Marsaglia 2003). */
static inline uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* -1 .. 1 */
static inline float random_float(uint32_t *state)
{
    return (float)((int32_t)(next_random(state) % 65537) - 32768) / 32768.0f;
}

/* Sizes and counts at which something may break. */
static inline int64_t odd_number(Input *input)
{
    static const int64_t odd[] = {0,     1,     -1,    2,     15,        16,        17,        64,        65,
                                  255,   256,   1024,  16383, 16384,     16400,     32768,     32769,     65536,
                                  1 << 20, 1 << 26, 1 << 30, INT32_MAX, INT32_MIN, INT32_MAX - 15, -16, -128, 127};
    return odd[take_byte(input) % (sizeof odd / sizeof *odd)];
}

static inline float odd_float(Input *input)
{
    static const uint32_t odd[] = {0x7fc00000, 0xffc00001, 0x7f800000, 0xff800000, 0x00000000, 0x80000000,
                                   0x00000001, 0x007fffff, 0x7f7fffff, 0xff7fffff, 0x3f800000, 0xbf800000,
                                   0x4b800000, 0xcb400000, 0x33800000, 0x0da24260, 0x71c9f2ca, 0xf1c9f2ca};
    uint32_t bits = odd[take_byte(input) % (sizeof odd / sizeof *odd)];
    float found;
    memcpy(&found, &bits, sizeof found);
    return found;
}

/* Memory that ends with its last byte, `offset` bytes after a multiple of 64. Freed all at once. */
enum { MOST_BLOCKS = 512 };
typedef struct {
    void *blocks[MOST_BLOCKS];
    int count;
} Memory;

static inline void *allocate(Memory *memory, size_t bytes, size_t offset)
{
    void *block = NULL;
    if (memory->count == MOST_BLOCKS || posix_memalign(&block, 64, bytes + offset ? bytes + offset : 1) != 0)
        abort();
    memory->blocks[memory->count++] = block;
    return (uint8_t *)block + offset;
}

static inline void free_all(Memory *memory)
{
    for (int i = 0; i < memory->count; i++)
        free(memory->blocks[i]);
    memory->count = 0;
}

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
