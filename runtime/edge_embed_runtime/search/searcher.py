"""Search: rankings by vectors of each kind and by words, alone or fused into one, and what they hold as hits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.checks import SHOWN_CHARACTERS, listed, shown
from edge_embed_runtime.errors import BundleMismatchError, FilterError
from edge_embed_runtime.search.coverage import sample_bytes
from edge_embed_runtime.search.dense import Nearest, first_sizes
from edge_embed_runtime.search.fusion import PASSAGES_PER_HIT, Ranking, best_passages, documents, fuse_all, standardised
from edge_embed_runtime.search.hits import HIT_BYTES, Reader
from edge_embed_runtime.search.hnsw import Cache
from edge_embed_runtime.search.streamed import StreamedCodes
from edge_embed_runtime.search.textquery import Ranked, phrases, split_query
from edge_embed_runtime.storage.documents import Hits
from edge_embed_runtime.storage.filters import EVERY, Condition, compile_where, has_field, named_fields
from edge_embed_runtime.storage.rows import Removed
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import SEARCH_BYTES, Room
from edge_embed_runtime.vectors.int8 import BinaryCodes, Ids, Vectors, score_int8

if TYPE_CHECKING:  # most indexes have neither
    from edge_embed_runtime.embed.sparse import SparseVector
    from edge_embed_runtime.search.postings import Postings

Mode = Literal["hybrid", "vector", "text", "sparse", "multi"]

# Hybrid search scores the first so many documents by cosine and of those by BM25 alike, by both: what share BM25 has.
# Chosen on SciFact and CoSQA, confirmed on Cranfield and XQuAD.
FUSION_DEPTH = 100
TEXT_SHARE = 0.375
# The same for static bundles, whose cosines say less: 0.6 to 0.9 beat words alone on CoSQA, XQuAD and Cranfield, 0.7 to
# 0.9 on SciFact. All four were looked at.
STATIC_TEXT_SHARE = 0.75
# What share sparse vectors have of what is not BM25's, beside dense ones: chosen on Cranfield with a small model.
SPARSE_SHARE = 0.35
# Vectors of tokens of so many passages are all compared; of more, those of the documents that the others find.
ALL_COMPARED = 1000
# Passages whose vectors of tokens are in memory at once: 20 MB. For a memory budget, what one takes; and how many that
# were compared are remembered at the least.
COMPARED = 128
COMPARED_BYTES, KEPT_ROWS = 400_000, 8192
# Documents more than asked for that words are to find: damaged ones give way to them.
SPARE = 10
# For a memory budget, bytes: of a candidate besides its codes, and of a document in a ranking.
SCORED_BYTES, RANKED_BYTES = 200, 320
# More hits than any index has passages; keeps what is asked of SQLite in its range.
MAX_HITS = 2**40


@dataclass(frozen=True)
class Query:
    """What is searched for: words, a vector of length 1 [dim], weights of tokens, vectors of tokens [n, dim], and what
    share the words have beside others."""

    text: str | None
    vector: Vectors | None
    sparse: "SparseVector | None" = None
    multi: Vectors | None = None
    text_share: float = TEXT_SHARE


class Searcher:
    """Searches one store. Keeps the binary codes in memory and follows the commits of whoever writes."""

    def __init__(self, store: Store, room: Room | None = None) -> None:
        self._store = store
        self._room = room
        self._made_with = (store.facts.fingerprint, store.facts.dim)
        self._codes: BinaryCodes | StreamedCodes | None = None
        # counters in `meta` that the codes in memory stand for
        self._generation = self._deletions = -1
        self.graph = Cache()
        self._postings: Postings | None = None
        self.damaged: set[int] = set()
        self._nearest = Nearest(store, self.graph, self.damaged)

    def release(self) -> None:
        self._codes = None
        self._nearest.release()
        self._postings = None
        self.graph.release()
        if self._room is not None:
            self._room.hold("codes", 0)
            self._room.hold("sparse", 0)

    def reset(self) -> None:
        """Start anew from the file."""
        self.release()
        self.damaged.clear()

    def forget(self, removed: Removed) -> None:
        """Deletes of this process, so that they need no reload of everything."""
        self.damaged.difference_update(removed.passages.tolist())
        self._nearest.forget(len(removed.passages))
        if self._postings is not None:
            self._postings.forget(removed.passages, removed.deletions)
        if isinstance(self._codes, BinaryCodes) and self._deletions == removed.deletions - 1:
            self._deletions = -1  # where an interrupt leaves half of it, all codes are read again
            self._codes.remove(removed.passages)
            self._deletions = removed.deletions

    def search(self, query: Query, k: int, where: Mapping[str, Any] | None, mode: Mode, recall: float) -> Hits:
        """`Index.search`, its arguments checked; the query has what the mode asks for."""
        condition = None if where is None else compile_where(where, self._store.facts.fields)
        depth = max(k, FUSION_DEPTH) if mode in ("hybrid", "multi") else k
        with self._store.snapshot(), self._reserved(query, k, condition, mode):
            self._check_fields(where, condition)
            by_vector: Ranking = {}
            by_text: Ranking = {}
            by_sparse: Ranking = {}
            if mode in ("text", "hybrid", "multi") and query.text is not None:
                by_text = self._by_text(query.text, depth, condition)
            if mode in ("vector", "hybrid", "multi") and query.vector is not None:
                by_vector = self._by_vector(query.vector, depth, condition, recall)
            if mode in ("sparse", "hybrid", "multi") and query.sparse is not None:
                by_sparse = self._by_sparse(query.sparse, depth, condition)
            if query.multi is not None:
                ranking = self._by_multi(query, query.multi, [by_vector, by_sparse, by_text], depth, condition)
                if mode == "hybrid" and by_text:
                    ranking = fuse_all([(1 - query.text_share, ranking), (query.text_share, by_text)], depth)
            elif by_sparse and mode == "hybrid":
                ranking = self._fused(query, by_vector, by_text, by_sparse, depth)
            else:
                if mode == "hybrid" and by_text and query.vector is not None:
                    by_vector = self._with_cosines(by_vector, by_text, query.vector, depth)
                    by_vector = fuse(by_vector, by_text, depth, query.text_share)
                ranking = by_vector or by_sparse or by_text
            hits = Reader(self._store, self._room, self.damaged).hits(ranking, k, condition or EVERY)
            return Hits(hits, None if len(hits) == k else self._shortfall(len(hits), where, mode))

    @contextmanager
    def _reserved(self, query: Query, k: int, condition: Condition | None, mode: Mode) -> Iterator[None]:
        """Memory for a search, where there is a budget. Runs inside a snapshot."""
        if self._room is None:
            yield
            return
        if query.vector is not None and mode in ("vector", "hybrid", "multi"):
            self._loaded()
        if query.sparse is not None and mode in ("sparse", "hybrid", "multi"):
            self._followed()
        documents, passages = self._store.counts()
        cost, k = partial(self._cost, query, mode, condition, passages), min(k, documents)
        if condition is not None and cost(k) > self._room.left():  # to count takes as long as to search
            cost = partial(self._cost, query, mode, condition, self._store.count_allowed(condition))
        with self._room.for_hits(k, cost):
            yield

    def _cost(self, query: Query, mode: Mode, condition: Condition | None, passages: int, k: int) -> int:
        """Bytes that a search among so many passages takes for k documents, at most, besides texts and metadata."""
        depth = max(k, FUSION_DEPTH) if mode in ("hybrid", "multi") else k
        cost = 5 << 20
        if mode in ("text", "hybrid", "multi") and query.text is not None:
            cost += RANKED_BYTES * min(passages, PASSAGES_PER_HIT * (depth + SPARE))
        if mode in ("vector", "hybrid", "multi") and query.vector is not None:
            _, pool = first_sizes(depth, passages)
            cost += min(passages, pool) * self._pool_bytes() + 14 * passages + sample_bytes(self._store.dim)
        if mode in ("sparse", "hybrid", "multi") and query.sparse is not None:
            cost += 40 * passages + RANKED_BYTES * min(passages, PASSAGES_PER_HIT * (depth + SPARE))
        if query.multi is not None:
            cost += (
                24 * passages + RANKED_BYTES * min(passages, max(KEPT_ROWS, 8 * (depth + SPARE))) + 2 * COMPARED_BYTES
            )
        if condition is not None and mode != "text":
            cost += 48 * passages
        return cost + RANKED_BYTES * depth + HIT_BYTES * k

    def _pool_bytes(self) -> int:
        """Of a candidate: its binary code, twice, its int8 code, and what is known of it."""
        return 16 * -(-self._store.dim // 64) + self._store.dim + SCORED_BYTES

    def _check_fields(self, where: Mapping[str, Any] | None, condition: Condition | None) -> None:
        """A field that no document has is a typing error more often than a question; so it is one here."""
        if where is None or condition is None or self._store.any_document(condition) or not self._store.any_document():
            return
        for field in named_fields(where):
            if not self._store.any_document(has_field(field)):
                known = self._store.fields()
                near = sorted(known, key=lambda name: -alike(field, name))
                raise FilterError(
                    f"where: no document has the field {shown(field)}; fields: {listed(near)}", field=field
                )

    def _loaded(self) -> BinaryCodes | StreamedCodes:
        """The codes of what is committed now. Runs inside a snapshot."""
        generation, deletions = self._store.counters()
        if (self._store.facts.fingerprint, self._store.facts.dim) != self._made_with:
            raise BundleMismatchError(
                f"{self._store.path} was embedded again with the bundle {self._store.facts.bundle!r} while it was "
                "open: open it again, with that bundle",
                path=self._store.path,
                bundle=self._store.facts.bundle,
            )
        if self._codes is not None and (generation, deletions) == (self._generation, self._deletions):
            return self._codes
        if not isinstance(self._codes, BinaryCodes) or self._room is not None or deletions != self._deletions:
            self.release()  # let go of the old ones before the new ones need their memory
            count = self._store.blocks.count()
            if self._room is not None and not self._room.for_codes(count, self._store.dim):
                self._room.hold("codes", 8 * count + SEARCH_BYTES)
                self._codes = StreamedCodes(self._store.blocks)
                self._generation, self._deletions = generation, deletions
                return self._codes
            self._codes = BinaryCodes(self._store.dim, capacity=count)
            if self._room is not None:
                self._room.hold("codes", (8 + 8 * -(-self._store.dim // 64)) * count + SEARCH_BYTES)
        codes: BinaryCodes = self._codes
        self._generation = self._deletions = -1  # as in `forget`
        last = int(codes.ids[-1]) if len(codes) else 0
        for ids, words in self._store.blocks.load(after=last):
            codes.append(ids, words)
        if self._room is None:  # a graph takes several times what codes do
            self.graph.follow(self._store, codes)
        self._generation, self._deletions = generation, deletions
        return codes

    def _by_vector(self, vector: Vectors, count: int, condition: Condition | None, recall: float) -> Ranking:
        codes = self._loaded()
        allowed = None if condition is None else self._store.allowed(condition)
        most = None if self._room is None else self._room.rows(self._pool_bytes())
        return self._nearest.documents(codes, vector, count, allowed, recall, most)

    def _by_text(self, query: str, count: int, condition: Condition | None) -> Ranking:
        """Documents by the best BM25 of their passages: the first `count`, and others."""
        count += SPARE
        self._store.counters()  # the facts of what is committed now
        words, kind = split_query(query, self._store.facts.normal), self._store.facts.words
        asked = phrases(words, kind)
        if words and not asked:
            return documents(partial(self._store.words.holding, words, condition), count)
        found, passages = self._store.words.frequencies(asked)
        if not found:
            return {}
        ranked = Ranked(found, passages)
        needed = ranked.needed()
        while True:
            expression, times = ranked.expression(needed)
            ranking = documents(partial(self._store.words.match, expression, condition), count, times)
            if needed == len(found):
                return ranking
            if len(ranking) < count:
                needed = min(2 * needed, len(found))
                continue
            least = next(islice(ranking.values(), count - 1, None))[0]
            if ranked.needed(least) <= needed:
                return ranking
            needed = ranked.needed(least)

    def _by_sparse(self, query: "SparseVector", count: int, condition: Condition | None) -> Ranking:
        """Documents by the largest dot product of their passages: the first `count`, and others."""
        ids, scores = self._sparse_scores(query)
        if condition is not None:
            scores = np.where(np.isin(ids, self._store.allowed(condition)), scores, 0)
        found = np.flatnonzero(scores > 0)
        wanted = PASSAGES_PER_HIT * (count + SPARE)
        while True:
            chosen = first_by_score(ids, scores, found, wanted)
            passages = self._store.passages(np.sort(ids[chosen]))
            self.damaged.update(passages.damaged)
            docs = dict(zip(passages.ids.tolist(), passages.docs.tolist(), strict=True))
            rows = zip(ids[chosen].tolist(), scores[chosen].tolist(), strict=True)
            ranking = best_passages((docs[id_], id_, score) for id_, score in rows if id_ in docs)
            if len(ranking) >= count or wanted >= len(found):
                return ranking
            wanted *= 4

    def _sparse_scores(self, query: "SparseVector") -> tuple[Ids, Vectors]:
        """Ids of all passages, and their scores. Runs inside a snapshot."""
        return self._followed().scores(query)

    def _followed(self) -> "Postings":
        """The sparse vectors of what is committed now. Runs inside a snapshot."""
        if self._postings is None:
            if self._room is not None:
                size = self._store.attached["sparse"].size()
                self._room.for_postings(size)
                self._room.hold("sparse", 2 * size)
            from edge_embed_runtime.search.postings import Postings

            self._postings = Postings(self._store)
        self._postings.follow(self.damaged)
        return self._postings

    def _fused(self, query: Query, by_vector: Ranking, by_text: Ranking, by_sparse: Ranking, depth: int) -> Ranking:
        """Rankings by sparse vectors, by words, and where there are any by dense vectors, as one."""
        lists = [ranking for ranking in (by_vector, by_sparse, by_text) if ranking]
        passages = {doc: passage for found in reversed(lists) for doc, (_, passage) in islice(found.items(), depth)}
        from edge_embed_runtime.embed.sparse import SparseVector

        ids, scores = self._sparse_scores(query.sparse or SparseVector(np.empty(0, np.int32), np.empty(0, np.float32)))
        others = {doc: passage for doc, passage in passages.items() if doc not in by_sparse}
        places = np.searchsorted(ids, list(others.values()))
        known = [(doc, p, i) for (doc, p), i in zip(others.items(), places.tolist(), strict=True) if i < len(ids)]
        by_sparse = by_sparse | {doc: (float(scores[i]), p) for doc, p, i in known if ids[i] == p}
        shares = [(1.0, by_sparse)]
        if query.vector is not None:
            found = {doc: (0.0, passage) for doc, passage in passages.items()}
            by_vector = self._with_cosines(by_vector, found, query.vector, len(found))
            shares = [(1 - SPARSE_SHARE, by_vector), (SPARSE_SHARE, by_sparse)]
        if not by_text:
            return fuse_all(shares, depth)
        rest = 1 - query.text_share
        return fuse_all([*((rest * share, found) for share, found in shares), (query.text_share, by_text)], depth)

    def _by_multi(
        self, query: Query, vectors: Vectors, rankings: list[Ranking], depth: int, condition: Condition | None
    ) -> Ranking:
        """Documents by MaxSim: all of few, else those that are among the first by something else."""
        only = query.vector is None and query.sparse is None
        table = self._store.attached["multi"]
        allowed = self._store.allowed(condition or EVERY)
        if not only and len(allowed) > ALL_COMPARED:
            allowed = np.array(sorted({p for found in rankings for _, p in islice(found.values(), depth)}), np.int64)
        allowed.sort()
        rows: list[tuple[int, int, float]] = []
        step = COMPARED if self._room is None else min(COMPARED, self._room.rows(COMPARED_BYTES))
        for start in range(0, len(allowed), step):
            passages = self._store.passages(allowed[start : start + step])
            codes = table.rows(passages.ids.tolist())
            self.damaged.update(passages.damaged, set(passages.ids.tolist()) - codes.keys())
            if codes:
                from edge_embed_runtime.embed.multi import maxsim_all
                from edge_embed_runtime.storage.sidetables import unpack_multi

                scores = maxsim_all(vectors, *unpack_multi(list(codes.values()), table.dim))
                docs = dict(zip(passages.ids.tolist(), passages.docs.tolist(), strict=True))
                rows += ((docs[id_], id_, score) for id_, score in zip(codes, scores.tolist(), strict=True))
            if len(rows) > max(KEPT_ROWS, 8 * (depth + SPARE)):
                rows = _best_documents(rows, depth + SPARE)
        return best_passages(sorted(rows, key=lambda row: (-row[2], row[1])))

    def _with_cosines(self, by_vector: Ranking, by_text: Ranking, vector: Vectors, depth: int) -> Ranking:
        """A ranking by cosine with the first `depth` documents of one by words added, those not among them."""
        others = [passage for doc, (_, passage) in islice(by_text.items(), depth) if doc not in by_vector]
        found = self._store.passages(np.array(others, np.int64))
        self.damaged.update(found.damaged)
        scores = score_int8(found.codes, found.scales, vector)
        rows = zip(found.docs.tolist(), found.ids.tolist(), scores.tolist(), strict=True)
        return by_vector | best_passages((doc, passage, score) for doc, passage, score in rows)

    def _shortfall(self, found: int, where: Mapping[str, Any] | None, mode: Mode) -> str:
        if not self._store.any_document():
            return "the index is empty"
        one = found == 1
        conditions = []
        if mode == "text":
            conditions.append("holds a word of the query" if one else "hold a word of the query")
        if mode == "sparse":
            conditions.append("shares a token with the query" if one else "share a token with the query")
        if where is not None:
            conditions.append("fits `where`" if one else "fit `where`")
        what = " and ".join(conditions) or ("is in the index" if one else "are in the index")
        reason = f"only {found} document{'' if one else 's'} {what}"
        if self.damaged:
            reason += f"; {len(self.damaged)} damaged passages were left out"
        return reason


def _best_documents(rows: list[tuple[int, int, float]], count: int) -> list[tuple[int, int, float]]:
    """The best passage (document, passage, score) of each of the `count` best documents."""
    ranking = best_passages(sorted(rows, key=lambda row: (-row[2], row[1])))
    return [(doc, passage, score) for doc, (score, passage) in islice(ranking.items(), count)]


def first_by_score(ids: Ids, scores: Vectors, places: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """The `count` of some places with the highest scores, of equal ones those with the lowest ids, in this order."""
    if count < len(places):
        limit = np.partition(scores[places], len(places) - count)[len(places) - count]
        places = places[scores[places] >= limit]
    return places[np.lexsort((ids[places], -scores[places]))][:count]


def alike(one: str, other: str) -> float:
    """How near two names of fields are to each other, from 0 to 1."""
    from difflib import SequenceMatcher  # for a message

    first, second = (name[:SHOWN_CHARACTERS].casefold() for name in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def fuse(by_vector: Ranking, by_text: Ranking, depth: int, text_share: float = TEXT_SHARE) -> Ranking:
    """The first `depth` documents of both lists by both scores, each as so many standard deviations over its mean.

    by_vector: holds the first `depth` of by_text too; the passages come from here
    by_text:   what it does not hold has a score of 0

    So no scale matters: neither how near to each other a model's cosines lie, nor how many words a query has.
    """
    first = dict.fromkeys([*islice(by_vector, depth), *(doc for doc in islice(by_text, depth) if doc in by_vector)])
    cosines = standardised([by_vector[doc][0] for doc in first])
    words = standardised([by_text[doc][0] if doc in by_text else 0.0 for doc in first])
    scores = dict(zip(first, ((1 - text_share) * cosines + text_share * words).tolist(), strict=True))
    best = sorted(first, key=lambda doc: (-scores[doc], doc))
    return {doc: (scores[doc], by_vector[doc][1]) for doc in best}
