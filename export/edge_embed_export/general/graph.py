"""An ONNX graph to change: its nodes in order, its constants as arrays, and passes that every model gets.

Values of a published model have the prefix "m/", so that nothing which is added has one of their names.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_export.transformer.builder import IR_VERSION, LARGEST, MICROSOFT_OPSET, OPSET
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    import onnx

PREFIX = "m/"
# Fusions of onnxruntime's that make a graph slower on CPUs, hide what we would quantize, or undo what we did.
DISABLED = (
    "SkipLayerNormFusion",  # ten times LayerNormalization and Add
    "BiasGeluFusion",  # the bias goes into the product instead
    "FastGeluFusion",
    "AttentionFusion",
    "EmbedLayerNormFusion",
    "MatMulAddFusion",
    "GemmActivationFusion",
    "ConvActivationFusion",
)
KNOWN_SHAPES = frozenset({"Gather", "Slice", "Unsqueeze", "Squeeze", "Concat", "Cast", "Identity"})

Dims = list[int | None]
# Gives the nodes that take the place of one, or None where it has to stay.
Rule = Callable[["EditableGraph", Any], list[Any] | None]


class EditableGraph:
    """Nodes and constants of one model; inputs and outputs are names of values."""

    def __init__(self, nodes: list[Any], weights: dict[str, NDArray[Any]], outputs: list[str]) -> None:
        self.nodes = nodes
        self.weights = weights
        self.outputs = outputs
        self.index()

    def index(self) -> None:
        """Find producers and readers of values again, after `nodes` changed."""
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)

    @staticmethod
    def of(model: "onnx.ModelProto", prefix: str = PREFIX) -> "EditableGraph":
        """The graph of a model in the newest operator set that we write. Raises ExportError."""
        onnx = require("onnx", "export")
        graph = onnx.GraphProto(node=model.graph.node)  # a copy, without the weights
        _rename(graph, prefix)
        weights = {prefix + t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        nodes = []
        for node in graph.node:
            if node.op_type == "Constant" and not node.domain:
                weights[node.output[0]] = _constant(node)
            else:
                nodes.append(node)
        return EditableGraph(nodes, weights, [prefix + value.name for value in model.graph.output])

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> Any:
        onnx = require("onnx", "export")
        return onnx.helper.make_node(kind, list(inputs), list(outputs), domain=domain, **attributes)

    def scalar(self, value: Any, dtype: str) -> str:
        return self.constant(f"{dtype}:{value}", np.array(value, dtype))

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.weights[name] = array
        return name

    def numbers(self, node: Any, place: int) -> NDArray[Any] | None:
        """One of a node's inputs, where it is a constant."""
        return self.weights.get(given(node, place))

    def rewrite(self, rules: Mapping[str, Rule]) -> Counter[str]:
        """Replace nodes by the rules for their kinds. Gives how many of each kind were."""
        done: Counter[str] = Counter()
        nodes = []
        for node in self.nodes:
            new = rules[node.op_type](self, node) if node.op_type in rules else None
            nodes += [node] if new is None else new
            if new is not None:
                done[node.op_type] += 1
        self.nodes = nodes
        self.drop_unused()
        return done

    def replace(self, old: str, new: str) -> None:
        """Let readers of one value read another."""
        for node in self.readers.get(old, ()):
            node.input[:] = [new if name == old else name for name in node.input]
        self.readers.setdefault(new, []).extend(self.readers.pop(old, ()))
        self.outputs = [new if name == old else name for name in self.outputs]

    def only_reader(self, value: str) -> Any:
        """The one node that reads a value, or None where several do or it is an output."""
        readers = self.readers.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def drop_unused(self) -> None:
        """Forget nodes and constants that no output needs."""
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(node.input)
        self.nodes = kept[::-1]
        self.weights = {name: array for name, array in self.weights.items() if name in needed}
        self.index()

    def model(self, inputs: Sequence[Any]) -> "onnx.ModelProto":
        """As a model, whose outputs are of unknown type and shape."""
        onnx = require("onnx", "export")
        size = sum(array.nbytes for array in self.weights.values())
        if size > LARGEST:
            raise ExportError(f"the graph has {size / 2**30:.1f} GiB of weights in float32; the general path takes 2")
        graph = onnx.helper.make_graph(
            self.nodes,
            "edge_embed",
            list(inputs),
            [onnx.helper.make_empty_tensor_value_info(name) for name in self.outputs],
            [onnx.numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("com.microsoft", MICROSOFT_OPSET)]
        return onnx.helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets)


def _rename(graph: Any, prefix: str) -> None:
    """Put a prefix before the names of all values that nodes read and give, in graphs inside operators too."""
    for node in graph.node:
        node.input[:] = [prefix + name if name else "" for name in node.input]
        node.output[:] = [prefix + name if name else "" for name in node.output]
        for inner in (a.g for a in node.attribute if a.HasField("g")):
            _rename(inner, prefix)
            for value in (*inner.input, *inner.output, *inner.initializer):
                value.name = prefix + value.name


