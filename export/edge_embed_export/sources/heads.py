"""What a model gives for a text besides one vector: a weight for each token of the vocabulary (SPLADE), or a vector for
each token of the text (ColBERT, see multihead.py). Read from the folder's own files."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_embed_export.sources.accounting import refuse_unknown
from edge_embed_export.sources.files import is_there, optional_json, read_json
from edge_embed_export.sources.stored import Array
from edge_embed_export.sources.tensors import read_tensors
from edge_embed_export.tokenizer.files import read_text
from edge_embed_runtime.errors import ExportError

if TYPE_CHECKING:
    from edge_embed_export.families.reader import Reader

Kind = Literal["dense", "sparse", "multi"]

# What sentence-transformers says of a model as a whole.
SETTINGS = "config_sentence_transformers.json"
# Files with a weight for each token of a query, of models that run no network on queries.
QUERY_WEIGHTS = ("idf.json", "query_token_weights.json")


@dataclass(frozen=True)
class Head:
    """What follows a model's last layer.

    pooling:     of a sparse head: the largest weight of all tokens, or their sum; "token": each has one weight, its own
    weightless:  of "token": ids that weigh nothing
    saturations: of a sparse head: how often log(1 + x) is taken; of the largest weights the runtime does it, of which
                 there are few then, and alike for all (see headgraph.LANES)
    unattended:  a token that no other sees
    facts:       for the manifest (see `Manifest.head`)
    """

    kind: Kind = "dense"
    pooling: Literal["max", "sum", "token"] = "max"
    saturations: int = 1
    unattended: int | None = None
    weightless: tuple[int, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskedHead:
    """Names of a masked language model's head: dense, activation, norm, then the product with every token's row."""

    dense: str
    norm: str
    decoder: str
    biases: tuple[str, ...]
    activation: str | None = None


_ROBERTA = MaskedHead(
    "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder.weight", ("lm_head.bias", "lm_head.decoder.bias")
)
_BERT = "cls.predictions"
# by model_type; `activation` names the config's field, None is gelu
MASKED: dict[str, MaskedHead] = {
    "bert": MaskedHead(
        f"{_BERT}.transform.dense",
        f"{_BERT}.transform.LayerNorm",
        f"{_BERT}.decoder.weight",
        (f"{_BERT}.bias", f"{_BERT}.decoder.bias"),
        "hidden_act",
    ),
    "distilbert": MaskedHead(
        "vocab_transform", "vocab_layer_norm", "vocab_projector.weight", ("vocab_projector.bias",), "activation"
    ),
    "modernbert": MaskedHead("head.dense", "head.norm", "decoder.weight", ("decoder.bias",), "classifier_activation"),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet"), _ROBERTA),
}


def told_kind(folder: Path) -> Kind | None:
    """What a folder says that it gives, besides in modules.json, or None."""
    path = folder / SETTINGS
    if path.is_file() and read_json(path).get("model_type") == "SparseEncoder":
        return "sparse"
    return "sparse" if any((folder / name).is_file() for name in QUERY_WEIGHTS) else None


def sparse_head(folder: Path, tokenizer: Mapping[str, Any], pooling: Path | None, table: Path | None) -> Head:
    """pooling, table: the folders of the modules SpladePooling and SparseStaticEmbedding, where there are such."""
    head = Head("sparse")
    settings = optional_json(folder / SETTINGS)
    _check_similarity(folder / SETTINGS, settings)
    config = read_json(pooling / "config.json") if pooling is not None else {}
    activation, strategy = config.get("activation_function", "relu"), config.get("pooling_strategy", "max")
    if activation not in ("relu", "log1p_relu") or strategy not in ("max", "sum"):
        raise ExportError(
            f"{pooling}: {activation!r:.40} with {strategy!r:.40} pooling is no SpladePooling that is known"
        )
    head = replace(head, saturations=1 if activation == "relu" else 2, pooling=strategy)
    facts: dict[str, Any] = {"saturations": head.saturations if strategy == "max" else 0}
    weights = _query_weights(folder, tokenizer) if table is None else _static_weights(table)
    if weights is not None:
        facts["query_weights"] = base64.b64encode(weights.astype("<f4").tobytes()).decode()
    if table is not None and (most := _query_tokens(folder, tokenizer, table)) is not None:
        facts["query_tokens"] = most
    most = settings.get("max_active_dims")
    if most is not None:
        if type(most) is not int or most < 1:
            raise ExportError(f"{folder / SETTINGS}: max_active_dims is {most!r:.40}, expected a positive whole number")
        facts["most"] = most
    return replace(head, facts=facts)


def _check_similarity(path: Path, settings: Mapping[str, Any]) -> None:
    said = settings.get("similarity_fn_name")
    if settings.get("model_type") == "SparseEncoder" and said not in (None, "dot", "dot_product"):
        raise ExportError(
            f"{path}: similarity_fn_name is {said!r:.40}: weights of tokens are compared by dot products here, so that "
            "other documents would be found. Take it out to have that"
        )


def _query_tokens(folder: Path, tokenizer: Mapping[str, Any], table: Path) -> int | None:
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


def vocabulary(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Token to id of a tokenizer.json, added tokens included."""
    try:
        model = tokenizer["model"]["vocab"]
        ids = dict(model) if isinstance(model, dict) else {entry[0]: i for i, entry in enumerate(model)}
        added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or ()}
        return {str(token): int(id_) for token, id_ in {**ids, **added}.items()}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ExportError(f"tokenizer.json has no vocabulary: {error!r}") from error


