"""Exact search over sparse vectors: for each token the passages that have it, with their weights, in memory.

A query adds up the weights of its own tokens alone, passage by passage. Takes five bytes a weight, and a dozen a
passage: about 1,200 bytes for an abstract of 240 weights.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.storage.sidetables import Attached
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.memory import trim_heap
from edge_embed_runtime.vectors.int8 import Ids, Vectors
from edge_embed_runtime.vectors.sparse import SparseVector, Unpacked, unpack

# Parts that were added one after the other; more are read anew as one.
MOST_PARTS = 16
# Weights whose ordering takes so much memory that it is worth giving back: 40 MB.
LARGE = 2**22


@dataclass(frozen=True)
class _Part:
    """The postings of passages with ids [n]: those of a token are rows[starts[token] : starts[token + 1]], and steps
    likewise."""

    ids: Ids
    scales: Vectors
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    steps: NDArray[np.uint8]

    def scores(self, query: SparseVector) -> Vectors:
        """Dot products [n]. Tokens are added in the order of their ids: a passage has one score in any part."""
        sums = np.zeros(len(self.ids), np.float32)
        for token, weight in zip(query.ids.tolist(), query.weights, strict=True):
            part = slice(self.starts[token], self.starts[token + 1])
            sums[self.rows[part]] += weight * self.steps[part]
        scores: Vectors = sums * self.scales
        return scores


def _make_part(table: Attached, after: int, damaged: set[int]) -> _Part:
    """Rows with ids over `after`; those that are not whole are told."""
    ids: list[int] = []
    found: list[Unpacked] = []
    sizes = np.zeros(table.dim, np.int64)
    for some, codes, bad in table.load(after):
        damaged.update(bad)
        ids += some
        found.append(unpack(codes, table.dim))
        sizes += np.bincount(found[-1][2], minlength=table.dim)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows, steps = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.uint8)
    scales = np.concatenate([np.empty(0, np.float32), *(part[0] for part in found)])
    free, first = starts[:-1].copy(), 0
    found.reverse()
    while found:  # each is let go of when its weights have found their places
        _, own, tokens, counts = found.pop()
        order = np.argsort(tokens, kind="stable")
        ordered = tokens[order]
        each = np.bincount(ordered, minlength=table.dim)
        places = np.arange(len(order)) + (free - np.cumsum(each) + each)[ordered]
        rows[places] = np.repeat(np.arange(first, first + len(counts), dtype=np.int32), counts)[order]
        steps[places] = own[order]
        free += each
        first += len(counts)
    return _Part(np.array(ids, np.int64), scales, starts, rows, steps)


class Postings:
    """Those of one store; they follow its commits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts: list[_Part] = []
        # counters in `meta` that they stand for
        self._generation = self._deletions = -1

    def release(self) -> None:
        self._parts, self._generation, self._deletions = [], -1, -1

    def forget(self, ids: Ids, deletions: int) -> None:
        """Passages that a commit of this process deleted: their scores are 0 from now on."""
        if self._deletions == deletions - 1:
            for part in self._parts:
                part.scales[np.isin(part.ids, ids)] = 0
            self._deletions = deletions

    def follow(self, damaged: set[int]) -> None:
        """Read what was committed since. Runs inside a snapshot."""
        generation, deletions = self._store.counters()
        if (generation, deletions) == (self._generation, self._deletions):
            return
        if deletions != self._deletions or len(self._parts) >= MOST_PARTS:
            self._parts = []
        last = max((int(part.ids[-1]) for part in self._parts), default=0)
        part = _make_part(self._store.attached["sparse"], last, damaged)
        if len(part.ids):
            self._parts.append(part)
        if len(part.rows) > LARGE:
            trim_heap()  # what ordering them took
        self._generation, self._deletions = generation, deletions

    def scores(self, query: SparseVector) -> tuple[Ids, Vectors]:
        """Ids [n] of all passages, ascending, and their scores."""
        if not self._parts:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        ids = np.concatenate([part.ids for part in self._parts])
        return ids, np.concatenate([part.scores(query) for part in self._parts])
