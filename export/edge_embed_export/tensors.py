"""Tensors from safetensors files: one or several shards, any float type, adapters folded in."""

import hashlib
import json
import math
import re
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.accounting import check_shard, check_whole, harmless_of_adapter
from edge_embed_export.formats import missing_weights
from edge_embed_export.reading import is_there, read_json, sha256_of
from edge_embed_export.stored import KINDS, MappedFile, Stored, as_stored
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.extras import require
from edge_embed_runtime.regular import check_regular, open_regular

Array = NDArray[np.float32]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def read_tensors(path: Path, *, others: bool = False) -> dict[str, Array]:
    """The float tensors of one small safetensors file, as float32 in memory. others: see `map_tensors`."""
    return {name: np.array(array) for name, array in map_tensors(path, others=others).items()}


def map_tensors(path: Path, *, others: bool = False) -> dict[str, Array]:
    """The float tensors of one safetensors file, which are read when they are asked for (see stored.py).

    others: the caller reads what else there is

    Raises ExportError where the file is not whole; numbers that are not finite are found when they are read.
    """
    if not is_there(path):
        raise missing_weights(path)
    check_regular(path)  # safetensors opens it by its name
    safetensors = require("safetensors", "export")
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            names = list(file.keys())
        with open_regular(path) as source:
            size = int.from_bytes(source.read(8), "little")
            header = json.loads(source.read(size))
        mapped = MappedFile(path)
    except (safetensors.SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise ExportError(f"{path} is not a whole safetensors file: {error}") from error
    found = {}
    for name in names:
        kind, shape, (start, _) = (header[name][part] for part in ("dtype", "shape", "data_offsets"))
        if kind in KINDS:
            stored = Stored(mapped, name, kind, mapped.raw(kind, 8 + size + start, tuple(shape)))
            found[name] = cast("Array", stored)
        elif not others:
            check_whole(path, name, kind)
    return found


def read_weights(folder: Path) -> tuple[dict[str, Array], str]:
    """All tensors of a model folder, and the sha256 of the file that holds them (of several: of their sha256)."""
    if is_there(folder / WEIGHTS) or not is_there(folder / INDEX):
        tensors, files = map_tensors(folder / WEIGHTS), [folder / WEIGHTS]
    else:
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(_is_file_name(shard) for shard in shards.values()):
            raise ExportError(f"{folder / INDEX}: weight_map must name a file of this folder for each tensor")
        files = [folder / name for name in sorted(set(shards.values()))]
        tensors = {}
        for file in files:
            found = map_tensors(file)
            check_shard(folder / INDEX, shards, file, found)
            tensors |= found
    renamed = {name: re.sub(r"LayerNorm\.(gamma|beta)$", _modern, name) for name in tensors}
    twice = next((new for old, new in renamed.items() if old != new and new in tensors), None)
    if twice is not None:
        raise ExportError(f"{folder}: the tensor {twice!r} is there twice, also under the name of gamma or beta")
    # what layer norms were called before PyTorch's names
    tensors = {renamed[name]: array for name, array in tensors.items()}
    hashes = [sha256_of(path) for path in files]
    return tensors, hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _modern(name: re.Match[str]) -> str:
    return f"LayerNorm.{'weight' if name[1] == 'gamma' else 'bias'}"


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def fold_adapter(tensors: dict[str, Array], folder: Path) -> dict[str, Array]:
    """The weights with a LoRA adapter (arXiv:2106.09685) of peft's format added: W + B A alpha / rank.

    folder: holds adapter_config.json and adapter_model.safetensors
    """
    config, changes = read_json(folder / ADAPTER[0]), read_tensors(folder / ADAPTER[1])
    odd = [name for name, value in config.items() if not harmless_of_adapter(name, value)]
    if config.get("peft_type") != "LORA" or odd:
        raise ExportError(
            f"{folder}: only plain LoRA adapters can be folded, this one has {odd or 'no peft_type LORA'}"
        )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not (isinstance(rank, int) and isinstance(alpha, int | float) and rank > 0):
        raise ExportError(f"{folder}: r {rank!r:.40} and lora_alpha {alpha!r:.40} must be positive numbers")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    folded, suffix = dict(tensors), ".lora_A.weight"
    modules = [name.removesuffix(suffix) for name in changes if name.endswith(suffix)]
    if not modules or {f"{m}.lora_{part}.weight" for m in modules for part in "AB"} != set(changes):
        raise ExportError(f"{folder}: the adapter holds other tensors than pairs of lora_A and lora_B")
    for module in modules:
        own = f"{module.removeprefix('base_model.model.')}.weight"
        found = [name for name in tensors if f".{name}".endswith(f".{own}") or f".{own}".endswith(f".{name}")]
        down, up = changes[f"{module}.lora_A.weight"], changes[f"{module}.lora_B.weight"]
        if (
            len(found) != 1
            or (up.shape[0], down.shape[-1]) != tensors[found[0]].shape
            or up.shape[1:] != down.shape[:1]
        ):
            raise ExportError(f"{folder}: the adapter of {own} fits no tensor of the model")
        add, lying = partial(_add, np.float32(scale), up, down), as_stored(tensors[found[0]])
        folded[found[0]] = add(tensors[found[0]]) if lying is None else lying.then(add)
    return folded


def _add(scale: np.float32, up: Array, down: Array, weight: Array) -> Array:
    """A weight with its change, when it is asked for: all of them together are as large as the model."""
    return np.asarray(weight + scale * (up @ down))
