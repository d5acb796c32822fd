"""Rankings of documents by their best passages, and several of them fused into one."""

from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

# Passages per document that the words of a query are looked up for at first.
PASSAGES_PER_HIT = 20

# document id -> (score, passage id), best first
Ranking = dict[int, tuple[float, int]]


def best_passages(found: Iterable[tuple[int, int, float]]) -> Ranking:
    """(document, passage, score), best first -> each document once, with its best passage.

    [(1, 10, .9), (2, 20, .8), (1, 11, .7)] -> {1: (.9, 10), 2: (.8, 20)}
    """
    ranking: Ranking = {}
    for doc, passage, score in found:
        ranking.setdefault(doc, (score, passage))
    return ranking


def documents(find: Callable[[int], Iterable[tuple[int, int, float]]], count: int, times: int = 1) -> Ranking:
    """Passages (passage, document, score) as documents; `find(limit)` is asked for more until there are `count`.

    times: what scores are divided by
    """
    limit = PASSAGES_PER_HIT * count
    while True:
        ranking: Ranking = {}
        rows = 0
        for passage, doc, score in find(limit):
            rows += 1
            # words of a passage that was deleted while it was damaged lead nowhere
            if isinstance(passage, int) and isinstance(doc, int) and doc not in ranking:
                ranking[doc] = (score / times, passage)
        if len(ranking) >= count or rows < limit:
            return ranking
        limit *= 4


def fuse_all(rankings: list[tuple[float, Ranking]], depth: int) -> Ranking:
    """`fuse` of several rankings, each with its share: the first `depth` documents of all, by all scores.

    A document that a ranking does not hold has a score of 0 there. The passage comes from the first that holds it.
    """
    first = dict.fromkeys(doc for _, found in rankings for doc in islice(found, depth))
    total = np.zeros(len(first), np.float64)
    for share, found in rankings:
        total += share * standardised([found[doc][0] if doc in found else 0.0 for doc in first])
    scores = dict(zip(first, total.tolist(), strict=True))
    passages = {doc: passage for _, found in reversed(rankings) for doc, (_, passage) in found.items()}
    return {doc: (scores[doc], passages[doc]) for doc in sorted(first, key=lambda doc: (-scores[doc], doc))}


def standardised(values: list[float]) -> NDArray[np.float64]:
    """Each value as so many standard deviations over the mean."""
    array = np.array(values, np.float64)
    spread = array.std() if len(array) else 0.0
    return (array - array.mean()) / spread if spread > 1e-9 else np.zeros(len(array))
