"""Search: the retrievers that a question is for are asked, what they find is fused, and read as hits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from edge_embed_runtime.search.dense import Dense
from edge_embed_runtime.search.fusion import fuse_found
from edge_embed_runtime.search.hits import HIT_BYTES, Reader
from edge_embed_runtime.search.keywords import Keywords
from edge_embed_runtime.search.query import (
    FUSION_DEPTH,
    RANKED_BYTES,
    Mode,
    Query,
    Question,
    Ranking,
    Retriever,
    Wanted,
)
from edge_embed_runtime.storage.documents import Hits
from edge_embed_runtime.storage.fields import check_fields
from edge_embed_runtime.storage.filters import EVERY, Condition, compile_where
from edge_embed_runtime.storage.rows import Removed
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Room

# For a memory budget, bytes of any search; of a passage that fits a condition; of a number of a candidate's vector
# where diversity is looked for.
BASE_BYTES, ALLOWED_BYTES, DIVERSE_BYTES = 5 << 20, 48, 16


class Searcher:
    """Searches one store. Keeps the binary codes in memory and follows the commits of whoever writes.

    damaged: ids of passages that searches found damaged, or whose documents are
    """

    def __init__(self, store: Store, room: Room | None = None) -> None:
        self._store, self._room = store, room
        self.damaged: set[int] = set()
        self.dense = Dense(store, room, self.damaged, self.release)
        self._retrievers: dict[str, Retriever] = {"vector": self.dense, "text": Keywords(store)}

    def release(self) -> None:
        """Free what is held in memory."""
        for retriever in self._retrievers.values():
            retriever.release()

    def reset(self) -> None:
        """Start again from the file."""
        self.release()
        self.damaged.clear()

    def forget(self, removed: Removed) -> None:
        """Take what this process deleted out of memory, so that not everything has to be read again."""
        self.damaged.difference_update(removed.passages.tolist())
        for retriever in self._retrievers.values():
            retriever.forget(removed)

    def search(self, query: Query, mode: Mode, wanted: Wanted) -> Hits:
        """`Index.search`, its arguments checked; the query has what the mode asks for."""
        where = wanted.where
        condition = None if where is None else compile_where(where, self._store.facts.fields)
        with self._store.snapshot():
            question = self._question(query, mode, wanted, condition)
            with self._reserved(question):
                check_fields(self._store, where, condition)
                ranking = self._ordered(question, self._ranking(question))
                hits = Reader(self._store, self._room, self.damaged).hits(ranking, wanted.k, condition or EVERY)
                return Hits(hits, None if len(hits) == wanted.k else self._shortfall(len(hits), question))

    def _ranking(self, question: Question) -> Ranking:
        """Documents by the retrievers that a question is for, and over all kinds that it is about."""
        if question.query.vector is None:  # only texts have words and the like
            return self._found(question)
        present = self.dense.present()
        if present == ("text",) and not question.query.others and question.kind in (None, "text"):
            return self._found(replace(question, kind=None))
        from edge_embed_runtime.search import kinds

        if question.mode not in ("vector", "hybrid"):
            question = replace(question, kind="text")
        lanes = kinds.lanes(question, present)
        if sum(map(len, lanes)) > 1:
            question.memo["fused"] = True
        rankings = [kinds.add_ranks([self._found(part) for part in parts]) for parts in lanes]
        return kinds.best_ranks(rankings, question.depth + FUSION_DEPTH) if rankings else {}

    def _found(self, question: Question) -> Ranking:
        for name in question.names:
            question.found[name] = question.kept(self._retriever(name).rank(question))
        return fuse_found(question, self._retrievers)

    def _question(self, query: Query, mode: Mode, wanted: Wanted, condition: Condition | None) -> Question:
        """What the retrievers are asked; examples move the query's vector. Runs inside the snapshot."""
        left_out: frozenset[int] = frozenset()
        if wanted.moves:
            from edge_embed_runtime.search.feedback import moved

            query, left_out = moved(self._store, query, mode, wanted)
        return Question(query, wanted.k, mode, wanted.recall, condition, left_out, wanted.mmr, wanted.kind)

    def _ordered(self, question: Question, ranking: Ranking) -> Ranking:
        """A ranking in the order in which its documents become hits."""
        if question.mmr is None:
            return ranking
        from edge_embed_runtime.search.diversity import diversified

        return diversified(self._store, question, ranking, self.damaged)

    def _retriever(self, name: str) -> Retriever:
        """Those that most indexes have no vectors for are imported for the first question that asks them."""
        if name not in self._retrievers and name == "sparse":
            from edge_embed_runtime.search.sparse import Sparse

            self._retrievers[name] = Sparse(self._store, self._room, self.damaged)
        elif name not in self._retrievers:
            from edge_embed_runtime.search.multi import Multi

            self._retrievers[name] = Multi(self._store, self._room, self.damaged)
        return self._retrievers[name]

    @contextmanager
    def _reserved(self, question: Question) -> Iterator[None]:
        """Memory for a search, where there is a budget. Runs inside a snapshot."""
        if self._room is None:
            yield
            return
        for name in question.names:
            self._retriever(name).load()
        documents, passages = self._store.counts()
        k, cost = min(question.k, documents), partial(self._cost, question, passages)
        if question.condition is not None and cost(k) > self._room.left():  # to count takes as long as to search
            cost = partial(self._cost, question, self._store.count_allowed(question.condition))
        with self._room.for_hits(k, cost):
            yield

    def _cost(self, question: Question, passages: int, k: int) -> int:
        """Largest number of bytes that a search for k documents takes, besides texts and metadata."""
        question = replace(question, k=k)
        cost = BASE_BYTES + sum(self._retriever(name).cost(question, passages) for name in question.names)
        if question.condition is not None and question.mode != "text":
            cost += ALLOWED_BYTES * passages
        if question.mmr is not None:
            cost += DIVERSE_BYTES * self._store.dim * question.candidates
        rankings = 1 + 3 * len(question.query.others) + (2 if self.dense.several else 0)
        return cost + rankings * RANKED_BYTES * question.depth + HIT_BYTES * k

    def _shortfall(self, found: int, question: Question) -> str:
        mode = question.mode
        if not self._store.any_document():
            return "the index is empty"
        said = {"text": "hold{s} a word of the query", "sparse": "share{s} a token with the query"}
        conditions = [said[mode]] if mode in said else []
        if mode in ("vector", "hybrid") and self._some_without_vector():
            conditions.append("ha{ve} a vector" + (" or hold{s} a word of the query" if mode == "hybrid" else ""))
        if question.kind is not None and (question.kind != "text" or self.dense.several):
            conditions.append(
                {"text": "ha{ve} a text", "image": "ha{ve} a picture", "audio": "ha{ve} a sound"}[question.kind]
            )
        conditions += [] if question.condition is None else ["fit{s} `where`"]
        what = " and ".join(conditions).format(s="s" if found == 1 else "", ve="s" if found == 1 else "ve")
        what = what or ("is in the index" if found == 1 else "are in the index")
        reason = f"only {found} document{'' if found == 1 else 's'} {what}"
        if question.left_out:
            reason += f"; {len(question.left_out)} that were given as examples were left out"
        if self.damaged:
            reason += f"; {len(self.damaged)} damaged passages were left out"
        return reason

    def _some_without_vector(self) -> bool:
        codes = self.dense.codes
        return self._store.gaps and codes is not None and len(codes) < self._store.counts()[1]
