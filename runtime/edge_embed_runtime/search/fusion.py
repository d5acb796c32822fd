"""Rankings of several retrievers fused into one."""

from collections.abc import Container, Iterable, Mapping
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.search.query import Question, Ranking, Retriever

# Of the share of all vectors, the part of the sparse ones where there are dense ones too: chosen on Cranfield with a
# small model.
SPARSE_SHARE = 0.35


def best_passages(found: Iterable[tuple[int, int, float]]) -> Ranking:
    """(document, passage, score), best first -> each document once, with its best passage.

    [(1, 10, .9), (2, 20, .8), (1, 11, .7)] -> {1: (.9, 10), 2: (.8, 20)}
    """
    ranking: Ranking = {}
    for doc, passage, score in found:
        ranking.setdefault(doc, (score, passage))
    return ranking


def fuse_found(question: Question, retrievers: Mapping[str, Retriever]) -> Ranking:
    """What the retrievers found, as one ranking: fused in mode "hybrid", else the one that the mode is about."""
    found, words = question.found, question.found.get("text", {})
    if "multi" in found:
        parts = {"multi": found["multi"]}
    else:
        parts = {name: found[name] for name in ("vector", "sparse") if name == "vector" in found or found.get(name)}
    if question.mode != "hybrid" or not parts or not (words or "sparse" in parts):
        return found["multi"] if "multi" in found else next(filter(None, found.values()), {})
    passages = {
        doc: passage
        for ranking in (words, *reversed(parts.values()))  # the first that holds a document decides
        for doc, (_, passage) in islice(ranking.items(), question.depth)
    }
    parts = {name: retrievers[name].complete(question, ranking, passages) for name, ranking in parts.items()}
    shares = {"vector": 1 - SPARSE_SHARE, "sparse": SPARSE_SHARE} if len(parts) == 2 else dict.fromkeys(parts, 1.0)
    rest = 1 - question.query.text_share if words else 1.0
    rankings = [(rest * shares[name], ranking) for name, ranking in parts.items()]
    if words:
        rankings.append((question.query.text_share, words))
    # a document without a cosine is damaged, and no other vectors say anything of it
    return fuse(rankings, question.depth, parts["vector"] if [*parts] == ["vector"] else None) or words


def fuse(rankings: list[tuple[float, Ranking]], depth: int, among: Container[int] | None = None) -> Ranking:
    """Rankings, each with its share, as one: the first `depth` documents of each, by all scores.

    Each score counts as its distance from the mean in standard deviations, so no scale matters: neither how near to
    each other a model's cosines lie, nor how many words a query has. A document that a ranking does not hold has a
    score of 0 there. The passage comes from the first ranking that holds it.

    among: the documents that may be found, None for all
    """
    first = dict.fromkeys(doc for _, found in rankings for doc in islice(found, depth) if among is None or doc in among)
    total = np.zeros(len(first), np.float64)
    for share, found in rankings:
        total += share * standardised([found[doc][0] if doc in found else 0.0 for doc in first])
    scores = dict(zip(first, total.tolist(), strict=True))
    best = sorted(first, key=lambda doc: (-scores[doc], doc))
    return {doc: (scores[doc], next(found[doc][1] for _, found in rankings if doc in found)) for doc in best}


def standardised(values: list[float]) -> NDArray[np.float64]:
    """Each value as its distance from the mean in standard deviations."""
    array = np.array(values, np.float64)
    spread = array.std() if len(array) else 0.0
    return (array - array.mean()) / spread if spread > 1e-9 else np.zeros(len(array))
