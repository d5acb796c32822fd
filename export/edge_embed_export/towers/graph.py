"""Towers from ONNX graphs of any kind: convolutional networks, and whatever else has one input of float32 numbers.

The graph is taken as it was published. A layout with channels last gets a transpose before it, maps of features are
averaged over places, and the vectors are brought to length 1.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from edge_embed_export.general.graph import PREFIX, EditableGraph, convert_opset, optimize
from edge_embed_export.general.weightonly import int8_weights
from edge_embed_export.sources.onnxfile import check_numbers, check_operators, load_onnx
from edge_embed_export.towers.golden import golden_files
from edge_embed_export.towers.made import FLOATS, Made, Sample, bundle_of, finished
from edge_embed_export.towers.memory import activation_bytes
from edge_embed_export.transformer.spec import Array
from edge_embed_runtime.bundle.bundle import check_replaceable, write_bundle
from edge_embed_runtime.bundle.manifest import TOWER_FILES, Manifest
from edge_embed_runtime.bundle.towers import Tower
from edge_embed_runtime.checks import listed
from edge_embed_runtime.errors import BundleFormatError, ExportError, InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.base import FrontEnd, read_front
from edge_embed_runtime.model.session import make_session

if TYPE_CHECKING:
    import onnx

# Of int8 weights with float32 arithmetic.
FLOOR = 0.99
INPUTS = {"image": "pixel_values", "audio": "input_features"}
OUTPUT = "embedding"
CHANNELS = 3
# A linear layer behind the graph: weight [in, out], bias [out] or None, and "relu", "gelu" or None.
Behind = tuple[Array, Array | None, str | None]


@dataclass(frozen=True)
class GraphTower:
    """What a caller says of a graph that becomes a tower.

    front:  how an input becomes the graph's numbers, as a manifest has it
    output: which of the graph's outputs; None means the only one
    kind:   "dense", or "multi" for a graph that gives several vectors [batch, n, dim]
    after:  linear layers behind it
    """

    modality: str
    front: dict[str, Any]
    output: str | None = None
    kind: str = "dense"
    after: Sequence[Behind] = field(default_factory=tuple)


def tower_from_onnx(
    model: "Path | bytes | onnx.ModelProto",
    target: Path,
    said: GraphTower,
    *,
    name: str | None = None,
    space: str = "",
    precision: str = "fp32",
    floor: float = 0.0,
    source_name: str = "",
    facts: Mapping[str, Any] | None = None,
    sample: Sample = Sample("nothing"),  # noqa: B008 - it is frozen
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write a bundle with one tower, made of an ONNX graph.

    name:   the bundle's; None means the name of the folder
    precision: "fp32", or "int8": weights are stored in int8, and all is computed in float32
    floor:  the lowest mean cosine of the int8 form to float32 to accept
    space:  whose vectors its own can be compared with (see `Manifest.space`); "" for none but its own
    facts:  what the manifest says of where it comes from: "licence", "notes", ...
    sample: inputs that its speed is measured on

    Raises SourceError for a file that cannot be read, ExportError for a graph that cannot be a tower.
    """
    check_replaceable(target, overwrite)
    progress("bringing the graph into our form")
    made = made_of_graph(model, said, {"source": source_name or _name_of(model), **(facts or {})})
    progress("measuring")
    reference = None
    if precision != "fp32":
        reference, made = made, with_int8_weights(made)
    made = finished(made, reference, sample, target, floor)
    manifest = bundle_of(name or target.absolute().name, made.dim, space, [made])
    progress(f"writing {target}")
    write_bundle(target, manifest, made.contents, overwrite=overwrite)
    return manifest


def made_of_graph(model: "Path | bytes | onnx.ModelProto", said: GraphTower, provenance: Mapping[str, Any]) -> Made:
    """The tower of a graph, not measured yet. Raises what `tower_from_onnx` raises."""
    if said.modality not in INPUTS:
        raise InputError(f"modality is {said.modality!r:.40}, expected one of {tuple(INPUTS)}", option="modality")
    path = model if isinstance(model, Path) else Path("the graph")
    try:
        front = read_front(said.modality, said.front)
    except BundleFormatError as error:
        raise InputError(f"the front end: {error}", option="front") from error
    loaded, sha256 = _loaded(model, path)
    feed = _feed(front, said.modality)
    prepared, features = _prepared(loaded, said, feed.shape, path)
    content = prepared.SerializeToString()
    dim = _run(content, INPUTS[said.modality], feed, path).shape[-1]
    tower = Tower(
        front=said.front,
        kind=said.kind,
        architecture={
            "graph": "general",
            "features": features,
            "activation_bytes": activation_bytes(prepared, feed.shape),
        },
        quantization=dict(FLOATS),
        provenance={**provenance, "weights_sha256": sha256},
    )
    return Made(said.modality, dim, {TOWER_FILES[said.modality][0]: content}, tower)


def with_int8_weights(made: Made) -> Made:
    """The same tower with weights stored in int8."""
    onnx = require("onnx", "export")
    ((name, content),) = made.contents.items()
    smaller = int8_weights(onnx.ModelProto.FromString(content)).SerializeToString()
    said = {**FLOATS, "weights": "int8, one scale per output channel; computed in float32"}
    return replace(made, contents={name: smaller}, tower=replace(made.tower, quantization=said))


def _name_of(model: object) -> str:
    return model.name if isinstance(model, Path) else "a graph"


