"""The table of a static model: rows as they are summed, in int8 or float32."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.files.stored import Array
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.model.static import write_table

# Tokens of a text that count: more change its mean vector little. model2vec has the same limit.
MAX_TOKENS = 512
CODES = 127


@dataclass(frozen=True)
class StaticSource:
    """A static model as its maker has it.

    vectors:   float32 [n, dim]
    place:     the row of each token [vocab]; None means that a token's id is its row
    weights:   what each token counts [vocab]; None means 1
    tokenizer: a tokenizer.json definition
    unknown:   the token that stands for unknown ones where these are to be left out
    empty:     the vector [dim] of a text without tokens; None means that of all tokens
    inputs, prompts, default_role, side: as in the manifest
    """

    kind: str
    vectors: Array
    tokenizer: dict[str, Any]
    place: NDArray[np.int32] | None = None
    weights: Array | None = None
    unknown: int | None = None
    sha256: str = ""
    licence: str | None = None
    notes: dict[str, Any] | None = None
    empty: Array | None = None
    max_tokens: int = MAX_TOKENS
    inputs: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_role: str = ""
    side: str = ""

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])


def zipf_weights(ranks: Sequence[int] | NDArray[Any], a: float) -> Array:
    """SIF weights a / (a + p) of words by their rank, 0 for the most frequent, where p = 1 / (rank + 2), normalised.

    Words' frequencies follow Zipf's law, so that their order is enough. Arora, Liang, Ma: A simple but tough-to-beat
    baseline for sentence embeddings (ICLR 2017).
    """
    places = np.asarray(ranks, np.float64) + 2
    frequency = 1 / places / (1 / (np.arange(int(places.max(initial=2)) - 1) + 2)).sum()
    return np.asarray(a / (a + frequency), np.float32)


def weighted_rows(source: StaticSource, vocab: int) -> tuple[Array, NDArray[np.int32] | None]:
    """Rows as they are summed, with the weights in them, and one at the end for texts without tokens of their own.

    vocab: tokens of the tokenizer
    """
    vectors, place, unknown = source.vectors, source.place, source.unknown
    tokens = len(vectors) if place is None else len(place)
    if vocab > tokens:
        raise ExportError(f"the tokenizer has {vocab} tokens, the table {tokens} rows; they do not belong together")
    if source.weights is not None:
        if place is not None:
            vectors, place = vectors[place], None  # tokens that share a row count differently
        vectors = vectors * source.weights[:, None]
    whole = vectors[unknown] if unknown is not None and place is None else vectors.mean(axis=0)
    whole = whole if source.empty is None else source.empty
    if not whole.any():
        whole = vectors.mean(axis=0)
    if unknown is not None and place is None:
        vectors = vectors.copy()
        vectors[unknown] = 0
    elif unknown is not None and place is not None:
        place = place.copy()
        place[unknown] = len(vectors)
        vectors = np.vstack([vectors, np.zeros_like(vectors[:1])])
    return np.vstack([vectors, whole]), place


def make_table(rows: Array, place: NDArray[np.int32] | None, *, int8: bool) -> bytes:
    """The table file of weighted rows [n + 1, dim]: int8 with a scale for each column, or float32."""
    scale = np.ones(rows.shape[1], np.float32)
    if int8:
        scale = np.maximum(np.abs(rows[:-1]).max(axis=0) / CODES, np.float32(1e-12)).astype(np.float32)
    last = rows[-1] / scale
    last *= CODES / max(float(np.abs(last).max()), 1e-12)  # its length says nothing
    last[0] = last[0] if abs(last[0]) >= 1 else 1  # so that its first dimensions alone have a direction
    codes: NDArray[Any] = np.vstack([rows[:-1] / scale, last]).astype(np.float32)
    if int8:
        codes = np.rint(codes).astype(np.int8)
    places = {} if place is None else {"place": place}
    return write_table({**places, "scale": scale, "rows": codes})
