"""Sparse vectors: a text as weights of tokens of the vocabulary, most of them tokens that it does not hold (SPLADE,
arXiv:2109.10086).

Of the manifest's `head`:

    saturations    how often log(1 + x) is taken of what the model gives
    most           how many weights of a text are kept, the largest, where the caller does not say it; null for all
    query_tokens   tokens of a query at most, where they are looked up in a table; null for as many as of others
    query_weights  base64 of float32 [vocab], where queries are the tokens that they hold with the weights of this
                   table, and no model is run on them
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle.bundle import Manifest
from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.model.budget import DECODED_NUMBERS

if TYPE_CHECKING:
    from edge_embed_runtime.embed.embedder import Embedder
    from edge_embed_runtime.inputs.tokenizer import TokenIds

    Vectors = NDArray[np.float32]


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

    def tokens(self, embedder: "Embedder", most: int | None = None) -> list[tuple[str, float]]:
        """(token, weight) for people, the largest weight first. most: only so many."""
        order = np.lexsort((self.ids, -self.weights))[:most]
        named = {id_: token for token, id_ in embedder.tokenizer.vocabulary().items()}
        return [(named.get(int(self.ids[i]), f"[{self.ids[i]}]"), float(self.weights[i])) for i in order]


def from_dense(row: "Vectors", most: int | None = None, saturations: int = 0) -> SparseVector:
    """The numbers over 0 of a row [vocab]; with `most` only the largest so many, of equal ones the first.

    saturations: how often to take log(1 + x) of them
    """
    ids = np.flatnonzero(row > 0)
    if most is not None and len(ids) > most:
        ids = np.sort(ids[np.argsort(-row[ids], kind="stable")[:most]])
    weights = row[ids].astype(np.float64)
    for _ in range(saturations):
        weights = np.log1p(weights)
    return SparseVector(ids.astype(np.int32), weights.astype(np.float32))


def saturations(manifest: Manifest) -> int:
    """Raises BundleFormatError."""
    count = manifest.head.get("saturations", 0)
    if count not in range(3):
        raise BundleFormatError(f"the bundle {manifest.name!r} saturates {count!r:.40} times, expected 0 to 2")
    return int(count)


def _count(manifest: Manifest, name: str) -> int | None:
    """A number of the head that may be missing. Raises BundleFormatError."""
    count = manifest.head.get(name)
    if count is not None and (type(count) is not int or not 0 < count <= 2**20):
        raise BundleFormatError(f"the bundle {manifest.name!r} says {name} {count!r:.40}, expected a whole number")
    return count


def query_table(manifest: Manifest) -> "Vectors | None":
    """The weights of a query's tokens [vocab], where the model is not run on queries."""
    stored = manifest.head.get("query_weights")
    if stored is None:
        return None
    try:
        table = np.frombuffer(base64.b64decode(stored, validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError, TypeError) as error:
        raise BundleFormatError(f"the bundle {manifest.name!r} has no usable query weights: {error}") from error
    if len(table) > manifest.dim or not (np.isfinite(table).all() and (table >= 0).all()):
        raise BundleFormatError(f"the bundle {manifest.name!r} has query weights that are no weights of its tokens")
    return table


def by_table(ids: "TokenIds", table: "Vectors") -> SparseVector:
    """The vector of a query without a model: each of its tokens once, with the weight that the table has for it."""
    known = np.unique(ids)
    known = known[known < len(table)]
    known = known[table[known] > 0]
    return SparseVector(known.astype(np.int32), table[known])


def encode(
    embedder: "Embedder", texts: Sequence[str], role: str | None, batch_tokens: int, most: int | None
) -> Iterator[tuple[Sequence[int], list[SparseVector]]]:
    """Positions of texts and their vectors, batch by batch. See `Embedder.encode_sparse`."""
    network, tokenizer = embedder.network, embedder.tokenizer
    most = most or _count(embedder.manifest, "most")
    table = query_table(embedder.manifest) if role == "query" else None
    if table is not None:
        longest = _count(embedder.manifest, "query_tokens") or tokenizer.max_content
        found = [by_table(tokenizer.plain(text, longest), table) for text in texts]
        yield range(len(texts)), found if most is None else [_largest(vector, most) for vector in found]
        return

    def run(batch: list["TokenIds"]) -> list[SparseVector]:
        return [from_dense(row, most, times) for row in network.run(batch)]

    rows = [tokenizer.encode(text) for text in texts]
    times = saturations(embedder.manifest)
    # short texts would be many in a batch
    room = max(1, DECODED_NUMBERS // embedder.manifest.dim)
    yield from network.run_all(rows, min(batch_tokens, room * min(map(len, rows), default=1)), run)


def _largest(vector: SparseVector, most: int) -> SparseVector:
    if len(vector) <= most:
        return vector
    kept = np.sort(np.argsort(-vector.weights, kind="stable")[:most])
    return SparseVector(vector.ids[kept], vector.weights[kept])
