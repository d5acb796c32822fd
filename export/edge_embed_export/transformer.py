"""One configurable transformer encoder as an ONNX graph, in float32 or int8, pooling and normalisation included.

A family (see families/) maps a checkpoint onto `Spec` and the weight names below; nothing here knows a family.

    embedding.word [v, h]  embedding.position [p, h]  embedding.norm.{weight,bias} [h]
    layers.I.{query,key,value,out}.{weight,bias}      [h, h], [h]
    layers.I.{up,down}.{weight,bias}                  [h, f], [f] and [f, h], [h]
    layers.I.{attention_norm,output_norm}.{weight,bias} [h]
    final_norm.{weight,bias} [h] (pre-norm only)      projection.I.{weight,bias} [n, m], [m]

Weights are stored [in, out]. Inside the graph activations are [sequence, batch, hidden]: attention then needs one
transpose instead of four, because FusedMatMul reads q, k and v with the sequence first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.graph import Graph
from edge_embed_quantize.linear import Int8Linear, quantize_rows
from edge_embed_runtime.errors import ExportError

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]
Weights = Mapping[str, Array]

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh", "identity"]
Pooling = Literal["mean", "mean_sqrt_len", "cls", "max"]

OUTPUT = "embedding"
# Softmax of a score this low is exactly 0 in float32, so padding adds nothing to any sum.
MASKED = -1e9


@dataclass(frozen=True)
class Spec:
    """What one encoder looks like."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocab: int
    max_tokens: int
    dim: int
    norm_eps: float = 1e-12
    norm: Literal["post", "pre"] = "post"
    positions: Literal["absolute", "none"] = "absolute"
    activation: Activation = "gelu"
    pooling: Pooling = "mean"
    projections: tuple[Activation, ...] = ()

    @property
    def linears(self) -> list[str]:
        """Names of every linear layer, in the order in which the graph runs them."""
        per_layer = ("query", "key", "value", "out", "up", "down")
        names = [f"layers.{i}.{part}" for i in range(self.layers) for part in per_layer]
        return names + [f"projection.{i}" for i in range(len(self.projections))]


# Layers that read the same input are quantized from one set of codes.
def input_name(linear: str) -> str:
    """The value that a linear layer reads: input_name("layers.0.key") -> "layers.0.query.input"."""
    for part in (".key", ".value"):
        linear = linear.replace(part, ".query")
    return f"{linear}.input"


