"""Queries as whole numbers: sums of them are exact, so that they have the same bits in whatever order a library or C
adds them, on any CPU.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.vectors.types import Vectors

# Bits of the sum of 8 numbers whose signs vary: tables of such sums fit in the first cache, and float32 holds whole
# numbers of 24 bits, which sums of 4096 have.
SIGNED_BITS = 14
# Bits of the largest number beside int8 codes: sums over 16384 numbers have 51, and float64 holds 53.
INT8_BITS = 30


class Whole(NamedTuple):
    """A query [dim]: whole numbers times a step, which is a power of two."""

    numbers: NDArray[np.float64]
    step: float


def for_signs(query: Vectors) -> Whole:
    """A query whose numbers are added up with any signs: sums are exact in float32. Numbers move by at most a 16,000th
    of the largest sum of eight that stand together."""
    sizes = np.add.reduceat(np.abs(query), np.arange(0, len(query), 8))
    return _whole(query, float(np.maximum.reduce(sizes)), SIGNED_BITS)


def for_int8(query: Vectors) -> Whole:
    """A query whose numbers are multiplied with int8 codes: sums are exact in float64."""
    return _whole(query, float(np.maximum.reduce(np.abs(query), initial=0)), INT8_BITS)


def _whole(query: Vectors, size: float, bits: int) -> Whole:
    """In steps of which `size` has less than 2 ** bits."""
    exponent = bits - math.frexp(size)[1]
    return Whole(np.rint(np.ldexp(query.astype(np.float64), exponent)), math.ldexp(1.0, -exponent))
