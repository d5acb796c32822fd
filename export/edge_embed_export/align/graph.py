"""A tower and its projection as one ONNX graph."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.align.head import OWN, Head
from edge_embed_runtime.extras import require

OUTPUT = "embedding"


def with_head(model: Any, start: str, vector: str, head: Head) -> Any:
    """The graph of a tower (onnx.ModelProto) whose output is that of a head.

    start:  the value that the head starts from
    vector: the tower's own vector of length 1, which is added; "" for none
    """
    onnx = require("onnx", "export")
    helper, graph = onnx.helper, onnx.ModelProto.FromString(model.SerializeToString()).graph
    (output,) = graph.output
    if output.name == OUTPUT:
        _rename(graph, OUTPUT, "align/tower")
        start, vector = (name if name != OUTPUT else "align/tower" for name in (start, vector))
    nodes = list(graph.node)

    def add(operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    size = add("Sqrt", [add("Abs", [start], "align/size")], "align/root_size")
    root = add("Mul", [add("Sign", [start], "align/sign"), size], "align/root")
    standard = add("Mul", [add("Sub", [root, "align/mean"], "align/centred"), "align/scale"], "align/standard")
    place = add("LpNormalization", [standard], "align/place", axis=-1, p=2)
    near = add("Exp", [add("MatMul", [place, "align/first"], "align/cosine")], "align/near")
    apart = add("Sub", [near, "align/one"], "align/apart")
    found = add("Gemm", [apart, "align/second", "align/bias"], "align/projected")
    weights: dict[str, NDArray[np.float32]] = dict(zip(_NAMES, head, strict=True))
    weights["align/one"] = np.ones(1, np.float32)
    if vector:
        weights["align/own"] = np.array(OWN)
        found = add("LpNormalization", [found], "align/vector", axis=-1, p=2)
        found = add("Add", [found, add("Mul", [vector, "align/own"], "align/weighted")], "align/sum")
    add("LpNormalization", [found], OUTPUT, axis=-1, p=2)
    dim = head.second.shape[1]
    whole = helper.make_graph(
        needed(nodes, OUTPUT),
        "aligned",
        list(graph.input),
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["batch", dim])],
        [*graph.initializer, *(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())],
    )
    _drop_unused(whole)
    result = helper.make_model(whole, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(result, full_check=True)
    return result


_NAMES = ("align/mean", "align/scale", "align/first", "align/second", "align/bias")


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def needed(nodes: list[Any], output: str) -> list[Any]:
    """The nodes that a value depends on, in their order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
