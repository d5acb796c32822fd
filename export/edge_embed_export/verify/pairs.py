"""Scores of pairs of texts compared with those of sentence-transformers' CrossEncoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.options import ExportOptions
from edge_embed_export.verify.texts import Asked, asked_texts
from edge_embed_runtime.extras import is_installed

if TYPE_CHECKING:
    from edge_embed_runtime.embed.reranker import Reranker

# How far the text that is paired with one lies behind it, of those that are asked.
STEP = 7


def asked_pairs(reranker: "Reranker", longest: int) -> list[Asked]:
    """Pairs of the texts that embedders are compared on; the first text stands in the place of a role."""
    texts = [one.text for one in asked_texts(reranker.tokenizer, (None,), longest)]
    past = max(texts, key=len)
    pairs = [Asked(text, texts[(i + STEP) % len(texts)]) for i, text in enumerate(texts)]
    return [Asked(past, past), Asked(past, past + "a"), Asked(past, ""), *pairs[3:]]


def pair_request(source: Path, reranker: "Reranker", asked: Sequence[Asked], options: ExportOptions) -> dict[str, Any]:
    """What reference.py reads."""
    adapter = options.adapter
    return {
        "folder": str(source.resolve()),
        "kind": reranker.manifest.kind,
        "texts": asked,
        "max_tokens": reranker.max_tokens,
        "limited": options.max_tokens is not None,
        "adapter": None if adapter is None else str(Path(adapter).resolve()),
        "sentence_transformers": is_installed("sentence_transformers"),
        "why": False,
    }


def compare_pairs(
    reranker: "Reranker", asked: Sequence[Asked], rows: Sequence[NDArray[np.float32]]
) -> list[float | None]:
    """How much the numbers of each pair, and its scores, differ at most, as a share of the largest number of all, or of
    1 where that is less; None where the reference has none."""
    pairs = [(one.role or "", one.text) for one in asked]
    ours = [
        np.concatenate([part.reshape(len(pairs), -1)[i] for part in both])
        for both in [(reranker.scores(pairs, raw=True), reranker.scores(pairs))]
        for i in range(len(pairs))
    ]
    size = max(1.0, *(float(np.abs(row).max(initial=0.0)) for row in rows if np.isfinite(row).all()))
    return [
        None
        if not np.isfinite(row).all()
        else float(np.abs(own - row).max()) / size
        if own.shape == row.shape
        else float("inf")
        for own, row in zip(ours, rows, strict=True)
    ]
