"""A question as it travels through a search, and what every way to find (a retriever) is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from edge_embed_runtime.checks import check_count, unusable
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.storage.documents import check_key
from edge_embed_runtime.storage.filters import Condition
from edge_embed_runtime.storage.rows import Removed
from edge_embed_runtime.vectors.types import Vectors

if TYPE_CHECKING:  # most indexes have none
    from edge_embed_runtime.storage.media import Kind
    from edge_embed_runtime.vectors.sparse import SparseVector

Mode = Literal["hybrid", "vector", "text", "sparse", "multi"]
KINDS = ("text", "image", "audio")

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

# Diversity is looked for among this number of documents, for each hit and at the least; the most hits that it is for.
DIVERSE_PER_HIT, DIVERSE_LEAST, DIVERSE_MOST = 4, 50, 1000
# Documents that can be given as examples in one search.
MAX_EXAMPLES = 1000

# document id -> (score, passage id), best first
Ranking = dict[int, tuple[float, int]]


@dataclass(frozen=True)
class Query:
    """What is searched for: words, a vector of length 1 [dim], weights of tokens, vectors of tokens [n, dim]; and the
    share that the words have in a fused score.

    others: vectors of other parts of the query, such as a picture's
    kind:   of the first part
    """

    text: str | None
    vector: Vectors | None
    sparse: "SparseVector | None" = None
    multi: Vectors | None = None
    text_share: float = TEXT_SHARE
    others: tuple[Vectors, ...] = ()
    kind: "Kind" = "text"


@dataclass(frozen=True)
class Wanted:
    """What `Index.search` is asked for besides the query, checked.

    shift:   [dim], what is added to the query's vector; from a Session
    without: keys of documents that are left out, where they are there
    kind:    what is to be compared: passages of texts, pictures or sounds; None for all of them
    """

    k: int
    where: Mapping[str, Any] | None = None
    recall: float = RECALL
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    mmr: float | None = None
    shift: Vectors | None = None
    without: tuple[str, ...] = ()
    kind: "Kind | None" = None

    @staticmethod
    def checked(
        k: object,
        where: Mapping[str, Any] | None,
        recall: object,
        like: object,
        unlike: object,
        mmr: object,
        kind: "Kind | None" = None,
    ) -> "Wanted":
        """Raises InputError."""
        count = min(check_count(k, "k", 1), MAX_HITS)
        if not _is_number(recall) or not 0 < recall <= 1:
            raise unusable("recall", recall, "a number over 0, up to 1")
        if mmr is not None and (not _is_number(mmr) or not 0 <= mmr <= 1):
            raise unusable("mmr", mmr, "a number from 0 to 1")
        if mmr is not None and count > DIVERSE_MOST:
            raise InputError(f"mmr is for at most {DIVERSE_MOST} hits, k is {count}", option="mmr")
        liked, unliked = check_examples(like, "like"), check_examples(unlike, "unlike")
        if both := set(liked) & set(unliked):
            raise InputError(f"the key {min(both)!r:.80} is in both like and unlike", option="unlike")
        if kind is not None and kind not in KINDS:
            raise unusable("kind", kind, f"one of {KINDS}")
        return Wanted(count, where, recall, liked, unliked, mmr, kind=kind)

    @property
    def has_examples(self) -> bool:
        """Whether there is a vector without a query."""
        return bool(self.like) or self.shift is not None

    @property
    def moves(self) -> bool:
        """Whether the query's vector is changed, or documents are left out."""
        return bool(self.like or self.unlike or self.without) or self.shift is not None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_examples(keys: object, what: str) -> tuple[str, ...]:
    """Keys, each once; one may be given as it is. Raises InputError."""
    if not isinstance(keys, Iterable) or isinstance(keys, bytes | Mapping):
        raise unusable(what, keys, "a key or a list of keys")
    found = dict.fromkeys(check_key(key, what) for key in ([keys] if isinstance(keys, str) else keys))
    if len(found) > MAX_EXAMPLES:
        raise InputError(f"{what} has {len(found)} keys, expected at most {MAX_EXAMPLES}", option=what)
    return tuple(found)


@dataclass(frozen=True)
class Question:
    """A query, and how many documents are wanted, by which mode, with which recall, and under which condition.

    left_out: ids of documents that are not to be found
    mmr:      see search/diversity.py; None where hits come in the order of their scores
    kind:     the kind of the rows to compare; None for all, which are of one kind
    least_depth: at least so many documents are to be found
    found:    what the retrievers found so far, by their names
    memo:     what the questions that one question becomes have in common
    """

    query: Query
    k: int
    mode: Mode
    recall: float
    condition: Condition | None
    left_out: frozenset[int] = frozenset()
    mmr: float | None = None
    kind: "Kind | None" = None
    least_depth: int = 0
    found: dict[str, Ranking] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the retrievers that this is for."""
        given = (name for name in NAMES if getattr(self.query, name) is not None)
        return [name for name in given if self.mode in (name, "hybrid", "multi")]

    @property
    def depth(self) -> int:
        """How many documents each retriever is to find."""
        wanted = max(self.candidates + len(self.left_out), self.least_depth)
        return max(wanted, FUSION_DEPTH) if self.mode in ("hybrid", "multi") else wanted

    @property
    def candidates(self) -> int:
        """How many documents the hits are chosen from."""
        return self.k if self.mmr is None else max(DIVERSE_PER_HIT * self.k, DIVERSE_LEAST)

    def kept(self, ranking: Ranking) -> Ranking:
        """A ranking without the documents that are left out."""
        return {doc: found for doc, found in ranking.items() if doc not in self.left_out} if self.left_out else ranking

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