def _loaded(model: "Path | bytes | onnx.ModelProto", path: Path) -> tuple["onnx.ModelProto", str]:
    onnx = require("onnx", "export")
    if isinstance(model, Path):
        return load_onnx(model)
    content = model if isinstance(model, bytes) else model.SerializeToString()
    loaded = onnx.ModelProto.FromString(content)
    check_operators(loaded, path, frozenset({"Dropout"}))
    check_numbers(loaded, path)
    return loaded, hashlib.sha256(content).hexdigest()


def _feed(front: FrontEnd, modality: str) -> Array:
    """What the tower reads of the first golden input."""
    return next(front.feeds(golden_files(modality)[0][1]))


def _prepared(
    model: "onnx.ModelProto", said: GraphTower, shape: tuple[int, ...], path: Path
) -> tuple["onnx.ModelProto", str]:
    """The graph with the names and the layout that a tower has, and the name of its features."""
    onnx = require("onnx", "export")
    given = [value for value in model.graph.input if value.name not in {t.name for t in model.graph.initializer}]
    takes = [(v.name, onnx.TensorProto.DataType.Name(v.type.tensor_type.elem_type)) for v in given]
    if len(given) != 1 or takes[0][1] != "FLOAT":
        raise ExportError(f"{path} takes {takes}: a tower has one input, of float32 numbers")
    output = _output(model, said, path)
    dims = [dim.dim_value for dim in given[0].type.tensor_type.shape.dim]
    graph = EditableGraph.of(convert_opset(model, path))
    name = INPUTS[said.modality]
    graph.replace(PREFIX + given[0].name, _in_layout(graph, name, dims, shape, path))
    graph.outputs = [PREFIX + output]
    graph.drop_unused()
    info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape[1:]])
    graph = optimize(graph, path, [info])
    features = _add_behind(graph, said, _shape_of(graph, info, shape, path), path)
    prepared = graph.model([info])
    check_operators(prepared, path)
    return prepared, features


def _output(model: "onnx.ModelProto", said: GraphTower, path: Path) -> str:
    names = [value.name for value in model.graph.output]
    if said.output is not None and said.output not in names:
        raise ExportError(f"{path} has no output {said.output!r:.60}: it has {listed(names)}")
    if said.output is None and len(names) > 1:
        raise ExportError(f"{path} has the outputs {listed(names)}: choose one with --output")
    return said.output or str(names[0])


def _in_layout(graph: EditableGraph, name: str, dims: list[int], shape: tuple[int, ...], path: Path) -> str:
    """The value that the graph reads in the place of its input; of a picture's channels last it is turned.

    dims: of the graph's input, 0 for those that may change
    """
    fits = len(dims) == len(shape) and all(dim in (0, size) for dim, size in zip(dims[1:], shape[1:], strict=True))
    last = (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else ()
    turned = len(last) == len(dims) and all(dim in (0, size) for dim, size in zip(dims[1:], last[1:], strict=True))
    if dims and dims[0] not in (0, 1):
        raise ExportError(f"{path} takes {dims[0]} inputs at a time, and a tower one")
    if fits and not (turned and dims[-1] == CHANNELS and dims[1] != CHANNELS):
        return name
    if not turned:
        raise ExportError(f"{path} takes numbers of shape {dims}, and the front end gives {list(shape)}")
    graph.nodes.insert(0, graph.node("Transpose", [name], ["channels_last"], perm=[0, 2, 3, 1]))
    return "channels_last"


def _shape_of(graph: EditableGraph, info: Any, shape: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """Of what the graph gives for an input of this shape."""
    return _run(graph.model([info]).SerializeToString(), info.name, np.zeros(shape, np.float32), path).shape


def _run(content: bytes, name: str, feed: Array, path: Path) -> Array:
    """The only output of a graph. name: of its input"""
    try:
        (found,) = make_session(content, 1).run(None, {name: feed})
    except Exception as error:  # onnxruntime's errors have no common type
        raise ExportError(f"{path}: onnxruntime {onnxruntime.__version__} cannot run the graph: {error}") from error
    return np.asarray(found)


def _add_behind(graph: EditableGraph, said: GraphTower, shape: tuple[int, ...], path: Path) -> str:
    """Nodes from the graph's output, of this shape for one input, to vectors of length 1. Gives the name of what the
    linear layers read, the features."""
    x = graph.outputs[0]

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        y = f"behind/{len(graph.nodes)}"
        graph.nodes.append(graph.node(kind, inputs, [y], **attributes))
        return y

    ranks = (3,) if said.kind == "multi" else (2, 4)
    if len(shape) not in ranks or shape[0] != 1:
        raise ExportError(
            f"{path} gives numbers of shape {list(shape)} for one input; a tower of kind {said.kind!r} is made of "
            f"{'[1, n, dim]' if said.kind == 'multi' else '[1, dim], or of [1, dim, height, width], which is averaged'}"
        )
    if len(shape) == 4:
        x = add("Flatten", [add("GlobalAveragePool", [x])])
    features = x
    for i, (weight, bias, activation) in enumerate(said.after):
        x = add("MatMul", [x, graph.constant(f"after.{i}.weight", np.asarray(weight, np.float32))])
        if bias is not None:
            x = add("Add", [x, graph.constant(f"after.{i}.bias", np.asarray(bias, np.float32))])
        if activation is not None:
            x = add({"relu": "Relu", "gelu": "Gelu"}[activation], [x])
    graph.nodes.append(graph.node("LpNormalization", [x], [OUTPUT], axis=-1, p=2))
    graph.outputs = [OUTPUT]
    graph.drop_unused()
    return features
