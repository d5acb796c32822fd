"""Texts as a vector for each of their tokens (ColBERT, arXiv:2004.12832; see vectors/maxsim.py).

Of the manifest's `head`:

    query_marker, document_marker  ids of the tokens that stand behind the first special token; null for none
    query_length                   tokens of a query at most, the marker included
    expansion                      the id that queries are filled up with to that length; null where they are not
    skip                           ids of tokens, punctuation, whose vectors a document does without
    filled                         tokens up to which queries are filled up, where that is not query_length
    query_skip                     ids of tokens whose vectors a query does without
    first                          how many vectors at the beginning of every text are left out
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.errors import BundleFormatError

if TYPE_CHECKING:
    from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer
    from edge_embed_runtime.model.network import Network

    Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Markup:
    """How texts become tokens of such a model: the manifest's `head`."""

    query_marker: int | None
    document_marker: int | None
    query_length: int
    expansion: int | None
    skip: tuple[int, ...]
    filled: int
    query_skip: tuple[int, ...] = ()
    first: int = 0

    @staticmethod
    def of(manifest: Manifest) -> "Markup":
        """Raises BundleFormatError."""
        head, what = manifest.head, f"the bundle {manifest.name!r}"
        try:
            markup = Markup(
                query_marker=_token(head["query_marker"]),
                document_marker=_token(head["document_marker"]),
                query_length=int(head["query_length"]),
                expansion=_token(head["expansion"]),
                skip=tuple(int(id_) for id_ in head["skip"]),
                filled=int(head.get("filled", head["query_length"])),
                query_skip=tuple(int(id_) for id_ in head.get("query_skip", ())),
                first=int(head.get("first", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleFormatError(f"{what} does not say how its texts are marked: {error!r}") from error
        if not (3 < markup.query_length <= manifest.max_tokens and 0 <= markup.first < 3 < markup.filled):
            raise BundleFormatError(f"{what} has queries of {markup.query_length} tokens, the model takes fewer")
        if markup.filled > markup.query_length:
            raise BundleFormatError(f"{what} fills queries up to {markup.filled} tokens, and they have fewer")
        return markup

    def query(self, text: str, tokenizer: "Tokenizer") -> "TokenIds":
        row = self._marked(text, tokenizer, self.query_marker, self.query_length)
        if self.expansion is None:
            return row
        return np.pad(row, (0, max(0, self.filled - len(row))), constant_values=self.expansion)

    def document(self, text: str, tokenizer: "Tokenizer") -> "TokenIds":
        return self._marked(text, tokenizer, self.document_marker, tokenizer.max_tokens)

    @staticmethod
    def _marked(text: str, tokenizer: "Tokenizer", marker: int | None, longest: int) -> "TokenIds":
        """The tokens of a text with a marker behind the first special ones, at most `longest` in all."""
        before, after = map(len, tokenizer.around)
        row = tokenizer.encode(text)
        marked = [] if marker is None else [marker]
        content = row[before : len(row) - after][: longest - before - after - len(marked)]
        return np.concatenate([row[:before], np.array(marked, np.int64), content, row[len(row) - after :]])


def _token(value: Any) -> int | None:
    return None if value is None else int(value)


def encode(
    network: "Network", texts: Sequence[str], role: str | None, batch_tokens: int
) -> Iterator[tuple[list[int], list["Vectors"]]]:
    """Positions of texts and their vectors, batch by batch. See `Embedder.encode_multi`."""
    markup, query = Markup.of(network.bundle.manifest), role == "query"
    mark, skip = (markup.query, markup.query_skip) if query else (markup.document, markup.skip)
    rows = [mark(text, network.tokenizer) for text in texts]
    first = markup.first

    def run(batch: list["TokenIds"]) -> list["Vectors"]:
        kept = zip(batch, network.run(batch), strict=True)
        return [found[first : len(row)][~np.isin(row[first:], skip)] for row, found in kept]

    yield from network.run_all(rows, batch_tokens, run)
