"""One configurable transformer as an ONNX graph, in float32 or int8, pooling and normalisation included.

A family (see families/) maps a checkpoint onto `Spec` and the weight names of spec.py; nothing here knows a family.

Inside the graph activations are [tokens, hidden], where token t of text i is row t * batch + i: attention then needs
one transpose instead of four, because FusedMatMul reads q, k and v with the sequence first. bench/forms.py holds what
else was tried, and what each form costs.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.graph import FLOAT, INT64, Graph
from edge_embed_export.positions import MASKED, log_bucket
from edge_embed_export.spec import LATENT, Activation, Array, Layer, Spec, Weights, expert_count, input_name
from edge_embed_quantize.linear import Int8Linear, quantize_rows
from edge_embed_quantize.table import CompactTable

if TYPE_CHECKING:
    import onnx

OUTPUT = "embedding"


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
        self.compact = table
        self.weights = weights
        self.int8 = int8
        self.graph = Graph()
        self.observed: dict[str, list[str]] | None = {} if observed else None
        self._codes: dict[str, tuple[str, str | None]] = {}
        self._once: dict[str, str] = {}
        self._uses: Counter[str] = Counter()

    def once(self, name: str, make: Callable[[], str]) -> str:
        """A value that several layers read: made where it is needed first."""
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]

    def joined(self, *dims: str | int) -> str:
        """A shape of "batch", "length", ... and numbers."""
        parts = [dim if isinstance(dim, str) else self.graph.shape(dim) for dim in dims]
        return self.once(f"joined:{dims}", lambda: self.graph.op("Concat", *parts, axis=0))

    def linear(self, x: str, name: str, *, merge: int = 0) -> str:
        """A linear layer of x [tokens, n]; with `merge` x is attention's [b * heads, s, size], merge = heads * size."""
        source = input_name(name)
        layer = self.int8.get(name)
        if merge and layer is None:
            x = self.merge_heads(x, merge)
        if self.observed is not None and x not in self.observed.setdefault(source, []):
            self.observed[source].append(x)
        if layer is None:
            return self.graph.linear(x, name, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))
        if x not in self._codes:
            codes, row = self.graph.int8_input(x, layer, source)
            # codes are a quarter of the bytes to transpose
            self._codes[x] = (self.merge_heads(codes, merge) if merge else codes), row
        codes, row = self._codes[x]
        self._uses[name] += 1
        return self.graph.int8_matmul(codes, row, layer, name, self._uses[name] - 1)

    def merge_heads(self, x: str, width: int) -> str:
        """[b * heads, s, size] -> [s * b, heads * size]."""
        g = self.graph
        return g.op("Reshape", g.op("Transpose", x, perm=[1, 0, 2]), g.shape(-1, width))

    def norm(self, x: str, name: str) -> str:
        """The norm of this name, or x where there is none."""
        scale, bias = (self.weights.get(f"{name}.{part}") for part in ("weight", "bias"))
        if scale is None:
            return x
        inputs = [self.graph.constant(f"{name}.weight", scale)]
        if bias is not None:
            inputs.append(self.graph.constant(f"{name}.bias", bias))
        # the name under which onnxruntime knows RMS norm in operator sets before 23
        kind = "SimplifiedLayerNormalization" if self.spec.rms and bias is None else "LayerNormalization"
        return self.graph.op(kind, x, *inputs, axis=-1, epsilon=self.spec.norm_eps)

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
        if "embedding.position" in self.weights:
            table = self.weights["embedding.position"][: self.spec.max_tokens]
            positions = self.stored("embedding.position", table[:, None, :])
            x = g.op("Add", x, g.op("Slice", positions, g.shape(0), "length", g.shape(0)))
        x = g.op("Reshape", x, g.shape(-1, self.weights["embedding.word"].shape[1]))
        x = self.norm(x, "embedding.norm")
        return self.linear(x, "embedding.project") if "embedding.project.weight" in self.weights else x

    def rows(self, ids: str) -> str:
        """Rows of the embedding table, float [s, b, e]."""
        g, table = self.graph, self.weights["embedding.word"]
        if self.compact is not None:
            return g.compact_rows(self.compact, ids)
        if not self.int8:
            return g.op("Gather", g.constant("embedding.word", table), ids)
        codes, scale = quantize_rows(table)
        rows = g.op("Cast", g.op("Gather", g.constant("embedding.word", codes), ids), to=FLOAT)
        return g.op("Mul", rows, g.op("Gather", g.constant("embedding.scale", scale), ids))

    def stored(self, name: str, table: Array) -> str:
        """A table [..., n]; int8 models store it in int8, and onnxruntime turns it to float when it loads them."""
        g = self.graph
        if not self.int8:
            return g.constant(name, table)
        codes, scale = quantize_rows(table.reshape(-1, table.shape[-1]))
        rows = g.op("Cast", g.constant(name, codes.reshape(table.shape)), to=FLOAT)
        return g.op("Mul", rows, g.constant(f"{name}.scale", scale.reshape(*table.shape[:-1], 1)))

    def heads(self, x: str, layer: str, part: str, block: Layer) -> str:
        """Queries, keys or values [s * b, heads * size] in the form of `split`; see `attention`."""
        g, norm = self.graph, f"{layer}.{part}_norm"
        rotary = block.rotary if part != "value" else None
        if rotary or f"{norm}.weight" in self.weights:
            x = g.op("Reshape", x, self.joined("length", -1, 1, self.spec.size))
            x = self.norm(x, norm)
        if rotary:
            tables = (f"rotary.{rotary}.{table}" for table in ("cos", "sin"))
            constants = (g.constant(name, self.weights[name]) for name in tables)
            x = g.op("RotaryEmbedding", x, self.once("positions", self.positions), *constants, domain="com.microsoft")
        return g.op("Reshape", x, self.split if part == "query" else self.shared)

    def positions(self) -> str:
        """0, 1, 2, ... [s, 1]."""
        g = self.graph
        numbers = g.op("Range", g.scalar(0, "int64"), g.op("Squeeze", "length"), g.scalar(1, "int64"))
        return g.op("Unsqueeze", numbers, g.shape(1))

    def attention(self, x: str, layer: str, block: Layer) -> str:
        """Multi-head attention of [s * b, h].

        FusedMatMul's transBatch reads [s, b * heads, size] as [b * heads, s, size]; where heads share keys and values
        the same with [s, b * kv_heads, heads of each, size], against 1 head. What scores are multiplied by is part of
        the query weights (see `prepare`).
        """
        g, spec = self.graph, self.spec
        parts = ("query", "key", "value")
        q, k, v = (self.heads(self.linear(x, f"{layer}.{part}"), layer, part, block) for part in parts)
        scores = g.op("FusedMatMul", q, k, domain="com.microsoft", transB=1, transBatchA=1, transBatchB=1, alpha=1.0)
        grouped = spec.sharing > 1
        if block.bias is None and spec.buckets is None and not grouped:
            weights = g.op("Softmax", g.op("Add", scores, self.hidden), axis=-1)
        else:
            scores = g.op("Reshape", scores, self.joined("batch", spec.heads, "length", "length"))
            if spec.buckets is not None:
                rows = log_bucket(spec.max_tokens, *spec.buckets)
                scores = g.op("Add", scores, self.disentangled(q, k, layer, rows))
            bias = self.padding() if block.bias is None else self.table(block.bias)
            weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
            groups = (-1, spec.sharing) if grouped else (-1,)
            weights = g.op("Reshape", weights, self.joined(*groups, "length", "length"))
        context = g.op("FusedMatMul", weights, v, domain="com.microsoft", transBatchB=1)
        if grouped:
            context = g.op("Reshape", context, self.joined("sequences", "length", spec.size))
        return self.linear(context, f"{layer}.out", merge=spec.heads * spec.size)

    def hide(self, padding: str) -> str:
        """[b, s] -> [b * heads, 1, s]."""
        g = self.graph
        every_head = g.op("Concat", "batch", g.shape(self.spec.heads), "length", axis=0)
        padding = g.op("Expand", g.op("Unsqueeze", padding, g.shape(1)), every_head)
        return g.op("Reshape", padding, g.op("Concat", "sequences", g.shape(1), "length", axis=0))

    def padding(self) -> str:
        """What hides padding, [b, 1, 1, s]."""
        return self.once("padding", lambda: self.graph.op("Unsqueeze", self.padded, self.graph.shape(1, 2)))

    def table(self, name: str) -> str:
        """A table by offset as it is added to scores, [b or 1, heads or 1, s, s], with what hides padding."""
        g, table = self.graph, self.weights[f"positions.{name}"]

        def make() -> str:
            cut = self.around(g.constant(f"positions.{name}", table), 1)
            shape = self.joined(1, len(table), "length", self.double())
            square = self.skew(g.op("Expand", g.op("Unsqueeze", cut, g.shape(0, 2)), shape))
            return square if self.spec.causal else g.op("Add", square, self.padding())

        return self.once(f"table:{name}", make)

    def double(self) -> str:
        return self.once("double", lambda: self.graph.op("Add", "length", "length"))

    def around(self, x: str, axis: int) -> str:
        """Of a table by offset, the columns for the offsets 1 - s, ..., s."""
        g, middle = self.graph, self.graph.shape(self.spec.max_tokens)
        start = self.once("around:start", lambda: g.op("Sub", middle, "length"))
        end = self.once("around:end", lambda: g.op("Add", middle, "length"))
        return g.op("Slice", x, start, end, g.shape(axis))

    def skew(self, x: str) -> str:
        """[b, heads, s, 2 * s] by offset, for each row, -> [b, heads, s, s] by position: y[i, j] = x[i, j - i + s - 1].

        In one row after the other y[i, j] stands at i * 2 * s + j - i + s - 1 = i * (2 * s - 1) + j + s - 1: the same
        numbers from s - 1 on, in rows that are one shorter.
        """
        g = self.graph
        start = self.once("skew:start", lambda: g.op("Sub", "length", g.shape(1)))
        width = self.once("skew:width", lambda: g.op("Sub", self.double(), g.shape(1)))
        end = self.once("skew:end", lambda: g.op("Add", start, g.op("Mul", "length", width)))
        rows = g.op("Slice", g.op("Reshape", x, g.shape(0, 0, -1)), start, end, g.shape(2))
        rows = g.op("Reshape", rows, self.joined(0, 0, "length", width))
        return g.op("Slice", rows, g.shape(0), "length", g.shape(3))

    def disentangled(self, q: str, k: str, layer: str, rows: NDArray[np.int64]) -> str:
        """What DeBERTa adds to scores, queries by the positions of keys and keys by those of queries: [b, heads, s, s].

        rows: of the tables, by offset of query from key (`log_bucket`). The tables are projected with the layer's
              weights when the model is exported.
        """
        g, spec = self.graph, self.spec
        total = ""
        for values, part, order in ((q, "key", np.append(rows[-2::-1], 0)), (k, "query", rows)):
            name = f"{layer}.position_{part}"
            if name in self.weights:
                near = self.once(f"near:{part}", partial(self.around, g.constant(f"rows.{part}", order), 0))
                table = g.op("Gather", self.stored(name, self.weights[name][None]), near, axis=2)
                x = g.op("Reshape", values, self.joined("length", "batch", spec.heads, spec.size))
                products = g.op("FusedMatMul", x, table, domain="com.microsoft", transB=1, transBatchA=1, alpha=1.0)
                found = self.skew(products)
                found = found if part == "key" else g.op("Transpose", found, perm=[0, 1, 3, 2])
                total = g.op("Add", total, found) if total else found
        return total

    def feed_forward(self, x: str, layer: str, activation: Activation) -> str:
        if count := expert_count(layer, self.weights):
            return self.experts(x, layer, count)
        inner = self.linear(x, f"{layer}.up")
        if f"{layer}.gate.weight" in self.weights:
            gate = self.activation(self.linear(x, f"{layer}.gate"), activation)
            return self.linear(self.graph.op("Mul", gate, inner), f"{layer}.down")
        return self.linear(self.activation(inner, activation), f"{layer}.down")

    def experts(self, x: str, layer: str, count: int) -> str:
        """Every expert for every token, times the router's probability where it is among the `active` highest, else 0.

        Handing each expert its tokens alone would make products of a number of rows that depends on the batch.
        """
        g = self.graph
        router = g.linear(x, f"{layer}.router", self.weights[f"{layer}.router.weight"], None)
        probability = g.op("Softmax", router, axis=-1)
        highest = g.op("TopK", probability, g.shape(self.spec.active), also=(f"{layer}.chosen",), axis=-1)
        least = g.op("ReduceMin", highest, g.shape(-1), keepdims=1)
        share = g.op("Where", g.op("Less", probability, least), g.scalar(0.0), probability)
        total = ""
        for e in range(count):
            found = self.feed_forward(x, f"{layer}.experts.{e}", self.spec.activation)
            found = g.op("Mul", found, g.op("Gather", share, g.shape(e), axis=1))
            total = g.op("Add", total, found) if total else found
        bias = self.weights.get(f"{layer}.experts.bias")
        return total if bias is None else g.op("Add", total, g.constant(f"{layer}.experts.bias", bias))

    def block(self, x: str, block: Layer) -> str:
        g, layer, activation = self.graph, f"layers.{block.weights}", self.spec.activation
        if self.spec.norm == "post":
            x = self.norm(g.op("Add", x, self.attention(x, layer, block)), f"{layer}.attention_norm")
            return self.norm(g.op("Add", x, self.feed_forward(x, layer, activation)), f"{layer}.output_norm")
        found = self.attention(self.norm(x, f"{layer}.attention_norm"), layer, block)
        x = g.op("Add", x, self.norm(found, f"{layer}.attention_post_norm"))
        found = self.feed_forward(self.norm(x, f"{layer}.output_norm"), layer, activation)
        return g.op("Add", x, self.norm(found, f"{layer}.output_post_norm"))

    def latent(self, x: str) -> str:
        """A layer whose keys and values are stored: what NV-Embed pools is how tokens see its latents."""
        g, spec, weights = self.graph, self.spec.latent, self.weights
        q = self.linear(self.norm(x, f"{LATENT}.attention_norm"), f"{LATENT}.query")
        q = g.op("Reshape", q, self.joined("length", "batch", spec.heads, spec.size))
        stored = ((name, weights[name][None]) for name in (f"{LATENT}.keys", f"{LATENT}.values"))
        keys, values = (g.constant(name, array) for name, array in stored)
        scores = g.op("FusedMatMul", q, keys, domain="com.microsoft", transB=1, transBatchA=1, alpha=1.0)
        context = g.op("MatMul", g.op("Softmax", scores, axis=-1), values)
        context = g.op("Reshape", context, self.joined(-1, "length", spec.size))
        x = g.op("Add", x, self.linear(context, f"{LATENT}.out", merge=spec.heads * spec.size))
        return g.op("Add", x, self.feed_forward(self.norm(x, f"{LATENT}.output_norm"), LATENT, spec.activation))

    def pool(self, x: str, mask: str) -> str:
        """[s, b, h] and the float mask [s, b] -> [b, h]."""
        g, kind = self.graph, self.spec.pooling
        if kind == "cls":
            return g.op("Squeeze", g.op("Gather", x, g.shape(0), axis=0), g.shape(0))
        if kind == "last":
            last = g.op("Sub", g.op("ReduceSum", mask, g.shape(0), keepdims=0), g.scalar(1.0))
            numbers = g.op("Range", g.scalar(0, "int64"), g.op("Squeeze", "batch"), g.scalar(1, "int64"))
            places = [g.op("Unsqueeze", value, g.shape(1)) for value in (g.op("Cast", last, to=INT64), numbers)]
            return g.op("GatherND", x, g.op("Concat", *places, axis=1))
        column = g.op("Unsqueeze", mask, g.shape(2))
        if kind == "max":
            hidden = g.op("Mul", g.op("Sub", column, g.scalar(1.0)), g.scalar(-MASKED))
            return g.op("ReduceMax", g.op("Add", x, hidden), g.shape(0), keepdims=0)
        if kind == "weighted_mean":  # the n-th token counts n times
            numbers = g.op("Cast", self.once("positions", self.positions), to=FLOAT)
            counted = g.op("Add", numbers, g.scalar(1.0))
            column = g.op("Mul", column, g.op("Unsqueeze", counted, g.shape(2)))
        total = g.op("ReduceSum", g.op("Mul", x, column), g.shape(0), keepdims=0)
        count = g.op("ReduceSum", column, g.shape(0), keepdims=0)
        return g.op("Div", total, g.op("Sqrt", count) if kind == "mean_sqrt_len" else count)

    def encode(self, mask: str) -> str:
        """Hidden states of `input_ids`, [s * b, h]."""
        g, spec = self.graph, self.spec
        sequences = g.op("Mul", "batch", g.shape(spec.heads), name="sequences")
        self.padded = g.op("Mul", g.op("Sub", g.scalar(1.0), mask), g.scalar(MASKED))
        plain = spec.buckets is None and spec.sharing == 1 and not all(block.bias for block in spec.blocks)
        self.hidden = self.hide(self.padded) if plain else ""
        if spec.sharing == 1:
            self.split = self.shared = g.op("Concat", "length", sequences, g.shape(spec.size), axis=0)
        else:
            self.split = self.joined("length", -1, spec.sharing, spec.size)
            self.shared = self.joined("length", -1, 1, spec.size)
        x = self.embed(g.op("Transpose", "input_ids", perm=[1, 0]))
        for block in spec.blocks:
            x = self.block(x, block)
        x = self.norm(x, "final_norm")
        return self.latent(x) if f"{LATENT}.query.weight" in self.weights else x

    def build(self, producer: str, apart: dict[str, NDArray[Any]] | None) -> "onnx.ModelProto":
        g, spec = self.graph, self.spec
        g.op("Shape", "input_ids", name="batch", start=0, end=1)
        g.op("Shape", "input_ids", name="length", start=1, end=2)
        mask = g.op("Cast", "attention_mask", to=FLOAT)
        x = self.encode(mask)
        x = g.op("Reshape", x, g.op("Concat", "length", "batch", g.shape(spec.hidden), axis=0))
        x = self.pool(x, g.op("Transpose", mask, perm=[1, 0]))
        for i, activation in enumerate(spec.projections):
            x = self.activation(self.linear(x, f"projection.{i}"), activation)
        length = g.op("ReduceL2", x, g.shape(-1), keepdims=1)
        x = g.op("Div", x, g.op("Max", length, g.scalar(1e-12)))
        outputs: dict[str, list[str | int] | None] = {g.op("Identity", x, name=OUTPUT): ["batch", spec.dim]}
        for source, values in (self.observed or {}).items():
            whole = values[0] if len(values) == 1 else g.op("Concat", *values, axis=0)
            outputs[g.op("Identity", whole, name=source)] = None
        return g.model(outputs, producer, apart)


def build(
    spec: Spec,
    weights: Weights,
    int8: Mapping[str, Int8Linear] | None = None,
    table: CompactTable | None = None,
    *,
    observe: bool = False,
    apart: dict[str, NDArray[Any]] | None = None,
) -> "onnx.ModelProto":
    """The encoder's graph: (`input_ids`, `attention_mask`) int64 [batch, sequence] -> `embedding` [batch, dim].

    weights: as `prepare` returns them
    int8:    the linear layers that run in int8; None gives the float32 graph
    table:   the embedding table in few bits; None takes int8 in an int8 graph
    observe: also output what linear layers read (see `input_name`), for calibration; where layers share weights, the
             rows of one use after those of the other
    apart:   takes the large weights of a model that no file could hold (see large.py)
    """
    return _Builder(spec, weights, int8 or {}, table, observe).build("edge_embed", apart)
