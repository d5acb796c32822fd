"""From a vector for each token to one for the text, and the steps before and behind that."""

import numpy as np

from edge_embed_export.transformer.builder import FLOAT, INT64
from edge_embed_export.transformer.layers import Parts
from edge_embed_export.transformer.positions import MASKED
from edge_embed_export.transformer.spec import NORM_EPS, Step
from edge_embed_runtime.bundle.manifest import LEFT_OUT_INPUT


class Pooling(Parts):
    """The parts with pooling."""

    def unit(self, x: str) -> str:
        """Rows of length 1."""
        g = self.graph
        length = g.op("ReduceL2", x, g.shape(-1), keepdims=1)
        return g.op("Div", x, g.op("Max", length, g.scalar(1e-12)))

    def steps_of_tokens(self, x: str) -> str:
        """[..., h] through the steps before pooling."""
        for i, step in enumerate(self.spec.projections[: self.spec.of_tokens]):
            x = self.projected(x, f"projection.{i}", step)
        return x

    def steps_of_texts(self, x: str) -> str:
        """[b, n] through the steps behind pooling -> [b, dim]."""
        for i, step in enumerate(self.spec.projections[self.spec.of_tokens :], start=self.spec.of_tokens):
            x = self.projected(x, f"projection.{i}", step)
        return x

    def projected(self, x: str, name: str, step: Step) -> str:
        g = self.graph
        if step.kind == "unit":
            return self.unit(x)
        if step.kind == "cut":
            return g.op("Slice", x, g.shape(0), g.shape(step.width), g.shape(-1))
        if step.kind == "norm":
            parts = [g.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
            return g.op("LayerNormalization", x, *parts, axis=-1, epsilon=NORM_EPS)
        y = self.side(self.activation(self.linear(x, name), step.activation), name)
        if not step.residual:
            return y
        own = f"{name}.residual"
        return g.op("Add", y, self.linear(x, own) if f"{own}.weight" in self.weights else x)

    def pool(self, x: str, mask: str) -> str:
        """[s, b, h] and the float mask [s, b] -> [b, h], or [b, k * h] where there are k poolings."""
        found = [self.pool_by(kind, x, mask) for kind in self.spec.pooling.split("+")]
        return found[0] if len(found) == 1 else self.graph.op("Concat", *found, axis=1)

    def pool_by(self, kind: str, x: str, mask: str) -> str:
        """`pool` by one of the poolings."""
        g = self.graph
        if kind == "cls":
            return g.op("Squeeze", g.op("Gather", x, g.shape(0), axis=0), g.shape(0))
        if kind == "last":
            last = g.op("Sub", g.op("ReduceSum", mask, g.shape(0), keepdims=0), g.scalar(1.0))
            numbers = g.op("Range", g.scalar(0, "int64"), g.op("Squeeze", "batch"), g.scalar(1, "int64"))
            places = [g.op("Unsqueeze", value, g.shape(1)) for value in (g.op("Cast", last, to=INT64), numbers)]
            return g.op("GatherND", x, g.op("Concat", *places, axis=1))
        mask = self.behind_prompt(mask) if self.spec.left_out else mask
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

    def behind_prompt(self, mask: str) -> str:
        """The mask [s, b] without the tokens that the model's input says are left out, or whole where nothing stays."""
        g = self.graph
        count = g.optional(LEFT_OUT_INPUT, np.zeros(1, np.int64))
        behind = g.op("GreaterOrEqual", self.once("positions", self.positions), count)
        kept = g.op("Mul", mask, g.op("Cast", behind, to=FLOAT))
        empty = g.op("Sub", g.scalar(1.0), g.op("ReduceMax", kept, g.shape(0), keepdims=1))
        return g.op("Add", kept, g.op("Mul", mask, empty))
