"""Documents by vectors of tokens (MaxSim): all of few, else those that the other retrievers find."""

from itertools import islice

import numpy as np

from edge_embed_runtime.search.fusion import best_passages
from edge_embed_runtime.search.query import RANKED_BYTES, SPARE, Question, Ranking, Retriever
from edge_embed_runtime.storage.filters import EVERY
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Room
from edge_embed_runtime.vectors.maxsim import maxsim_all, unpack
from edge_embed_runtime.vectors.types import Ids, Vectors

# Up to this number of passages all are compared; of more, those of the documents that the other retrievers find.
ALL_COMPARED = 1000
# Passages whose vectors of tokens are in memory at once: 20 MB. For a memory budget, what one takes; and how many that
# were compared are remembered at the least.
COMPARED = 128
COMPARED_BYTES, KEPT_ROWS = 400_000, 8192

Row = tuple[int, int, float]  # document, passage, score


class Multi(Retriever):
    """Compares vectors of tokens, which are read from the file for each question."""

    def __init__(self, store: Store, room: Room | None, damaged: set[int]) -> None:
        self._store, self._room, self._damaged = store, room, damaged

    def cost(self, question: Question, passages: int) -> int:
        return 24 * passages + RANKED_BYTES * min(passages, _kept(question)) + 2 * COMPARED_BYTES

    def rank(self, question: Question) -> Ranking:
        vectors = question.query.multi
        assert vectors is not None  # noqa: S101 - or this would not be asked
        allowed = self._allowed(question)
        rows: list[Row] = []
        step = COMPARED if self._room is None else min(COMPARED, self._room.rows(COMPARED_BYTES))
        for start in range(0, len(allowed), step):
            rows += self._scored(vectors, allowed[start : start + step])
            if len(rows) > _kept(question):
                ranking = islice(_ranked(rows).items(), question.depth + SPARE)
                rows = [(doc, passage, score) for doc, (score, passage) in ranking]
        return _ranked(rows)

    def _allowed(self, question: Question) -> Ids:
        """Ids of the passages to compare, ascending."""
        fits, values = question.condition or EVERY
        allowed = self._store.allowed((f"vec.start >= 0 AND {fits}", values))  # pictures and sounds have no tokens
        others = question.query.vector is not None or question.query.sparse is not None
        if others and len(allowed) > ALL_COMPARED:
            first = {
                passage
                for ranking in question.found.values()
                for _, passage in islice(ranking.values(), question.depth)
            }
            return np.array(sorted(first), np.int64)
        return np.sort(allowed)

    def _scored(self, vectors: Vectors, ids: Ids) -> list[Row]:
        table, passages = self._store.attached["multi"], self._store.passages(ids)
        codes = table.rows(passages.ids.tolist())
        self._damaged.update(passages.damaged, set(passages.ids.tolist()) - codes.keys())
        if not codes:
            return []
        scores = maxsim_all(vectors, *unpack(list(codes.values()), table.dim))
        docs = dict(zip(passages.ids.tolist(), passages.docs.tolist(), strict=True))
        return [(docs[id_], id_, score) for id_, score in zip(codes, scores.tolist(), strict=True)]


def _kept(question: Question) -> int:
    """Largest number of scores that are remembered, besides those of the passages in memory."""
    return max(KEPT_ROWS, 8 * (question.depth + SPARE))


def _ranked(rows: list[Row]) -> Ranking:
    return best_passages(sorted(rows, key=lambda row: (-row[2], row[1])))