def given(node: Any, place: int) -> str:
    """One of a node's inputs; "" where it is left out."""
    return str(node.input[place]) if place < len(node.input) else ""


def attributes(node: Any) -> dict[str, Any]:
    onnx = require("onnx", "export")
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _constant(node: Any) -> NDArray[Any]:
    onnx = require("onnx", "export")
    ((name, value),) = attributes(node).items()
    if name == "value":
        return np.asarray(onnx.numpy_helper.to_array(value))
    return np.array(value, np.float32 if "float" in name else np.int64)


def convert_opset(model: "onnx.ModelProto", path: Path) -> "onnx.ModelProto":
    """The model in the operator set that bundles have. Raises ExportError where onnx cannot convert it."""
    onnx = require("onnx", "export")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", OPSET))
    if version == OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # a C++ exception of no common type
        raise ExportError(
            f"{path} is in operator set {version}, which onnx cannot convert to {OPSET}: {str(error).strip()[:300]}. "
            "Export the model again, with operator set 18 to 21"
        ) from error


def input_infos() -> list[Any]:
    """The inputs that every bundle's model has."""
    onnx = require("onnx", "export")
    names = ("input_ids", "attention_mask")
    return [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, ["batch", "sequence"]) for n in names]


def fold_shapes(graph: EditableGraph) -> None:
    """Replace what a graph computes from dimensions that are always the same, such as a head's size, by constants."""
    onnx = require("onnx", "export")
    try:
        inferred = onnx.shape_inference.infer_shapes(graph.model(input_infos()), data_prop=True).graph.value_info
    except Exception:  # it only helps to find constants  # noqa: BLE001
        return
    shapes: dict[str, Dims] = {}
    for value in inferred:
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in dims]
    known: dict[str, Dims | int | None] = {}
    for node in graph.nodes:
        if node.op_type == "Shape" and node.input[0] in shapes:
            wanted = attributes(node)
            known[node.output[0]] = shapes[node.input[0]][wanted.get("start", 0) : wanted.get("end")]
        elif node.op_type in KNOWN_SHAPES and not node.domain:
            found = _known(node, graph, known)
            if found is not None:
                known[node.output[0]] = found
    for name, dims in known.items():
        whole = dims if isinstance(dims, list) else [dims]
        if all(dim is not None for dim in whole) and graph.producer[name].op_type != "Shape":
            kind = np.float32 if _cast_to(graph.producer[name]) == onnx.TensorProto.FLOAT else np.int64
            graph.constant(f"{name}/known", np.array(dims, kind))
            graph.replace(name, f"{name}/known")
    graph.drop_unused()


def _cast_to(node: Any) -> int:
    return int(attributes(node)["to"]) if node.op_type == "Cast" else 0


def _known(node: Any, graph: EditableGraph, known: dict[str, Dims | int | None]) -> Any:  # noqa: PLR0911 - one for each kind
    """What a node gives for known dimensions (None for those that change); None where its kind is not among ours.

    Concat of [None, 7] and [3] -> [None, 7, 3]
    """
    onnx = require("onnx", "export")
    values: list[Any] = []
    for name in node.input:
        constant = graph.weights.get(name)
        if name in known:
            values.append(known[name])
        elif constant is not None and constant.ndim < 2 and constant.dtype.kind == "i" and constant.size < 16:
            values.append(constant.tolist())
        else:
            return None
    x, kind = values[0], node.op_type
    if kind == "Cast" and _cast_to(node) not in (onnx.TensorProto.INT64, onnx.TensorProto.FLOAT):
        return None
    if kind == "Gather" and isinstance(x, list):
        return [x[i] for i in values[1]] if isinstance(values[1], list) else x[values[1]]
    if kind == "Slice" and isinstance(x, list) and (len(values) < 4 or values[3] == [0]):
        return x[slice(values[1][0], values[2][0], values[4][0] if len(values) > 4 else None)]
    if kind == "Unsqueeze" and not isinstance(x, list):
        return [x]
    if kind == "Squeeze" and isinstance(x, list) and len(x) == 1:
        return x[0]
    if kind == "Concat" and all(isinstance(value, list) for value in values):
        return [dim for value in values for dim in value]
    return x if kind in ("Cast", "Identity") else None


def optimize(graph: EditableGraph, path: Path, inputs: Sequence[Any] | None = None) -> EditableGraph:
    """onnxruntime's own passes: constants folded, layer norms and activation functions fused, transposes merged.

    inputs: of the model; None are those of texts

    Raises ExportError where onnxruntime cannot load the model.
    """
    onnx = require("onnx", "export")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/dev/null")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        content = graph.model(input_infos() if inputs is None else inputs).SerializeToString()
        try:
            onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(DISABLED)
            )
        except Exception as error:  # onnxruntime's errors have no common type
            raise ExportError(f"{path}: onnxruntime cannot load the model: {error}") from error
        found = EditableGraph.of(onnx.load(options.optimized_model_filepath), prefix="")
    found.outputs = list(graph.outputs)
    found.drop_unused()
    return found
