/* One instruction set's vectors and product against plain C; prints what is wrong, exit status 1. Argument: how many
 * triples of floats the multiply-add is tried with. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linear.h"

static uint64_t state = 88172645463325252u;

static uint32_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static float as_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t as_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* --- codes and weights at their limits and between: sums in the order of the rows, nothing written behind them */
static int8_t weight(int64_t i)
{
    static const int8_t limits[] = {127, -127, 1, 127, -127, 0, 64, 64};
    const int8_t w = i % 5 == 0 ? limits[next() % 8] : (int8_t)((int)(next() % 255) - 127);
    return (int8_t)(ACT_OFFSET ? w : w / 2); /* unsigned codes: pairs that add up to at most 128 */
}

static int8_t extreme(void)
{
#if ACT_OFFSET
    return next() % 2 ? 127 : -127;
#else
    return next() % 2 ? 64 : -64;
#endif
}

static int wrong_products(int rows, int64_t k, int at_limits)
{
    static act codes[16 * 2048];
    static int8_t weights[2048 * 16 * TILE_PANELS];
    static int32_t init[16 * TILE_PANELS], sums[(TILE_ROWS + 1) * 16 * TILE_PANELS];
    const int64_t lda = k + 16, panel = 16 * k;
    for (int64_t i = 0; i < rows * lda; i++)
        codes[i] = (act)((at_limits ? next() % 2 * 255 : next() % 256) - ACT_OFFSET);
    for (int64_t i = 0; i < panel * TILE_PANELS; i++)
        weights[i] = at_limits ? extreme() : weight(i);
    for (int i = 0; i < 16 * TILE_PANELS; i++)
        init[i] = (int32_t)next() >> 8;
    memset(sums, 0x55, sizeof sums);
    wide_tile(rows, codes, lda, weights, k, init, sums, weights);
    for (int m = 0; m < TILE_ROWS + 1; m++)
        for (int c = 0; c < 16 * TILE_PANELS; c++) {
            int32_t sum = init[c];
            for (int64_t i = 0; i < k; i++)
                sum += codes[m * lda + i] * weights[c / 16 * panel + i / 4 * 64 + c % 16 * 4 + i % 4];
            const int32_t expected = m < rows ? sum : 0x55555555;
            if (sums[m * 16 * TILE_PANELS + c] != expected) {
                printf("product of %d rows, k %d: [%d][%d] is %d, not %d\n", rows, (int)k, m, c,
                       sums[m * 16 * TILE_PANELS + c], expected);
                return 1;
            }
        }
    return 0;
}

static int wrong_moves(void)
{
    float from[16 * 20], to[16 * 24];
    act codes[18];
    vf r[16 / VL];
    for (int i = 0; i < 16 * 20; i++)
        from[i] = as_float(next() & 0xff7fffff);
    transpose16(from, 20, to, 24);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            if (as_bits(to[j * 24 + i]) != as_bits(from[i * 20 + j])) {
                printf("transpose16: [%d][%d]\n", j, i);
                return 1;
            }
    memset(codes, 7, sizeof codes);
    memcpy(r, from, sizeof r);
    put_codes(codes + 1, r);
    for (int i = 0; i < 18; i++)
        if (codes[i] != (i == 0 || i == 17 ? (act)7 : (act)(as_bits(from[i - 1]) & 0xff))) {
            printf("put_codes: [%d]\n", i - 1);
            return 1;
        }
    return 0;
}

/* --- multiply-add: factors and sums near each other, halfway cases, tiny, huge and special numbers */
static const uint32_t SPECIAL[] = {0, 0x80000000, 1, 0x80000001, 0x7fffff, 0x800000, 0x800001, 0x7f7fffff, 0xff7fffff,
                                   0x7f800000, 0xff800000, 0x7fc00000, 0x3f800000, 0xbf800000, 0x3f800001, 0x3f7fffff,
                                   0x34000000, 0x33800000, 0x33800001, 0x4b400000};
enum { SPECIALS = sizeof SPECIAL / sizeof SPECIAL[0] };

static uint32_t with_exponent(uint32_t bits, uint32_t exponent)
{
    return (bits & 0x807fffff) | (exponent > 254 ? 254 : exponent) << 23;
}

static void triple(uint32_t *a, uint32_t *b, uint32_t *c)
{
    *a = next(), *b = next(), *c = next();
    switch (next() % 8) {
    case 0: /* anything */
        break;
    case 1:
        *a = SPECIAL[*a % SPECIALS], *b = SPECIAL[*b % SPECIALS], *c = SPECIAL[*c % SPECIALS];
        break;
    case 2: { /* the product is about half of the sum's last bit */
        const uint32_t exponent = 27 + next() % 200;
        *c = with_exponent(*c, exponent);
        *a = with_exponent(0x3f800000 + next() % 3 - 1, 127);
        *b = with_exponent(next() % 8 | (next() & 0x80000000), exponent - 24);
        break;
    }
    case 3: { /* the result is below the smallest normal number */
        const uint32_t exponent = 1 + next() % 120;
        *a = with_exponent(*a, exponent);
        *b = with_exponent(*b, 1 + next() % (130 - exponent));
        *c = next() % 2 ? *c & 0x80ffffff : SPECIAL[next() % 7];
        if (next() % 2)
            *a &= 0xfff00000 | 1u << next() % 20, *b &= 0xfff00000;
        break;
    }
    case 4: { /* the result is about the largest number */
        const uint32_t exponent = 127 + next() % 120;
        *a = with_exponent(*a, exponent);
        *b = with_exponent(*b, 381 - exponent - next() % 3);
        *c = next() % 2 ? with_exponent(*c, 253 + next() % 2) : 0x7f7fffff | (*c & 0x80000000);
        break;
    }
    default: { /* few bits, exponents of product and sum within 28 of each other: much cancels, much is halfway */
        const uint32_t few = next() % 24;
        *a &= ~((1u << few) - 1), *b &= ~((1u << (23 - few)) - 1);
        const int64_t exponent = (as_bits(as_float(*a) * as_float(*b)) >> 23 & 255) + (int64_t)(next() % 56) - 28;
        *c = with_exponent(*c & ~((1u << next() % 24) - 1), exponent < 0 ? 0 : (uint32_t)exponent) ^ (next() & 1);
    }
    }
}

static int wrong_sums(long triples)
{
    for (long n = 0; n < triples; n += VL) {
        uint32_t a[VL], b[VL], c[VL];
        vf x, y, z;
        for (int i = 0; i < VL; i++)
            triple(a + i, b + i, c + i);
        memcpy(&x, a, sizeof x), memcpy(&y, b, sizeof y), memcpy(&z, c, sizeof z);
        const vf got = vfma(x, y, z);
        for (int i = 0; i < VL; i++) {
            const float expected = fmaf(as_float(a[i]), as_float(b[i]), as_float(c[i]));
            const int both_nan = expected != expected && got[i] != got[i];
            if (as_bits(got[i]) != as_bits(expected) && !both_nan) {
                printf("vfma(%08x, %08x, %08x) is %08x, not %08x\n", a[i], b[i], c[i], as_bits(got[i]),
                       as_bits(expected));
                return 1;
            }
        }
    }
    return 0;
}

int main(int count, char **arguments)
{
    int wrong = wrong_moves();
    for (int rows = 1; rows <= TILE_ROWS; rows++)
        for (int64_t k = 16; k <= 2032; k += k < 80 ? 16 : 1952)
            wrong |= wrong_products(rows, k, 0) | wrong_products(rows, k, 1);
    wrong |= wrong_sums(count > 1 ? atol(arguments[1]) : 1000000);
    return wrong;
}
