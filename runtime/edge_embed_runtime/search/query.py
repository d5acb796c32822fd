"""A question as it travels through a search, and what every way to find (a retriever) is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from edge_embed_runtime.storage.filters import Condition
from edge_embed_runtime.storage.rows import Removed
from edge_embed_runtime.vectors.int8 import Vectors

if TYPE_CHECKING:  # most indexes have none
    from edge_embed_runtime.vectors.sparse import SparseVector

Mode = Literal["hybrid", "vector", "text", "sparse", "multi"]

# Names of the retrievers, which are those of the parts of a query, in the order in which they are asked.
NAMES = ("vector", "sparse", "text", "multi")
# The part of the k nearest by int8 codes that a search is to find.
RECALL = 0.99
# More hits than any index has passages; keeps what is asked of SQLite in its range.
MAX_HITS = 2**40
# Hybrid search fuses this number of documents from the top of each ranking; the share that BM25 has in their scores.
# Chosen on SciFact and CoSQA, confirmed on Cranfield and XQuAD.
FUSION_DEPTH = 100
TEXT_SHARE = 0.375
# The same for static bundles, whose cosines say less: 0.6 to 0.9 beat words alone on CoSQA, XQuAD and Cranfield, 0.7 to
# 0.9 on SciFact.
STATIC_TEXT_SHARE = 0.75
# Documents more than asked for that are looked for: damaged ones give way to them.
SPARE = 10
# Passages per document that are looked up at first.
PASSAGES_PER_HIT = 20
# For a memory budget, bytes of a document in a ranking.
RANKED_BYTES = 320

# document id -> (score, passage id), best first
Ranking = dict[int, tuple[float, int]]


@dataclass(frozen=True)
class Query:
    """What is searched for: words, a vector of length 1 [dim], weights of tokens, vectors of tokens [n, dim]; and the
    share that the words have in a fused score."""

    text: str | None
    vector: Vectors | None
    sparse: "SparseVector | None" = None
    multi: Vectors | None = None
    text_share: float = TEXT_SHARE


@dataclass(frozen=True)
class Question:
    """A query, and how many documents are wanted, by which mode, with which recall, and under which condition.

    found: what the retrievers found so far, by their names
    """

    query: Query
    k: int
    mode: Mode
    recall: float
    condition: Condition | None
    found: dict[str, Ranking] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the retrievers that this is for."""
        given = (name for name in NAMES if getattr(self.query, name) is not None)
        return [name for name in given if self.mode in (name, "hybrid", "multi")]

    @property
    def depth(self) -> int:
        """How many documents each retriever is to find."""
        return max(self.k, FUSION_DEPTH) if self.mode in ("hybrid", "multi") else self.k

    def ranked_bytes(self, passages: int) -> int:
        """Largest size of a ranking that is made from the best of this number of passages."""
        return RANKED_BYTES * min(passages, PASSAGES_PER_HIT * (self.depth + SPARE))


def vector_of(question: Question) -> Vectors:
    """The dense vector [dim] of a question that has one."""
    assert question.query.vector is not None  # noqa: S101 - only those with one come here
    return question.query.vector


class Retriever:
    """One way to find documents of a store. What reads the store runs inside a snapshot."""

    def load(self) -> None:
        """Read into memory what was committed since the last question."""

    def cost(self, question: Question, passages: int) -> int:
        """Largest number of bytes that `rank` takes among this number of passages."""
        raise NotImplementedError

    def rank(self, question: Question) -> Ranking:
        """Documents by their best passages: the first `depth`, and others."""
        raise NotImplementedError

    def complete(self, question: Question, ranking: Ranking, passages: Mapping[int, int]) -> Ranking:  # noqa: ARG002 - others need them
        """A ranking with the documents that it lacks, each with the score of its passage {document: passage}; those
        that this retriever cannot score stay out."""
        return ranking

    def forget(self, removed: Removed) -> None:
        """Take what this process deleted out of memory, so that not everything has to be read again."""

    def release(self) -> None:
        """Free what is held in memory."""
