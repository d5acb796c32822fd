"""What follows a table of token vectors in a sentence-transformers folder: folded into its rows where that is the same.

A text's vector is the mean of its tokens' rows, brought to length 1. A Dense module without an activation function,
mean(rows) @ W + b, is the mean of rows @ W + b. Nothing else can be said of each row alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.files.stored import Array
from edge_embed_export.modules.listed import read_dense
from edge_embed_export.modules.routers import kind_of
from edge_embed_export.transformer.spec import Step
from edge_embed_runtime.errors import ExportError

# Modules that change nothing when a model is used. The last brings vectors to length 1, as the runtime does.
NOTHING = ("Dropout", "Identity", "Normalize")
VECTOR = "sentence_embedding"


def read_behind(folder: Path, entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Array]]:
    """The linear layers behind a table: weight [n, m] and perhaps bias [m]. Raises ExportError for other modules."""
    found: list[Mapping[str, Array]] = []
    unit = False
    for entry in entries:
        kind, path = kind_of(entry), folder / str(entry["path"])
        if kind == "Dense" and "sides" not in entry:
            tensors = _dense(path)
            if unit and "bias" in tensors:
                raise _refused(path, "adds a bias to vectors of length 1")
            found.append(tensors)
        elif kind not in NOTHING:
            raise _refused(path, f"is a module {kind!r}")
        unit = unit or kind == "Normalize"
    return found


def _dense(path: Path) -> Mapping[str, Array]:
    config, module = read_dense(path)
    if module.step != Step("linear"):
        raise _refused(path, f"has the activation function {config.get('activation_function', 'torch.nn.Tanh')}")
    places = [config.get(name) or VECTOR for name in ("module_input_name", "module_output_name")]
    if places != [VECTOR, VECTOR]:
        raise _refused(path, f"reads {places[0]!r:.40} and writes {places[1]!r:.40}")
    return module.tensors


def _refused(path: Path, what: str) -> ExportError:
    return ExportError(
        f"{path} {what}: behind a table of token vectors only Dense modules without an activation function can be "
        "exported, which are folded into the table"
    )


def fold(rows: Array, behind: Sequence[Mapping[str, Array]], path: Path) -> tuple[Array, Array | None]:
    """Rows [n, m] with what follows them in them, and the vector [m] of a text without tokens, None for zeros."""
    found = rows.astype(np.float64)
    empty: NDArray[np.float64] = np.zeros(rows.shape[1])
    for tensors in behind:
        weight, bias = (np.asarray(tensors.get(part, 0.0), np.float64) for part in ("weight", "bias"))
        if len(weight) != found.shape[1]:
            raise ExportError(f"{path}: a Dense module takes {len(weight)} numbers, there are {found.shape[1]}")
        found, empty = (x @ weight + bias for x in (found, empty))
    return found.astype(np.float32), empty.astype(np.float32) if empty.any() else None
