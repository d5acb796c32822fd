"""Rows of different kinds, passages of text, pictures and sounds, are ranked each by itself, and the rankings fused by
ranks: the vectors of one model's pictures lie together, further from any text than texts from each other, so that their
cosines do not compare.

A document has the best rank that it has in any kind, and the score 1 / (60 + rank): of several documents with one rank
those come first that have a better rank in another kind, too; then those of the query's own kind. Weak hits, those in
the lower half between their kind's best score and its hundredth, count as twice as far down: a kind that has one good
hit does not take as many places as one that has ten. A query of several
parts, such as a text and a picture, ranks each kind once for each part; there the scores of a document add up
(reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009).
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from edge_embed_runtime.search.query import FUSION_DEPTH, Question, Ranking
from edge_embed_runtime.storage.media import MEDIA_KINDS, Kind
from edge_embed_runtime.storage.rows import MEDIA_STARTS
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.types import Ids, Places

# Added to ranks: of reciprocal rank fusion, as its authors chose it.
RANK = 60
# What the ranks of weak hits are multiplied by.
WEAK = 2
NONE: Ids = np.empty(0, np.int64)


class Kinds:
    """Which rows of one store are those of pictures and sounds: follows the codes that are in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ids: dict[str, Ids] = {}
        self._places: dict[str, Places] = {}
        self._words = False

    def remove(self, ids: Ids) -> None:
        """Rows were deleted."""
        self._places = {}
        self._ids = {kind: known[~np.isin(known, ids)] for kind, known in self._ids.items()}

    def follow(self) -> None:
        """Read the rows that came since the last time. Runs inside a snapshot."""
        self._places = {}
        self._words = self._store.words.any()  # texts may have words and no vectors
        for kind in MEDIA_KINDS:
            known = self._ids.get(kind, NONE)
            query = "SELECT id FROM vec INDEXED BY media_rows WHERE start < 0 AND start = ? AND id > ? ORDER BY id"
            rows = self._store.connection.execute(query, (MEDIA_STARTS[kind], int(known[-1]) if len(known) else 0))
            new = np.fromiter((id_ for (id_,) in rows), np.int64)
            self._ids[kind] = np.concatenate([known, new]) if len(new) else known

    def present(self, ids: Ids) -> list[Kind]:
        """The kinds of rows with ids [n], ascending; "text" also where there are words alone."""
        kinds: list[Kind] = ["text", *MEDIA_KINDS]
        return [kind for kind in kinds if len(self.places(ids, kind)) or (kind == "text" and self._words)]

    def places(self, ids: Ids, kind: Kind) -> Places:
        """Where in all ids [n], ascending, those of a kind are."""
        if not self._places:
            text = np.ones(len(ids), np.bool_)
            for name, own in self._ids.items():
                self._places[name] = np.flatnonzero(np.isin(ids, own, assume_unique=True))
                text[self._places[name]] = False
            self._places["text"] = np.flatnonzero(text)
        return self._places[kind]


def lanes(question: Question, present: Sequence[Kind]) -> list[list[Question]]:
    """A question about rows of several kinds, as questions that are ranked each by itself: for each kind one for each
    part of the query. present: the kinds of the index"""
    query = question.query
    asked = [kind for kind in present if question.kind in (None, kind)]
    asked.sort(key=lambda kind: kind != query.kind)
    parts = [vector for vector in (query.vector, *query.others) if vector is not None]
    found = []
    depth = FUSION_DEPTH if len(asked) * len(parts) > 1 else 0
    for kind in asked:
        own = []
        for number, vector in enumerate(parts):
            whole = number == 0 and kind == "text"  # words, and other vectors, are those of texts
            part = replace(query, vector=vector, others=())
            if not whole:
                part = replace(part, text=None, sparse=None, multi=None)
            among = kind if len(present) > 1 else None
            mode = question.mode if whole else "vector"
            own.append(replace(question, query=part, mode=mode, kind=among, least_depth=depth, found={}))
        found.append(own)
    return found


def add_ranks(rankings: Sequence[Ranking]) -> Ranking:
    """Rankings for the parts of a query, of rows of one kind: reciprocal ranks are added up."""
    if len(rankings) == 1:
        return rankings[0]
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, doc in enumerate(islice(ranking, FUSION_DEPTH), start=1):
            scores[doc] = scores.get(doc, 0.0) + 1 / (RANK + rank)
    best = sorted(scores, key=lambda doc: (-scores[doc], doc))
    return {doc: (scores[doc], next(found[doc][1] for found in rankings if doc in found)) for doc in best}


def best_ranks(rankings: Sequence[Ranking], depth: int) -> Ranking:
    """Rankings of the kinds as one: a document by its best rank among the first `depth` of each, weak hits by twice
    their rank.

    [{1: (.9, 10), 2: (.3, 20)}, {2: (.9, 21), 3: (.8, 30), 4: (.1, 31)}]
    -> {2: (1 / 61, 21), 1: (1 / 61, 10), 3: (1 / 62, 30), 4: (1 / 66, 31)}
    """
    if len(rankings) == 1:
        return rankings[0]
    found: dict[int, tuple[int, int, int]] = {}  # the best rank, the next one, and in which ranking the best is
    for number, ranking in enumerate(rankings):
        strong = _strong(ranking)
        for rank, (doc, (score, _)) in enumerate(islice(ranking.items(), depth), start=1):
            counted = rank if score >= strong else WEAK * rank
            best, following, where = found.get(doc, (sys.maxsize, sys.maxsize, number))
            found[doc] = (counted, best, number) if counted < best else (best, min(counted, following), where)
    ordered = sorted(found.items(), key=lambda entry: (entry[1], entry[0]))
    return {doc: (1 / (RANK + rank), rankings[number][doc][1]) for doc, (rank, _, number) in ordered}


def _strong(ranking: Ranking) -> float:
    """The least score of a strong hit: halfway between the best and the last of the first FUSION_DEPTH."""
    scores = [score for score, _ in islice(ranking.values(), FUSION_DEPTH)]
    return (scores[0] + scores[-1]) / 2 if scores else 0.0
