/* Runs a fuzz target where there is no libFuzzer:
 *
 *     drive FILE ...                 the inputs in these files, such as one that a fuzzer has found
 *     drive --random SEED SECONDS    inputs of random bytes, always the same ones for a seed */
#include <time.h>

#include "fuzz.h"

enum { MOST_BYTES = 4096, MOST_RANDOM_BYTES = 96 };

static int run_file(const char *path)
{
    static uint8_t bytes[MOST_BYTES];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    return 0;
}

static void run_random(uint32_t seed, long seconds)
{
    uint8_t bytes[MOST_RANDOM_BYTES];
    uint32_t state = seed ? seed : 1;
    unsigned long count = 0;
    const time_t end = time(NULL) + seconds;
    for (; time(NULL) < end; count++) {
        const size_t size = next_random(&state) % (sizeof bytes + 1);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(next_random(&state) >> 8);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    printf("%lu inputs\n", count);
}

int main(int count, char **arguments)
{
    if (count == 4 && strcmp(arguments[1], "--random") == 0) {
        run_random((uint32_t)strtoul(arguments[2], NULL, 10), strtol(arguments[3], NULL, 10));
        return 0;
    }
    int status = 0;
    for (int i = 1; i < count; i++)
        status |= run_file(arguments[i]);
    return status;
}
