"""Passages of documents, embedded: their int8 codes and scales."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.passages.split import reserved_tokens, split
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.types import Int8Codes, Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.embed.encoder import Encoder

# Passages that are embedded before their int8 codes replace the float vectors.
EMBED_SLICE = 1024


def embed_passages(
    embedder: "Encoder", texts: Sequence[str], show_progress: bool, *, late: bool = False
) -> tuple[list[list[Span]], Int8Codes, Vectors]:
    """The passages of documents: their spans, and int8 codes [n, dim] and scales [n] of all, one after the other.

    late: see late.py; `check_late` says which embedders can do it
    """
    if late:
        from edge_embed_runtime.passages.late import embed_late

        return embed_late(cast("Embedder", embedder), texts, show_progress)
    reserved = reserved_tokens(embedder)
    spans = [split(text, embedder.tokenizer, reserved) for text in texts]
    passages = [text[start:stop] for text, parts in zip(texts, spans, strict=True) for start, stop in parts]
    return spans, *embed_texts(embedder, passages, show_progress)


def embed_texts(embedder: "Encoder", passages: Sequence[str], show_progress: bool = False) -> tuple[Int8Codes, Vectors]:
    """int8 codes [n, dim] and scales [n] of passages."""
    if embedder.output.apart:
        return np.empty((len(passages), 0), np.int8), np.ones(len(passages), np.float32)
    codes = np.empty((len(passages), embedder.dim), np.int8)
    scales = np.empty(len(passages), np.float32)
    with progress_bar(len(passages), show_progress) as advance:
        for first in range(0, len(passages), EMBED_SLICE):
            part = slice(first, first + EMBED_SLICE)
            vectors = embedder.encode_document(passages[part])
            codes[part], scales[part] = quantize_int8(vectors)
            advance(len(vectors))
    return codes, scales
