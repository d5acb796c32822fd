"""Documents by the cosine of their vectors: what this needs in memory, and how that follows the index file."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_embed_runtime.errors import BundleMismatchError
from edge_embed_runtime.search.coverage import Sample, sample_bytes, sample_size
from edge_embed_runtime.search.fusion import best_passages
from edge_embed_runtime.search.nearest import CandidateSearch, first_sizes, nearest_documents
from edge_embed_runtime.search.query import RECALL, Question, Ranking, Retriever, vector_of
from edge_embed_runtime.storage.rows import Removed
from edge_embed_runtime.storage.schema import GRAPH
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import SEARCH_BYTES, Room
from edge_embed_runtime.vectors.bits import BinaryCodes
from edge_embed_runtime.vectors.scores import score_int8
from edge_embed_runtime.vectors.types import Ids, Places

if TYPE_CHECKING:  # few indexes need either
    from edge_embed_runtime.search.hnsw import Cache, Graph
    from edge_embed_runtime.search.kinds import Kinds
    from edge_embed_runtime.search.nearest import AnyCodes
    from edge_embed_runtime.storage.media import Kind

# The sample is taken again when the codes have grown by the first factor, or when the second part was deleted.
OUTGROWN, GONE = 1.5, 0.1
# For a memory budget, bytes of a candidate besides its codes.
SCORED_BYTES = 200
# Of a row, where there are several kinds.
KIND_BYTES = 24


def in_places(some: Ids | None, others: Ids) -> Ids:
    """Places or ids, ascending, that are in both; None for all."""
    return others if some is None else np.intersect1d(some, others, assume_unique=True)


class Dense(Retriever):
    """Holds the binary codes of one store, or reads them from the file where a budget leaves no room; a sample of its
    vectors; and the graph over the codes, where there is one.

    let_go: frees everything that searches of this store hold, before codes are read again
    """

    def __init__(self, store: Store, room: Room | None, damaged: set[int], let_go: Callable[[], None]) -> None:
        self._store, self._room, self._damaged, self._let_go = store, room, damaged, let_go
        self._made_with = (store.facts.fingerprint, store.facts.dim)
        self.codes: AnyCodes | None = None
        # counters in `meta` that the codes in memory stand for
        self._generation = self._deletions = -1
        self.graph: Cache | None = None
        # by the kind of their rows, None for all: a sample, how many rows there were, and how many were deleted before
        self._samples: dict[str | None, tuple[Sample | None, int, int]] = {}
        self._removed = 0
        self._kinds: Kinds | None = None  # where there are pictures or sounds

    def release(self) -> None:
        self.codes = self.graph = self._kinds = None
        self._samples = {}
        if self._room is not None:
            self._room.hold("codes", 0)

    def forget(self, removed: Removed) -> None:
        self._removed += len(removed.passages)
        if isinstance(self.codes, BinaryCodes) and self._deletions == removed.deletions - 1:
            self._deletions = -1  # where an interrupt leaves half of it, all codes are read again
            self.codes.remove(removed.passages)
            if self._kinds is not None:
                self._kinds.remove(removed.passages)
            self._deletions = removed.deletions

    def use_graph(self, graph: "Graph | None") -> None:
        """Search by this graph, or by the scan, until the next commit."""
        from edge_embed_runtime.search.hnsw import Cache

        self.graph = None if graph is None else Cache(graph)

    def cost(self, question: Question, passages: int) -> int:
        _, pool = first_sizes(question.depth, passages)
        each = 14 if self._kinds is None else 14 + KIND_BYTES
        return min(passages, pool) * self._candidate_bytes() + each * passages + sample_bytes(self._store.dim)

    @property
    def several(self) -> bool:
        """Whether there may be rows of several kinds."""
        return self._kinds is not None

    def present(self) -> "Sequence[Kind]":
        """The kinds of the rows that are in the index. Runs inside a snapshot."""
        codes = self._loaded()
        return ("text",) if self._kinds is None else self._kinds.present(codes.ids)

    def _candidate_bytes(self) -> int:
        """Of one candidate: its binary code, twice, its int8 code, and its scores."""
        return 16 * -(-self._store.dim // 64) + self._store.dim + SCORED_BYTES

    def load(self) -> None:
        self._loaded()

    def rank(self, question: Question) -> Ranking:
        """Documents by cosine, of the first of which the part `recall` can be expected to be right."""
        codes = self._loaded()
        allowed = self._allowed(question)
        most = None if self._room is None else self._room.rows(self._candidate_bytes())
        sample = self._sample_of(codes, question.kind) if question.recall < 1 and len(codes) else None
        if sample is not None:
            places = None if allowed is None else codes.places(allowed)
            if question.kind is not None:
                places = in_places(places, self._places_of(codes, question.kind))
            search = CandidateSearch(self._store, codes, sample, question, places, self._damaged)
            by_graph = question.recall <= RECALL and question.kind is None
            ranking = search.run(self.graph if by_graph else None, most)
            if ranking is not None:
                return ranking
        if question.kind is not None:
            allowed = in_places(allowed, codes.ids[self._places_of(codes, question.kind)])
        return nearest_documents(self._store, vector_of(question), question.depth, allowed, self._damaged)

    def _allowed(self, question: Question) -> Ids | None:
        """Ids of the rows of documents that fit the condition, ascending; asked once for all questions of a search."""
        if question.condition is None:
            return None
        if "allowed" not in question.memo:
            question.memo["allowed"] = np.unique(self._store.allowed(question.condition))
        found: Ids = question.memo["allowed"]
        return found

    def _places_of(self, codes: "AnyCodes", kind: "Kind") -> Places:
        if self._kinds is None:  # all are texts
            return np.arange(len(codes) if kind == "text" else 0)
        return self._kinds.places(codes.ids, kind)

    def complete(self, question: Question, ranking: Ranking, passages: Mapping[int, int]) -> Ranking:
        others = [passage for doc, passage in passages.items() if doc not in ranking]
        found = self._store.passages(np.array(others, np.int64))
        self._damaged.update(found.damaged)
        scores = score_int8(found.codes, found.scales, vector_of(question))
        rows = zip(found.docs.tolist(), found.ids.tolist(), scores.tolist(), strict=True)
        complete = ranking | best_passages(rows)
        if found.bare:  # without a vector, a document is as near as the others are on average
            known = [complete[doc][0] for doc in passages if doc in complete]
            mean = sum(known) / len(known) if known else 0.0
            bare = set(found.bare)
            complete |= {doc: (mean, passage) for doc, passage in passages.items() if passage in bare}
        return complete

    def _loaded(self) -> "AnyCodes":
        """The codes of what is committed now."""
        counters, facts = self._store.counters(), self._store.facts
        made = (facts.fingerprint, facts.dim)
        if facts.space and made[0] == self._made_with[0] and made != self._made_with:
            self.release()  # `Index.set_dim`: there were no vectors before
            self._made_with = made
        if made != self._made_with:
            raise BundleMismatchError(
                f"{self._store.path} was embedded again with the bundle {facts.bundle!r} while it was "
                "open: open it again, with that bundle",
                path=self._store.path,
                bundle=facts.bundle,
            )
        if self.codes is not None and counters == (self._generation, self._deletions):
            return self.codes
        if not isinstance(self.codes, BinaryCodes) or self._room is not None or counters[1] != self._deletions:
            self.codes = self._empty_codes()
            self._kinds = None
        if isinstance(self.codes, BinaryCodes):
            self._read_new(self.codes)
        self._follow_kinds()
        self._generation, self._deletions = counters
        return self.codes

    def _follow_kinds(self) -> None:
        if self._kinds is None and self._store.has_optional("media"):
            from edge_embed_runtime.search.kinds import Kinds

            self._kinds = Kinds(self._store)
        if self._kinds is not None:
            self._kinds.follow()

    def _empty_codes(self) -> "AnyCodes":
        """What codes are read into, where there is memory for it, or codes that stay in the file."""
        self._let_go()  # of the old ones, before the new ones need their memory
        store, count = self._store, self._store.blocks.count()
        if self._room is not None and not self._room.for_codes(count, store.dim):
            from edge_embed_runtime.search.streamed import StreamedCodes

            self._room.hold("codes", 8 * count + SEARCH_BYTES)
            return StreamedCodes(store.blocks)
        codes = BinaryCodes(store.dim, capacity=count)
        if self._room is not None:
            self._room.hold("codes", (8 + 8 * -(-store.dim // 64)) * count + SEARCH_BYTES)
        return codes

    def _read_new(self, codes: BinaryCodes) -> None:
        """Append the codes that are not in memory yet, and fit the graph in with all of them."""
        self._generation = self._deletions = -1  # as in `forget`
        last = int(codes.ids[-1]) if len(codes) else 0
        for ids, words in self._store.blocks.load(after=last):
            codes.append(ids, words)
        if self._room is not None:  # a graph takes several times what codes do
            return
        if self.graph is None and self._store.note(GRAPH) is not None:
            from edge_embed_runtime.search.hnsw import Cache

            self.graph = Cache()
        if self.graph is not None:
            self.graph.follow(self._store, codes)

    def _sample_of(self, codes: "AnyCodes", kind: "Kind | None") -> Sample | None:
        """Rows from everywhere in the index, of all or of a kind; None where too few are whole."""
        ids = codes.ids if kind is None else codes.ids[self._places_of(codes, kind)]
        sample, sampled, removed = self._samples.get(kind, (None, 0, 0))
        if sample is None or len(ids) > OUTGROWN * sampled or self._removed - removed > GONE * sampled:
            size = min(len(ids), sample_size(self._store.dim))
            chosen = np.random.default_rng(0).choice(len(ids), size, replace=False)
            found = self._store.passages(np.sort(ids[chosen]))
            whole = 2 * len(found.ids) > size
            sample = Sample(found.codes, found.scales, self._store.frame) if whole else None
            self._samples[kind] = sample, len(ids), self._removed
        return sample
