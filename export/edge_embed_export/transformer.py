"""One configurable transformer encoder as an ONNX graph, in float32 or int8, pooling and normalisation included.

A family (see families/) maps a checkpoint onto `Spec` and the weight names below; nothing here knows a family.

    embedding.word [v, h]  embedding.position [p, h]  embedding.norm.{weight,bias} [h]
    layers.I.{query,key,value,out}.{weight,bias}      [h, h], [h]
    layers.I.{up,down}.{weight,bias}                  [h, f], [f] and [f, h], [h]
    layers.I.{attention_norm,output_norm}.{weight,bias} [h]
    final_norm.{weight,bias} [h] (pre-norm only)      projection.I.{weight,bias} [n, m], [m]

Weights are stored [in, out]. Inside the graph activations are [tokens, hidden], where token t of text i is row
t * batch + i: attention then needs one transpose instead of four, because FusedMatMul reads q, k and v with the
sequence first. bench/forms.py holds what else was tried, and what each form costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.graph import FLOAT, Graph
from edge_embed_quantize.calibrate import Site
from edge_embed_quantize.linear import Int8Linear, quantize_rows
from edge_embed_quantize.table import CompactTable
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


# Activation functions that are u for large u and 0 for small u, so that a channel can be split (see Site).
SPLITTABLE: tuple[Activation, ...] = ("gelu", "gelu_tanh", "relu", "silu")


# Layers that read the same input are quantized from one set of codes.
def input_name(linear: str) -> str:
    """The value that a linear layer reads: input_name("layers.0.key") -> "layers.0.query.input"."""
    for part in (".key", ".value"):
        linear = linear.replace(part, ".query")
    return f"{linear}.input"


def sites(spec: Spec, weights: Weights) -> list[Site]:
    """Every value that linear layers read, in the order in which the graph computes them."""
    found = []
    before = "embedding.norm" if "embedding.norm.weight" in weights else None
    post = spec.norm == "post"
    for i in range(spec.layers):
        layer = f"layers.{i}"
        attention = Site(
            input_name(f"{layer}.query"),
            (f"{layer}.query", f"{layer}.key", f"{layer}.value"),
            producer=before if post else f"{layer}.attention_norm",
            scalable=not post,
            residual=f"{layer}.out" if post else None,
        )
        # the weights of attention add up to 1, so an offset of the values is the same offset of the context
        context = Site(input_name(f"{layer}.out"), (f"{layer}.out",), producer=f"{layer}.value", scalable=True)
        up = Site(
            input_name(f"{layer}.up"),
            (f"{layer}.up",),
            producer=f"{layer}.attention_norm" if post else f"{layer}.output_norm",
            scalable=not post,
            residual=f"{layer}.down" if post else None,
        )
        split = f"{layer}.up" if spec.activation in SPLITTABLE else None
        found += [attention, context, up, Site(input_name(f"{layer}.down"), (f"{layer}.down",), split=split)]
        before = f"{layer}.output_norm"
    projections = (f"projection.{i}" for i in range(len(spec.projections)))
    return found + [Site(input_name(name), (name,)) for name in projections]


class _Builder:
    def __init__(
        self,
        spec: Spec,
        weights: Weights,
        int8: Mapping[str, Int8Linear],
        table: CompactTable | None,
        observed: bool,
    ) -> None:
        self.spec = spec
        self.table = table
        self.weights = weights
        self.int8 = int8
        self.graph = Graph()
        self.observed: dict[str, str] | None = {} if observed else None
        self._codes: dict[str, tuple[str, str | None]] = {}

    def linear(self, x: str, name: str, *, merge: bool = False) -> str:
        """A linear layer of x [tokens, n]; with `merge` x is attention's [b * heads, s, size]."""
        source = input_name(name)
        layer = self.int8.get(name)
        if merge and layer is None:
            x = self.merge_heads(x)
        if self.observed is not None:
            self.observed.setdefault(source, x)
        if layer is None:
            return self.graph.linear(x, name, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))
        if source not in self._codes:
            codes, row = self.graph.int8_input(x, layer, source)
            # codes are a quarter of the bytes to transpose
            self._codes[source] = (self.merge_heads(codes) if merge else codes), row
        codes, row = self._codes[source]
        return self.graph.int8_matmul(codes, row, layer, name)

    def merge_heads(self, x: str) -> str:
        """[b * heads, s, size] -> [s * b, h]."""
        g = self.graph
        return g.op("Reshape", g.op("Transpose", x, perm=[1, 0, 2]), g.shape(-1, self.spec.hidden))

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
        """Token ids [s, b] -> [s * b, h]."""
        g = self.graph
        x = self.rows(ids)
        if self.spec.positions == "absolute":
            positions = self.position_table()
            x = g.op("Add", x, g.op("Slice", positions, g.shape(0), "length", g.shape(0)))
        x = g.op("Reshape", x, g.shape(-1, self.spec.hidden))
        return self.norm(x, "embedding.norm") if "embedding.norm.weight" in self.weights else x

    def rows(self, ids: str) -> str:
        """Rows of the embedding table, float [s, b, h]."""
        g, table = self.graph, self.weights["embedding.word"]
        if self.table is not None:
            return g.compact_rows(self.table, ids)
        if not self.int8:
            return g.op("Gather", g.constant("embedding.word", table), ids)
        codes, scale = quantize_rows(table)
        rows = g.op("Cast", g.op("Gather", g.constant("embedding.word", codes), ids), to=FLOAT)
        return g.op("Mul", rows, g.op("Gather", g.constant("embedding.scale", scale), ids))

    def position_table(self) -> str:
        """[max_tokens, 1, h]; stored in int8 in int8 models, where onnxruntime turns it to float when it loads them."""
        g = self.graph
        table = self.weights["embedding.position"][: self.spec.max_tokens]
        if not self.int8:
            return g.constant("embedding.position", table[:, None, :])
        codes, scale = quantize_rows(table)
        stored = g.op("Cast", g.constant("embedding.position", codes[:, None, :]), to=FLOAT)
        return g.op("Mul", stored, g.constant("embedding.position.scale", scale[:, None, :]))

    def attention(self, x: str, layer: str, bias: str, split: str) -> str:
        """Multi-head attention of [s * b, h]; `bias` [b * heads, 1, s] hides padding.

        split: the shape [s, b * heads, size], which FusedMatMul's transBatch reads as [b * heads, s, size]
        1/sqrt(head size) is part of the query weights (see `prepare`).
        """
        g = self.graph
        q, k, v = (g.op("Reshape", self.linear(x, f"{layer}.{part}"), split) for part in ("query", "key", "value"))
        scores = g.op("FusedMatMul", q, k, domain="com.microsoft", transB=1, transBatchA=1, transBatchB=1, alpha=1.0)
        weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
        context = g.op("FusedMatMul", weights, v, domain="com.microsoft", transBatchB=1)
        return self.linear(context, f"{layer}.out", merge=True)

    def feed_forward(self, x: str, layer: str) -> str:
        return self.linear(self.activation(self.linear(x, f"{layer}.up"), self.spec.activation), f"{layer}.down")

    def block(self, x: str, layer: str, bias: str, split: str) -> str:
        g = self.graph
        if self.spec.norm == "post":
            x = self.norm(g.op("Add", x, self.attention(x, layer, bias, split)), f"{layer}.attention_norm")
            return self.norm(g.op("Add", x, self.feed_forward(x, layer)), f"{layer}.output_norm")
        x = g.op("Add", x, self.attention(self.norm(x, f"{layer}.attention_norm"), layer, bias, split))
        return g.op("Add", x, self.feed_forward(self.norm(x, f"{layer}.output_norm"), layer))

    def pool(self, x: str, mask: str) -> str:
        """[s, b, h] and the float mask [s, b] -> [b, h]."""
        g, kind = self.graph, self.spec.pooling
        if kind == "cls":
            return g.op("Squeeze", g.op("Gather", x, g.shape(0), axis=0), g.shape(0))
        column = g.op("Unsqueeze", mask, g.shape(2))
        if kind == "max":
            hidden = g.op("Mul", g.op("Sub", column, g.scalar(1.0)), g.scalar(-MASKED))
            return g.op("ReduceMax", g.op("Add", x, hidden), g.shape(0), keepdims=0)
        total = g.op("ReduceSum", g.op("Mul", x, column), g.shape(0), keepdims=0)
        count = g.op("ReduceSum", column, g.shape(0), keepdims=0)
        return g.op("Div", total, count if kind == "mean" else g.op("Sqrt", count))

    def build(self, producer: str) -> "onnx.ModelProto":
        g, spec = self.graph, self.spec
        g.op("Shape", "input_ids", name="batch", start=0, end=1)
        g.op("Shape", "input_ids", name="length", start=1, end=2)
        mask = g.op("Cast", "attention_mask", to=FLOAT)
        sequences = g.op("Mul", "batch", g.shape(spec.heads), name="sequences")
        padding = g.op("Mul", g.op("Sub", g.scalar(1.0), mask), g.scalar(MASKED))
        every_head = g.op("Concat", "batch", g.shape(spec.heads), "length", axis=0)
        padding = g.op("Expand", g.op("Unsqueeze", padding, g.shape(1)), every_head)
        bias = g.op("Reshape", padding, g.op("Concat", sequences, g.shape(1), "length", axis=0))
        split = g.op("Concat", "length", sequences, g.shape(spec.hidden // spec.heads), axis=0)
        x = self.embed(g.op("Transpose", "input_ids", perm=[1, 0]))
        for i in range(spec.layers):
            x = self.block(x, f"layers.{i}", bias, split)
        if "final_norm.weight" in self.weights:
            x = self.norm(x, "final_norm")
        x = g.op("Reshape", x, g.op("Concat", "length", "batch", g.shape(spec.hidden), axis=0))
        x = self.pool(x, g.op("Transpose", mask, perm=[1, 0]))
        for i, activation in enumerate(spec.projections):
            x = self.activation(self.linear(x, f"projection.{i}"), activation)
        length = g.op("ReduceL2", x, g.shape(-1), keepdims=1)
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
    spec: Spec,
    weights: Weights,
    int8: Mapping[str, Int8Linear] | None = None,
    table: CompactTable | None = None,
    *,
    observe: bool = False,
) -> "onnx.ModelProto":
    """The encoder's graph: (`input_ids`, `attention_mask`) int64 [batch, sequence] -> `embedding` [batch, dim].

    weights: as `prepare` returns them
    int8:    the linear layers that run in int8; None gives the float32 graph
    table:   the embedding table in few bits; None takes int8 in an int8 graph
    observe: also output every linear layer's input (see `input_name`), for calibration
    """
    return _Builder(spec, weights, int8 or {}, table, observe).build("edge_embed")
