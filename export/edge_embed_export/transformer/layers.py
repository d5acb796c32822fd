"""What every part of a graph is made with: linear layers, norms, activations, tables, and values that are made once."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.transformer import activations
from edge_embed_export.transformer.activations import Activation
from edge_embed_export.transformer.builder import FLOAT, Graph
from edge_embed_export.transformer.spec import Array, Spec, Weights, input_name, side_count
from edge_embed_quantize.linear import Int8Linear, quantize_rows
from edge_embed_quantize.table import CompactTable
from edge_embed_runtime.bundle.adapters import INPUT


class Parts:
    """The graph of one model so far, and what it is made of."""

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
        """A linear layer of x [tokens, n], with its adapters; with `merge` x is attention's [b * heads, s, size],
        merge = heads * size."""
        y = self.product(x, name, merge)
        if f"{name}.lora_a.weight" not in self.weights:
            return y
        return self.adapted(self.merge_heads(x, merge) if merge else x, y, name)

    def adapted(self, x: str, y: str, name: str) -> str:
        """y [tokens, m] and what the chosen adapter adds to it, of x [tokens, n]."""
        first = self.ranks(name, "lora_a.weight", self.weights[f"{name}.lora_a.weight"].T)
        offset = self.ranks(name, "lora_a.bias", self.weights[f"{name}.lora_a.bias"])
        second = self.ranks(name, "lora_b.weight", self.weights[f"{name}.lora_b.weight"])
        return self.graph.op("Gemm", self.graph.op("Gemm", x, first, offset, transB=1), second, y)

    def adapted_rows(self, ids: str, x: str, name: str) -> str:
        """x [s * b, e], rows of a table by token ids [s, b], and what the chosen adapter adds to them."""
        g = self.graph
        first = g.constant(f"{name}.lora_a.weight", self.narrow(self.weights[f"{name}.lora_a.weight"]))
        rows = g.op("Reshape", g.op("Gather", first, ids), g.shape(-1, self.weights[f"{name}.lora_a.weight"].shape[1]))
        low = g.op("Cast", self.cut(rows, name, 1), to=FLOAT)
        return g.op("Gemm", low, self.ranks(name, "lora_b.weight", self.weights[f"{name}.lora_b.weight"]), x)

    def ranks(self, name: str, part: str, stored: Array) -> str:
        """The rows that are the chosen adapter's, possibly none, of weights of all adapters [R, ...]."""
        g = self.graph

        def make() -> str:
            found = self.cut(g.constant(f"{name}.{part}", self.narrow(stored)), name, 0)
            return g.op("Cast", found, to=FLOAT) if self.int8 else found

        return self.once(f"{name}.{part}", make)

    def narrow(self, stored: Array) -> NDArray[Any]:
        """int8 models store adapters in 16 bits, which loses less than a thousandth of what an adapter adds."""
        return stored.astype(np.float16) if self.int8 else stored

    def cut(self, x: str, name: str, axis: int) -> str:
        """x between the ends of the adapter that the model's input names; of 0 nothing is left."""
        g, ends = self.graph, self.weights[f"{name}.lora_ends"].astype(np.int64)
        number = g.optional(INPUT, np.zeros(1, np.int64))
        places = []
        for part, table in (("start", ends[:-1]), ("end", ends[1:])):
            stored = f"adapter.{part}:" + ",".join(map(str, ends))
            constant = g.constant(stored, np.append(0, table))
            places.append(self.once(stored, partial(g.op, "Gather", constant, number)))
        return g.op("Slice", x, *places, g.shape(axis))

    def side(self, x: str, name: str) -> str:
        """Of x [b, sides * m], behind a layer with a part for each side, that which the model's input names."""
        count = side_count(name, self.weights)
        if count == 1:
            return x
        g, numbers = self.graph, self.weights[f"{name}.sides"].astype(np.int64)
        number = g.optional(INPUT, np.zeros(1, np.int64))
        chosen = g.op("Gather", g.constant(f"{name}.sides", numbers), number)
        parts = g.op("Reshape", x, g.shape(0, count, self.weights[f"{name}.weight"].shape[1] // count))
        return g.op("Squeeze", g.op("Gather", parts, chosen, axis=1), g.shape(1))

    def product(self, x: str, name: str, merge: int) -> str:
        """A linear layer without its adapters."""
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
        return activations.apply(self.graph, x, kind)

    def stored(self, name: str, table: Array) -> str:
        """A table [..., n]; int8 models store it in int8, and onnxruntime turns it to float when it loads them."""
        g = self.graph
        if not self.int8:
            return g.constant(name, table)
        codes, scale = quantize_rows(table.reshape(-1, table.shape[-1]))
        rows = g.op("Cast", g.constant(name, codes.reshape(table.shape)), to=FLOAT)
        return g.op("Mul", rows, g.constant(f"{name}.scale", scale.reshape(*table.shape[:-1], 1)))

    def positions(self) -> str:
        """0, 1, 2, ... [s, 1]."""
        g = self.graph
        numbers = g.op("Range", g.scalar(0, "int64"), g.op("Squeeze", "length"), g.scalar(1, "int64"))
        return g.op("Unsqueeze", numbers, g.shape(1))
