"""Some of an index's documents with one vector each: as many as a page can show."""

import random
from dataclasses import dataclass

import numpy as np

from edge_embed_runtime.index.index import Index
from edge_embed_runtime.vectors.normalize import normalize
from edge_embed_runtime.vectors.types import Vectors

AT_ONCE = 500


@dataclass(frozen=True)
class Sample:
    """vectors: float32 [documents, dim], of length 1: the mean of each document's passages"""

    keys: tuple[str, ...]
    vectors: Vectors
    of: int


def take_sample(index: Index, size: int) -> Sample | None:
    """The same documents at every call for an index that stays the same. None where no document has a vector."""
    chosen: list[str] = []
    chance, seen = random.Random(0), 0  # noqa: S311 - a fair choice, not a secret
    for seen, key in enumerate(index.keys(), 1):  # each key with the same chance, in one pass
        if len(chosen) < size:
            chosen.append(key)
        elif (place := chance.randrange(seen)) < size:
            chosen[place] = key
    keys, rows = [], []
    for start in range(0, len(chosen), AT_ONCE):
        for key, vectors in index.vectors(chosen[start : start + AT_ONCE]).items():
            if len(vectors):
                keys.append(key)
                rows.append(vectors.mean(axis=0))
    return Sample(tuple(keys), normalize(np.stack(rows).astype(np.float32)), seen) if rows else None
