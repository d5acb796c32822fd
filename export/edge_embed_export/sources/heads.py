"""What a model gives for a text besides one vector: a weight for each token of the vocabulary (SPLADE), or a vector for
each token of the text (ColBERT, see colbert.py). Read from the folder's own files."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_embed_export.files.accounting import refuse_unknown
from edge_embed_export.files.reading import check_size, is_there, optional_json, read_json
from edge_embed_export.files.stored import Array
from edge_embed_export.files.tensors import read_tensors
from edge_embed_export.modules.folder import QUERY_WEIGHTS, SETTINGS, Folder
from edge_embed_export.tokenizer.files import read_text
from edge_embed_export.tokenizer.parts import vocabulary
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import DENSE, SPARSE, Kind


@dataclass(frozen=True)
class Head:
    """What follows a model's last layer.

    pooling:     of a sparse head: the largest weight of all tokens, or their sum; "token": each has one weight, its own
    weightless:  of "token": ids that weigh nothing
    saturations: of a sparse head: how often log(1 + x) is taken; of the largest weights the runtime does it, of which
                 there are few then, and alike for all (see transformer/heads.py)
    unattended:  a token that no other sees
    types:       of a model that scores pairs, whether it is given the types of their tokens
    facts:       for the manifest (see `Manifest.head`)
    """

    kind: Kind = DENSE
    pooling: Literal["max", "sum", "token"] = "max"
    saturations: int = 1
    unattended: int | None = None
    weightless: tuple[int, ...] = ()
    types: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def sparse_head(folder: Folder, tokenizer: Mapping[str, Any], pooling: Path | None, table: Path | None) -> Head:
    """pooling, table: the folders of the modules SpladePooling and SparseStaticEmbedding, where there are such."""
    head = Head(SPARSE)
    settings, path = folder.settings, folder.path / SETTINGS
    _check_similarity(path, settings)
    config = read_json(pooling / "config.json") if pooling is not None else {}
    activation, strategy = config.get("activation_function", "relu"), config.get("pooling_strategy", "max")
    if activation not in ("relu", "log1p_relu") or strategy not in ("max", "sum"):
        raise ExportError(
            f"{pooling}: {activation!r:.40} with {strategy!r:.40} pooling is no SpladePooling that is known"
        )
    head = replace(head, saturations=1 if activation == "relu" else 2, pooling=strategy)
    facts: dict[str, Any] = {"saturations": head.saturations if strategy == "max" else 0}
    weights = _query_weights(folder.path, tokenizer) if table is None else _static_weights(table)
    if weights is not None:
        facts["query_weights"] = base64.b64encode(weights.astype("<f4").tobytes()).decode()
    if table is not None and (most := _query_tokens(folder, tokenizer, table)) is not None:
        facts["query_tokens"] = most
    most = settings.get("max_active_dims")
    if most is not None:
        facts["most"] = check_size(most, "max_active_dims", path)
    return replace(head, facts=facts)


def _check_similarity(path: Path, settings: Mapping[str, Any]) -> None:
    said = settings.get("similarity_fn_name")
    if settings.get("model_type") == "SparseEncoder" and said not in (None, "dot", "dot_product"):
        raise ExportError(
            f"{path}: similarity_fn_name is {said!r:.40}: weights of tokens are compared by dot products here, so that "
            "other documents would be found. Take it out to have that"
        )


def _query_tokens(folder: Folder, tokenizer: Mapping[str, Any], table: Path) -> int | None:
    """Tokens of a query, none of them special, that the table of a Router's side counts.

    Raises ExportError where its tokenizer is another than that of documents.
    """
    if not is_there(table / "tokenizer.json"):
        return None
    text = read_text(table, folder, {})
    around = ("post_processor", "truncation", "padding", "version")
    odd = [name for name in tokenizer if name not in around and text.tokenizer.get(name) != tokenizer[name]]
    if odd:
        raise ExportError(
            f"{table / 'tokenizer.json'}: {odd[0]} is another than of documents: a bundle has one for both"
        )
    return text.limit


def _static_weights(folder: Path) -> Array:
    """The weights [vocab] of a SparseStaticEmbedding."""
    config = optional_json(folder / "config.json")
    refuse_unknown(folder / "config.json", config, {"frozen", "path"} if config.get("path") is None else {"frozen"})
    weights = read_tensors(folder / "model.safetensors").get("weight")
    if weights is None or weights.ndim != 1 or not (weights >= 0).all():
        raise ExportError(f"{folder}: a SparseStaticEmbedding without the tensor 'weight' of numbers of 0 or more")
    return weights


def _query_weights(folder: Path, tokenizer: Mapping[str, Any]) -> Array | None:
    """A weight [vocab] for each token of a query, where the model has such a table."""
    path = next((folder / name for name in QUERY_WEIGHTS if is_there(folder / name)), None)
    if path is None:
        return None
    ids, found = vocabulary(tokenizer), read_json(path)
    weights = np.zeros(max(ids.values(), default=0) + 1, np.float32)
    for token, weight in found.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < np.inf:
            raise ExportError(f"{path}: the weight of {token!r:.40} is {weight!r:.40}, expected a number of 0 or more")
        if token in ids:
            weights[ids[token]] = weight
    if not weights.any():
        raise ExportError(f"{path} has a weight for no token of the tokenizer")
    return weights
