"""Texts as weights of tokens of the vocabulary, most of them tokens that a text does not hold (SPLADE,
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
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.model.budget import DECODED_NUMBERS
from edge_embed_runtime.vectors.sparse import SparseVector, from_dense

if TYPE_CHECKING:
    from edge_embed_runtime.inputs.tokenizer import TokenIds
    from edge_embed_runtime.model.network import Network

    Vectors = NDArray[np.float32]


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
    network: "Network", texts: Sequence[str], role: str | None, batch_tokens: int, most: int | None
) -> Iterator[tuple[Sequence[int], list[SparseVector]]]:
    """Positions of texts and their vectors, batch by batch. See `Embedder.encode_sparse`."""
    manifest, tokenizer = network.bundle.manifest, network.tokenizer
    most = most or _count(manifest, "most")
    table = query_table(manifest) if role == "query" else None
    if table is not None:
        longest = _count(manifest, "query_tokens") or tokenizer.max_content
        found = [by_table(tokenizer.plain(text, longest), table) for text in texts]
        yield range(len(texts)), found if most is None else [vector.largest(most) for vector in found]
        return

    def run(batch: list["TokenIds"]) -> list[SparseVector]:
        return [from_dense(row, most, times) for row in network.run(batch)]

    rows = [tokenizer.encode(text) for text in texts]
    times = saturations(manifest)
    # short texts would be many in a batch
    room = max(1, DECODED_NUMBERS // manifest.dim)
    yield from network.run_all(rows, min(batch_tokens, room * min(map(len, rows), default=1)), run)
