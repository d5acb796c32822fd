"""What families share: a checkpoint's numbers and tensors by name, turned into `Spec` and our names."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_embed_export.files.reading import check_size
from edge_embed_export.modules.listed import Mixed, as_steps
from edge_embed_export.options import Pooling
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.activations import ACTIVATIONS, Activation
from edge_embed_export.transformer.spec import Array, Spec, Weights
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import DENSE, MULTI, SPARSE

# Tokens of a text where neither the folder nor the caller sets a limit: more need gigabytes of attention.
LONGEST = 8192
# Tokens of a text where the folder sets a higher limit than the model's context: it means that there is none.
FURTHEST = 2**17
# BERT's tables of tokens, and of their types.
WORDS, TYPES = "embeddings.word_embeddings.weight", "embeddings.token_type_embeddings.weight"
# What most families call their sizes in config.json.
SIZES = {"hidden": "hidden_size", "heads": "num_attention_heads", "intermediate": "intermediate_size"}
# No model has more layers; a config that says so is not sound.
DEEPEST = 1000


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


def with_usual(config: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config by the names in `usual`, whose value counts where the config says nothing."""
    said = {name: config.get(name) for name in usual}
    return {name: usual[name] if value is None else value for name, value in said.items()}


class Reader:
    """Collects `weights` from a checkpoint; every error names the folder and what in it is wrong.

    anchor: a tensor that every model of the family has; what stands before it in the file (the name of a model with
            a head, say) stands before all others
    """

    def __init__(self, checkpoint: Checkpoint, anchor: str, config: Mapping[str, Any] | None = None) -> None:
        self.checkpoint = checkpoint
        self.config: Mapping[str, Any] = checkpoint.config if config is None else config
        found = [name for name in checkpoint.tensors if f".{name}".endswith(f".{anchor}")]
        self.prefix: str = min(found, key=len).removesuffix(anchor) if found else ""
        if anchor and not found:
            raise self.error(f"the weights have no tensor {anchor!r}; the checkpoint is not complete")
        self.weights: dict[str, Array] = {}

    # numbers of the config

    def count(self, name: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.config.get(name)
        path = self.checkpoint.folder / "config.json"
        return default if value is None and default is not None else check_size(value, name, path)

    def depth(self, name: str = "num_hidden_layers") -> int:
        """How many layers the model has."""
        count = self.count(name)
        if count > DEEPEST:
            raise self.error(f"{name} is {count}, expected at most {DEEPEST}")
        return count

    def real(self, name: str, default: float | None = None) -> float:
        """A positive number."""
        value = self.config.get(name)
        value = default if value is None else value
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
        if not fits:
            raise self.error(f"{name} is {value!r:.40}, expected a positive number")
        return float(value)  # type: ignore[arg-type]

    def epsilon(self, name: str, default: float) -> float:
        value = self.config.get(name, default)
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise self.error(f"{name} is {value!r:.40}, expected a small positive number")
        return float(value)

    def activation(self, name: str, default: str) -> Activation:
        return self.known(ACTIVATIONS, str(self.config.get(name) or default))

    def known(self, table: Mapping[str, Activation], name: str) -> Activation:
        if name not in table:
            raise self.error(f"the activation {name!r} is not supported ({', '.join(sorted(table))} are)")
        return table[name]

    def refuse(self, **settings: object) -> None:
        """Raise ExportError where the config has another value than the one that the graph has a form for."""
        for name, supported in settings.items():
            value = self.config.get(name)
            if value is not None and value != supported:
                raise self.error(f"{name} {value!r:.60} is not supported ({supported!r} is)")

    def error(self, message: str) -> ExportError:
        return ExportError(f"{self.checkpoint.folder}: {message}")

    # tensors

    def has(self, name: str) -> bool:
        return self.prefix + name in self.checkpoint.tensors

    def either(self, *names: str) -> str:
        """Of several names for one layer, or for the beginning of names, that which the file has."""
        held = self.checkpoint.tensors
        return next((name for name in names if any(key.startswith(f"{self.prefix}{name}.") for key in held)), names[0])

    @property
    def of_library(self) -> bool:
        """Whether the tensors of a model that moved into the library have the library's names, not its own code's."""
        return any(".self_attn." in name for name in self.checkpoint.tensors)

    def tensor(self, name: str, dims: int | None = None) -> Array:
        """A tensor by its name without the prefix. dims: how many it must have."""
        array = self.checkpoint.tensors.get(self.prefix + name)
        if array is None:
            raise self.error(f"the weights have no tensor {name!r}; the checkpoint is not complete")
        if dims is not None and (array.ndim != dims or 0 in array.shape):
            raise self.error(f"the tensor {name!r} has shape {array.shape}, expected {dims} dimensions with numbers")
        return array

    def linear(self, ours: str, theirs: str, *, bias: bool = True) -> None:
        """A linear layer, stored [out, in] there."""
        self.weights[f"{ours}.weight"] = self.tensor(f"{theirs}.weight", 2).T
        if bias:
            self.weights[f"{ours}.bias"] = self.tensor(f"{theirs}.bias", 1)

    def split(self, ours: Sequence[str], theirs: str, *, bias: bool = True) -> None:
        """Several linear layers of one width, stored as one [their widths together, in]."""
        names = {"weight": 2, "bias": 1} if bias else {"weight": 2}
        for part, dims in names.items():
            whole = self.tensor(f"{theirs}.{part}", dims)
            if len(whole) % len(ours):
                raise self.error(f"{theirs}.{part} has {len(whole)} rows, which are no {len(ours)} layers of one width")
            for name, rows in zip(ours, np.split(whole, len(ours)), strict=True):
                self.weights[f"{name}.{part}"] = rows.T

    def scaled(self, ours: str, factor: Array) -> None:
        """What a linear layer gives times a number for each of its outputs (layer scale)."""
        for part in ("weight", "bias"):
            if f"{ours}.{part}" in self.weights:
                self.weights[f"{ours}.{part}"] = np.asarray(self.weights[f"{ours}.{part}"]) * factor

    def norm(self, ours: str, theirs: str, *, bias: bool = True, offset: float = 0.0) -> None:
        """A norm; with an offset the file holds its weight less that."""
        weight = self.tensor(f"{theirs}.weight", 1)
        self.weights[f"{ours}.weight"] = weight + np.float32(offset) if offset else weight
        if bias:
            self.weights[f"{ours}.bias"] = self.tensor(f"{theirs}.bias", 1)

    def layers(self, names: Mapping[str, str], pattern: str, *, bias: bool = True) -> int:
        """Layers and norms, ours -> theirs, of every layer; `pattern` holds {} for its number. Gives their count."""
        count = self.depth()
        for i in range(count):
            for ours, theirs in names.items():
                read = self.norm if ours.endswith("norm") else self.linear
                read(f"layers.{i}.{ours}", f"{pattern.format(i)}.{theirs}", bias=bias)
        return count

    def words(self, name: str, token_types: str | None = None) -> Array:
        """The embedding table; every token of a text has type 0, so the vector of that is part of each row.

        Of a model that reads pairs, `embedding.type` is what the others differ by."""
        table = self.tensor(name, 2)
        return table if token_types is None else self.with_type(table, token_types)

    def with_type(self, table: Array, name: str) -> Array:
        """Rows [k, e] with the vector of token type 0 added."""
        types = self.tensor(name, 2)
        if types.shape[1] != table.shape[1]:
            raise self.error(f"the tensor {name!r} has shape {types.shape}, expected {table.shape[1]} columns")
        if self.checkpoint.head.types and name == TYPES and len(types) > 1:  # what tokens of other types have more
            self.weights["embedding.type"] = types - types[:1]
        return table + types[:1]

    def embed(self, norm: str = "embeddings.LayerNorm", *, types: bool = False, positions: Array | None = None) -> None:
        """The embeddings under BERT's names. types: whether the vector of token type 0 is part of each row"""
        self.weights["embedding.word"] = self.words(WORDS, TYPES if types else None)
        if positions is not None:
            self.weights["embedding.position"] = positions
        if norm:
            self.norm("embedding.norm", norm)

    def kinds(self, layers: int, usual: Sequence[str]) -> list[str]:
        """The kind of each layer, "full_attention" or "sliding_attention". usual: where `layer_types` is missing"""
        kinds = self.config.get("layer_types")
        if kinds is None:
            return list(usual)
        if not isinstance(kinds, list) or len(kinds) != layers:
            count = len(kinds) if isinstance(kinds, list) else 0
            raise self.error(f"layer_types has {count} entries for {layers} layers")
        for kind in kinds:
            if kind not in ("full_attention", "sliding_attention"):
                raise self.error(f"layer_types names {kind!r:.40}, which is not supported")
        return kinds

    # the whole

    def reach(self, tokens: int) -> int:
        """As `limit`, for models whose positions have no end: what the folder says counts, up to FURTHEST."""
        said = self.checkpoint.max_tokens
        return min(LONGEST, tokens) if said is None else min(said, max(tokens, FURTHEST))

    def limit(self, tokens: int) -> int:
        """Tokens of a text: what the folder says, at most `tokens`; at most LONGEST where it says nothing."""
        return min(self.checkpoint.max_tokens or LONGEST, tokens)

    def _left_out(self, pooling: Pooling) -> str:
        """Which tokens are not pooled; where the last token alone is, none of a prompt's is."""
        how = self.checkpoint.left_out if pooling != "last" else ""
        if how and "cls" in pooling.split("+"):
            raise self.error(
                "the pooling has include_prompt false and takes the first token, which sentence-transformers "
                "understands in two ways: in releases before 5.4 the first of all, then the first behind the prompt"
            )
        return how

    def finish(self, *, pooling: Pooling = "mean", **fields: Any) -> tuple[Spec, Weights]:
        """The model, with what is the same in all families: pooling and the layers after it.

        pooling: where the folder does not say
        fields:  of `Spec`; sizes that are not given stand in config.json under their usual names
        """
        for name, usual in SIZES.items():
            if name not in fields:
                fields[name] = self.count(usual)
        head, given = self.checkpoint.head, self.checkpoint
        how = "tokens" if head.kind.by_token else given.pooling or pooling
        steps, weights = as_steps(given.of_tokens, given.after, fields["hidden"], how)
        self.weights |= weights
        own: dict[str, Any] = {"pooling": how, "left_out": self._left_out(how), **steps}
        if head.kind is SPARSE:
            if steps["projections"]:
                raise self.error("a sparse model has no Dense layers")
            own |= {"kind": SPARSE, "pooling": head.pooling, "saturations": head.saturations}
            if head.pooling == "token":
                self.weights |= given.head_weights
                own |= {"dim": len(self.weights["embedding.word"]), "weightless": head.weightless}
            else:
                own |= read_masked(self)
        elif head.kind is MULTI:
            own |= {"kind": MULTI, "unattended": head.unattended}
        spec = Spec(vocab=len(self.weights["embedding.word"]), **{**own, **fields})
        return (spec if given.mixed is None else replace(spec, mix=self.mix(spec, given.mixed))), self.weights

    def mix(self, spec: Spec, mixed: Mixed) -> tuple[float, ...]:
        """`Spec.mix` of a WeightedLayerPooling."""
        if self.config.get("output_hidden_states") is not True:
            raise self.error(
                f"{mixed.path} weights the states of all layers, and config.json has no output_hidden_states: true, "
                "without which sentence-transformers has none: set it, or take the module out of modules.json"
            )
        if spec.norm != "post" or spec.kind is not DENSE:
            raise self.error(f"{mixed.path} weights states of layers: there is no form for that here")
        states, weights = len(spec.blocks) + 1, mixed.weights
        if mixed.start + len(weights) != states:
            raise self.error(
                f"{mixed.path} has {len(weights)} weights from state {mixed.start} on; the model has {states} states"
            )
        return (*[0.0] * mixed.start, *(float(share) for share in weights / weights.sum()))


def read_masked(read: Reader) -> dict[str, Any]:
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


def _one_bias(read: Reader, names: MaskedHead, none: bool, vocab: int) -> Array:
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
