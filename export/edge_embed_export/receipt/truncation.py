"""Vectors cut to their first numbers (Matryoshka, arXiv:2205.13147): which dims a model was trained for, and how
well they do, also for models that were trained for none."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_embed_export.modules.folder import Folder
from edge_embed_export.options import ExportOptions
from edge_embed_runtime.checks import check_count
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.normalize import cut
from edge_embed_runtime.vectors.types import Vectors

# What config.json and config_sentence_transformers.json call the dims that a model was trained for.
FIELDS = ("matryoshka_dimensions", "matryoshka_dims")
# Models whose cards bring a layer norm over the whole vector before it is cut, by a part of their names, and the dims
# that the card names: https://huggingface.co/nomic-ai/nomic-embed-text-v1.5
CARDS = ((re.compile(r"nomic-embed-text-v1\.5$", re.IGNORECASE), (512, 256, 128, 64)),)
# Where a model was trained for none: parts of its dim that are measured, down to so few numbers.
PARTS, LEAST = (2, 4, 8), 8


def trained_dims(folder: Folder, config: Mapping[str, Any], dim: int) -> list[int]:
    """The dims under `dim` that the model's files name, largest first."""
    named = [said[name] for said in (config, folder.settings) for name in FIELDS if said.get(name)]
    given = named[0] if named else []
    if not isinstance(given, list) or not all(type(n) is int and n > 0 for n in given):
        raise ExportError(f"{folder.path}: {FIELDS[0]} is {given!r:.60}, expected a list of whole numbers")
    return sorted({n for n in given if n < dim}, reverse=True)


def truncation(folder: Folder, config: Mapping[str, Any], dim: int, options: ExportOptions) -> dict[str, Any]:
    """Fields of the manifest: the dims under `dim` that the model was trained for, and how its vectors are cut.

    What the caller says counts, or else the model's files and its card.
    """
    names, given = folder.known_as(options.names, config), options.truncate_dims
    card = next((dims for known, dims in CARDS if any(map(known.search, names))), ())
    own = trained_dims(folder, config, dim) or [n for n in card if n < dim]
    normed = bool(card) if options.truncate_norm is None else options.truncate_norm
    return {
        "truncate_dims": own if given is None else given_dims(given, dim),
        "truncation": "layer_norm" if normed else "",
    }


def given_dims(given: Sequence[int], dim: int) -> list[int]:
    """Dims that a caller says the model was trained for, largest first. Raises InputError."""
    return sorted({check_count(n, "each of truncate_dims", 1, dim) for n in given} - {dim}, reverse=True)


def truncation_receipt(
    dims: Sequence[int],
    documents: Vectors,
    queries: Vectors,
    tiers: Callable[[Vectors, Vectors], dict[str, float]],
    how: str = "",
) -> dict[str, Any]:
    """Retrieval with vectors that were cut, by dim: nDCG@10 by tier, and whether the model was trained for it.

    dims:               what the model was trained for
    documents, queries: whole vectors, [n, dim] and [q, dim]
    tiers:              measures documents and queries
    how:                what comes before a cut, see `Manifest.truncation`

    spearman: rank correlation of a query's cosines to all documents with those of whole vectors, mean over the queries
    """
    dim = documents.shape[1]
    untrained = [dim // part for part in PARTS if dim // part >= LEAST]
    found = {}
    whole = _ranks(queries @ documents.T)
    for size in dims or untrained:
        stored, asked = cut(documents, size, how), cut(queries, size, how)
        agreement = (whole * _ranks(asked @ stored.T)).sum(axis=1).mean()
        found[str(size)] = {
            "trained": bool(dims),
            "ndcg@10": tiers(stored, asked),
            "spearman": round(float(agreement), 4),
        }
    return found


def _ranks(scores: Vectors) -> Any:
    """Ranks of each row [q, n], around 0 and of length 1: their products are rank correlations."""
    ranks = scores.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable").astype(np.float64)
    ranks -= ranks.mean(axis=1, keepdims=True)
    return ranks / np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-12)
