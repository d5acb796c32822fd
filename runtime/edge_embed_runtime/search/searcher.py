"""Search: the retrievers that a question is for are asked, what they find is fused, and read as hits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from edge_embed_runtime.search.dense import Dense
from edge_embed_runtime.search.fusion import fuse_found
from edge_embed_runtime.search.hits import HIT_BYTES, Reader
from edge_embed_runtime.search.keywords import Keywords
from edge_embed_runtime.search.query import RANKED_BYTES, Mode, Query, Question, Retriever
from edge_embed_runtime.storage.documents import Hits
from edge_embed_runtime.storage.fields import check_fields
from edge_embed_runtime.storage.filters import EVERY, compile_where
from edge_embed_runtime.storage.rows import Removed
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Room

# For a memory budget, bytes of any search, and of a passage that fits a condition.
BASE_BYTES, ALLOWED_BYTES = 5 << 20, 48


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

    def search(self, query: Query, k: int, where: Mapping[str, Any] | None, mode: Mode, recall: float) -> Hits:
        """`Index.search`, its arguments checked; the query has what the mode asks for."""
        condition = None if where is None else compile_where(where, self._store.facts.fields)
        question = Question(query, k, mode, recall, condition)
        with self._store.snapshot(), self._reserved(question):
            check_fields(self._store, where, condition)
            for name in question.names:
                question.found[name] = self._retriever(name).rank(question)
            ranking = fuse_found(question, self._retrievers)
            hits = Reader(self._store, self._room, self.damaged).hits(ranking, k, condition or EVERY)
            return Hits(hits, None if len(hits) == k else self._shortfall(len(hits), where, mode))

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
        return cost + RANKED_BYTES * question.depth + HIT_BYTES * k

    def _shortfall(self, found: int, where: Mapping[str, Any] | None, mode: Mode) -> str:
        if not self._store.any_document():
            return "the index is empty"
        said = {"text": "hold{s} a word of the query", "sparse": "share{s} a token with the query"}
        conditions = [said[mode]] if mode in said else []
        conditions += [] if where is None else ["fit{s} `where`"]
        what = " and ".join(conditions).format(s="s" if found == 1 else "")
        what = what or ("is in the index" if found == 1 else "are in the index")
        reason = f"only {found} document{'' if found == 1 else 's'} {what}"
        if self.damaged:
            reason += f"; {len(self.damaged)} damaged passages were left out"
        return reason
