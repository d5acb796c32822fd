"""What follows a table of token vectors in a sentence-transformers folder: folded into its rows where that is the same.

A text's vector is the mean of its tokens' rows, brought to length 1. A Dense module without an activation function,
mean(rows) @ W + b, is the mean of rows @ W + b. Nothing else can be said of each row alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.files.accounting import HARMLESS, refuse_unknown
from edge_embed_export.files.reading import read_json
from edge_embed_export.files.tensors import read_tensors
from edge_embed_export.modules.routers import kind_of
from edge_embed_runtime.errors import ExportError

Array = NDArray[np.float32]

# Modules that change nothing when a model is used. The last brings vectors to length 1, as the runtime does.
NOTHING = ("Dropout", "Identity", "Normalize")
LINEAR = ("Identity", "Linear")
# Of a Dense module's config.json, besides what is read: numbers that the weights have themselves.
HARMLESS["Dense behind a table"] = frozenset({"in_features", "out_features", "bias"})
VECTOR = "sentence_embedding"


@dataclass(frozen=True)
class Linear:
    """x @ weight [n, m] + bias [m]; None stands for zeros."""

    weight: Array
    bias: Array | None


def read_behind(folder: Path, entries: Sequence[Mapping[str, Any]]) -> list[Linear]:
    """The modules behind a table, of which only linear ones are left. Raises ExportError for others."""
    found: list[Linear] = []
    unit = False
    for entry in entries:
        kind, path = kind_of(entry), folder / str(entry["path"])
        if kind == "Dense" and "sides" not in entry:
            linear = _dense(path)
            if unit and linear.bias is not None:
                raise _refused(path, "adds a bias to vectors of length 1")
            found.append(linear)
        elif kind not in NOTHING:
            raise _refused(path, f"is a module {kind!r}")
        unit = unit or kind == "Normalize"
    return found


def _dense(path: Path) -> Linear:
    config = read_json(path / "config.json")
    read = {"activation_function", "module_input_name", "module_output_name"}
    refuse_unknown(path / "config.json", config, read | HARMLESS["Dense behind a table"])
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if activation.rsplit(".", 1)[-1] not in LINEAR:
        raise _refused(path, f"has the activation function {activation}")
    places = [config.get(name) or VECTOR for name in ("module_input_name", "module_output_name")]
    if places != [VECTOR, VECTOR]:
        raise _refused(path, f"reads {places[0]!r:.40} and writes {places[1]!r:.40}")
    tensors = read_tensors(path / "model.safetensors")
    weight, bias = tensors.pop("linear.weight", None), tensors.pop("linear.bias", None)
    if weight is None or weight.ndim != 2 or tensors:
        held = ", ".join(tensors) or "no linear.weight"
        raise ExportError(f"{path / 'model.safetensors'}: expected linear.weight [m, n] and linear.bias; it has {held}")
    return Linear(np.ascontiguousarray(weight.T), bias)


def _refused(path: Path, what: str) -> ExportError:
    return ExportError(
        f"{path} {what}: behind a table of token vectors only Dense modules without an activation function can be "
        "exported, which are folded into the table"
    )


def fold(rows: Array, behind: Sequence[Linear], path: Path) -> tuple[Array, Array | None]:
    """Rows [n, m] with what follows them in them, and the vector [m] of a text without tokens, None for zeros."""
    found = rows.astype(np.float64)
    empty: NDArray[np.float64] = np.zeros(rows.shape[1])
    for linear in behind:
        if len(linear.weight) != found.shape[1]:
            raise ExportError(f"{path}: a Dense module takes {len(linear.weight)} numbers, there are {found.shape[1]}")
        bias = 0.0 if linear.bias is None else linear.bias.astype(np.float64)
        found, empty = (x @ linear.weight.astype(np.float64) + bias for x in (found, empty))
    return found.astype(np.float32), empty.astype(np.float32) if empty.any() else None
