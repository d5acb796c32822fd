"""What modules.json lists: the modules of a sentence-transformers folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.heads import Kind
from edge_embed_export.reading import is_there, read_json
from edge_embed_export.routers import Side, expanded
from edge_embed_export.spec import Pooling
from edge_embed_export.tensors import Array, read_tensors
from edge_embed_runtime.errors import ExportError


@dataclass(frozen=True)
class Dense:
    """A sentence-transformers Dense module: x @ weight [n, m] + bias, then an activation (its torch class path).

    sides: of a layer of a Router that each role has its own of, the roles; weight and bias then have the columns of one
           after those of the other, and `default` is the role for texts without one
    """

    weight: Array
    bias: Array | None
    activation: str
    sides: tuple[str, ...] = ()
    default: str = ""

    @property
    def width(self) -> int:
        """Numbers that it gives."""
        return int(self.weight.shape[1]) // max(1, len(self.sides))


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


def _sided(folder: Path, module: dict[str, Any]) -> Dense:
    """The Dense modules of a Router's routes as one layer."""
    paths = {side: folder / str(path) for side, path in module["sides"].items()}
    parts = [_dense(path) for path in paths.values()]
    shapes = {(part.weight.shape, part.bias is None, part.activation) for part in parts}
    if len(shapes) > 1:
        names = " and ".join(str(path) for path in paths.values())
        raise ExportError(
            f"{names} have other shapes or activation functions ({[part.weight.shape for part in parts]}), so that one "
            "bundle cannot hold both: export each side to a bundle of its own, with --side query and --side document"
        )
    biases = [part.bias for part in parts if part.bias is not None]
    return Dense(
        np.hstack([part.weight for part in parts]),
        np.concatenate(biases) if biases else None,
        parts[0].activation,
        tuple(paths),
        str(module["default"]),
    )


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


def listed(folder: Path, side: Side | None = None) -> list[dict[str, Any]]:
    """The entries of modules.json; of a Router those of its routes (see `routers.expanded`)."""
    path = folder / "modules.json"
    entries: list[dict[str, Any]] = []
    for module in read_json(path, list) if is_there(path) else []:
        if not isinstance(module, dict) or not {"type", "path"} <= module.keys():
            raise ExportError(f"{path}: {module!r} is not a module with type and path")
        entries.append(module)
    return expanded(folder, entries, side)


def read_modules(folder: Path, side: Side | None = None) -> Modules:
    """What modules.json lists. side: of a Router, whose route"""
    found = Modules(folder, None, [], None, None)
    for module in listed(folder, side):
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
            found.dense.append(_sided(folder, module) if "sides" in module else _dense(path))
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
