"""The kinds of vectors that bundles give. Each is one object: what differs between kinds is asked of it.

dense   one vector for a text, float32 [dim]
sparse  a weight for each token of the vocabulary, dim of them (see sparse.py)
multi   a vector for each token of the text, float32 [tokens, dim] (see maxsim.py)
rerank  no vector, but dim scores of a pair of texts (see embed/reranker.py)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.normalize import normalize
from edge_embed_runtime.vectors.types import Vectors


class Kind:
    """One vector for a text, and what the others do otherwise.

    name:      as manifests and tables store it
    method:    of an Embedder that makes such vectors
    gives:     what one is, for people; `label` in a word or two
    stored:    what an index calls those that have a table of their own; `rows` is what the rows of that table are
    apart:     whether they have one, `vec_<name>`
    by_token:  whether a text has a vector for each of its tokens
    most_dims: numbers in a vector, at most
    """

    name = "dense"
    method = "encode"
    gives, label = "one vector for a text", "vectors"
    stored = rows = "vectors"
    apart = by_token = False
    most_dims = 2**16

    def check_embeds(self, bundle: Path) -> None:
        """Raise InputError where such a bundle gives no vectors."""

    def encode(self, embedder: Any, texts: Sequence[str], **options: Any) -> Any:
        """What an embedder of this kind makes of texts: a sequence with an entry for each."""
        return getattr(embedder, self.method)(texts, **options)

    def shape(self, texts: int, tokens: int, dim: int) -> tuple[int, ...]:
        """Of what a model gives for a batch. tokens: of its longest text"""
        return (texts, tokens, dim) if self.by_token else (texts, dim)

    def has_length(self, numbers: int, dim: int) -> bool:
        """Whether a golden vector of a manifest can have so many numbers."""
        return numbers == dim

    def golden(self, numbers: Vectors, dim: int) -> Vectors:
        """A golden vector of a manifest [1, n] as the model gives it, of so many dims."""
        return numbers[:, :dim]

    def agreement(self, expected: Sequence[Vectors], found: Sequence[Vectors]) -> float:
        """How near golden vectors, each [1, n], are to those found: the lowest cosine of one."""
        rows = zip(expected, found, strict=True)
        return min(float((normalize(a) * normalize(b)).sum()) for a, b in rows)

    def array(self, vector: Any, dim: int) -> Vectors:  # noqa: ARG002 - as of every kind
        """One of them in numbers: [dim], or [tokens, dim]."""
        return np.asarray(vector)

    def pack(self, vector: Any, dim: int) -> bytes:
        """How an index stores one: int8 codes, whose scale they tell themselves."""
        codes, _ = quantize_int8(vector.reshape(-1, dim))
        return bytes(codes.tobytes())

    def is_packed(self, code: bytes, dim: int) -> bool:
        """Whether bytes have a length that a packed one can have."""
        return len(code) > 0 and self.has_length(len(code), dim)


class Sparse(Kind):
    """Golden vectors are pairs of a token and its weight, before log(1 + x)."""

    name = "sparse"
    method = "encode_sparse"
    gives, label = "weights of tokens", "weights"
    stored = rows = "sparse vectors"
    apart = True
    most_dims = 2**20

    def has_length(self, numbers: int, dim: int) -> bool:  # noqa: ARG002 - as of every kind
        return numbers % 2 == 0

    def golden(self, numbers: Vectors, dim: int) -> Vectors:
        whole = np.zeros((1, dim), np.float32)
        ids: NDArray[np.int64] = numbers[:, ::2].astype(np.int64)
        if ids.size and 0 <= ids.min() <= ids.max() < dim:
            whole[:, ids[0]] = numbers[:, 1::2]
        return whole

    def array(self, vector: Any, dim: int) -> Vectors:
        row = np.zeros(dim, np.float32)
        row[vector.ids] = vector.weights
        return row

    def pack(self, vector: Any, dim: int) -> bytes:
        from edge_embed_runtime.vectors.sparse import pack  # most processes have no such vectors

        return pack(vector, dim)

    def is_packed(self, code: bytes, dim: int) -> bool:
        from edge_embed_runtime.vectors.sparse import is_packed

        return is_packed(code, dim)


class Multi(Kind):
    """Golden vectors are those of all tokens, one after the other."""

    name = "multi"
    method = "encode_multi"
    gives, label = "a vector for each token", "token vectors"
    stored, rows = "vectors of tokens", "rows of vectors of tokens"
    apart = by_token = True

    def has_length(self, numbers: int, dim: int) -> bool:
        return numbers % dim == 0

    def golden(self, numbers: Vectors, dim: int) -> Vectors:  # noqa: ARG002 - as of every kind
        return numbers


class Rerank(Kind):
    """Golden vectors are the scores of a pair, before the activation."""

    name = "rerank"
    method = "scores"
    gives, label = "scores of pairs of texts", "scores"

    def check_embeds(self, bundle: Path) -> None:
        raise InputError(
            f"bundle {bundle} gives {self.gives} and no vectors: load it with Reranker, or search with --rerank",
            path=bundle,
        )

    def agreement(self, expected: Sequence[Vectors], found: Sequence[Vectors]) -> float:
        """The cosine of two vectors of the length of all scores' spread that are as far apart as these are.

        Of scores that lie close together, far from 0, a quarter of their size counts as their spread.
        """
        ours, theirs = np.vstack(expected), np.vstack(found)
        spread = max(float(np.linalg.norm(ours - ours.mean(axis=0))), float(np.linalg.norm(ours)) / 4)
        apart = float(np.linalg.norm(ours - theirs))
        return 1.0 if apart == 0 else 1 - (apart / spread) ** 2 / 2 if spread else 0.0


DENSE, SPARSE, MULTI, RERANK = Kind(), Sparse(), Multi(), Rerank()
KINDS: dict[str, Kind] = {kind.name: kind for kind in (DENSE, SPARSE, MULTI, RERANK)}