class _Builder:
    def __init__(self, spec: Spec, weights: Weights, int8: Mapping[str, Int8Linear], observed: bool) -> None:
        self.spec = spec
        self.weights = weights
        self.int8 = int8
        self.graph = Graph()
        self.observed: dict[str, str] | None = {} if observed else None
        self._codes: dict[str, tuple[str, str | None]] = {}

    def linear(self, x: str, name: str) -> str:
        source = input_name(name)
        if self.observed is not None:
            self.observed.setdefault(source, x)
        layer = self.int8.get(name)
        if layer is None:
            return self.graph.linear(x, name, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))
        if source not in self._codes:
            self._codes[source] = self.graph.int8_input(x, layer, source)
        codes, row = self._codes[source]
        return self.graph.int8_matmul(codes, row, layer, name)

    def norm(self, x: str, name: str) -> str:
        scale = self.graph.constant(f"{name}.weight", self.weights[f"{name}.weight"])
        bias = self.graph.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=self.spec.norm_eps)

    def activation(self, x: str, kind: Activation) -> str:
        g = self.graph
        if kind == "gelu":
            return g.op("Gelu", x, domain="com.microsoft")
        if kind == "gelu_tanh":
            return g.op("FastGelu", x, domain="com.microsoft")
        if kind == "silu":
            return g.op("Mul", x, g.op("Sigmoid", x))
        return x if kind == "identity" else g.op({"relu": "Relu", "tanh": "Tanh"}[kind], x)

    def embed(self, ids: str) -> str:
        """Token ids [s, b] -> [s, b, h]."""
        g, table = self.graph, self.weights["embedding.word"]
        if self.int8:
            codes, scale = quantize_rows(table)
            rows = g.op("Gather", g.constant("embedding.word", codes), ids)
            rows = g.op("Cast", rows, to=1)  # 1 is FLOAT
            x = g.op("Mul", rows, g.op("Gather", g.constant("embedding.scale", scale), ids))
        else:
            x = g.op("Gather", g.constant("embedding.word", table), ids)
        if self.spec.positions == "absolute":
            table = self.weights["embedding.position"][: self.spec.max_tokens]
            positions = g.constant("embedding.position", table[:, None, :])
            length = g.op("Shape", ids, start=0, end=1)
            x = g.op("Add", x, g.op("Slice", positions, g.shape(0), length, g.shape(0)))
        return self.norm(x, "embedding.norm") if "embedding.norm.weight" in self.weights else x

    def attention(self, x: str, layer: str, bias: str) -> str:
        """Multi-head attention of [s, b, h]; `bias` [b, 1, 1, s] hides padding.

        1/sqrt(head size) is part of the query weights (see `prepare`).
        """
        g, spec = self.graph, self.spec
        size = spec.hidden // spec.heads
        # [s, b, h] -> [s, b*heads, size]; FusedMatMul's trans_batch reads that as [b*heads, s, size]
        split = g.op("Concat", g.shape(0), g.op("Mul", "batch", g.shape(spec.heads)), g.shape(size), axis=0)
        q, k, v = (g.op("Reshape", self.linear(x, f"{layer}.{part}"), split) for part in ("query", "key", "value"))
        scores = g.op("FusedMatMul", q, k, domain="com.microsoft", transB=1, transBatchA=1, transBatchB=1, alpha=1.0)
        square = g.op("Concat", "batch", g.shape(spec.heads), "length", "length", axis=0)
        scores = g.op("Add", g.op("Reshape", scores, square), bias)
        flat = g.op("Concat", g.shape(-1), "length", "length", axis=0)
        weights = g.op("Reshape", g.op("Softmax", scores, axis=-1), flat)
        context = g.op("FusedMatMul", weights, v, domain="com.microsoft", transBatchB=1)
        context = g.op("Transpose", context, perm=[1, 0, 2])
        merge = g.op("Concat", g.shape(0), "batch", g.shape(spec.hidden), axis=0)
        return self.linear(g.op("Reshape", context, merge), f"{layer}.out")

    def feed_forward(self, x: str, layer: str) -> str:
        return self.linear(self.activation(self.linear(x, f"{layer}.up"), self.spec.activation), f"{layer}.down")

    def block(self, x: str, layer: str, bias: str) -> str:
        g = self.graph
        if self.spec.norm == "post":
            x = self.norm(g.op("Add", x, self.attention(x, layer, bias)), f"{layer}.attention_norm")
            return self.norm(g.op("Add", x, self.feed_forward(x, layer)), f"{layer}.output_norm")
        x = g.op("Add", x, self.attention(self.norm(x, f"{layer}.attention_norm"), layer, bias))
        return g.op("Add", x, self.feed_forward(self.norm(x, f"{layer}.output_norm"), layer))

    def pool(self, x: str, mask: str) -> str:
        """[s, b, h] and the float mask [s, b] -> [b, h]."""
        g, kind = self.graph, self.spec.pooling
        if kind == "cls":
            return g.op("Gather", x, g.scalar(0, "int64"), axis=0)
        column = g.op("Unsqueeze", mask, g.shape(2))
        if kind == "max":
            hidden = g.op("Mul", g.op("Sub", column, g.scalar(1.0)), g.scalar(-MASKED))
            return g.op("ReduceMax", g.op("Add", x, hidden), axes=[0], keepdims=0)
        total = g.op("ReduceSum", g.op("Mul", x, column), g.shape(0), keepdims=0)
        count = g.op("ReduceSum", column, g.shape(0), keepdims=0)
        return g.op("Div", total, count if kind == "mean" else g.op("Sqrt", count))

    def build(self, producer: str) -> "onnx.ModelProto":
        g, spec = self.graph, self.spec
        ids = g.op("Transpose", "input_ids", perm=[1, 0])
        g.op("Shape", "input_ids", name="batch", start=0, end=1)
        g.op("Shape", "input_ids", name="length", start=1, end=2)
        mask = g.op("Cast", "attention_mask", to=1)
        padding = g.op("Mul", g.op("Sub", g.scalar(1.0), mask), g.scalar(MASKED))
        bias = g.op("Unsqueeze", padding, g.shape(1, 2))
        x = self.embed(ids)
        for i in range(spec.layers):
            x = self.block(x, f"layers.{i}", bias)
        if "final_norm.weight" in self.weights:
            x = self.norm(x, "final_norm")
        x = self.pool(x, g.op("Transpose", mask, perm=[1, 0]))
        for i, activation in enumerate(spec.projections):
            x = self.activation(self.linear(x, f"projection.{i}"), activation)
        length = g.op("ReduceL2", x, axes=[-1], keepdims=1)
        x = g.op("Div", x, g.op("Max", length, g.scalar(1e-12)))
        outputs: dict[str, list[str | int] | None] = {g.op("Identity", x, name=OUTPUT): ["batch", spec.dim]}
        for source, value in (self.observed or {}).items():
            outputs[g.op("Identity", value, name=source)] = None
        return g.model(outputs, producer)


