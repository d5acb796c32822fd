/* For files that are compiled once per instruction set: EDGE_NAME(edge_dot) is edge_dot_avx2 in the unit of AVX2.
 *
 * build.py defines EDGE_ISA (avx2) and EDGE_ISA_AVX2 for such a unit, and for every unit EDGE_HAVE_AVX2, ...: the
 * instruction sets that the library is built with. */
#ifndef EDGE_UNIT_H
#define EDGE_UNIT_H

#ifndef EDGE_ISA
#define EDGE_ISA baseline
#define EDGE_ISA_BASELINE 1
#endif

#define EDGE_JOIN_(name, isa) name##_##isa
#define EDGE_JOIN(name, isa) EDGE_JOIN_(name, isa)
#define EDGE_NAME(name) EDGE_JOIN(name, EDGE_ISA)

#endif
