/* Parts of one block of memory, each at a multiple of 64 bytes. Under AddressSanitizer there are gaps between them that
 * it sees, so that the fuzz targets find what runs from one part into the next, and not only what leaves the block. */
#ifndef EDGE_ARENA_H
#define EDGE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__)
#define EDGE_GUARDED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EDGE_GUARDED 1
#endif
#endif

#if defined(EDGE_GUARDED)
#include <sanitizer/asan_interface.h>
enum { GAP = 64 };
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
enum { GAP = 0 };
#endif

/* base: NULL where parts are only counted */
typedef struct {
    unsigned char *base;
    int64_t used;
} Arena;

/* base: `bytes` bytes, perhaps used before with other parts */
static inline Arena open_arena(unsigned char *base, int64_t bytes)
{
    Arena arena = {base, 0};
    if (base)
        ASAN_UNPOISON_MEMORY_REGION(base, (size_t)bytes);
    return arena;
}

static inline void *take(Arena *arena, int64_t bytes)
{
    unsigned char *found = arena->base ? arena->base + arena->used : NULL;
    const int64_t whole = (bytes + 63) / 64 * 64 + GAP;
    arena->used += whole;
    if (found)
        ASAN_POISON_MEMORY_REGION(found + bytes, (size_t)(whole - bytes));
    return found;
}

#endif
