"""Embedding tables in few bits, read back slowly and plainly."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_quantize.table import CompactTable


def unpack(planes: Sequence[tuple[int, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """The codes that `pack` packed."""
    wholes, shift = [], 0
    for width, packed in planes:
        parts = [(packed >> (i * width)) & (2**width - 1) for i in range(8 // width)]
        wholes.append(np.concatenate(parts, axis=-1) << shift)
        shift += width
    return np.asarray(sum(wholes), np.uint8)


def rows_of(table: CompactTable) -> np.ndarray[Any, Any]:
    """Every row [vocab, n] that an embedding table in few bits stands for."""
    others = unpack(table.planes).astype(np.float32) - 2 ** (table.bits - 1)
    return (np.vstack([table.frequent, others]) * table.scale.astype(np.float32))[table.place.astype(int)]
