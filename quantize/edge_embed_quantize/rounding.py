"""Rounding weights so that a layer's outputs, not its weights, stay close (GPTQ, arXiv:2210.17323)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_embed_quantize.linear import Array, Codes, beside, product_scale

Wide = NDArray[np.float64]
# x^T x of a layer's inputs, part by part (see `parts_of`); for most layers there is one part.
Grams = list[Wide]

# Share of the mean diagonal added to the diagonal, so that channels which calibration hardly saw are not trusted.
DAMPING = 0.02
# Rows that are rounded before the rest is corrected for all of them at once.
BLOCK = 64
# More inputs than this are rounded in parts, which do not stand in for each other: what a part takes grows with the
# square of its inputs, to 2.5 GB.
WIDEST = 8192
# Inputs of a part are a multiple of this.
STEP = 64
# int4: the multipliers of a group are whole numbers up to this.
LARGEST_MULTIPLIER = 17


def _round(weight: Array, gram: Wide, code: Callable[[int, Wide], Wide], block: int) -> None:
    """Round row by row of [n, m]; what a row is off by is made up for in the rows not yet rounded.

    gram: x^T x [n, n] of the layer's inputs, which says how rows stand in for each other; it is changed
    code: the rounded form of row i, in the weight's own units, given what is left of the weight [n, m]
    """
    rest = weight.astype(np.float64)
    damping = max(DAMPING * float(np.diag(gram).mean()), 1e-12)
    gram[np.diag_indices(len(gram))] += damping
    inverse = np.linalg.inv(gram)
    inverse = inverse + inverse.T
    inverse /= 2
    spread = np.linalg.cholesky(inverse).T
    del inverse
    for start in range(0, len(rest), block):
        end = min(start + block, len(rest))
        errors = np.empty((end - start, rest.shape[1]))
        for i in range(start, end):
            errors[i - start] = (rest[i] - code(i, rest)) / spread[i, i]
            rest[i + 1 : end] -= np.outer(spread[i, i + 1 : end], errors[i - start])
        rest[end:] -= spread[start:end, end:].T @ errors


def parts_of(inputs: int) -> list[slice]:
    """Inputs that are rounded together: 3 -> [0:3], 14336 -> [0:7168, 7168:14336]."""
    count = -(-inputs // WIDEST)
    size = -(-inputs // (count * STEP)) * STEP
    return (
        [slice(start, min(start + size, inputs)) for start in range(0, inputs, size)]
        if count > 1
        else [slice(0, inputs)]
    )


def round_int8(weight: Array, grams: Grams) -> tuple[Codes, Array]:
    """Weight [n, m] to int8 codes in -127..127 and one scale per output channel [m]; grams [k, k] of its inputs, part
    by part."""
    scale = product_scale(weight)
    parts = zip(parts_of(len(weight)), grams, strict=True)
    return np.concatenate([_round_int8(weight[part], gram, scale) for part, gram in parts]), scale


def _round_int8(weight: Array, gram: Wide, scale: Array) -> Codes:
    order = np.argsort(
        -np.diag(gram), kind="stable"
    )  # what matters most is rounded while most can still make up for it
    inner = scale.astype(np.float64)
    pairs = _Pairs(weight.shape)

    def code(i: int, rest: Wide) -> Wide:
        low, high = pairs.limits(order[i])
        return pairs.take(order[i], np.clip(np.rint(rest[i] / inner), low, high)) * inner

    _round(weight[order], gram[np.ix_(order, order)], code, BLOCK)
    return pairs.codes.astype(np.int8)


class _Pairs:
    """Codes [n, m] of a weight while its inputs are rounded one after the other, in any order.

    The second of a pair to be rounded gets what the first has left of PAIR_LIMIT.

    least: the lowest code
    """

    def __init__(self, shape: tuple[int, ...], least: int = -127) -> None:
        self.codes: Wide = np.zeros(shape)
        self._least = least

    def limits(self, i: int) -> tuple[Wide, Wide]:
        """Lowest and highest code [m] of input i. The other of its pair is 0 where it is not rounded yet."""
        other = i ^ 1
        return beside(self.codes[other] if other < len(self.codes) else np.zeros(self.codes.shape[1]), self._least)

    def take(self, i: int, codes: Wide) -> Wide:
        self.codes[i] = codes
        return codes


def round_int4(weight: Array, grams: Grams, group: int) -> tuple[Codes, Codes, Array]:
    """Weight [n, m] to codes in -8..7 [n, m], multipliers [n / group, m] and one scale per output channel [m].

    code * multiplier is an int8 code (down to -128 here): four bits are how the weight is stored, eight how it is
    computed with. A group is `group` inputs of one output channel; n must be a multiple of it.
    """
    scale = product_scale(weight)
    parts = zip(parts_of(len(weight)), grams, strict=True)
    found = [_round_int4(weight[part], gram, scale, group) for part, gram in parts]
    four, multipliers = (np.concatenate(pieces) for pieces in zip(*found, strict=True))
    return four, multipliers, scale


def _round_int4(weight: Array, gram: Wide, scale: Array, group: int) -> tuple[Codes, Codes]:
    inner = scale.astype(np.float64)
    multipliers = np.empty((len(weight) // group, weight.shape[1]))
    pairs = _Pairs(weight.shape, least=-128)

    def code(i: int, rest: Wide) -> Wide:
        if i % group == 0:
            multipliers[i // group] = _multipliers(rest[i : i + group] / inner)
        multiplier = multipliers[i // group]
        low, high = pairs.limits(i)
        low, high = np.maximum(np.ceil(low / multiplier), -8), np.minimum(np.floor(high / multiplier), 7)
        return pairs.take(i, np.clip(np.rint(rest[i] / inner / multiplier), low, high) * multiplier) * inner

    _round(weight, gram.copy(), code, group)
    four = np.rint(pairs.codes / np.repeat(multipliers, group, axis=0))
    return four.astype(np.int8), multipliers.astype(np.int8)


def _multipliers(codes: Wide) -> Wide:
    """The multiplier per column of [group, m] that loses least."""
    largest = np.abs(codes).max(axis=0)
    best, least = np.ones(codes.shape[1]), np.full(codes.shape[1], np.inf)
    for share in np.linspace(0.5, 1, 11):
        multiplier = np.clip(np.rint(largest * share / 7.5), 1, LARGEST_MULTIPLIER)
        error = ((np.clip(np.rint(codes / multiplier), -8, 7) * multiplier - codes) ** 2).sum(axis=0)
        best, least = np.where(error < least, multiplier, best), np.minimum(error, least)
    return best
