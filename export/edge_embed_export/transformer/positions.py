"""Positions as arrays: what is added to scores by the offset of a key from a query, and the angles of rotary embedding.

A table by offset has 2 * max_tokens columns: column c is for the offset c - (max_tokens - 1), key minus query.
"""

import math

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.transformer.spec import Array

# Softmax of a score this low is exactly 0 in float32, so what is hidden adds nothing to any sum.
MASKED = -1e9


def offsets(max_tokens: int) -> NDArray[np.int64]:
    """The offset of each column, [2 * max_tokens]."""
    return np.arange(2 * max_tokens) - (max_tokens - 1)


def visible(max_tokens: int, before: int | None = None, after: int | None = None) -> Array:
    """0 for keys at most `before` tokens before the query and `after` behind it, else MASKED: [1, 2 * max_tokens].

    None means any number: causal attention is visible(n, after=0), a window of 64 to both sides visible(n, 64, 64).
    """
    offset = offsets(max_tokens)
    hidden = np.zeros(len(offset), bool)
    if before is not None:
        hidden |= offset < -before
    if after is not None:
        hidden |= offset > after
    return np.where(hidden, np.float32(MASKED), np.float32(0))[None, :]


def alibi(heads: int, max_tokens: int) -> Array:
    """ALiBi (arXiv:2108.12409) for encoders: -slope * |offset|, [heads, 2 * max_tokens].

    The slopes of n heads, n a power of two, are 2^(-8/n), 2^(-16/n), ...; other counts take those of the power below,
    then every second one of the power above.
    """
    below = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    slopes += [2 ** (-4 * (i + 1) / below) for i in range(0, 2 * below, 2)][: heads - below]
    return (-np.array(slopes)[:, None] * np.abs(offsets(max_tokens))).astype(np.float32)


def relative(table: Array, max_tokens: int, furthest: int) -> Array:
    """T5's relative bias (arXiv:1910.10683): table [buckets, heads] -> [heads, 2 * max_tokens].

    Half of the buckets are for keys behind the query; of each half the first half holds one offset each, the others
    growing ranges up to the offset `furthest`.
    """
    half = len(table) // 2
    exact = half // 2
    offset = offsets(max_tokens)
    distance = np.abs(offset)
    # float32, as the models were trained: at the edge of a bucket a wider type would round to the other side
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(furthest / exact)
    )
    far = exact + (ratio * np.float32(half - exact)).astype(np.int64)
    bucket = np.where(distance < exact, distance, np.minimum(far, half - 1)) + half * (offset > 0)
    return np.ascontiguousarray(table[bucket].T)


def log_bucket(max_tokens: int, buckets: int, furthest: int) -> NDArray[np.int64]:
    """Rows of DeBERTa's table of relative positions (arXiv:2006.03654) by offset of query from key: [2 * max_tokens].

    buckets:  the table has twice as many rows; the middle one is for offset 0
    furthest: offsets below buckets / 2 have a row each, those up to this one share the rest by their logarithm; 0
              means that every offset has its row
    """
    offset = offsets(max_tokens)
    row = offset
    if furthest:
        middle = buckets // 2
        distance = np.maximum(np.abs(offset), middle)
        # float32, as the models were trained
        share = np.log(distance.astype(np.float32) / np.float32(middle)) / np.log(
            np.float32((furthest - 1) / middle), dtype=np.float32
        )
        far = np.ceil(share * np.float32(middle - 1)).astype(np.int64) + middle
        row = np.where(np.abs(offset) <= middle, offset, far * np.sign(offset))
    return np.clip(row + buckets, 0, 2 * buckets - 1)


def frequencies(size: int, theta: float) -> NDArray[np.float64]:
    """Angles per token of rotary embedding (arXiv:2104.09864), one for each pair of a head's numbers: [size / 2]."""
    return theta ** (-np.arange(0, size, 2) / size)


def rotary(angles: NDArray[np.float64], max_tokens: int) -> tuple[Array, Array]:
    """Cosines and sines, each [max_tokens, pairs], of angles per token [pairs]."""
    # the angle is rounded to float32 as it is in the models' own code: at 8,000 tokens that moves it by 0.0002
    turned = np.outer(np.arange(max_tokens), angles.astype(np.float32)).astype(np.float32)
    return np.cos(turned), np.sin(turned)