def read_masked(read: "Reader") -> dict[str, Any]:
    """Put the weights of a masked language model's head into `read.weights`; gives what `Spec` has to say of it."""
    kind, tensors = read.checkpoint.architecture, read.checkpoint.tensors
    names = MASKED.get(kind)
    if names is None or f"{names.dense}.weight" not in tensors:
        raise read.error(
            f"no head of a masked language model was found; a sparse model needs one ({', '.join(MASKED)})"
        )
    config = read.config
    found: dict[str, Array] = {"head.dense.weight": np.ascontiguousarray(tensors[f"{names.dense}.weight"].T)}
    # ModernBERT's config says which biases it has; the others have them all
    own = kind == "modernbert"
    has = {
        "head.dense.bias": (f"{names.dense}.bias", bool(config.get("classifier_bias")) if own else True),
        "head.norm.weight": (f"{names.norm}.weight", True),
        "head.norm.bias": (f"{names.norm}.bias", bool(config.get("norm_bias")) if own else True),
    }
    for ours, (theirs, expected) in has.items():
        if expected and theirs not in tensors:
            raise read.error(f"the weights have no tensor {theirs!r}; the checkpoint is not complete")
        if expected:
            found[ours] = tensors[theirs]
    table = read.weights["embedding.word"]
    found["head.bias"] = _one_bias(read, names, own and config.get("decoder_bias") is False, len(table))
    # tied in nearly all models: then it is stored once
    decoder = tensors.get(names.decoder)
    if decoder is None and config.get("tie_word_embeddings") is False:
        raise read.error(f"the weights have no tensor {names.decoder!r}, and config.json does not tie it to the table")
    if decoder is not None and not np.array_equal(decoder, table):
        found["head.decoder"] = decoder
    read.weights |= found
    activation = read.activation(names.activation, "gelu") if names.activation else "gelu"
    return {"head_activation": activation, "dim": len(table)}


def _one_bias(read: "Reader", names: MaskedHead, none: bool, vocab: int) -> Array:
    """The bias [vocab] of the last product: one tensor, stored under one of its names or under both."""
    tensors = read.checkpoint.tensors
    stored = [name for name in names.biases if name in tensors]
    if none and not stored:
        return np.zeros(vocab, np.float32)
    if not stored:
        raise read.error(f"the weights have no tensor {names.biases[0]!r}; the checkpoint is not complete")
    biases = [tensors[name] for name in stored]
    if any(not np.array_equal(bias, biases[0]) for bias in biases):
        raise read.error(f"the tensors {stored[0]!r} and {stored[1]!r} differ, though they are one and the same")
    return biases[0]
