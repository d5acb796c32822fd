"""Adapters in peft's format added to the weights of their model: LoRA (arXiv:2106.09685) with what peft adds to it.

Sources: tuners/lora/layer.py, tuners/lora/dora.py and utils/save_and_load.py of peft 0.21.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.files.accounting import harmless_of_adapter
from edge_embed_export.files.reading import is_there, read_json
from edge_embed_export.files.stored import Array, as_stored
from edge_embed_export.files.tensors import read_tensors
from edge_embed_runtime.errors import ExportError

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
PREFIX = "base_model.model."
# What a name ends in -> what it is; any other is a tensor in place of the model's own (modules_to_save, biases).
PARTS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.bias": "bias",
    ".lora_embedding_A": "down",
    ".lora_embedding_B": "up",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".token_adapter.trainable_tokens_delta": "rows",
}


@dataclass
class Change:
    """What an adapter does to a layer: W + scale * up @ down, or of a table its transpose.

    magnitude: of DoRA (arXiv:2402.09353): the length that each number that the layer gives has its weights brought to
    rows:      of a table, that stand in place of its own
    """

    parts: dict[str, Array] = field(default_factory=dict)
    table: bool = False


def base_folder(folder: Path) -> Path:
    """The folder of the model itself: of a folder that holds an adapter alone, the one that its config names.

    Raises ExportError where there is none here.
    """
    if is_there(folder / "config.json") or not is_there(folder / ADAPTER[0]):
        return folder
    named = str(read_json(folder / ADAPTER[0]).get("base_model_name_or_path"))
    if not is_there(Path(named) / "config.json"):
        raise ExportError(
            f"{folder} holds an adapter alone, for the model {named!r:.200}, which is no folder here: export the "
            f"folder of that model, with --adapter {folder}"
        )
    if not is_there(folder / "modules.json"):
        raise ExportError(
            f"{folder} holds an adapter alone, and does not say how vectors are pooled: export {named}, with "
            f"--adapter {folder}"
        )
    return Path(named)


def fold_adapter(tensors: dict[str, Array], folder: Path) -> dict[str, Array]:
    """The weights with an adapter added; those that it changes are computed when they are asked for.

    folder: holds adapter_config.json and adapter_model.safetensors
    """
    config, stored = read_json(folder / ADAPTER[0]), read_tensors(folder / ADAPTER[1])
    odd = [name for name, value in config.items() if not harmless_of_adapter(name, value)]
    if config.get("peft_type") != "LORA" or odd:
        raise ExportError(
            f"{folder}: only LoRA adapters can be folded, this one has "
            f"{f'{odd[0]} {config[odd[0]]!r:.60}' if odd else 'no peft_type LORA'}"
        )
    folded = dict(tensors)
    changes: dict[str, Change] = {}
    for name, array in stored.items():
        suffix = next((suffix for suffix in PARTS if name.endswith(suffix)), None)
        if suffix is None:
            own = name.removeprefix(PREFIX).replace(".base_layer.", ".")
            folded[_find(folder, tensors, own, array.shape)] = array
            continue
        change = changes.setdefault(name.removesuffix(suffix).removeprefix(PREFIX), Change())
        change.parts[PARTS[suffix]] = array
        change.table |= "embedding" in suffix
    if not changes:
        raise ExportError(f"{folder}: the adapter holds no pairs of lora_A and lora_B")
    _check_whole(folder, config, stored)
    for module, change in changes.items():
        _apply(folder, config, module, change, folded)
    return folded


def _check_whole(folder: Path, config: Mapping[str, Any], stored: Mapping[str, Array]) -> None:
    """Raise ExportError where tensors are missing that the config says were trained whole."""
    whole = [name for name in stored if not any(name.endswith(suffix) for suffix in PARTS)]
    bias = config.get("bias") or "none"
    if bias not in ("none", "all", "lora_only"):
        raise ExportError(f"{folder / ADAPTER[0]}: bias is {bias!r:.40}, expected 'none', 'all' or 'lora_only'")
    if bias != "none" and not any(name.endswith(".bias") for name in whole):
        raise ExportError(f"{folder / ADAPTER[0]}: bias is {bias!r}, and {ADAPTER[1]} has none")
    saved = config.get("modules_to_save") or []
    lost = [module for module in saved if not any(f".{module}." in f".{name}" for name in whole)]
    if lost:
        raise ExportError(
            f"{folder / ADAPTER[0]}: modules_to_save names {lost[0]!r:.60}, of which {ADAPTER[1]} has none"
        )
    rows = config.get("trainable_token_indices")
    if rows and not any(name.endswith("trainable_tokens_delta") for name in stored):
        raise ExportError(f"{folder / ADAPTER[0]}: trainable_token_indices, of which {ADAPTER[1]} has no rows")


def _apply(folder: Path, config: Mapping[str, Any], module: str, change: Change, folded: dict[str, Array]) -> None:
    """Put what an adapter makes of a layer into `folded`."""
    parts = change.parts
    for key, part in (("use_dora", "magnitude"), ("lora_bias", "bias")):
        if bool(config.get(key)) != (part in parts) and "up" in parts:
            raise ExportError(
                f"{folder}: {ADAPTER[0]} says {key} {config.get(key)!r:.40}, and the adapter of {module} has "
                f"{'a' if part in parts else 'no'} {part}"
            )
    if "rows" in parts:
        name = _find(folder, folded, f"{module}.weight", (None, parts["rows"].shape[1]))
        folded[name] = _later(folded[name], _with_rows(folder, config, module, parts["rows"], len(folded[name])))
        if parts.keys() == {"rows"}:
            return
    if not {"down", "up"} <= parts.keys():
        raise ExportError(f"{folder}: the adapter of {module} has {sorted(parts)}, and no pair of lora_A and lora_B")
    down, up = parts["down"], parts["up"]
    if down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0]:
        raise ExportError(f"{folder}: lora_A {down.shape} and lora_B {up.shape} of {module} do not fit each other")
    shape = (up.shape[0], down.shape[1])
    name = _find(folder, folded, f"{module}.weight", shape[::-1] if change.table else shape)
    scale = _scale(folder, config, module, len(down))
    folded[name] = _later(folded[name], _Adding(scale, up, down, parts.get("magnitude"), change.table))
    if "bias" in parts:
        bias = _find(folder, folded, f"{module}.bias", parts["bias"].shape)
        folded[bias] = np.asarray(folded[bias]) + np.float32(scale) * parts["bias"]


@dataclass(frozen=True)
class _Adding:
    """A weight with its change, when it is asked for: all of them together are as large as the model."""

    scale: float
    up: Array
    down: Array
    magnitude: Array | None
    table: bool

    def __call__(self, weight: Array) -> Array:
        change = np.float32(self.scale) * (self.up @ self.down)
        found = np.asarray(weight + (change.T if self.table else change))
        if self.magnitude is None:
            return found
        axis = 0 if self.table else 1  # of what the layer gives, each number has one length
        lengths = np.sqrt(np.square(found, dtype=np.float64).sum(axis, keepdims=True)).astype(np.float32)
        return np.asarray(found * (self.magnitude.reshape(lengths.shape) / lengths), np.float32)


def _with_rows(
    folder: Path, config: Mapping[str, Any], module: str, rows: Array, vocab: int
) -> Callable[[Array], Array]:
    """A table with some rows in place of its own (`trainable_token_indices`)."""
    said = config.get("trainable_token_indices")
    if isinstance(said, dict):
        said = next((ids for name, ids in said.items() if re.fullmatch(rf"(.*\.)?{re.escape(name)}", module)), None)
    if (
        not isinstance(said, list)
        or len(said) != len(rows)
        or not all(type(id_) is int and 0 <= id_ < vocab for id_ in said)
    ):
        raise ExportError(f"{folder / ADAPTER[0]}: trainable_token_indices does not say which rows of {module} change")
    ids = list(said)

    def changed(table: Array) -> Array:
        found = np.array(table)
        found[ids] = rows
        return found

    return changed


def _later(weight: Array, step: Callable[[Array], Array]) -> Array:
    lying = as_stored(weight)
    return step(weight) if lying is None else lying.then(step)


def _scale(folder: Path, config: Mapping[str, Any], module: str, rank: int) -> float:
    """What the product of both parts is multiplied by; rank_pattern and alpha_pattern name layers."""
    said, alpha = (
        _patterned(folder, config, f"{name}_pattern", module, config.get(usual))
        for name, usual in (("rank", "r"), ("alpha", "lora_alpha"))
    )
    if type(said) is not int or said < 1 or isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise ExportError(f"{folder}: r {said!r:.40} and lora_alpha {alpha!r:.40} must be positive numbers")
    if said != rank:
        raise ExportError(f"{folder}: the adapter of {module} has rank {rank}, {ADAPTER[0]} says {said}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _patterned(folder: Path, config: Mapping[str, Any], name: str, module: str, usual: object) -> object:
    """What a pattern, which is a regular expression of the end of a layer's name, says of it; the first counts."""
    patterns = config.get(name) or {}
    if not isinstance(patterns, dict):
        raise ExportError(f"{folder / ADAPTER[0]}: {name} is {patterns!r:.60}, expected an object")
    for pattern, value in patterns.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise ExportError(f"{folder / ADAPTER[0]}: {name} has {pattern!r:.60}, which is none: {error}") from error
    return usual


def _find(folder: Path, tensors: Mapping[str, Array], own: str, shape: tuple[int | None, ...]) -> str:
    """The tensor of the model that a name of an adapter means, which may lack what stands before it."""
    found = [name for name in tensors if f".{name}".endswith(f".{own}") or f".{own}".endswith(f".{name}")]
    fits = len(found) == 1 and len(tensors[found[0]].shape) == len(shape)
    if not fits or any(n not in (None, m) for n, m in zip(shape, tensors[found[0]].shape, strict=True)):
        raise ExportError(f"{folder}: the adapter of {own} fits no tensor of the model")
    return found[0]