def check(spec: Spec, weights: Weights) -> None:
    """Raise ExportError for a shape that does not fit the spec."""
    h, f = spec.hidden, spec.intermediate
    if h % spec.heads:
        raise ExportError(f"hidden size {h} cannot be split over {spec.heads} heads")
    expected: dict[str, tuple[int, ...]] = {"embedding.word": (spec.vocab, h)}
    expected.update({name: (h,) for name in weights if name.startswith("embedding.norm.")})
    if spec.positions == "absolute":
        expected["embedding.position"] = (len(weights["embedding.position"]), h)
    for i in range(spec.layers):
        shapes = {**dict.fromkeys(("query", "key", "value", "out"), (h, h)), "up": (h, f), "down": (f, h)}
        for part, (n, m) in shapes.items():
            expected[f"layers.{i}.{part}.weight"], expected[f"layers.{i}.{part}.bias"] = (n, m), (m,)
        for part in ("attention_norm", "output_norm"):
            expected[f"layers.{i}.{part}.weight"] = expected[f"layers.{i}.{part}.bias"] = (h,)
    width = h
    for i in range(len(spec.projections)):
        expected[f"projection.{i}.weight"] = (width, *weights[f"projection.{i}.weight"].shape[1:])
        width = expected[f"projection.{i}.weight"][-1]
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ExportError(f"{name} has shape {weights[name].shape}, the config says {shape}")


def prepare(spec: Spec, weights: Weights) -> dict[str, Array]:
    """Fold what attention multiplies by 1/sqrt(head size) into the query weights."""
    factor = np.float32((spec.hidden // spec.heads) ** -0.5)
    folded = dict(weights)
    for i in range(spec.layers):
        for part in ("weight", "bias"):
            name = f"layers.{i}.query.{part}"
            folded[name] = folded[name] * factor
    return folded


def build(
    spec: Spec, weights: Weights, int8: Mapping[str, Int8Linear] | None = None, *, observe: bool = False
) -> "onnx.ModelProto":
    """The encoder's graph: (`input_ids`, `attention_mask`) int64 [batch, sequence] -> `embedding` [batch, dim].

    weights: as `prepare` returns them
    int8:    the linear layers that run in int8; None gives the float32 graph
    observe: also output every linear layer's input (see `input_name`), for calibration
    """
    return _Builder(spec, weights, int8 or {}, observe).build("edge_embed")
