"""Search in two steps: binary codes in memory propose passages, int8 codes from the file score them; words beside."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np

from edge_embed_runtime.checks import check_count, check_text
from edge_embed_runtime.codes import BinaryCodes, Ids, binarize, score_int8
from edge_embed_runtime.documents import Hit, Hits
from edge_embed_runtime.embedder import Embedder
from edge_embed_runtime.errors import FilterError, InputError
from edge_embed_runtime.filters import EVERY, Condition, compile_where, has_field, named_fields
from edge_embed_runtime.store import Store
from edge_embed_runtime.textquery import match_expression

Mode = Literal["hybrid", "vector", "text"]

# Passages that binary codes propose for int8 rescoring: with 200, 97.5 % (SciFact) to 99.7 % (XQuAD) of the ten nearest
# by float vectors are found; with 100, 94.3 % to 99.4 %.
CANDIDATES = 200
CANDIDATES_PER_HIT = 20
# Reciprocal-rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): score = sum of 1 / (RRF + rank) over the first
# documents of each list.
RRF = 60
FUSION_DEPTH = 100
# More hits than any index has passages; keeps what is asked of SQLite in its range.
MAX_HITS = 2**40

# document id -> (score, passage id), best first
Ranking = dict[int, tuple[float, int]]


class Searcher:
    """Searches one store. Keeps the binary codes in memory and follows the commits of whoever writes."""

    def __init__(self, store: Store, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder
        self._codes: BinaryCodes | None = None
        # counters in `meta` that the codes in memory stand for
        self._generation = self._deletions = -1
        self.damaged: set[int] = set()

    def release(self) -> None:
        self._codes = None

    def reset(self) -> None:
        """Start anew from the file."""
        self._codes = None
        self.damaged.clear()

    def forget(self, passages: Ids) -> None:
        """The writer's own deletes, so that they need no reload of everything."""
        self.damaged.difference_update(passages.tolist())
        if self._codes is not None and len(passages):
            self._codes.remove(passages)
            self._deletions += 1

    def search(self, query: str, k: int, where: Mapping[str, Any] | None, mode: Mode) -> Hits:
        check_text(query, "the query")
        if not query.strip():
            raise InputError("the query is empty")
        k = min(check_count(k, "k", 1), MAX_HITS)
        if mode not in get_args(Mode):
            raise InputError(f"mode is {mode!r}, expected one of {get_args(Mode)}")
        condition = None if where is None else compile_where(where)
        depth = k if mode != "hybrid" else max(k, FUSION_DEPTH)
        with self._store.snapshot():
            self._check_fields(where, condition)
            rankings = []
            if mode != "text":
                rankings.append(self._by_vector(query, depth, condition))
            if mode != "vector":
                rankings.append(self._by_text(query, depth, condition))
            ranking = rankings[0] if len(rankings) == 1 else fuse(rankings, depth)
            hits = self._hits(ranking, k, condition or EVERY)
            return Hits(hits, None if len(hits) == k else self._shortfall(len(hits), where, mode))

    def _check_fields(self, where: Mapping[str, Any] | None, condition: Condition | None) -> None:
        """A field that no document has is a typing error more often than a question; so it is one here."""
        if where is None or condition is None or self._store.any_document(condition) or not self._store.any_document():
            return
        for field in named_fields(where):
            if not self._store.any_document(has_field(field)):
                known = ", ".join(self._store.fields()) or "none"
                raise FilterError(f"where: no document has the field {field!r}; fields: {known}")

    def _loaded(self) -> BinaryCodes:
        """The codes of what is committed now. Runs inside a snapshot."""
        meta = self._store.meta()
        generation, deletions = int(meta["generation"]), int(meta["deletions"])
        if self._codes is None or deletions != self._deletions:
            self._codes = BinaryCodes(self._embedder.dim)
        elif generation == self._generation:
            return self._codes
        last = int(self._codes.ids[-1]) if len(self._codes) else 0
        for new in self._store.all_passages(self._embedder.dim, after=last):
            self._codes.append(new.ids, binarize(new.codes))
            self.damaged.update(new.damaged)
        self._generation, self._deletions = generation, deletions
        return self._codes

    def _by_vector(self, query: str, count: int, condition: Condition | None) -> Ranking:
        codes = self._loaded()
        allowed = None if condition is None else self._store.allowed(condition)
        vector = self._embedder.encode_query([query])[0]
        (words,) = binarize(vector[None, :])
        proposed = max(CANDIDATES, CANDIDATES_PER_HIT * count)
        while True:
            ids = codes.nearest(words, proposed, allowed)
            found = self._store.passages(self._embedder.dim, ids)
            self.damaged.update(found.damaged)
            scores = score_int8(found.codes, found.scales, vector)
            order = np.lexsort((found.ids, -scores))
            ranking = best_passages((int(found.docs[i]), int(found.ids[i]), float(scores[i])) for i in order)
            if len(ranking) >= count or len(ids) < proposed:
                return ranking
            proposed *= 4  # long documents: many passages of few documents

    def _by_text(self, query: str, count: int, condition: Condition | None) -> Ranking:
        expression = match_expression(query)
        if expression is None:
            return {}
        limit = CANDIDATES_PER_HIT * count
        while True:
            rows = self._store.match(expression, limit, condition)
            ranking = best_passages((doc, passage, score) for passage, doc, score in rows)
            if len(ranking) >= count or len(rows) < limit:
                return ranking
            limit *= 4

    def _hits(self, ranking: Ranking, k: int, condition: Condition) -> list[Hit]:
        """Texts and metadata for the best k whose rows are whole; a damaged look-up table lets nothing else in."""
        hits: list[Hit] = []
        pending = list(ranking.items())
        while pending and len(hits) < k:
            chosen, pending = pending[: k - len(hits)], pending[k - len(hits) :]
            documents = self._store.documents((doc for doc, _ in chosen), condition)
            passages = self._store.spans(passage for _, (_, passage) in chosen)
            for doc, (score, passage) in chosen:
                document, span = documents.get(doc), passages.get(passage)
                if document is None or span is None:
                    self.damaged.add(passage)
                    continue
                start, end = span
                hits.append(Hit(document.key, score, document.text[start:end], document.metadata, start, end))
        return hits

    def _shortfall(self, found: int, where: Mapping[str, Any] | None, mode: Mode) -> str:
        if not self._store.any_document():
            return "the index is empty"
        one = found == 1
        conditions = []
        if mode == "text":
            conditions.append("holds a word of the query" if one else "hold a word of the query")
        if where is not None:
            conditions.append("fits `where`" if one else "fit `where`")
        what = " and ".join(conditions) or ("is in the index" if one else "are in the index")
        reason = f"only {found} document{'' if one else 's'} {what}"
        if self.damaged:
            reason += f"; {len(self.damaged)} damaged passages were left out"
        return reason


def best_passages(found: Iterable[tuple[int, int, float]]) -> Ranking:
    """(document, passage, score), best first -> each document once, with its best passage.

    [(1, 10, .9), (2, 20, .8), (1, 11, .7)] -> {1: (.9, 10), 2: (.8, 20)}
    """
    ranking: Ranking = {}
    for doc, passage, score in found:
        ranking.setdefault(doc, (score, passage))
    return ranking


def fuse(rankings: Iterable[Ranking], depth: int) -> Ranking:
    """Reciprocal-rank fusion of the first `depth` of each list. A passage comes from the first list that has one."""
    scores: dict[int, float] = {}
    passages: dict[int, int] = {}
    for ranking in rankings:
        for rank, (doc, (_, passage)) in enumerate(list(ranking.items())[:depth], start=1):
            scores[doc] = scores.get(doc, 0.0) + 1 / (RRF + rank)
            passages.setdefault(doc, passage)
    best = sorted(scores, key=lambda doc: (-scores[doc], doc))
    return {doc: (scores[doc], passages[doc]) for doc in best}
