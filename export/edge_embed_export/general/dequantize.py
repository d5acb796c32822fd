"""Published quantized models back to float32, exactly as their weights are stored.

Published int8 models quantize activations with one scale for the whole batch (DynamicQuantizeLinear), so a text's
vector depends on the other texts of its batch and on padding. Their weights stay as they are; how activations are
quantized is decided again, by calibration.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.general.graph import EditableGraph, attributes, given
from edge_embed_runtime.extras import require

Array = NDArray[Any]

# Static scales, which do not depend on the batch, stay with operators that are quantized inside.
PER_BATCH = "products whose activations had one scale for the whole batch"
WEIGHTS_ONLY = {"MatMulNBits": "weights of four bits", "QEmbedLayerNormalization": "quantized tables"}


def to_float(graph: EditableGraph) -> list[str]:
    """Turn a quantized or half precision model to float32, in place. Gives what was done, in words."""
    done: Counter[str] = Counter()
    _halves(graph, done)
    _constants(graph, done)
    _products(graph, done)
    _pairs(graph, done)
    graph.drop_unused()
    return [f"{count} {what}: back to float32" for what, count in done.items()]


def dequantize(codes: Array, scale: Array, zero: Array | None, axis: int = 1, block: int = 0) -> Array:
    """(codes - zero) * scale, where scales are one number, one for each place of an axis, or one for each block."""
    if scale.ndim and block:
        scale = np.repeat(scale, block, axis=axis)
        zero = None if zero is None else np.repeat(zero, block, axis=axis)
        cut = tuple(slice(0, n) for n in codes.shape)
        scale, zero = scale[cut], None if zero is None else zero[cut]
    elif scale.size > 1:
        shape = [1] * codes.ndim
        shape[axis] = scale.size
        scale, zero = scale.reshape(shape), None if zero is None else zero.reshape(shape)
    else:
        scale, zero = scale.reshape(()), None if zero is None else zero.reshape(())
    whole = codes.astype(np.float32) - (0 if zero is None else zero.astype(np.float32))
    return np.asarray(whole * scale.astype(np.float32), np.float32)


def _halves(graph: EditableGraph, done: Counter[str]) -> None:
    onnx = require("onnx", "export")
    half = onnx.TensorProto.FLOAT16
    for name, array in graph.weights.items():
        if array.dtype == np.float16:
            graph.weights[name] = array.astype(np.float32)
            done["tensors of float16"] += 1
    for node in graph.nodes:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == half:
                attribute.i = onnx.TensorProto.FLOAT
            elif attribute.HasField("t") and attribute.t.data_type == half:
                whole = onnx.numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(whole, attribute.t.name))


def _constants(graph: EditableGraph, done: Counter[str]) -> None:
    """DequantizeLinear of a constant, or of rows that were looked up in one."""
    for node in [node for node in graph.nodes if node.op_type == "DequantizeLinear"]:
        codes, *rest = node.input
        if not all(name in graph.weights for name in rest if name):
            continue
        scale, zero = graph.weights[rest[0]], graph.numbers(node, 2)
        options = attributes(node)
        axis, block = options.get("axis", 1), options.get("block_size", 0)
        lookup = graph.producer.get(codes)
        if codes in graph.weights:
            name = graph.constant(f"{node.output[0]}/float", dequantize(graph.weights[codes], scale, zero, axis, block))
            graph.replace(node.output[0], name)
        elif lookup is not None and lookup.op_type == "Gather" and lookup.input[0] in graph.weights:
            if scale.size > 1 or attributes(lookup).get("axis", 0):
                continue
            table = f"{lookup.input[0]}/float"
            graph.constant(table, dequantize(graph.weights[lookup.input[0]], scale, zero))
            new = graph.node("Gather", [table, lookup.input[1]], [f"{node.output[0]}/float"])
            graph.nodes.insert(graph.nodes.index(node), new)
            graph.replace(node.output[0], new.output[0])
        else:
            continue
        done["quantized tensors"] += 1
    graph.drop_unused()


def _pairs(graph: EditableGraph, done: Counter[str]) -> None:
    """QuantizeLinear and DequantizeLinear after each other, which only round."""
    for node in [node for node in graph.nodes if node.op_type == "DequantizeLinear"]:
        before = graph.producer.get(node.input[0])
        if before is not None and before.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):
            graph.replace(node.output[0], before.input[0])
            done["activations that were rounded to int8 and back"] += 1
    graph.drop_unused()


def _products(graph: EditableGraph, done: Counter[str]) -> None:
    """Products of activations that were quantized when the model ran.

    The scale of such activations becomes 1 and their codes the activations themselves, so that what follows - a cast,
    a product with both scales - needs no change.
    """
    for kind, count in graph.rewrite(PRODUCTS).items():
        done[WEIGHTS_ONLY.get(kind, PER_BATCH)] += count
    one = graph.scalar(1.0, "float32")
    for node in graph.nodes:
        if node.op_type == "DynamicQuantizeLinear":
            left = [reader for reader in graph.readers.get(node.output[0], ()) if reader.op_type != "DequantizeLinear"]
            if not left:
                graph.replace(node.output[1], one)
    graph.drop_unused()


def _source(graph: EditableGraph, value: str) -> str | None:
    """The float value that a value was quantized from, with a scale of its batch."""
    node = graph.producer.get(value)
    return node.input[0] if node is not None and node.op_type == "DynamicQuantizeLinear" else None


def _integer(graph: EditableGraph, node: Any) -> list[Any] | None:
    """MatMulInteger and ConvInteger (activations, weights, their zero points)."""
    x, codes, zero = _source(graph, node.input[0]), graph.numbers(node, 1), graph.numbers(node, 3)
    if x is None or codes is None or (given(node, 3) and zero is None):
        return None
    whole = dequantize(codes, np.ones(1, np.float32), zero, axis=codes.ndim - 1)
    name = graph.constant(f"{node.output[0]}/weight", whole)
    kind = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}[node.op_type]
    return [graph.node(kind, [x, name], node.output, **attributes(node))]


def _fused(graph: EditableGraph, node: Any) -> list[Any] | None:
    """DynamicQuantizeMatMul (x, codes, scale, zero point, bias) and MatMulIntegerToFloat (with x's own before)."""
    dynamic = node.op_type == "DynamicQuantizeMatMul"
    x = node.input[0] if dynamic else _source(graph, node.input[0])
    places = (2, 3, 4) if dynamic else (3, 5, 6)
    codes, scale = graph.numbers(node, 1), graph.numbers(node, places[0])
    if x is None or codes is None or scale is None:
        return None
    name = graph.constant(f"{node.output[0]}/weight", dequantize(codes, scale, graph.numbers(node, places[1])))
    bias = given(node, places[2])
    if not bias:
        return [graph.node("MatMul", [x, name], node.output)]
    y = f"{node.output[0]}/product"
    return [graph.node("MatMul", [x, name], [y]), graph.node("Add", [y, bias], node.output)]


def _attention(graph: EditableGraph, node: Any) -> list[Any] | None:
    """QAttention, of a model that onnxruntime fused and then quantized."""
    x, codes, scale = _source(graph, node.input[0]), graph.numbers(node, 1), graph.numbers(node, 4)
    if x is None or codes is None or scale is None or given(node, 8):
        return None
    name = graph.constant(f"{node.output[0]}/weight", dequantize(codes, scale, graph.numbers(node, 7)))
    inputs = [x, name, node.input[2], *([node.input[5]] if len(node.input) > 5 else [])]
    return [graph.node("Attention", inputs, node.output, "com.microsoft", **attributes(node))]


def _embeddings(graph: EditableGraph, node: Any) -> list[Any] | None:
    """QEmbedLayerNormalization: ids, types, five quantized tensors, the mask, five scales, five zero points."""
    tensors = [graph.numbers(node, place) for place in range(2, 7)]
    scales, zeros = ([graph.numbers(node, place) for place in places] for places in (range(8, 13), range(13, 18)))
    names = []
    for i, (codes, scale, zero) in enumerate(zip(tensors, scales, zeros, strict=True)):
        if codes is None or scale is None:
            return None
        names.append(graph.constant(f"{node.output[0]}/tensor.{i}", dequantize(codes, scale, zero)))
    inputs = [*node.input[:2], *names, node.input[7]]
    return [graph.node("EmbedLayerNormalization", inputs, node.output, "com.microsoft", **attributes(node))]


def _few_bits(graph: EditableGraph, node: Any) -> list[Any] | None:
    """MatMulNBits: weights [m, blocks, bytes] of four or eight bits, low ones first."""
    options = attributes(node)
    n, m, bits, block = (options[name] for name in ("K", "N", "bits", "block_size"))
    packed, scale, zero = graph.numbers(node, 1), graph.numbers(node, 2), graph.numbers(node, 3)
    extra = [name for name in node.input[4:] if name]
    if packed is None or scale is None or bits not in (4, 8) or extra or (given(node, 3) and zero is None):
        return None
    blocks = -(-n // block)

    def unpacked(array: Array, count: int) -> Array:
        rows = array.reshape(-1, array.size // m // (blocks if count == block else 1)).astype(np.uint8)
        if bits == 4:
            rows = np.stack([rows & 15, rows >> 4], axis=-1).reshape(len(rows), -1)
        return rows[:, :count]

    codes = unpacked(packed, block).reshape(m, blocks, block).astype(np.float32)
    if zero is None:
        zeros: Array = np.full((m, blocks), 2.0 ** (bits - 1), np.float32)
    elif zero.dtype == np.uint8:
        zeros = unpacked(zero, blocks).reshape(m, blocks).astype(np.float32)
    else:
        zeros = zero.reshape(m, blocks).astype(np.float32)
    whole = (codes - zeros[..., None]) * scale.reshape(m, blocks, 1).astype(np.float32)
    name = graph.constant(f"{node.output[0]}/weight", np.ascontiguousarray(whole.reshape(m, -1)[:, :n].T))
    return [graph.node("MatMul", [node.input[0], name], node.output)]


PRODUCTS = {
    "MatMulInteger": _integer,
    "ConvInteger": _integer,
    "DynamicQuantizeMatMul": _fused,
    "MatMulIntegerToFloat": _fused,
    "QAttention": _attention,
    "MatMulNBits": _few_bits,
    "QEmbedLayerNormalization": _embeddings,
}
