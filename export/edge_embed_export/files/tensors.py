"""Tensors from safetensors files: one or several shards, any float type."""

import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from edge_embed_export.files.accounting import check_shard, check_whole
from edge_embed_export.files.formats import missing_weights
from edge_embed_export.files.openclip import OPEN_CLIP_WEIGHTS
from edge_embed_export.files.pickled import in_place_of, read_pickle
from edge_embed_export.files.reading import is_there, read_json, sha256_of
from edge_embed_export.files.stored import KINDS, Array, MappedFile, Stored
from edge_embed_runtime.errors import ExportError, SourceError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.files import check_regular, open_regular

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_tensors(path: Path, *, others: bool = False) -> dict[str, Array]:
    """The float tensors of one small safetensors file, as float32 in memory. others: see `map_tensors`."""
    return {name: np.array(array) for name, array in map_tensors(path, others=others).items()}


def map_tensors(path: Path, *, others: bool = False) -> dict[str, Array]:
    """The float tensors of one safetensors file, which are read when they are asked for (see stored.py).

    others: the caller reads what else there is

    Raises ExportError where the file is not whole; numbers that are not finite are found when they are read.
    """
    pickle = in_place_of(path)
    if pickle is not None:
        return read_pickle(pickle, lambda file: _mapped(file, pickle, others=others))
    if not is_there(path):
        raise missing_weights(path)
    return _mapped(path, path, others=others)


def _mapped(path: Path, said: Path, *, others: bool) -> dict[str, Array]:
    """The tensors of a safetensors file. said: the file that errors name"""
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
        raise ExportError(f"{said} is not a whole safetensors file: {error}") from error
    mapped.path = said
    found = {}
    for name in names:
        kind, shape, (start, _) = (header[name][part] for part in ("dtype", "shape", "data_offsets"))
        if kind in KINDS:
            stored = Stored(mapped, name, mapped.raw(kind, 8 + size + start, tuple(shape)))
            found[name] = cast("Array", stored)
        elif not others:
            check_whole(said, name, kind)
    return found


def read_weights(folder: Path) -> tuple[dict[str, Array], str]:
    """All tensors of a model folder, and the sha256 of the file that holds them (of several: of their sha256)."""
    named = folder / WEIGHTS
    whole = in_place_of(named) or named
    index = folder / INDEX if is_there(folder / INDEX) else in_place_of(folder / INDEX)
    if index is None and not is_there(whole):
        named = _of_open_clip(folder) or named
        whole = in_place_of(named) or named
    if is_there(named) or index is None or (index.name != INDEX and whole.name != WEIGHTS):
        tensors, files = map_tensors(named), [whole]
    else:
        tensors, files = _shards(index)
    renamed = {name: re.sub(r"LayerNorm\.(gamma|beta)$", _modern, name) for name in tensors}
    twice = next((new for old, new in renamed.items() if old != new and new in tensors), None)
    if twice is not None:
        raise ExportError(f"{folder}: the tensor {twice!r} is there twice, also under the name of gamma or beta")
    # what layer norms were called before PyTorch's names
    tensors = {renamed[name]: array for name, array in tensors.items()}
    hashes = [sha256_of(path) for path in files]
    return tensors, hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _of_open_clip(folder: Path) -> Path | None:
    """Where the weights of OpenCLIP's own form are, as safetensors; None where there are none."""
    path = folder / OPEN_CLIP_WEIGHTS
    return path if is_there(path) or in_place_of(path) is not None else None


def _shards(index: Path) -> tuple[dict[str, Array], list[Path]]:
    """The tensors of the files that an index names, and those files."""
    shards = read_json(index).get("weight_map")
    ending = index.name.removesuffix(".index.json").rpartition(".")[2]
    if not isinstance(shards, dict) or not all(_is_file_name(shard, ending) for shard in shards.values()):
        raise ExportError(f"{index}: weight_map must name a file of this folder for each tensor")
    files = [index.with_name(name) for name in sorted(set(shards.values()))]
    tensors: dict[str, Array] = {}
    for file in files:
        pickle = file if ending == "bin" else None
        if pickle is not None and not is_there(file):
            raise SourceError(f"{file} is missing", path=file, code="source_missing")
        found = map_tensors(file) if pickle is None else read_pickle(file, partial(_mapped, said=file, others=False))
        check_shard(index, shards, file, found)
        tensors |= found
    return tensors, files


def _modern(name: re.Match[str]) -> str:
    return f"LayerNorm.{'weight' if name[1] == 'gamma' else 'bias'}"


def _is_file_name(name: object, ending: str) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(f".{ending}")
