"""What modules.json lists: the modules of a sentence-transformers folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.heads import Kind
from edge_embed_export.reading import is_there, read_json
from edge_embed_export.spec import Pooling
from edge_embed_export.tensors import Array, read_tensors
from edge_embed_runtime.errors import ExportError


@dataclass(frozen=True)
class Dense:
    """A sentence-transformers Dense module: x @ weight [n, m] + bias, then an activation (its torch class path)."""

    weight: Array
    bias: Array | None
    activation: str


def _pooling(config: dict[str, Any], path: Path) -> Pooling:
    modes: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
        "pooling_mode_weightedmean_tokens": "weighted_mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_lasttoken": "last",
    }
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in modes:
        raise ExportError(f"{path}: pooling {chosen or 'none'} is not supported; expected one of {sorted(modes)}")
    return modes[chosen[0]]


def _dense(folder: Path) -> Dense:
    config = read_json(folder / "config.json")
    arrays = read_tensors(folder / "model.safetensors")
    if "linear.weight" not in arrays:
        raise ExportError(f"{folder}: a Dense module without the tensor 'linear.weight'")
    weight = np.ascontiguousarray(arrays["linear.weight"].T)
    return Dense(weight, arrays.get("linear.bias"), str(config.get("activation_function", "torch.nn.Identity")))


@dataclass
class Modules:
    """What modules.json lists: the folder of the transformer itself, how it is pooled, the layers after pooling, the
    folder of a sparse head's pooling, that of a table for queries, and what kind of model they make, where they say so.
    """

    model: Path
    pooling: Pooling | None
    dense: list[Dense]
    splade: Path | None
    kind: Kind | None
    query_table: Path | None = None


def listed(folder: Path) -> list[dict[str, Any]]:
    """The entries of modules.json; of a Router those of both its ways, where queries go through a table alone."""
    path = folder / "modules.json"
    listed: list[dict[str, Any]] = []
    for module in read_json(path, list) if is_there(path) else []:
        if not isinstance(module, dict) or not {"type", "path"} <= module.keys():
            raise ExportError(f"{path}: {module!r} is not a module with type and path")
        if str(module["type"]).rsplit(".", 1)[-1] != "Router":
            listed.append(module)
            continue
        base = str(module["path"])
        router = read_json(folder / base / "router_config.json")
        try:
            ways = {way: [str(name) for name in names] for way, names in router["structure"].items()}
            kinds = {name: str(kind) for name, kind in router["types"].items()}
            names = [*ways["document"], *(name for name in ways["query"] if name not in ways["document"])]
            listed += [{"type": kinds[name], "path": f"{base}/{name}" if base else name} for name in names]
        except (KeyError, TypeError, AttributeError) as error:
            raise ExportError(f"{folder / base / 'router_config.json'}: not a Router's: {error!r}") from error
    return listed


def read_modules(folder: Path) -> Modules:
    found = Modules(folder, None, [], None, None)
    for module in listed(folder):
        kind, path = str(module["type"]).rsplit(".", 1)[-1], folder / str(module["path"])
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ExportError(f"{folder / 'modules.json'}: {module['path']!r} is not in the folder")
        if kind in ("Transformer", "MLMTransformer"):
            found.model = path
        elif kind == "Pooling":
            found.pooling, found.kind = _pooling(read_json(path / "config.json"), path), "dense"
        elif kind == "SpladePooling":
            found.splade, found.kind = path, "sparse"
        elif kind == "SparseStaticEmbedding":
            found.query_table = path
        elif kind == "Dense":
            found.dense.append(_dense(path))
        elif kind != "Normalize":  # vectors are always normalised
            raise ExportError(
                f"{folder}: the module {kind!r} is not supported (Transformer, Pooling, Dense, Normalize, "
                "MLMTransformer, SpladePooling are)"
            )
        if str(module["type"]).startswith("pylate."):
            found.kind = "multi"
    if found.kind is None and is_there(folder / "artifact.metadata"):
        found.kind = "multi"
    return found
