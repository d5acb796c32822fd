"""Diversity: hits that fit the query and differ from each other, by maximal marginal relevance (MMR).

The next hit is the candidate with the largest mmr * relevance - (1 - mmr) * similarity, where the similarity is the
largest cosine to a hit before it (Carbonell and Goldstein, SIGIR 1998, whose lambda `mmr` is): 1 gives the order of the
scores, 0 looks at the differences alone. The first hit is always the one that fits best.

Candidates are the best max(4 k, 50) documents. Vectors are those stored of their best passages. In mode "vector" the
relevance is the cosine to the query, the score; in other modes, and where rankings of several kinds are fused, whose
scores have no such scale, it is the score brought to 0..1 over the candidates. Hits keep their scores. A document
without a vector is like no other one.
"""

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.search.query import SPARE, Question, Ranking
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.int8 import dequantize

Numbers = NDArray[np.float64]


def diversified(store: Store, question: Question, ranking: Ranking, damaged: set[int]) -> Ranking:
    """The best documents of a ranking, as many as there are hits and some more, in the order of MMR.

    damaged: gets the ids of passages that are left out because their vectors are damaged
    """
    if not store.dim:
        raise InputError(f"mmr compares dense vectors, and {store.path} holds none", path=store.path, option="mmr")
    assert question.mmr is not None  # noqa: S101 - or this would not be asked
    best = dict(islice(ranking.items(), question.candidates))
    found = store.passages(np.sort(np.array([passage for _, passage in best.values()], np.int64)))
    damaged.update(found.damaged)
    # a passage without a vector is like none: its row is the last one, of zeros
    rows = {id_: row for row, id_ in enumerate(found.ids.tolist())} | dict.fromkeys(found.bare, len(found.ids))
    docs = [doc for doc, (_, passage) in best.items() if passage in rows]
    stored = np.vstack([dequantize(found.codes, found.scales), np.zeros((1, store.dim), np.float32)])
    vectors = stored[[rows[best[doc][1]] for doc in docs]].astype(np.float64)
    relevance = np.array([best[doc][0] for doc in docs])
    if question.mode != "vector" or "fused" in question.memo:
        relevance = spread(relevance)
    return {docs[i]: best[docs[i]] for i in mmr_order(relevance, vectors, question.mmr, question.k + SPARE)}


def spread(scores: Numbers) -> Numbers:
    """Scores brought to 0..1: [2, 6, 4] -> [0, 1, 0.5]; equal ones are all 1."""
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 0.0)
    return (scores - low) / (high - low) if high > low else np.ones(len(scores))


def mmr_order(relevance: Numbers, vectors: Numbers, mmr: float, count: int) -> list[int]:
    """Which of n candidates come first, second ..., `count` of them; of equal ones the earlier first.

    relevance: [n]; vectors: [n, dim] of length 1
    """
    chosen: list[int] = []
    left = np.ones(len(relevance), bool)
    nearest = np.full(len(relevance), -np.inf)
    while len(chosen) < min(count, len(relevance)):
        values = mmr * relevance - (1 - mmr) * nearest if chosen else relevance
        best = int(np.argmax(np.where(left, values, -np.inf)))
        chosen.append(best)
        left[best] = False
        # in float32 equal vectors are equally near, wherever they stand: sums differ in their last digits
        nearest = np.maximum(nearest, (vectors @ vectors[best]).astype(np.float32))
    return chosen
