"""Models that onnxruntime's optimizer fused (optimum's O2 and up, fastembed's) back to plain operators.

A fused Attention hides three linear layers, which then could not be quantized, and SkipLayerNormalization is ten times
as slow on CPUs as the sum and the norm that it stands for.
"""

from typing import Any

import numpy as np

from edge_embed_export.general.graph import EditableGraph, attributes, given
from edge_embed_runtime.extras import require

HIDDEN = float(np.finfo(np.float32).min)


def unfuse(graph: EditableGraph) -> list[str]:
    """Replace fused operators, in place. Gives what was done, in words."""
    return [f"{count} {kind}: back to plain operators" for kind, count in graph.rewrite(FUSED).items()]


class _Chain:
    """Nodes that replace one node; its last output keeps the name."""

    def __init__(self, graph: EditableGraph, node: Any) -> None:
        self.graph, self.name, self.nodes, self.constants = graph, node.output[0], list[Any](), 0

    def op(self, kind: str, *inputs: str, output: str = "", domain: str = "", **options: Any) -> str:
        output = output or f"{self.name}/{len(self.nodes)}"
        self.nodes.append(self.graph.node(kind, inputs, [output], domain, **options))
        return output

    def constant(self, value: Any, dtype: str) -> str:
        self.constants += 1
        return self.graph.constant(f"{self.name}/constant.{self.constants}", np.array(value, dtype))


def _skip_norm(graph: EditableGraph, node: Any) -> list[Any]:
    """SkipLayerNormalization (x, skip, gamma, beta, bias), and the form by root mean squares (x, skip, gamma, bias)."""
    chain, simple = _Chain(graph, node), "Simplified" in node.op_type
    beta, bias = ("", given(node, 3)) if simple else (given(node, 3), given(node, 4))
    whole = node.output[3] if len(node.output) > 3 else ""
    total = chain.op("Add", node.input[0], node.input[1], output="" if bias else whole)
    total = chain.op("Add", total, bias, output=whole) if bias else total
    kind = "SimplifiedLayerNormalization" if simple else "LayerNormalization"
    options = {"axis": -1, "epsilon": attributes(node).get("epsilon", 1e-12)}
    chain.op(kind, total, *[name for name in (node.input[2], beta) if name], output=node.output[0], **options)
    return chain.nodes


def _gelu(graph: EditableGraph, node: Any) -> list[Any] | None:
    """BiasGelu and FastGelu (x, bias)."""
    if not given(node, 1):
        return None
    chain, kind = _Chain(graph, node), {"BiasGelu": "Gelu"}.get(node.op_type, node.op_type)
    chain.op(kind, chain.op("Add", *node.input), output=node.output[0], domain="com.microsoft")
    return chain.nodes


def _embeddings(graph: EditableGraph, node: Any) -> list[Any] | None:
    """EmbedLayerNormalization (ids, types, words, positions, type rows, gamma, beta, mask, position ids)."""
    ids, types, words, positions, rows, gamma, beta, mask, places = (given(node, place) for place in range(9))
    chain = _Chain(graph, node)
    if len(node.output) > 1 and graph.readers.get(node.output[1]):
        if not mask:
            return None
        # Attention takes how many tokens a text has, or the mask itself; the mask stands for both here
        chain.op("Identity", mask, output=node.output[1])
    if not places:
        length = chain.op("Shape", ids, start=1, end=2)
        places = chain.op("Slice", chain.constant(range(len(graph.weights[positions])), "int64"),
                          chain.constant([0], "int64"), length)  # fmt: skip
    x = chain.op("Gather", words, ids)
    if types:
        x = chain.op("Add", x, chain.op("Gather", rows, types))
    whole = node.output[2] if len(node.output) > 2 else ""
    x = chain.op("Add", x, chain.op("Gather", positions, places), output=whole)
    epsilon = attributes(node).get("epsilon", 1e-12)
    chain.op("LayerNormalization", x, gamma, beta, output=node.output[0], axis=-1, epsilon=epsilon)
    return chain.nodes


