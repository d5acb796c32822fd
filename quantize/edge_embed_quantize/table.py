"""An embedding table in few bits: rows of frequent tokens in int8, the others in four or three bits.

Which rows are kept in int8 matters more than how the others are rounded: a few hundred tokens are in every text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_quantize.linear import ROWS, Array, Codes, quantize_rows

TABLE_BITS = {"int8": 8, "int4": 4, "int3": 3}


@dataclass(frozen=True)
class CompactTable:
    """Row `place[id]` of the frequent rows followed by the others is the row of a token.

    place:    uint16 or int32 [vocab]
    frequent: int8 [f, n]
    planes:   of the other rows, what is left of a code - lowest bits first - packed: (bits, uint8 [k, n * bits / 8])
    scale:    float16 [f + k, 1]; a code c of b bits stands for (c - 2^(b-1)) * scale
    """

    place: NDArray[np.uint16] | NDArray[np.int32]
    frequent: Codes
    planes: list[tuple[int, NDArray[np.uint8]]]
    scale: NDArray[np.float16]
    bits: int


def pack(codes: NDArray[np.uint8], bits: int) -> list[tuple[int, NDArray[np.uint8]]]:
    """Codes [..., n] of 3 bits as planes of 2 and 1 bits, of 4 bits as one plane.

    A plane of b bits holds value j of its last axis in byte j % (n * b / 8), so that unpacking is shifting and putting
    the parts side by side. n must be a multiple of 8.
    """
    planes, shift = [], 0
    for width in (4, 2, 1):
        if bits & width:
            part = (codes >> shift) & (2**width - 1)
            parts = np.split(part, 8 // width, axis=-1)
            packed = sum(piece.astype(np.uint16) << (i * width) for i, piece in enumerate(parts))
            planes.append((width, np.asarray(packed, np.uint8)))
            shift += width
    return planes


def compact_table(table: Array, bits: int, frequent: Sequence[int], unused: Sequence[int]) -> CompactTable:
    """Quantize an embedding table [vocab, n].

    bits:     of the rows that are not frequent
    frequent: ids whose rows stay int8
    unused:   ids that the tokenizer never gives; they share one row
    """
    vocab = len(table)
    never = set(unused)
    given = [i for i in range(vocab) if i not in never]
    # both kinds have a row at the least, because the graph reads one of each
    first = list(dict.fromkeys(i for i in frequent if i not in never))[: len(given) - 1] or given[:1]
    known = set(first)
    rest = [i for i in given if i not in known]
    order = first + rest
    place = np.zeros(vocab, np.int32)
    place[order] = np.arange(len(order))
    codes, scale = quantize_rows(table[first])
    # only some rows are float at a time
    parts = [_few_bits(np.asarray(table[rest[i : i + ROWS]]), bits) for i in range(0, len(rest), ROWS)]
    low, low_scale = (np.concatenate(found) for found in zip(*parts, strict=True))
    small = place.astype(np.uint16) if vocab <= 2**16 else place
    return CompactTable(small, codes, pack(low, bits), np.vstack([scale, low_scale]).astype(np.float16), bits)


def _few_bits(rows: Array, bits: int) -> tuple[NDArray[np.uint8], Array]:
    """Codes [k, n] and scales [k, 1] with the least squared error per row."""
    half = 2 ** (bits - 1)
    largest = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12)
    best = np.full((len(rows), 1), np.inf)
    codes, scale = np.zeros(rows.shape, np.uint8), np.ones((len(rows), 1), np.float32)
    for share in np.linspace(0.4, 1, 25):
        tried = (largest * share / (half - 0.5)).astype(np.float32)
        found = np.clip(np.rint(rows / tried), -half, half - 1)
        error = ((found * tried - rows) ** 2).sum(axis=1, keepdims=True)
        better = error < best
        best = np.where(better, error, best)
        scale = np.where(better, tried, scale)
        codes = np.where(better, (found + half).astype(np.uint8), codes)
    return codes, scale
