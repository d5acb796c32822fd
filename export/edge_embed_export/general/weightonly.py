"""Weights in int8, arithmetic in float32: for graphs whose activations lose too much in int8, as convolutions do.

A weight w [out, ...] is stored as codes and a scale for each output channel: Mul(Cast(codes), scales). Both have only
constants as inputs, so onnxruntime does them once, when it loads the model: it runs as fast as the float form, with
the same bits in any batch, and its file is a quarter as large.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.extras import require

# Where the output channels of an operator's weight (its second input) are: by the number of its axis.
CONVOLUTIONS = {"Conv": 0, "ConvTranspose": 1}
PRODUCTS = frozenset({"MatMul", "FusedMatMul", "Gemm"})
# Smaller ones are not worth two operators.
LEAST_NUMBERS = 1024
# Largest code: symmetric, so that 0 stays 0.
LARGEST = 127


def int8_weights(model: Any) -> Any:
    """A copy of a model (onnx.ModelProto) whose large constant weights are stored in int8."""
    onnx = require("onnx", "export")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    axes = _weights(graph)
    kept, added, nodes = [], [], []
    for tensor in graph.initializer:
        axis = axes.get(tensor.name)
        if axis is None:
            kept.append(tensor)
            continue
        codes, scales = quantize_channels(onnx.numpy_helper.to_array(tensor), axis)
        name, helper = tensor.name, onnx.helper
        added += [
            onnx.numpy_helper.from_array(codes, f"{name}/int8"),
            onnx.numpy_helper.from_array(scales, f"{name}/scale"),
        ]
        nodes += [
            helper.make_node("Cast", [f"{name}/int8"], [f"{name}/whole"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}/whole", f"{name}/scale"], [name]),
        ]
    nodes += list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*kept, *added])
    graph.node.extend(nodes)
    return copy


def quantize_channels(weight: NDArray[Any], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes of a weight, and a scale for each place of an axis, in a shape to multiply with: [out, 1, 1, 1]."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True).astype(np.float32)
    scales = np.where(largest > 0, largest / np.float32(LARGEST), np.float32(1))
    return np.rint(weight / scales).astype(np.int8), scales


def _weights(graph: Any) -> dict[str, int]:
    """The names of the weights that are worth it, each used as one operator's second input only: axis of its output
    channels."""
    constants = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == 1 and np.prod(tensor.dims) >= LEAST_NUMBERS  # 1: TensorProto.FLOAT
    }
    for name in [each.name for each in graph.input] + [each.name for each in graph.output]:
        constants.pop(name, None)
    found: dict[str, int] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name not in constants:
                continue
            axis = _axis(node, len(constants[name].dims)) if place == 1 else None
            if axis is None or found.get(name, axis) != axis:
                del constants[name]
                found.pop(name, None)
            else:
                found[name] = axis
    return found


def _axis(node: Any, rank: int) -> int | None:
    """Where the output channels of a node's weight are; None for an operator whose weight stays as it is."""
    if node.op_type in CONVOLUTIONS:
        return CONVOLUTIONS[node.op_type]
    if node.op_type in PRODUCTS and rank == 2:
        return 0 if any(each.name == "transB" and each.i for each in node.attribute) else 1
    return None
