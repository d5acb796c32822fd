"""The nearest documents by cosine: of candidates that binary codes propose, or of all passages.

Of many passages: bits against bits find thousands, bits against the query's numbers hundreds of these, and int8 codes
from the file score them; until enough of the nearest should be found. For `recall=1`, and where no less is enough, the
int8 codes of all passages are read from the file and checked, some at a time: 0.3 s for 100,000 passages of 384
dimensions, in little memory.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.search.coverage import BITS, ESTIMATE, Asked, Found, Relation, Sample, Seen, limits
from edge_embed_runtime.search.query import Question, Ranking, vector_of
from edge_embed_runtime.storage.rows import PASSAGES, StoredPassages, checked_passages
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.bits import BinaryCodes, whole
from edge_embed_runtime.vectors.hamming import Pool
from edge_embed_runtime.vectors.scores import exact_scores, score_int8
from edge_embed_runtime.vectors.types import Ids, Places, Vectors

if TYPE_CHECKING:  # few indexes need either
    from edge_embed_runtime.search.hnsw import Cache
    from edge_embed_runtime.search.streamed import StreamedCodes

    AnyCodes = BinaryCodes | StreamedCodes

# Candidates at first: for k = 10 eighty, of a pool of a thousand that bits against bits found.
CANDIDATES = 30
CANDIDATES_PER_HIT = 5
POOL_PER_CANDIDATE = 12.5
# Of more codes than this the pool grows, with the fourth root of their number: they lie closer together.
POOL_CODES = 100_000
# Factor by which the number of candidates grows until so many can be expected to be enough.
STEP = 1.25
# Candidates whose rows are in memory at once.
FETCHED = 2048
# Where more than this part of all passages would have to be scored one by one, all are, which reads them in order.
MOST = 0.25
# Times that a pool grows before all passages are scored, and steps in which its limit is tried.
WIDENED, STEPS = 4, 64
# Numbers of the rows that are in memory at a time: 2 MB where they are compared.
READ_NUMBERS, MOST_ROWS, LEAST_ROWS = 2**17, 2048, 16
# Where more than this part of all passages is allowed, all are read, in their order.
MANY = 0.25
# Documents more than asked for that are kept: damaged ones give way to them.
SPARE = 100


def first_sizes(count: int, passages: int) -> tuple[int, int]:
    """Number of candidates that a search for `count` documents scores at first, and of the pool that they come from."""
    wanted = CANDIDATES + CANDIDATES_PER_HIT * count
    return wanted, int(POOL_PER_CANDIDATE * wanted * max(1.0, passages / POOL_CODES) ** 0.25)


class _Scored(NamedTuple):
    """Candidates whose rows are whole: documents, ids and scores [n], and what is measured of their codes [2, n]."""

    docs: Ids
    ids: Ids
    scores: Vectors
    measures: NDArray[np.float64]


def _together(parts: list[_Scored]) -> _Scored:
    if len(parts) == 1:
        return parts[0]
    return _Scored(*(np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)))


class CandidateSearch:
    """One search for one vector [dim] among the codes at `allowed` places, or all.

    damaged: gets the ids of passages that were left out
    """

    def __init__(
        self,
        store: Store,
        codes: "AnyCodes",
        sample: Sample,
        question: Question,
        allowed: Places | None,
        damaged: set[int],
    ) -> None:
        self._store, self._codes, self._allowed, self._damaged = store, codes, allowed, damaged
        self._count, self._tolerated = question.depth, 1 - question.recall
        self._everything = len(codes) if allowed is None else len(allowed)
        self._asked = Asked(vector_of(question), store.frame)
        self._relation: Relation = sample.relation(self._asked)
        self._seen: Seen | None = None

    def run(self, graph: "Cache | None", most: int | None) -> Ranking | None:
        """Documents, or None where all passages have to be read.

        most: candidates that there is memory for besides those of the first pool, None where there is no budget
        """
        wanted, size = first_sizes(self._count, self._everything)
        if graph is not None and isinstance(self._codes, BinaryCodes):
            pool = graph.pool(self._codes, self._asked.words, size, self._allowed)
        else:
            pool = self._codes.pool(self._asked.words, size, self._allowed)
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
        estimates = self._codes.estimate(pool.places, self._asked.signed)
        order = (-estimates).argsort(kind="stable")
        estimates = estimates[order]
        if self._seen is not None:
            wanted = self._enough(pool, estimates, wanted)
        parts: list[_Scored] = []
        start = 0
        while wanted <= min(len(order), MOST * self._everything):
            parts += self._fetched(pool, order[start:wanted], estimates[start:wanted])
            scored = _together(parts)
            best = first_of_each(scored.docs, scored.ids, scored.scores)
            start = wanted
            if len(best) < self._count:
                wanted = 2 * start
                continue
            told = Found.of(scored.scores[best].astype(np.float64), scored.measures[:, best], self._count)
            self._seen = self._relation.seen(told)
            wanted = self._enough(pool, estimates, start)
            if wanted == start:
                numbers = (values[best].tolist() for values in (scored.docs, scored.scores, scored.ids))
                return {doc: (score, passage) for doc, score, passage in zip(*numbers, strict=True)}
        return None

    def _enough(self, pool: Pool, estimates: Vectors, least: int) -> int:
        """How many candidates of a pool, best first, can be expected to hold enough of the nearest; more than there are
        where the pool should be widened instead."""
        assert self._seen is not None  # noqa: S101 - the caller has set it
        most = len(estimates) if len(estimates) == self._everything else len(estimates) // 2
        while least <= most:
            if self._seen.missed(limits(pool, float(estimates[least - 1]))) <= self._tolerated:
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
            by_id = ids.argsort()
            if len(found.ids) < len(by_id):  # damaged or missing
                by_id = by_id[np.isin(ids[by_id], found.ids)]
            scores = exact_scores(found.codes, found.scales, self._asked.numbers)
            measures = np.empty((2, len(by_id)))
            measures[BITS] = pool.distances[some[by_id]]
            np.negative(estimates[start : start + FETCHED][by_id], out=measures[ESTIMATE])
            parts.append(_Scored(found.docs, found.ids, scores, measures))
        return parts

    def _wider(self, pool: Pool) -> Pool:
        """More candidates: as many as what was found says are needed, or four times as many."""
        if self._seen is None:  # long documents: many passages of few documents
            return self._codes.pool(self._asked.words, 4 * len(pool.places), self._allowed)
        bits = 64 * len(self._asked.words)
        step = max(1, bits // STEPS)
        for limit in np.arange(np.floor(min(pool.limit, bits)) + 0.5, bits + step, step):
            if self._seen.missed((limit, math.inf)) <= self._tolerated / 2:
                break
        if limit > bits:
            return whole(np.arange(len(self._codes)) if self._allowed is None else self._allowed)
        return self._codes.within(self._asked.words, float(limit), self._allowed)


def nearest_documents(store: Store, vector: Vectors, count: int, allowed: Ids | None, damaged: set[int]) -> Ranking:
    """The `count` documents whose best passages have the largest dot products with a vector [dim], of equal ones those
    with the lowest ids, and others after them. Runs inside a snapshot.

    allowed: ids of passages, ascending; None for all
    damaged: gets the ids of those that were left out
    """
    kept = 2 * count + SPARE
    docs, ids, scores = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    for found in _passages(store, allowed):
        damaged.update(found.damaged)
        new = score_int8(found.codes, found.scales, vector)
        near = new >= scores[-1] if len(scores) == kept else slice(None)  # what can come among them
        docs, ids = np.concatenate([docs, found.docs[near]]), np.concatenate([ids, found.ids[near]])
        scores = np.concatenate([scores, new[near]])
        best = first_of_each(docs, ids, scores)[:kept]
        docs, ids, scores = docs[best], ids[best], scores[best]
    best_passages = zip(docs.tolist(), scores.tolist(), ids.tolist(), strict=True)
    return {doc: (score, passage) for doc, score, passage in best_passages}


def first_of_each(docs: Ids, ids: Ids, scores: Vectors) -> Ids:
    """Where the best passage of each document is, best first; of equal scores the lowest id."""
    order = np.lexsort((ids, -scores))
    sorted_docs = docs[order]
    by_doc = sorted_docs.argsort(kind="stable")
    grouped = sorted_docs[by_doc]
    first = np.ones(len(order), np.bool_)
    np.not_equal(grouped[1:], grouped[:-1], out=first[1:])
    places = by_doc[first]
    places.sort()
    best: Ids = order[places]
    return best


def _passages(store: Store, allowed: Ids | None) -> Iterator[StoredPassages]:
    """Passages with their codes, many at a time, in ascending order of ids."""
    rows = max(LEAST_ROWS, min(MOST_ROWS, READ_NUMBERS // max(store.dim, 1)))
    if allowed is not None and len(allowed) <= MANY * store.last_ids()[1]:
        for start in range(0, len(allowed), rows):
            yield store.passages(allowed[start : start + rows])
        return
    cursor = store.connection.execute(f"{PASSAGES} ORDER BY id")
    while block := cursor.fetchmany(rows):
        if allowed is not None:
            ids = np.array([row[0] for row in block])
            among = np.isin(ids, allowed[slice(*np.searchsorted(allowed, (ids[0], ids[-1] + 1)))], assume_unique=True)
            block = [row for row, found in zip(block, among.tolist(), strict=True) if found]
        yield checked_passages(block, store.dim)
