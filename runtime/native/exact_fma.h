/* a * b + c with one rounding, for CPUs without such an instruction.
 *
 * The product of two floats is exact in a double; the sum s with c is rounded to a double, and rounded again to a float
 * that is the right one unless s lies exactly between two floats and was rounded to get there. Then the low 28 bits of s
 * are 0: for all other s nothing has to be done. For these, s is moved by its last bit to where the exact sum lies
 * (rounding to odd; Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008). */
#ifndef EDGE_EXACT_FMA_H
#define EDGE_EXACT_FMA_H

#include <stdint.h>
#include <string.h>

/* The rounding error of s = p + c, exact (Knuth's two-sum). */
static inline double sum_error(double p, double c, double s)
{
    const double from_c = s - p;
    return (p - (s - from_c)) + (c - from_c);
}

/* s = p + c, where its last bit is 0, moved by it towards the exact sum. Infinity and NaN stay as they are. */
static inline double round_to_odd(double p, double c, double s)
{
    const double error = sum_error(p, c, s);
    int64_t bits;
    memcpy(&bits, &s, sizeof bits);
    if (error > 0)
        bits += s > 0 ? 1 : -1;
    else if (error < 0)
        bits += s > 0 ? -1 : 1;
    memcpy(&s, &bits, sizeof s);
    return s;
}

static inline float exact_fma(float a, float b, float c)
{
    const double p = (double)a * (double)b;
    double s = p + (double)c;
    uint64_t bits;
    memcpy(&bits, &s, sizeof bits);
    if ((bits & 0xfffffff) == 0)
        s = round_to_odd(p, (double)c, s);
    return (float)s;
}

#endif
