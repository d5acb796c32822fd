"""Sparse vectors: weights of tokens of the vocabulary, and how an index stores them.

Stored are a float32 scale; weights of tokens, uint8 [n], in steps of it; ids of the tokens [n], uint16 where the
vocabulary has at most 65,536, else uint32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.vectors.int8 import Ids, Vectors

# The largest weight, in steps of the scale.
STEPS = 255


class Tokenized(Protocol):
    """What has a tokenizer, as an Embedder has."""

    @property
    def tokenizer(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class SparseVector:
    """Weights of tokens; a token that is not there has weight 0.

    ids:     int32 [n], ascending
    weights: float32 [n], all over 0
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseVector):
            return NotImplemented
        return np.array_equal(self.ids, other.ids) and np.array_equal(self.weights, other.weights)

    __hash__ = None  # type: ignore[assignment]

    def dot(self, other: "SparseVector") -> float:
        """The dot product, by which documents are ranked."""
        _, mine, theirs = np.intersect1d(self.ids, other.ids, assume_unique=True, return_indices=True)
        return float(self.weights[mine] @ other.weights[theirs])

    def largest(self, most: int) -> "SparseVector":
        """So many of its weights, of equal ones the first."""
        kept = _largest(self.weights, most)
        return SparseVector(self.ids[kept], self.weights[kept])

    def tokens(self, embedder: Tokenized, most: int | None = None) -> list[tuple[str, float]]:
        """(token, weight) for people, the largest weight first. most: only so many."""
        order = np.lexsort((self.ids, -self.weights))[:most]
        named = {id_: token for token, id_ in embedder.tokenizer.vocabulary().items()}
        return [(named.get(int(self.ids[i]), f"[{self.ids[i]}]"), float(self.weights[i])) for i in order]


def from_dense(row: Vectors, most: int | None = None, saturations: int = 0) -> SparseVector:
    """The numbers over 0 of a row [vocab]; with `most` only the largest so many, of equal ones the first.

    saturations: how often to take log(1 + x) of them
    """
    ids = np.flatnonzero(row > 0)
    if most is not None:
        ids = ids[_largest(row[ids], most)]
    weights = row[ids].astype(np.float64)
    for _ in range(saturations):
        weights = np.log1p(weights)
    return SparseVector(ids.astype(np.int32), weights.astype(np.float32))


def _largest(numbers: Vectors, most: int) -> Ids:
    """Positions of the largest, ascending."""
    if len(numbers) <= most:
        return np.arange(len(numbers))
    return np.sort(np.argsort(-numbers, kind="stable")[:most])


def token_type(dim: int) -> np.dtype[np.unsignedinteger]:
    """How ids of tokens of a vocabulary are stored."""
    return np.dtype("<u2" if dim <= 2**16 else "<u4")


def pack(vector: SparseVector, dim: int) -> bytes:
    """Weights that are less than half a step, a 510th of the largest, are left out."""
    scale = np.array([vector.weights.max(initial=0) / STEPS], "<f4")
    codes = np.rint(vector.weights / np.maximum(scale, 1e-30)).astype(np.uint8)
    kept = codes > 0
    return bytes(scale.tobytes() + codes[kept].tobytes() + vector.ids[kept].astype(token_type(dim)).tobytes())


def is_packed(code: bytes, dim: int) -> bool:
    """Whether bytes have a length that a packed vector can have."""
    return len(code) >= 4 and (len(code) - 4) % (1 + token_type(dim).itemsize) == 0


Unpacked = tuple[Vectors, NDArray[np.uint8], NDArray[np.unsignedinteger], NDArray[np.int64]]


def unpack(codes: Sequence[bytes], dim: int) -> Unpacked:
    """Scales [n], and of all rows one after the other weights in steps and tokens, with the number of them [n]."""
    each = 1 + token_type(dim).itemsize
    counts = np.array([(len(code) - 4) // each for code in codes], np.int64)
    scales = np.frombuffer(b"".join(code[:4] for code in codes), "<f4").astype(np.float32)
    steps = np.frombuffer(b"".join(code[4 : 4 + n] for code, n in zip(codes, counts, strict=True)), np.uint8)
    tokens = b"".join(code[4 + n :] for code, n in zip(codes, counts, strict=True))
    return scales, steps, np.frombuffer(tokens, token_type(dim)), counts
