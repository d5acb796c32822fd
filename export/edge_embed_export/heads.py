"""What a model gives for a text besides one vector: a weight for each token of the vocabulary (SPLADE), or a vector for
each token of the text (ColBERT). Read from the folder's own files."""

import base64
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge_embed_export.reading import is_there, optional_json, read_json
from edge_embed_export.stored import Array
from edge_embed_export.tensors import read_tensors
from edge_embed_runtime.errors import ExportError

if TYPE_CHECKING:
    from edge_embed_export.families.reading import Reader

Kind = Literal["dense", "sparse", "multi"]

# Where a folder says nothing: of ColBERT's queries and documents, markers included (arXiv:2004.12832).
QUERY_LENGTH, DOCUMENT_LENGTH = 32, 180
LONGEST_QUERY = 512
MARKERS = ("[unused0]", "[unused1]")
# What sentence-transformers says of a model as a whole.
SETTINGS = "config_sentence_transformers.json"
# Files with a weight for each token of a query, of models that run no network on queries.
QUERY_WEIGHTS = ("idf.json", "query_token_weights.json")


@dataclass(frozen=True)
class Head:
    """What follows a model's last layer.

    pooling:     of a sparse head: the largest weight of all tokens, or their sum
    saturations: of a sparse head: how often log(1 + x) is taken; of the largest weights the runtime does it, of which
                 there are few then, and alike for all (see headgraph.LANES)
    unattended:  a token that no other sees
    facts:       for the manifest (see `Manifest.head`)
    """

    kind: Kind = "dense"
    pooling: Literal["max", "sum"] = "max"
    saturations: int = 1
    unattended: int | None = None
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
    return replace(head, facts=facts)


def _static_weights(folder: Path) -> Array:
    """The weights [vocab] of a SparseStaticEmbedding."""
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


def multi_head(folder: Path, tokenizer: Mapping[str, Any]) -> tuple[Head, int]:
    """The head of a ColBERT model, and the length of its documents, from PyLate's or ColBERT's own settings."""
    path = folder / "artifact.metadata"
    if is_there(path):
        known = {
            "query_length": "query_maxlen",
            "document_length": "doc_maxlen",
            "query_prefix": "query_token_id",
            "document_prefix": "doc_token_id",
            "attend_to_expansion_tokens": "attend_to_mask_tokens",
        }
        given = read_json(path)
        settings = {ours: given[theirs] for ours, theirs in known.items() if given.get(theirs) is not None}
        settings["skiplist_words"] = None if given.get("mask_punctuation", True) else []
    else:
        path = folder / "config_sentence_transformers.json"
        settings = optional_json(path)
    lengths = [settings.get("query_length", QUERY_LENGTH), settings.get("document_length", DOCUMENT_LENGTH)]
    if (
        any(isinstance(n, bool) or not isinstance(n, int) or not 4 <= n < 2**20 for n in lengths)
        or lengths[0] > LONGEST_QUERY
    ):
        raise ExportError(f"{path}: queries of {lengths[0]!r:.40} and documents of {lengths[1]!r:.40} tokens")
    ids = vocabulary(tokenizer)
    markers = [settings.get(name, old) for name, old in zip(("query_prefix", "document_prefix"), MARKERS, strict=True)]
    unknown = [marker for marker in markers if marker and marker not in ids]
    if unknown:
        raise ExportError(f"{path}: the marker {unknown[0]!r:.40} is no token of the tokenizer")
    expand = settings.get("do_query_expansion", True) is not False
    if expand and "[MASK]" not in ids and "<mask>" not in ids:
        raise ExportError(f"{folder}: queries are filled up with [MASK], which the tokenizer does not have")
    mask = ids.get("[MASK]", ids.get("<mask>")) if expand else None
    words = settings.get("skiplist_words")
    skipped = list(string.punctuation) if not isinstance(words, list) else words
    facts = {
        "query_marker": ids.get(markers[0]) if markers[0] else None,
        "document_marker": ids.get(markers[1]) if markers[1] else None,
        "query_length": lengths[0],
        "expansion": mask,
        "skip": sorted({ids[word] for word in skipped if word in ids}),
    }
    attended = settings.get("attend_to_expansion_tokens") is True
    return Head("multi", unattended=None if attended else mask, facts=facts), lengths[1]


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
