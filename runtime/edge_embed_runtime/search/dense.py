"""Documents by cosine, in three steps: bits against bits find thousands of many passages, bits against the query's
numbers hundreds of them, and int8 codes from the file score these; until enough of the nearest should be found."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.search.coverage import Found, Relation, Sample, limits, sample_size
from edge_embed_runtime.search.exact import first_of_each, nearest_documents
from edge_embed_runtime.search.fusion import Ranking
from edge_embed_runtime.search.hnsw import Cache
from edge_embed_runtime.search.streamed import StreamedCodes
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.int8 import BinaryCodes, Ids, Places, Pool, Vectors, binarize, score_int8, whole

# The part of the k nearest by int8 codes that a search is to find.
RECALL = 0.99
# Candidates at first: for k = 10 eighty, of a pool of a thousand that bits against bits found.
CANDIDATES = 30
CANDIDATES_PER_HIT = 5
POOL_PER_CANDIDATE = 12.5
# Of more codes than this the pool grows, with the fourth root of their number: they lie closer together.
POOL_CODES = 100_000
# How many more candidates are tried in thought, until so many are enough.
STEP = 1.25
# Candidates whose rows are in memory at once.
FETCHED = 2048
# Where more than this part of all passages would have to be scored one by one, all are, which reads them in order.
MOST = 0.25
# The sample is taken again when there are so many times more codes, or when so large a part of them was deleted.
OUTGROWN, GONE = 1.5, 0.1

# Times that a pool grows before all passages are scored, and steps in which its limit is tried.
WIDENED, STEPS = 4, 64

AnyCodes = BinaryCodes | StreamedCodes


def first_sizes(count: int, passages: int) -> tuple[int, int]:
    """Candidates that a search for `count` documents among so many passages scores at first, and their pool."""
    wanted = CANDIDATES + CANDIDATES_PER_HIT * count
    return wanted, int(POOL_PER_CANDIDATE * wanted * max(1.0, passages / POOL_CODES) ** 0.25)


class Nearest:
    """Finds documents of one store by cosine. Keeps a sample of its vectors."""

    def __init__(self, store: Store, graph: Cache, damaged: set[int]) -> None:
        self._store, self._graph, self._damaged = store, graph, damaged
        self._sample: Sample | None = None
        self._sampled = self._removed = 0

    def release(self) -> None:
        self._sample = None

    def forget(self, passages: int) -> None:
        """So many were deleted."""
        self._removed += passages

    def documents(
        self,
        codes: AnyCodes,
        vector: Vectors,
        count: int,
        allowed: Ids | None,
        recall: float,
        most: int | None = None,
    ) -> Ranking:
        """At least the first `count` by their best passages, of which the part `recall` can be expected to be right.

        codes:   of the state of the snapshot in which this runs
        vector:  [dim], of length 1
        allowed: ids of the passages that may be found, None for all
        most:    candidates that there is memory for besides those of the first pool, None where there is no budget;
                 where more would be needed, all passages are read, some at a time
        """
        allowed = None if allowed is None else np.unique(allowed)
        if recall < 1 and len(codes):
            sample = self._sample_of(codes)
            if sample is not None:
                places = None if allowed is None else codes.places(allowed)
                graph = self._graph if recall <= RECALL and isinstance(codes, BinaryCodes) else None
                search = _Search(self._store, codes, sample, (vector, count, recall), places, self._damaged)
                ranking = search.run(graph, most)
                if ranking is not None:
                    return ranking
        return nearest_documents(self._store, vector, count, allowed, self._damaged)

    def _sample_of(self, codes: AnyCodes) -> Sample | None:
        """Passages from everywhere in the index; None where too few are whole."""
        if self._sample is None or len(codes) > OUTGROWN * self._sampled or self._removed > GONE * self._sampled:
            size = min(len(codes), sample_size(self._store.dim))
            chosen = np.random.default_rng(0).choice(len(codes), size, replace=False)
            found = self._store.passages(np.sort(codes.ids[chosen]))
            vectors = found.codes * found.scales[:, None]
            self._sample = Sample(vectors, self._store.frame) if 2 * len(vectors) > size else None
            self._sampled, self._removed = len(codes), 0
        return self._sample


@dataclass(frozen=True)
class _Scored:
    """Candidates whose rows are whole: documents, ids and scores [n], and what their codes say [3, n]."""

    docs: Ids
    ids: Ids
    scores: Vectors
    measures: NDArray[np.float64]

    @staticmethod
    def joined(parts: list["_Scored"]) -> "_Scored":
        return _Scored(
            np.concatenate([part.docs for part in parts]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.measures for part in parts], axis=1),
        )


class _Search:
    """One search for one vector [dim] among the codes at `allowed` places, or all."""

    def __init__(
        self,
        store: Store,
        codes: AnyCodes,
        sample: Sample,
        asked: tuple[Vectors, int, float],
        allowed: Places | None,
        damaged: set[int],
    ) -> None:
        self._store, self._codes, self._allowed, self._damaged = store, codes, allowed, damaged
        self._vector, self._count, recall = asked
        self._tolerated = 1 - recall
        self._everything = len(codes) if allowed is None else len(allowed)
        placed = store.frame.place(self._vector[None, :])
        self._placed, self._words = placed[0], binarize(placed)[0]
        self._relation: Relation = sample.relation(self._vector, self._placed, self._words)
        self._found: Found | None = None

    def run(self, graph: Cache | None, most: int | None) -> Ranking | None:
        """Documents, or None where it takes all passages."""
        wanted, size = first_sizes(self._count, self._everything)
        if graph is not None and isinstance(self._codes, BinaryCodes):
            pool = graph.pool(self._codes, self._words, size, self._allowed)
        else:
            pool = self._codes.pool(self._words, size, self._allowed)
        for _ in range(WIDENED):
            ranking = self._rescored(pool, wanted)
            if ranking is not None or wanted > MOST * self._everything or len(pool.places) == self._everything:
                return ranking
            pool = self._wider(pool)
            if most is not None and len(pool.places) > size + most:
                break
        return None

    def _rescored(self, pool: Pool, wanted: int) -> Ranking | None:
        """Documents by the scores of candidates, `wanted` at first, those with the best estimates; None where there are
        not enough in the pool, or it takes too many."""
        estimates = self._codes.estimate(pool.places, self._placed)
        order = np.argsort(-estimates, kind="stable")
        estimates = estimates[order]
        if self._found is not None:
            wanted = self._enough(pool, estimates, wanted)
        parts: list[_Scored] = []
        start = 0
        while wanted <= min(len(order), MOST * self._everything):
            parts += self._fetched(pool, order[start:wanted], estimates[start:wanted])
            scored = _Scored.joined(parts)
            best = first_of_each(scored.docs, scored.ids, scored.scores)
            start = wanted
            if len(best) < self._count:
                wanted = 2 * start
                continue
            self._found = Found.of(scored.scores[best].astype(np.float64), scored.measures[:, best], self._count)
            wanted = self._enough(pool, estimates, start)
            if wanted == start:
                numbers = (values[best].tolist() for values in (scored.docs, scored.scores, scored.ids))
                return {doc: (score, passage) for doc, score, passage in zip(*numbers, strict=True)}
        return None

    def _enough(self, pool: Pool, estimates: Vectors, least: int) -> int:
        """How many candidates of a pool, best first, can be expected to hold enough of the nearest; more than there are
        where a wider pool is the better way."""
        assert self._found is not None  # noqa: S101 - what was found tells
        most = len(estimates) if len(estimates) == self._everything else len(estimates) // 2
        while least <= most:
            if self._relation.missed(self._found, limits(pool, float(estimates[least - 1]))) <= self._tolerated:
                return least
            least = int(STEP * least) + 1
        return len(estimates) + 1

    def _fetched(self, pool: Pool, places: Places, estimates: Vectors) -> list[_Scored]:
        """Candidates, by their places in the pool and with their estimates, with the scores of their rows."""
        parts = []
        for start in range(0, len(places), FETCHED):
            some = places[start : start + FETCHED]
            ids = self._codes.ids[pool.places[some]]
            found = self._store.passages(ids)
            self._damaged.update(found.damaged)
            by_id = np.argsort(ids)
            if len(found.ids) < len(by_id):  # damaged or missing
                by_id = by_id[np.isin(ids[by_id], found.ids)]
            scores = score_int8(found.codes, found.scales, self._vector)
            bits = pool.distances[some[by_id]], pool.halves[some[by_id]]
            measures = np.stack([*bits, -estimates[start : start + FETCHED][by_id]]).astype(np.float64)
            parts.append(_Scored(found.docs, found.ids, scores, measures))
        return parts

    def _wider(self, pool: Pool) -> Pool:
        """More candidates: as many as what was found says are needed, or four times as many."""
        if self._found is None:  # long documents: many passages of few documents
            return self._codes.pool(self._words, 4 * len(pool.places), self._allowed)
        bits = 64 * len(self._words)
        step = max(1, bits // STEPS)
        for limit in np.arange(np.floor(min(pool.limit, bits)) + 0.5, bits + step, step):
            if self._relation.missed(self._found, (limit, math.inf, math.inf)) <= self._tolerated / 2:
                break
        if limit > bits:
            return whole(np.arange(len(self._codes)) if self._allowed is None else self._allowed)
        return self._codes.within(self._words, float(limit), self._allowed)
