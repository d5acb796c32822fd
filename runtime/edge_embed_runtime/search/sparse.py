"""Documents by the dot product of sparse vectors, exactly: for each token the passages that have it are in memory.

A query adds up the weights of its own tokens alone, passage by passage. Takes five bytes a weight, and a dozen a
passage: about 1,200 bytes for an abstract of 240 weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.search.fusion import best_passages
from edge_embed_runtime.search.query import PASSAGES_PER_HIT, SPARE, Question, Ranking, Retriever
from edge_embed_runtime.storage.rows import Removed
from edge_embed_runtime.storage.sidetables import Attached
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Room
from edge_embed_runtime.system.memory import trim_heap
from edge_embed_runtime.vectors.int8 import Ids, Vectors
from edge_embed_runtime.vectors.sparse import SparseVector, Unpacked, unpack

# Parts, one for each commit that was followed; more are read again as one.
MOST_PARTS = 16
# Weights whose ordering takes 40 MB, which are then given back to the system.
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
    """Rows with ids over `after`; `damaged` gets the ids of those that are not whole."""
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


class Sparse(Retriever):
    """Holds the sparse vectors of one store, and follows the commits of whoever writes."""

    def __init__(self, store: Store, room: Room | None, damaged: set[int]) -> None:
        self._store, self._room, self._damaged = store, room, damaged
        self._parts: list[_Part] = []
        # counters in `meta` that they stand for; -1 where there are none yet
        self._generation = self._deletions = -1

    def release(self) -> None:
        self._parts, self._generation, self._deletions = [], -1, -1
        if self._room is not None:
            self._room.hold("sparse", 0)

    def forget(self, removed: Removed) -> None:
        """What was deleted has scores of 0 from now on."""
        if self._deletions == removed.deletions - 1:
            for part in self._parts:
                part.scales[np.isin(part.ids, removed.passages)] = 0
            self._deletions = removed.deletions

    def load(self) -> None:
        if self._room is not None and self._generation < 0:
            size = self._store.attached["sparse"].size()
            self._room.for_postings(size)
            self._room.hold("sparse", 2 * size)
        generation, deletions = self._store.counters()
        if (generation, deletions) == (self._generation, self._deletions):
            return
        if deletions != self._deletions or len(self._parts) >= MOST_PARTS:
            self._parts = []
        last = max((int(part.ids[-1]) for part in self._parts), default=0)
        part = _make_part(self._store.attached["sparse"], last, self._damaged)
        if len(part.ids):
            self._parts.append(part)
        if len(part.rows) > LARGE:
            trim_heap()  # what ordering them took
        self._generation, self._deletions = generation, deletions

    def cost(self, question: Question, passages: int) -> int:
        return 40 * passages + question.ranked_bytes(passages)

    def rank(self, question: Question) -> Ranking:
        """Documents by the largest dot product of their passages."""
        ids, scores = self._scores(question)
        if question.condition is not None:
            scores = np.where(np.isin(ids, self._store.allowed(question.condition)), scores, 0)
        places = np.flatnonzero(scores > 0)
        wanted = PASSAGES_PER_HIT * (question.depth + SPARE)
        while True:
            chosen = first_by_score(ids, scores, places, wanted)
            passages = self._store.passages(np.sort(ids[chosen]))
            self._damaged.update(passages.damaged)
            docs = dict(zip(passages.ids.tolist(), passages.docs.tolist(), strict=True))
            rows = zip(ids[chosen].tolist(), scores[chosen].tolist(), strict=True)
            ranking = best_passages((docs[id_], id_, score) for id_, score in rows if id_ in docs)
            if len(ranking) >= question.depth or wanted >= len(places):
                return ranking
            wanted *= 4

    def complete(self, question: Question, ranking: Ranking, passages: Mapping[int, int]) -> Ranking:
        ids, scores = self._scores(question)
        others = {doc: passage for doc, passage in passages.items() if doc not in ranking}
        places = np.searchsorted(ids, list(others.values())).tolist()
        known = [(doc, passage, i) for (doc, passage), i in zip(others.items(), places, strict=True) if i < len(ids)]
        return ranking | {doc: (float(scores[i]), passage) for doc, passage, i in known if ids[i] == passage}

    def _scores(self, question: Question) -> tuple[Ids, Vectors]:
        """Ids [n] of all passages, ascending, and their scores."""
        self.load()
        query = question.query.sparse
        if query is None or not self._parts:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        ids = np.concatenate([part.ids for part in self._parts])
        return ids, np.concatenate([part.scores(query) for part in self._parts])


def first_by_score(ids: Ids, scores: Vectors, places: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """The `count` of some places with the highest scores, of equal ones those with the lowest ids, in this order."""
    if count < len(places):
        limit = np.partition(scores[places], len(places) - count)[len(places) - count]
        places = places[scores[places] >= limit]
    return places[np.lexsort((ids[places], -scores[places]))][:count]