def _attention(graph: EditableGraph, node: Any) -> list[Any] | None:
    """Attention (x, weights of queries, keys and values side by side, bias, mask, past, bias of scores)."""
    options, weight, bias = attributes(node), graph.numbers(node, 1), graph.numbers(node, 2)
    odd = [name for name in ("unidirectional", "qkv_hidden_sizes", "do_rotary") if options.get(name)]
    if weight is None or odd or given(node, 4) or len(node.output) > 1:
        return None
    chain, parts = _Chain(graph, node), []
    for i, rows in enumerate(np.split(weight, 3, axis=1)):
        name = graph.constant(f"{chain.name}/weight.{i}", np.ascontiguousarray(rows))
        y = chain.op("MatMul", node.input[0], name)
        if bias is not None:
            y = chain.op("Add", y, graph.constant(f"{chain.name}/bias.{i}", np.split(bias, 3)[i]))
        parts.append(y)
    return _attend(chain, node, parts, given(node, 3), given(node, 5))


def _multi_head(graph: EditableGraph, node: Any) -> list[Any] | None:
    """MultiHeadAttention (queries, keys, values, bias, mask, bias of scores, past keys and values)."""
    bias = graph.numbers(node, 3)
    parts = list(node.input[:3])
    packed = not all(parts) or (given(node, 3) and bias is None) or given(node, 6) or given(node, 7)
    if packed or attributes(node).get("unidirectional") or len(node.output) > 1:
        return None
    chain = _Chain(graph, node)
    if bias is not None and len(bias) % 3 == 0:
        names = [graph.constant(f"{chain.name}/bias.{i}", part) for i, part in enumerate(np.split(bias, 3))]
        parts = [chain.op("Add", x, name) for x, name in zip(parts, names, strict=True)]
    return _attend(chain, node, parts, given(node, 4), given(node, 5))


def _attend(chain: _Chain, node: Any, parts: list[str], mask: str, added: str) -> list[Any]:
    """Attention of queries, keys and values [b, s, n]; mask [b, s] is 1 where a token is real."""
    onnx = require("onnx", "export")
    heads, options = int(attributes(node)["num_heads"]), attributes(node)
    split = chain.constant([0, 0, heads, -1], "int64")
    orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    q, k, v = (
        chain.op("Transpose", chain.op("Reshape", x, split), perm=order) for x, order in zip(parts, orders, strict=True)
    )
    scores = chain.op("MatMul", q, k)
    if options.get("scale"):
        scores = chain.op("Mul", scores, chain.constant(options["scale"], "float32"))
    else:
        size = chain.op("Cast", chain.op("Shape", q, start=3, end=4), to=onnx.TensorProto.FLOAT)
        scores = chain.op("Div", scores, chain.op("Sqrt", size))
    if added:
        scores = chain.op("Add", scores, added)
    if mask:
        real = chain.op("Cast", chain.op("Unsqueeze", mask, chain.constant([1, 2], "int64")), to=onnx.TensorProto.FLOAT)
        hidden = chain.op("Sub", chain.constant(1.0, "float32"), real)
        scores = chain.op("Add", scores, chain.op("Mul", hidden, chain.constant(HIDDEN, "float32")))
    context = chain.op("MatMul", chain.op("Softmax", scores, axis=-1), v)
    context = chain.op("Transpose", context, perm=[0, 2, 1, 3])
    joined = chain.constant([0, 0, -1], "int64")
    chain.op("Reshape", context, joined, output=node.output[0])
    return chain.nodes


FUSED = {
    "Attention": _attention,
    "BiasGelu": _gelu,
    "EmbedLayerNormalization": _embeddings,
    "FastGelu": _gelu,
    "MultiHeadAttention": _multi_head,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
}
