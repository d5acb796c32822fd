"""The tower that a projection is trained for: its features of files, kept on disk as far as they are computed."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.align.views import VIEWS, View
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.join import space_of
from edge_embed_runtime.bundle.towers import Tower
from edge_embed_runtime.errors import ExportError, InputError, MediaError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.base import FrontEnd, read_front
from edge_embed_runtime.model.session import make_session
from edge_embed_runtime.system.workers import spread

Array = NDArray[np.float32]

# In a tower's `architecture`: the name of the value [batch, n] in its graph that a projection starts from.
FEATURES = "features"
NORMALISE = "LpNormalization"
# Inputs whose features are written to disk together: what an interruption may lose.
BLOCK = 256


class Features(NamedTuple):
    """What a tower says of inputs, a row for each window of a sound, and each view of a picture.

    rows:   [n, features]
    own:    [n, dim], the tower's own vectors of length 1; [n, 0] where they are not in the texts' space
    owners: [n], which input a row is of
    plain:  [n], whether it is what the tower sees of the file itself, not of a changed view
    """

    rows: Array
    own: Array
    owners: NDArray[np.int64]
    plain: NDArray[np.bool_]


@dataclass(frozen=True)
class Backbone:
    """A tower as `open_backbone` opened it.

    model:  its graph (onnx.ModelProto), one output
    start:  the value that a projection starts from
    vector: its own vector of length 1, where that lies in the texts' space; "" where not
    """

    bundle: Bundle
    modality: str
    tower: Tower
    front: FrontEnd
    model: Any
    start: str
    vector: str

    def features(
        self,
        files: Sequence[Path],
        views: int,
        *,
        cache: Path | None,
        threads: int,
        refused: Callable[[MediaError], None],
        advance: Callable[[int], None],
    ) -> Features:
        """Features of files, in their order; those of files that cannot be read are missing, and `refused` hears why.

        views: of each picture, at most so many (see views.py); sounds have one
        cache: a folder that keeps them; what is there for the same tower and unchanged files is not computed again
        """
        changed = VIEWS[: views - 1] if self.modality == "image" else ()
        session = make_session(
            self.model.SerializeToString(), 1, values=[name for name in (self.start, self.vector) if name]
        )

        def one(file: Path) -> tuple[list[Array], list[Array], list[bool]] | MediaError:
            try:
                return self._of(session, file, changed)
            except MediaError as error:
                return error

        found: list[tuple[Array, Array, NDArray[np.int64], NDArray[np.bool_]]] = []
        for first in range(0, len(files), BLOCK):
            block = files[first : first + BLOCK]
            place = None if cache is None else cache / f"{self._name(block, views)}.npz"
            kept = None if place is None else _kept(place)
            if kept is None:
                kept = _stacked(spread(one, block, threads, background=False), refused, self._widths(), advance)
                if place is not None and len(np.unique(kept[2])) == len(block):
                    _keep(place, kept)
            else:
                advance(len(block))
            rows, own, owners, plain = kept
            found.append((rows, own, owners + first, plain))
        rows, own, owners, plain = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Features(rows, own, owners, plain)

    def _of(self, session: Any, file: Path, changed: Sequence[View]) -> tuple[list[Array], list[Array], list[bool]]:
        rows, own, plain = [], [], []
        name = session.get_inputs()[0].name
        for view in (None, *changed):
            given = file if view is None else view(file)
            for feed in self.front.feeds(given):
                values = session.run(None, {name: feed})
                rows.append(values[0])
                own.append(values[1] if self.vector else np.empty((1, 0), np.float32))
                plain.append(view is None)
        return rows, own, plain

    def _widths(self) -> tuple[int, int]:
        width = _width(self.model, self.start)
        return width, self.bundle.manifest.dim if self.vector else 0

    def _name(self, files: Sequence[Path], views: int) -> str:
        """Changes with the tower, the views, and a file that is written to."""
        stats = [(str(file.absolute()), _stamp(file)) for file in files]
        said = [self.bundle.manifest.fingerprint, self.modality, self.start, views, stats]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def open_backbone(bundle: Bundle, modality: str, space: str) -> Backbone:
    """The tower of a verified bundle.

    space: of the texts; a tower whose vectors lie there already gets something added

    Raises InputError where the bundle has no such tower, or one of several vectors.
    """
    onnx = require("onnx", "train")
    tower = bundle.manifest.towers.get(modality)
    if tower is None or tower.kind != "dense":
        raise InputError(
            f"{bundle.path} has no {modality} tower that gives one vector: it has {list(bundle.manifest.modalities)}",
            path=bundle.path,
        )
    content = bundle.model_of(modality)
    model = onnx.load(content) if isinstance(content, Path) else onnx.load_from_string(content)
    (output,) = model.graph.output
    last = next(node for node in model.graph.node if output.name in node.output)
    start = tower.architecture.get(FEATURES) or (last.input[0] if last.op_type == NORMALISE else output.name)
    if not any(start in node.output for node in model.graph.node):
        raise ExportError(f"{bundle.path}: the graph of its {modality} tower has no value {start!r}", path=bundle.path)
    vector = output.name if space_of(bundle.manifest) == space else ""
    return Backbone(bundle, modality, tower, read_front(modality, tower.front), model, start, vector)


def _width(model: Any, name: str) -> int:
    """Numbers of a value [batch, n], by running shape inference."""
    onnx = require("onnx", "train")
    inferred = onnx.shape_inference.infer_shapes(model).graph
    for value in [*inferred.value_info, *inferred.output]:
        dims = value.type.tensor_type.shape.dim
        if value.name == name and len(dims) == 2:
            return int(dims[1].dim_value)
    raise ExportError(f"the value {name!r} of the tower is not [batch, numbers]")


def _stacked(
    found: "Iterator[tuple[list[Array], list[Array], list[bool]] | MediaError]",
    refused: Callable[[MediaError], None],
    widths: tuple[int, int],
    advance: Callable[[int], None],
) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.bool_]]:
    rows, own = [np.empty((0, widths[0]), np.float32)], [np.empty((0, widths[1]), np.float32)]
    owners: list[int] = []
    plain: list[bool] = []
    for place, one in enumerate(found):
        advance(1)
        if isinstance(one, MediaError):
            refused(one)
            continue
        rows += one[0]
        own += one[1]
        plain += one[2]
        owners += [place] * len(one[2])
    return np.concatenate(rows), np.concatenate(own), np.array(owners, np.int64), np.array(plain, np.bool_)


def _stamp(file: Path) -> list[int]:
    try:
        status = file.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _kept(place: Path) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.bool_]] | None:
    try:
        with place.open("rb") as raw, np.load(raw) as file:
            return file["rows"], file["own"], file["owners"], file["plain"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{place} is not what this command keeps there ({error}); remove it", path=place) from error


def _keep(place: Path, kept: tuple[Array, Array, NDArray[np.int64], NDArray[np.bool_]]) -> None:
    from edge_embed_runtime.system.writing import replacing

    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place, 0o666) as file:
        np.savez(file, rows=kept[0], own=kept[1], owners=kept[2], plain=kept[3])
