"""Attention: full, causal or windowed (as a table that hides), grouped, rotary, relative, disentangled."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.transformer.builder import FLOAT
from edge_embed_export.transformer.positions import MASKED, log_bucket
from edge_embed_export.transformer.rotary import Rotation
from edge_embed_export.transformer.spec import Layer


class Attention(Rotation):
    """The parts with attention; `encode` of the whole sets what all layers share.

    hidden, padded: what hides padding, added to scores (see `hide`) and as [b, s]; hidden is "" where nothing is hidden
    split, shared:  the shapes of queries, and of keys and values
    """

    hidden: str
    padded: str
    split: str
    shared: str

    def lay_out(self) -> None:
        """The shapes of queries, keys and values, and what hides padding."""
        g, spec = self.graph, self.spec
        plain = spec.buckets is None and spec.sharing == 1 and not all(block.bias for block in spec.blocks)
        self.hidden = self.hide(self.padded) if plain else ""
        if spec.sharing == 1:
            self.split = self.shared = g.op("Concat", "length", "sequences", g.shape(spec.size), axis=0)
        else:
            self.split = self.joined("length", -1, spec.sharing, spec.size)
            self.shared = self.joined("length", -1, 1, spec.size)

    def heads(self, x: str, layer: str, part: str, block: Layer) -> str:
        """Queries, keys or values [s * b, heads * size] in the form of `split`; see `attention`."""
        g, norm = self.graph, f"{layer}.{part}_norm"
        rotary = block.rotary if part != "value" else None
        weight = self.weights.get(f"{norm}.weight")
        if weight is not None and len(weight) != self.spec.size:  # over all heads together
            x = self.norm(x, norm)
            norm = ""
        if rotary or f"{norm}.weight" in self.weights:
            x = g.op("Reshape", x, self.joined("length", -1, 1, self.spec.size))
            x = self.norm(x, norm)
        if rotary:
            x = self.turned(x, rotary)
        return g.op("Reshape", x, self.split if part == "query" else self.shared)

    def attention(self, x: str, layer: str, block: Layer, asking: str = "") -> str:
        """Multi-head attention of [s * b, h].

        asking: the rows of x that queries are made of, where it is not all of them; `split` is their shape then

        FusedMatMul's transBatch reads [s, b * heads, size] as [b * heads, s, size]; where heads share keys and values
        the same with [s, b * kv_heads, heads of each, size], against 1 head. What scores are multiplied by is part of
        the query weights (see `prepare`).
        """
        g, spec = self.graph, self.spec
        parts = ("query", "key", "value")
        read = (asking or x, x, x)
        q, k, v = (
            self.heads(self.linear(rows, f"{layer}.{part}"), layer, part, block)
            for part, rows in zip(parts, read, strict=True)
        )
        scores = self.capped(
            g.op("FusedMatMul", q, k, domain="com.microsoft", transB=1, transBatchA=1, transBatchB=1, alpha=1.0)
        )
        grouped = spec.sharing > 1
        if block.bias is None and spec.buckets is None and not grouped:
            scores = g.op("Add", scores, self.hidden) if self.hidden else scores
            weights = g.op("Softmax", scores, axis=-1)
        else:
            scores = g.op("Reshape", scores, self.joined("batch", spec.heads, "length", "length"))
            if spec.buckets is not None:
                rows = log_bucket(spec.max_tokens, *spec.buckets)
                scores = g.op("Add", scores, self.disentangled(q, k, layer, rows))
            bias = self.padding() if block.bias is None else self.table(block.bias)
            weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
            if spec.unattended is not None and block.bias is not None:
                weights = g.op("Mul", weights, self.once(f"alive:{block.bias}", partial(self.alive, bias)))
            groups = (-1, spec.sharing) if grouped else (-1,)
            weights = g.op("Reshape", weights, self.joined(*groups, "length", "length"))
        context = g.op("FusedMatMul", weights, v, domain="com.microsoft", transBatchB=1)
        if grouped:
            context = g.op("Reshape", context, self.joined("sequences", "length", spec.size))
        return self.leave(context, layer)

    def leave(self, context: str, layer: str) -> str:
        """What attention gives [s * b, h], of its context [b * heads, s, size]."""
        width, norm = self.spec.heads * self.spec.size, f"{layer}.context_norm"
        if f"{norm}.weight" in self.weights:
            return self.linear(self.norm(self.merge_heads(context, width), norm), f"{layer}.out")
        return self.linear(context, f"{layer}.out", merge=width)

    def alive(self, bias: str) -> str:
        """1 for queries that see any key, else 0, [..., s, 1]: what a query sees that has no key in its window but such
        that none sees. torch's scaled_dot_product_attention gives zeros there."""
        g = self.graph
        highest = g.op("ReduceMax", bias, g.shape(-1), keepdims=1)
        return g.op("Cast", g.op("Greater", highest, g.scalar(MASKED / 2)), to=FLOAT)

    def capped(self, scores: str) -> str:
        """Scores with the model's softcap, of scores that are divided by it already (see `prepare`)."""
        cap = self.spec.softcap
        return self.graph.op("Mul", self.graph.op("Tanh", scores), self.graph.scalar(cap)) if cap else scores

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
        g, middle = self.graph, self.graph.shape(self.spec.reach)
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
