"""BGE-M3's heads besides its dense vector (arXiv:2402.03216): one weight for each token of a text, and a vector for
each token but the first. They lie next to the model as small files of torch's.

Source: finetune/embedder/encoder_only/m3/modeling.py and inference/embedder/encoder_only/m3.py of FlagEmbedding.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.files.pickled import read_pickle
from edge_embed_export.files.reading import is_there, optional_json
from edge_embed_export.files.stored import Array
from edge_embed_export.files.tensors import read_tensors
from edge_embed_export.modules.listed import Module, linear
from edge_embed_export.sources.heads import Head
from edge_embed_export.tokenizer.parts import vocabulary
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.extras import is_installed
from edge_embed_runtime.vectors.kinds import MULTI, SPARSE, Kind

FILES = {SPARSE: "sparse_linear.pt", MULTI: "colbert_linear.pt"}
# Tokens that weigh nothing, as tokenizer_config.json calls them.
WEIGHTLESS = ("cls_token", "eos_token", "pad_token", "unk_token")


def file_of(folder: Path, kind: Kind | None) -> Path | None:
    """The file of a head, where a folder has one of this kind."""
    path = None if kind not in FILES else folder / FILES[kind]
    return path if path is not None and is_there(path) else None


def sparse_head(path: Path, tokenizer: Mapping[str, Any], hidden: int) -> tuple[Head, dict[str, Array]]:
    """The head, and its weights by our names."""
    weight, bias = _layer(path, hidden)
    if len(weight) != 1:
        raise ExportError(f"{path}: the weight has the shape {weight.shape}, expected one row")
    ids = vocabulary(tokenizer)
    said = {
        **optional_json(path.with_name("special_tokens_map.json")),
        **optional_json(path.with_name("tokenizer_config.json")),
    }
    named = [said.get(name) for name in WEIGHTLESS]
    tokens = [str(token.get("content")) if isinstance(token, dict) else token for token in named]
    lost = next((n for n, token in zip(WEIGHTLESS, tokens, strict=True) if token not in ids and n != "eos_token"), None)
    if lost is not None:
        raise ExportError(f"{path.with_name('tokenizer_config.json')}: {lost} is no token of the tokenizer")
    weightless = tuple(sorted({ids[str(token)] for token in tokens if token in ids}))
    weights = {"head.token.weight": np.ascontiguousarray(weight.T), "head.token.bias": bias}
    return Head(SPARSE, pooling="token", saturations=0, weightless=weightless, facts={"saturations": 0}), weights


def multi_head(path: Path, hidden: int, limit: int) -> tuple[Head, tuple[Module, ...]]:
    """The head, and the layer that makes its vectors of those of tokens. limit: tokens of a text"""
    weight, bias = _layer(path, hidden)
    facts: dict[str, Any] = dict.fromkeys(("query_marker", "document_marker", "expansion"))
    facts |= {"query_length": limit, "skip": [], "first": 1}
    return Head(MULTI, facts=facts), (linear(weight, bias),)


def _layer(path: Path, hidden: int) -> tuple[Array, Array]:
    """Weight [m, hidden] and bias [m]."""
    if not is_installed("torch"):
        raise ExportError(
            f"{path}, a pickle, holds the weights for this kind: with torch it is read without running code "
            "(pip install 'edge-embed[general]'). The dense vectors of the model can be exported without"
        )
    held = read_pickle(path, read_tensors)
    if held.keys() != {"weight", "bias"}:
        raise ExportError(f"{path} holds {sorted(held)}, expected weight and bias")
    weight, bias = held["weight"], held["bias"]
    if weight.ndim != 2 or weight.shape[1] != hidden or bias.shape != weight.shape[:1]:
        raise ExportError(f"{path}: weight {weight.shape} and bias {bias.shape} do not fit tokens of {hidden} numbers")
    return weight, bias
