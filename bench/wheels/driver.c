/* driver LIBRARY : loads the library as Python would, and compares distances of codes in each instruction set with
 * those of a plain loop. For systems that have no Python here. */
#include "../../runtime/native/search.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 6, COUNT = 3000 };

static uint64_t state = 88172645463325252u;

static uint64_t next_number(void) /* xorshift64, Marsaglia 2003 */
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t words[WIDTH][COUNT], query[WIDTH];
static uint16_t distances[COUNT];

int main(int argc, char **argv)
{
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!library) {
        fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "usage: driver LIBRARY");
        return 1;
    }
    int32_t (*abi)(void) = (int32_t(*)(void))dlsym(library, "edge_abi");
    int32_t (*isa)(const char *) = (int32_t(*)(const char *))dlsym(library, "edge_isa");
    const char *(*name)(int32_t) = (const char *(*)(int32_t))dlsym(library, "edge_isa_name");
    int32_t (*compare)(int32_t, const EdgeCodes *, const uint64_t *, uint16_t *) =
        (int32_t(*)(int32_t, const EdgeCodes *, const uint64_t *, uint16_t *))dlsym(library, "edge_distances");
    if (!abi || !isa || !name || !compare || abi() != EDGE_ABI)
        return fprintf(stderr, "not this version's library\n"), 1;
    for (int k = 0; k < WIDTH; k++) {
        query[k] = next_number();
        for (int i = 0; i < COUNT; i++)
            words[k][i] = next_number();
    }
    const EdgeCodes codes = {words[0], COUNT, COUNT, WIDTH};
    for (int32_t set = 0; set <= (isa("") & EDGE_ISA_MASK); set++) {
        const char *limit = name(set);
        if (!*limit)
            continue;
        const int32_t chosen = isa(limit);
        if ((chosen & EDGE_ISA_MASK) != set)
            continue;
        if (compare(chosen, &codes, query, distances) < 0)
            return fprintf(stderr, "%s: an error\n", limit), 1;
        for (int i = 0; i < COUNT; i++) {
            int plain = 0;
            for (int k = 0; k < WIDTH; k++)
                for (uint64_t left = words[k][i] ^ query[k]; left; left &= left - 1)
                    plain++;
            if (plain != distances[i])
                return fprintf(stderr, "%s: code %d has %d, not %d\n", limit, i, distances[i], plain), 1;
        }
        printf("%s ", limit);
    }
    printf("equal");
    return 0;
}
