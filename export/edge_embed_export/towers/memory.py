"""What a graph holds in memory while it runs one input: for the budget of devices (see the runtime's towerbudget)."""

from typing import TYPE_CHECKING

import numpy as np

from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    import onnx

NUMBER = 4


def activation_bytes(model: "onnx.ModelProto", shape: tuple[int, ...]) -> int:
    """The most bytes of values that are there at a time, of an input of this shape; 0 where shapes cannot be found.

    Values are there from the node that gives them to the last one that reads them.
    """
    onnx = require("onnx", "export")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    dims = copy.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, shape, strict=True):
        dim.Clear()
        dim.dim_value = size
    try:
        graph = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    except Exception:  # noqa: BLE001 - operators of other domains have no shapes
        return 0
    sizes = {value.name: _bytes(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    last = {name: i for i, node in enumerate(graph.node) for name in node.input}
    there, most = {graph.input[0].name: sizes[graph.input[0].name]}, 0
    for i, node in enumerate(graph.node):
        there |= {name: sizes.get(name, 0) for name in node.output if name}
        most = max(most, sum(there.values()))
        there = {name: size for name, size in there.items() if last.get(name, -1) > i}
    return most


def _bytes(value: "onnx.ValueInfoProto") -> int:
    dims = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    return NUMBER * int(np.prod(dims, dtype=np.int64))
